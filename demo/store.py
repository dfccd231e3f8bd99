"""The charts of the pocket EHR in memory: every bundle of a folder, moved to the present.

To add a patient: put a FHIR Bundle with one Patient (`.json` or `.json.gz`) into `patients/`, say in `index.json` how
its dates are shifted, and give its origin and licence in `SOURCE.md`. `index.json` lists file-name patterns; the first
that matches a file counts, and a file that none matches is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from demo.bundles import Resource, read_bundle
from demo.errors import BundleError
from demo.shift import ShiftRule, shifted_to_now

PATIENTS_FOLDER = Path(__file__).with_name("patients")

# The signed-in user of the demonstration; templates may ask for it by {{userPractitionerId}}.
CLINICIAN: Resource = {
    "resourceType": "Practitioner",
    "id": "demo-clinician",
    "active": True,
    "name": [{"family": "Demonstration", "given": ["Dana"], "prefix": ["Dr."]}],
}


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """What `index.json` says of the bundles whose file name matches `files`."""

    files: str
    shift: ShiftRule
    note: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One patient's resources; `note` says why this patient is part of the demonstration."""

    patient: Resource
    resources: tuple[Resource, ...]
    note: str

    @property
    def patient_id(self) -> str:
        identifier = self.patient["id"]
        assert isinstance(identifier, str)
        return identifier

    @property
    def current_encounter_id(self) -> str | None:
        """The id of the encounter in progress, None where the patient is not here now."""
        for resource in self.resources:
            if resource["resourceType"] == "Encounter" and resource.get("status") == "in-progress":
                return str(resource["id"])
        return None


class ChartStore:
    """Charts by patient id, resources by type; nothing changes after loading."""

    def __init__(self, charts: Iterable[Chart]) -> None:
        self._charts: dict[str, Chart] = {}
        self._by_type: dict[str, dict[str, Resource]] = {"Practitioner": {str(CLINICIAN["id"]): CLINICIAN}}
        for chart in charts:
            self._charts[chart.patient_id] = chart
            for resource in chart.resources:
                self._add(resource)

    def _add(self, resource: Resource) -> None:
        of_type = self._by_type.setdefault(resource["resourceType"], {})
        if resource["id"] in of_type:
            raise BundleError(f"bundles: {resource['resourceType']} id used twice")
        of_type[resource["id"]] = resource

    @property
    def charts(self) -> tuple[Chart, ...]:
        return tuple(self._charts.values())

    def chart(self, patient_id: str) -> Chart | None:
        return self._charts.get(patient_id)

    def read(self, resource_type: str, resource_id: str) -> Resource | None:
        return self._by_type.get(resource_type, {}).get(resource_id)

    def all_of(self, resource_type: str) -> Iterable[Resource]:
        return self._by_type.get(resource_type, {}).values()


def load_store(folder: Path, now: datetime) -> ChartStore:
    """The charts of every bundle in `folder`, in the order of its index. Raises BundleError."""
    index = read_index(folder / "index.json")
    files = [path for path in sorted(folder.iterdir()) if _is_bundle(path)]
    placed = sorted((_position(index, path), path) for path in files)
    return ChartStore(_load_chart(path, index[position], now) for position, path in placed)


def read_index(path: Path) -> tuple[IndexEntry, ...]:
    """The entries of an index file. Raises BundleError."""
    try:
        entries = json.loads(path.read_bytes())["bundles"]
        return tuple(IndexEntry(entry["files"], ShiftRule(entry["shift"]), entry["note"]) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise BundleError(f"index {path.name}: expected bundles, each with files, shift and note") from exc


def _is_bundle(path: Path) -> bool:
    return path.name != "index.json" and path.name.endswith((".json", ".json.gz"))


def _position(index: tuple[IndexEntry, ...], path: Path) -> int:
    for position, entry in enumerate(index):
        if fnmatchcase(path.name, entry.files):
            return position
    raise BundleError(f"bundle {path.name}: expected an entry in index.json, got none")


def _load_chart(path: Path, entry: IndexEntry, now: datetime) -> Chart:
    resources = read_bundle(path)
    patients = [resource for resource in resources if resource["resourceType"] == "Patient"]
    if len(patients) != 1:
        raise BundleError(f"bundle {path.name}: expected one Patient, got {len(patients)}")
    moved = shifted_to_now(resources, entry.shift, now)
    patient = next(resource for resource in moved if resource["resourceType"] == "Patient")
    return Chart(patient, moved, entry.note)
