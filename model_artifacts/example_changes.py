"""Examples as they might have been sent: without a code, without a birth date, in another order, with other values.

`checks.py` and tests ask a model about them. To add one: a function that gives a `Change`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

Bundle = dict[str, Any]
Change = Callable[[Bundle], Bundle]


def without_codes(bundle: Bundle, codes: set[str]) -> Bundle:
    """The bundle without the Observations, and the components of some, that have one of these codes."""

    def coded(item: dict[str, Any]) -> bool:
        return any(coding.get("code") in codes for coding in item.get("code", {}).get("coding", ()))

    kept = []
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if resource["resourceType"] == "Observation" and coded(resource):
            continue
        parts = [part for part in resource.get("component", ()) if not coded(part)]
        kept.append({"resource": {**resource, "component": parts} if "component" in resource else resource})
    return {**bundle, "entry": kept}


def without_member(member: str) -> Change:
    """Without this member of the Patient resource."""

    def change(bundle: Bundle) -> Bundle:
        for entry in bundle["entry"]:
            if entry["resource"]["resourceType"] == "Patient":
                entry["resource"].pop(member, None)
        return bundle

    return change


def disturbed(seed: int) -> Change:
    """Resources and their members in another order, and a third of the resources twice."""
    shuffle = random.Random(seed)  # noqa: S311 - an order, no secret

    def change(bundle: Bundle) -> Bundle:
        entries = [{"resource": _reordered(entry["resource"], shuffle)} for entry in bundle["entry"]]
        entries += shuffle.sample(entries, max(1, len(entries) // 3))
        shuffle.shuffle(entries)
        return {"entry": entries, **{key: value for key, value in bundle.items() if key != "entry"}}

    return change


def _reordered(value: dict[str, Any], shuffle: random.Random) -> dict[str, Any]:
    members = list(value.items())
    shuffle.shuffle(members)
    return dict(members)


def varied(draw: np.random.Generator, strength: float) -> Change:
    """Every quantity times a log-normal factor; `strength` is its standard deviation."""

    def change(bundle: Bundle) -> Bundle:
        for entry in bundle["entry"]:
            quantity = entry["resource"].get("valueQuantity")
            if quantity is not None:
                quantity["value"] = round(quantity["value"] * float(np.exp(strength * draw.standard_normal())), 3)
        return bundle

    return change
