"""FHIR R4 resources of invented people, dated from a given moment, and hook calls about them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

LOINC = "http://loinc.org"
PATIENT_ID = "canary-patient-7c1f"  # looked for wherever no patient may be named
HOOK_INSTANCE = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
CANARY_NAME = "Zyxwvut Canarybird"
CANARY_TEXT = "Qwertzuiop syndrome"
CANARY_TOKEN = "CANARY-TOKEN-4f1d9b"


def patient(patient_id: str = PATIENT_ID) -> Json:
    """A woman of about fifty."""
    return {
        "resourceType": "Patient",
        "id": patient_id,
        "gender": "female",
        "birthDate": "1974-06-01",
        "name": [{"text": CANARY_NAME}],
    }


def observation(
    number: int, code: str, value: float | None, unit: str, moment: datetime, patient_id: str = PATIENT_ID
) -> Json:
    """A final Observation, a day before `moment`; without a value if it is None."""
    resource: Json = {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": (moment - timedelta(days=1)).isoformat(),
    }
    if value is not None:
        resource["valueQuantity"] = {
            "value": value,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        }
    return resource


def diabetes(patient_id: str = PATIENT_ID) -> Json:
    """An active diagnosis whose text only an encrypted payload may hold."""
    return {
        "resourceType": "Condition",
        "id": "c1",
        "clinicalStatus": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
        },
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "44054006"}], "text": CANARY_TEXT},
        "subject": {"reference": f"Patient/{patient_id}"},
    }


def bundle(*resources: Json, next_page: bool = False) -> Json:
    """A searchset."""
    found: Json = {"resourceType": "Bundle", "type": "searchset", "total": len(resources)}
    if next_page:
        found["link"] = [{"relation": "next", "url": "https://fhir.example.org/next"}]
    return found | {"entry": [{"resource": resource} for resource in resources]}


def prefetch(moment: datetime, patient_id: str = PATIENT_ID) -> dict[str, Json]:
    """Everything `prevent_cvd` asks for, and what gives an estimate."""
    return {
        "patient": patient(patient_id),
        "conditions": bundle(diabetes(patient_id)),
        "current_encounters": bundle(),
        "active_medications": bundle(),
        "blood_pressure": bundle(observation(1, "8480-6", 151.0, "mm[Hg]", moment, patient_id)),
        "body_mass_index": bundle(observation(2, "39156-5", 31.0, "kg/m2", moment, patient_id)),
        "body_weight": bundle(),
        "body_height": bundle(),
        "cholesterol": bundle(
            observation(3, "2093-3", 201.0, "mg/dL", moment, patient_id),
            observation(4, "2085-9", 44.0, "mg/dL", moment, patient_id),
        ),
        "kidney_function": bundle(observation(5, "98979-8", 91.0, "mL/min/{1.73_m2}", moment, patient_id)),
        "hba1c": bundle(),
        "urine_albumin": bundle(),
        "smoking_status": bundle(smoking(moment, patient_id)),
    }


def smoking(moment: datetime, patient_id: str = PATIENT_ID) -> Json:
    """Never smoked."""
    answer = observation(6, "72166-2", None, "", moment, patient_id)
    return answer | {"valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": "266919005"}]}}


def call(prefetched: dict[str, Any] | None, **changes: Any) -> Json:
    """A patient-view call."""
    request: Json = {
        "hook": "patient-view",
        "hookInstance": HOOK_INSTANCE,
        "context": {"userId": "Practitioner/canary-user", "patientId": PATIENT_ID},
    }
    if prefetched is not None:
        request["prefetch"] = prefetched
    return request | changes


def fhir_access(server: str, **changes: Any) -> Json:
    """The members of a call that let the service ask `server`."""
    authorization: Json = {
        "access_token": CANARY_TOKEN,
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "patient/Patient.rs patient/Observation.rs",
        "subject": "test-ehr",
        "patient": PATIENT_ID,
    }
    return {"fhirServer": server, "fhirAuthorization": authorization | changes}


def encoded(request: Json) -> bytes:
    """The call's bytes."""
    return json.dumps(request).encode()


def empty_members(value: Any, path: str = "$") -> list[str]:
    """Paths of members that are null or empty, which CDS Hooks forbids; `cards` may be an empty array."""
    if isinstance(value, dict):
        bad = [f"{path}.{k}" for k, v in value.items() if v in (None, "", [], {}) and k != "cards"]
        return bad + [found for k, v in value.items() for found in empty_members(v, f"{path}.{k}")]
    if isinstance(value, list):
        return [found for i, v in enumerate(value) for found in empty_members(v, f"{path}[{i}]")]
    return []
