"""Small FHIR records for these tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from fhir_adapters.codes import LOINC, RXNORM
from fhir_adapters.record import PatientRecord
from model_artifacts.examples import example_record

AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
FOLDER = Path(str(files("model_artifacts.warfarin_dose")))
DAILY = {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}


def bundle(case: str) -> dict[str, Any]:
    """An example's Bundle."""
    read: dict[str, Any] = json.loads((FOLDER / "examples" / case / "record.json").read_text(encoding="utf-8"))
    return read


def record(case: str = "genotypes-known", *more: dict[str, Any], without: tuple[str, ...] = ()) -> PatientRecord:
    """An example's record with resources added and those of some ids left out."""
    kept = [entry for entry in bundle(case)["entry"] if entry["resource"]["id"] not in without]
    return example_record("p", {"resourceType": "Bundle", "entry": [*kept, *({"resource": item} for item in more)]})


def observation(identifier: str, code: str, value: Any, **more: Any) -> dict[str, Any]:
    """A final Observation with a coded value: words, or a LOINC answer where `value` begins with "LA"."""
    concept = {"coding": [{"system": LOINC, "code": value}]} if value.startswith("LA") else {"text": value}
    return {
        "resourceType": "Observation",
        "id": identifier,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2026-05-01",
        "valueCodeableConcept": concept,
        **more,
    }


def draft(dosage: Any, name: str = "warfarin sodium 5 MG Oral Tablet", identifier: str = "d") -> dict[str, Any]:
    """A draft order with these dosage instructions, one or several."""
    return {
        "resourceType": "MedicationRequest",
        "id": identifier,
        "status": "draft",
        "intent": "order",
        "subject": {"reference": "Patient/p"},
        "medicationCodeableConcept": {"coding": [{"system": RXNORM, "code": "855332", "display": name}]},
        "dosageInstruction": dosage if isinstance(dosage, list) else [dosage],
    }


def dose(value: float, unit: str = "mg", timing: Any = DAILY, **more: Any) -> dict[str, Any]:
    """One dosage instruction."""
    return {"doseAndRate": [{"doseQuantity": {"value": value, "unit": unit}}], "timing": timing, **more}
