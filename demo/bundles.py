"""One patient's FHIR Bundle from file to a list of resources whose references are `Type/id`.

Reads plain or gzipped JSON; collection, transaction and searchset Bundles (https://hl7.org/fhir/R4/bundle.html).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from demo.errors import BundleError

Resource: TypeAlias = dict[str, Any]


def read_bundle(path: Path) -> tuple[Resource, ...]:
    """The resources of the Bundle in `path`, references made local. Raises BundleError."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        bundle = json.loads(content)
    except (OSError, EOFError, ValueError) as exc:
        raise BundleError(f"bundle {path.name}: expected JSON or gzipped JSON") from exc
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise BundleError(f"bundle {path.name}: expected a Bundle")
    return localised(bundle.get("entry", []), path.name)


def localised(entries: Iterable[Resource], name: str) -> tuple[Resource, ...]:
    """The entries' resources with `urn:uuid:` references replaced by `Type/id`."""
    entries = list(entries)
    try:
        targets = {
            entry["fullUrl"]: f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
            for entry in entries
            if "fullUrl" in entry
        }
        resources = [entry["resource"] for entry in entries]
    except (KeyError, TypeError) as exc:
        raise BundleError(f"bundle {name}: expected entries with a resource, each with resourceType and id") from exc

    def localise(key: str, text: str) -> str:
        return targets.get(text, text) if key == "reference" else text

    return tuple(rewrite_strings(resource, localise) for resource in resources)


def rewrite_strings(resource: Resource, change: Callable[[str, str], str]) -> Resource:
    """A copy of `resource` with every string replaced by `change(name of its element, string)`."""
    return {key: _rewritten(key, value, change) for key, value in resource.items()}


def _rewritten(key: str, value: Any, change: Callable[[str, str], str]) -> Any:
    if isinstance(value, dict):
        return rewrite_strings(value, change)
    if isinstance(value, list):
        return [_rewritten(key, item, change) for item in value]
    return change(key, value) if isinstance(value, str) else value


def strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string under `value` with the name of its element."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from strings(member, name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings(item, key)
    elif isinstance(value, str):
        yield key, value
