"""A challenge stay as FHIR R4: the same measurements as an EHR would send them, for tests, examples and the
demonstration.

Owns the way from a `Stay` to a Bundle: one Patient, one ICU Encounter, one Observation for each measurement, anchored
at an admission instant that the caller gives (the challenge holds no dates). Ids are synthetic, made of the RecordID,
which is kept as an identifier.

What a FHIR reader must get back is exactly the stay: numbers are written with Python's shortest round-trip form, two
different values at one minute stay two Observations. Written as plain JSON-able values; nothing here serves requests.
"""

import argparse
import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fhir_adapters.codes import LOINC, UCUM
from model_artifacts.icu_mortality.challenge import UNKNOWN, Stay, parse_stay
from model_artifacts.icu_mortality.events import STATICS, UNIT_CODES, UNIT_SYSTEM, VARIABLES, Variable

Resource = dict[str, Any]

ADMITTED = datetime(2026, 1, 1, 8, tzinfo=UTC)  # the challenge holds no dates; the pocket EHR moves this to the present
RECORD_SYSTEM = "https://physionet.org/content/challenge-2012"
_KIND_DISPLAY = {
    0: "Critical Care Unit",
    1: "Medical Cardiac Critical Care",
    2: "Surgical Cardiothoracic Critical Care",
    3: "Medical Critical Care",
    4: "Surgical Critical Care",
}
_GENDERS = {0.0: "female", 1.0: "male"}
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"
_VITALS = frozenset(
    {"DiasABP", "FiO2", "GCS", "HR", "Height", "MAP", "MechVent", "NIDiasABP", "NIMAP", "NISysABP", "RespRate"}
    | {"SysABP", "Temp", "Urine", "Weight"}
)


def stay_bundle(stay: Stay, admitted: datetime) -> Resource:
    """The stay as a collection Bundle; `admitted` (aware) is minute 0, the start of the ICU Encounter, which is in progress."""
    patient_id = f"challenge-{stay.record_id}"
    resources = [_patient(stay, patient_id, admitted), _encounter(stay, patient_id, admitted)]
    height = stay.statics.get("Height", UNKNOWN)
    statics = {static.name: static for static in STATICS}
    if height != UNKNOWN:
        resources.append(_observation(statics["Height"], height, patient_id, f"{patient_id}-height", admitted))
    rows = zip(stay.minutes.tolist(), stay.variable.tolist(), stay.values.tolist(), strict=True)
    for number, (minutes, variable, value) in enumerate(rows):
        at = admitted + timedelta(minutes=minutes)
        resources.append(_observation(VARIABLES[variable], value, patient_id, f"{patient_id}-{number}", at))
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": f"urn:x-bedside:{r['resourceType']}/{r['id']}", "resource": r} for r in resources],
    }


def _patient(stay: Stay, patient_id: str, admitted: datetime) -> Resource:
    """Born so that the age at admission is the recorded one; an unknown sex is left out."""
    gender = _GENDERS.get(stay.statics.get("Gender", UNKNOWN))
    years = int(stay.statics["Age"])
    return {
        "resourceType": "Patient",
        "id": patient_id,
        "identifier": [{"system": RECORD_SYSTEM, "value": str(stay.record_id)}],
        "name": [{"text": f"ICU stay {stay.record_id}"}],
        **({"gender": gender} if gender else {}),
        "birthDate": f"{admitted.year - years:04d}-01-01",
    }


def _encounter(stay: Stay, patient_id: str, admitted: datetime) -> Resource:
    kind = int(stay.statics.get("ICUType", 0))
    display = _KIND_DISPLAY[kind]
    return {
        "resourceType": "Encounter",
        "id": f"{patient_id}-icu",
        "status": "in-progress",
        "class": {"system": _ACT_CODE, "code": "ACUTE", "display": "inpatient acute"},
        "type": [
            {
                "coding": [
                    {"system": UNIT_SYSTEM, "code": UNIT_CODES[kind][-1 if kind == 0 else 0], "display": display}
                ],
                "text": f"{display} (ICU)",
            }
        ],
        "subject": {"reference": f"Patient/{patient_id}"},
        "period": {"start": _instant(admitted)},
    }


def _observation(variable: Variable, value: float, patient_id: str, resource_id: str, at: datetime) -> Resource:
    category = "vital-signs" if variable.name in _VITALS else "laboratory"
    return {
        "resourceType": "Observation",
        "id": resource_id,
        "status": "final",
        "category": [{"coding": [{"system": _CATEGORIES, "code": category}]}],
        "code": {"coding": [{"system": LOINC, "code": variable.codes[0]}], "text": variable.label},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": _instant(at),
        **_value(variable, value),
    }


def _value(variable: Variable, value: float) -> Resource:
    if variable.presence:
        return {"valueCodeableConcept": {"text": "mechanical ventilation recorded, mode not given"}}
    return {"valueQuantity": {"value": value, "unit": variable.unit, "system": UCUM, "code": variable.unit}}


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def main() -> None:
    """Writes one stay of the challenge's own text form as a Bundle: the demonstration's ICU patients were made so."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("stay", type=Path, help="a stay as published, RecordID.txt")
    parser.add_argument("bundle", type=Path, help="the file to write, .json.gz")
    arguments = parser.parse_args()
    text = json.dumps(stay_bundle(parse_stay(arguments.stay.read_text()), ADMITTED), separators=(",", ":"))
    arguments.bundle.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
