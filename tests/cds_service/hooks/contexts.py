"""Contexts as the request's parser hands them to the hooks, and the specification's examples of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cds_service.hooks.context import Members

EXAMPLES = Path(__file__).parent / "examples"
PATIENT_ID = "1288992"  # of every example


def members(context: Mapping[str, object]) -> Members:
    """The context's members as raw JSON."""
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in context.items()}


def example(name: str) -> dict[str, Any]:
    """The context of one of the specification's examples."""
    context: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_bytes())["context"]
    return context


def bundle(*resources: object) -> dict[str, Any]:
    """A Bundle as contexts have them."""
    return {"resourceType": "Bundle", "entry": [{"resource": resource} for resource in resources]}


def order(identifier: str, **changes: object) -> dict[str, Any]:
    """A draft that says no more than whose it is."""
    about = {"subject": {"reference": f"Patient/{PATIENT_ID}"}}
    return {"resourceType": "ServiceRequest", "id": identifier, **about, **changes}
