"""Stays of the challenge as FHIR, for the examples in this folder: a Patient, an Encounter in intensive care, an Observation
for each measurement of the first 24 hours that the model reads. Times are invented, for the challenge holds none.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from bedside_long_stay.inputs import INPUTS

ADMITTED = datetime(2026, 3, 1, 8, tzinfo=UTC)
PARAMETERS = {
    "coma_scale": ("GCS",),
    "heart_rate": ("HR",),
    "systolic": ("SysABP", "NISysABP"),
    "temperature": ("Temp",),
    "urea_nitrogen": ("BUN",),
    "creatinine": ("Creatinine",),
    "bilirubin": ("Bilirubin",),
    "sodium": ("Na",),
    "potassium": ("K",),
    "glucose": ("Glucose",),
    "bicarbonate": ("HCO3",),
    "lactate": ("Lactate",),
    "haematocrit": ("HCT",),
    "platelets": ("Platelets",),
    "leukocytes": ("WBC",),
}
"""What the challenge calls each feature's measurements."""
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
ARTERIAL = "76215-3"
CASES = {  # folder to stay, hours after admission, and how many of its measurements are kept
    "stayed-long": (132599, 24, None),
    "left-early": (132539, 24, None),
    "a-day-later": (132539, 48, None),
    "too-few-inputs": (132539, 24, 4),
}


def write_examples(data: Path, examples: Path) -> None:
    """Writes `record.json` and the question of each case; the answers come from the model itself."""
    events = pd.read_parquet(data / "p12_long.parquet", columns=["RecordID", "minutes", "Parameter", "Value"])
    for case, (stay, hours, kept) in CASES.items():
        own = events[(events["RecordID"] == stay) & (events["minutes"] <= 24 * 60)]
        folder, patient = examples / case, f"challenge-{stay}"
        folder.mkdir(parents=True, exist_ok=True)
        resources = _resources(own, patient)
        bundle = {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": resource} for resource in resources[: None if kept is None else 2 + kept]],
        }
        asked = {"patient": patient, "as_of": _instant(ADMITTED + timedelta(hours=hours))}
        (folder / "record.json").write_text(json.dumps(bundle, separators=(",", ":")) + "\n", encoding="utf-8")
        (folder / "expected.json").write_text(json.dumps(asked) + "\n", encoding="utf-8")


def _resources(own: pd.DataFrame, patient: str) -> list[dict[str, Any]]:
    person = own[own["minutes"] == 0].set_index("Parameter")["Value"]
    subject = {"reference": f"Patient/{patient}"}
    resources: list[dict[str, Any]] = [
        {
            "resourceType": "Patient",
            "id": patient,
            "gender": "male" if person["Gender"] == 1 else "female",
            "birthDate": f"{ADMITTED.year - int(person['Age'])}-01-01",
        },
        {
            "resourceType": "Encounter",
            "id": f"{patient}-icu",
            "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "ACUTE"},
            "type": [{"text": "Medical intensive care unit"}],
            "subject": subject,
            "period": {"start": _instant(ADMITTED)},
        },
    ]
    specs = {spec.name: spec for spec in INPUTS.specs}
    feature = {parameter: name for name, parameters in PARAMETERS.items() for parameter in parameters}
    for number, row in enumerate(own[own["Parameter"].isin(feature)].itertuples()):
        spec = specs[feature[row.Parameter]]
        code = ARTERIAL if row.Parameter == "SysABP" else spec.codes[0].code
        resources.append(
            {
                "resourceType": "Observation",
                "id": f"{patient}-{number}",
                "status": "final",
                "code": {"coding": [{"system": LOINC, "code": code}], "text": row.Parameter},
                "subject": subject,
                "effectiveDateTime": _instant(ADMITTED + timedelta(minutes=row.minutes)),
                "valueQuantity": {"value": row.Value, "unit": spec.unit, "system": UCUM, "code": spec.unit},
            }
        )
    return resources


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
