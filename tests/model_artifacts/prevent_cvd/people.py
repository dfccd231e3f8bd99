"""Small FHIR records for these tests."""

from datetime import UTC, datetime

import msgspec

from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId

AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
SNOMED = "http://snomed.info/sct"
ICD10CM = "http://hl7.org/fhir/sid/icd-10-cm"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"


def patient(sex="female", born="1970-01-01"):
    return {"resourceType": "Patient", "id": "p", "gender": sex, "birthDate": born}


def observation(code, value, unit, at="2026-05-01T08:00:00Z", **more):
    return {
        "resourceType": "Observation",
        "id": f"{code}-{at}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": at,
        "valueQuantity": {"value": value, "unit": unit},
        **more,
    }


def smoking(code, at="2026-01-01", system=SNOMED):
    answer = {"coding": [{"system": system, "code": code}]}
    row = observation("72166-2", 0, "1", at)
    del row["valueQuantity"]
    return {**row, "valueCodeableConcept": answer}


def condition(system, code, status="active", verification="confirmed", **more):
    return {
        "resourceType": "Condition",
        "id": f"c-{code}",
        "clinicalStatus": {"coding": [{"code": status}]},
        "verificationStatus": {"coding": [{"code": verification}]},
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": {"reference": "Patient/p"},
        **more,
    }


def medication(display, status="active", code="1", system=RXNORM, **more):
    return {
        "resourceType": "MedicationRequest",
        "id": f"m-{display}-{code}",
        "status": status,
        "intent": "order",
        "medicationCodeableConcept": {"coding": [{"system": system, "code": code, "display": display}]},
        "subject": {"reference": "Patient/p"},
        "authoredOn": "2026-01-01",
        **more,
    }


def complete(sex="female", born="1970-01-01", without=(), instead=()):
    """A record with every essential value; `without` drops LOINC codes, `instead` adds resources."""
    rows = [
        observation("2093-3", 200, "mg/dL"),
        observation("2085-9", 50, "mg/dL"),
        observation("8480-6", 128, "mm[Hg]"),
        observation("39156-5", 27, "kg/m2"),
        observation("2160-0", 0.8, "mg/dL"),
        smoking("266919005"),
    ]
    kept = [row for row in rows if row["code"]["coding"][0]["code"] not in without]
    return record(patient(sex, born), *kept, *instead)


def record(*resources) -> PatientRecord:
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": row} for row in resources]}
    return build_record(PatientId("p"), [msgspec.json.encode(bundle)])
