"""Small FHIR records of hospital stays for these tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from fhir_adapters.codes import ACT_CODE, ICD10CM, RXNORM
from fhir_adapters.record import PatientRecord
from model_artifacts.examples import example_record
from model_artifacts.inputs import Evidence
from model_artifacts.readmission_30d.columns import COLUMNS
from model_artifacts.readmission_30d.inputs import INPUTS

AS_OF = datetime(2026, 6, 10, 15, tzinfo=UTC)
FOLDER = Path(str(files("model_artifacts.readmission_30d")))

Resource = dict[str, Any]


def encounter(identifier: str, kind: str, start: str, end: str | None = None, **more: Any) -> Resource:
    """A visit of this class; one without an end goes on."""
    return {
        "resourceType": "Encounter",
        "id": identifier,
        "status": "finished" if end else "in-progress",
        "class": {"system": ACT_CODE, "code": kind},
        "subject": {"reference": "Patient/p"},
        "period": {"start": start, **({"end": end} if end else {})},
        **more,
    }


def stay(**more: Any) -> Resource:
    """The stay that is ending: since 5 June 2026, 10:00."""
    return encounter("stay", "IMP", "2026-06-05T10:00:00Z", **more)


def condition(identifier: str, code: str, system: str = ICD10CM, linked: bool = True, **more: Any) -> Resource:
    """A diagnosis, of the stay unless it isn't linked."""
    return {
        "resourceType": "Condition",
        "id": identifier,
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": system, "code": code, "display": code}]},
        **({"encounter": {"reference": "Encounter/stay"}} if linked else {}),
        **more,
    }


def order(identifier: str, name: str, on: str = "2026-06-06", code: str | None = None, **more: Any) -> Resource:
    """An active order of a drug, in words, or by its RxNorm code."""
    concept: Resource = (
        {"text": name} if code is None else {"coding": [{"system": RXNORM, "code": code, "display": name}]}
    )
    return {
        "resourceType": "MedicationRequest",
        "id": identifier,
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p"},
        "medicationCodeableConcept": concept,
        "authoredOn": on,
        **more,
    }


def record(*resources: Resource) -> PatientRecord:
    """The record of a woman born in 1950 with these resources."""
    person = {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1950-03-03"}
    return example_record(
        "p", {"resourceType": "Bundle", "entry": [{"resource": item} for item in (person, *resources)]}
    )


def example(case: str) -> PatientRecord:
    """An example's record."""
    folder = FOLDER / "examples" / case
    patient = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["patient"]
    return example_record(patient, json.loads((folder / "record.json").read_text(encoding="utf-8")))


def row(*resources: Resource) -> dict[str, float]:
    """The column values that the inputs make of these resources."""
    (values,) = INPUTS.extract(record(*resources), AS_OF).arrays["features"].tolist()
    return dict(zip(COLUMNS, values, strict=True))


def evidence(name: str, *resources: Resource) -> Evidence:
    """One input as the card shows it."""
    return next(item for item in INPUTS.extract(record(*resources), AS_OF).evidence if item.name == name)
