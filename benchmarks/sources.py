"""The public data that `populations` runs on, as charts: one patient with the resources an EHR would hold of them.

Owns the layout of the data folder (`--data`): synthea-r4/bundles.tar.xz, mimic-iv-fhir-demo/fhir/*.ndjson.gz, us-core/*.json,
cds-hooks-examples/**/*.json. Resources stay as they were written; nothing is repaired here.
"""

from __future__ import annotations

import gzip
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir_adapters.queries import Query

Resource = dict[str, Any]
_DATES = ("effectiveDateTime", "effectivePeriod", "effectiveInstant", "authoredOn", "period", "onsetDateTime", "issued")


@dataclass(frozen=True, slots=True)
class Chart:
    """One patient's resources, each with the fullUrl that its Bundle gave it."""

    patient_id: str
    resources: tuple[tuple[str | None, Resource], ...]

    def newest(self) -> str:
        """The latest date in the chart as text; the sources write theirs in ISO 8601, so text order is nearly time order."""
        return max((date_of(resource) for _, resource in self.resources), default="")

    def answer(self, query: Query) -> Resource | None:
        """What an EHR that resolves the query's prefetch template would send."""
        if query.resource == "Patient":
            return next((r for _, r in self.resources if r["resourceType"] == "Patient"), None)
        found = [pair for pair in self.resources if _matches(pair[1], query)]
        found.sort(key=lambda pair: date_of(pair[1]), reverse=True)
        entries = [
            {"resource": r} if url is None else {"fullUrl": url, "resource": r} for url, r in found[: query.count]
        ]
        return {"resourceType": "Bundle", "type": "searchset", "total": len(found), "entry": entries}


def date_of(resource: Resource) -> str:
    """The date a resource is sorted by, "" where it has none."""
    for name in _DATES:
        value = resource.get(name)
        if value:
            return str(value.get("end") or value.get("start") or "") if isinstance(value, dict) else str(value)
    return ""


def _matches(resource: Resource, query: Query) -> bool:
    if resource["resourceType"] != query.resource:
        return False
    if query.status and resource.get("status") not in query.status:
        return False
    asked = {(code.system, code.code) for code in query.codes}
    codings = resource.get("code", {}).get("coding", ()) if asked else ()
    return not asked or any((coding.get("system"), coding.get("code")) in asked for coding in codings)


def synthea(data: Path) -> Iterator[Chart]:
    """The synthetic patients, one transaction Bundle each."""
    with tarfile.open(data / "synthea-r4" / "bundles.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".json") or "Information" in member.name:
                continue
            entries = json.load(file)["entry"]
            resources = tuple((entry.get("fullUrl"), entry["resource"]) for entry in entries)
            yield Chart(next(r["id"] for _, r in resources if r["resourceType"] == "Patient"), resources)


def mimic(data: Path, resource_types: Iterable[str]) -> Iterator[Chart]:
    """The 100 people of the MIMIC-IV demo, with their resources of these types."""
    wanted = {*resource_types, "Patient"}
    charts: dict[str, list[tuple[str | None, Resource]]] = defaultdict(list)
    for path in sorted((data / "mimic-iv-fhir-demo" / "fhir").glob("*.ndjson.gz")):
        if not any(path.name.startswith(f"Mimic{name}") for name in wanted):
            continue
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                resource = json.loads(line)
                owner = _owner(resource)
                if owner is not None and resource["resourceType"] in wanted:
                    charts[owner].append((None, resource))
    for patient_id, resources in charts.items():
        yield Chart(patient_id, tuple(resources))


def us_core(data: Path) -> Iterator[Resource]:
    """The example resources of US Core."""
    for path in sorted((data / "us-core").glob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def public_requests(data: Path) -> Iterator[tuple[str, bytes]]:
    """The public hook calls, by path: every JSON document with a hook and a context."""
    folder = data / "cds-hooks-examples"
    for path in sorted(folder.rglob("*.json")):
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and "hook" in document:
            yield str(path.relative_to(folder)), path.read_bytes()


def _owner(resource: Resource) -> str | None:
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    reference = str(resource.get("subject", {}).get("reference", ""))
    return reference.removeprefix("Patient/") if reference.startswith("Patient/") else None
