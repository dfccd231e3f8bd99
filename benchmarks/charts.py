"""Charts made by code, shaped like Synthea's resources, and the hook call that prefetches them.

The EHR modelled here is the worst kind for us: it ignores `_count` and sends every result it has, and every result has a code
that the service reads, so nothing is skipped cheaply. An Observation has some 0.8 kB, as Synthea and US Core write it.

To let a new model be measured, its codes need a line in `ANALYSES` with a unit and a value that its reader accepts.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from cds_service.services import CdsService
from fhir_adapters.codes import LOINC, SNOMED, UCUM
from fhir_adapters.queries import Query

Resource = dict[str, Any]

PATIENT_ID = "8f0a1c52-6a0e-4f0e-9d5c-2f1f0d3a7b11"
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
_CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"

# LOINC code, display, UCUM unit, value, category.
ANALYSES: tuple[tuple[str, str, str, float, str], ...] = (
    ("39156-5", "Body mass index (BMI) [Ratio]", "kg/m2", 28.4, "vital-signs"),
    ("29463-7", "Body Weight", "kg", 79.6, "vital-signs"),
    ("8302-2", "Body Height", "cm", 167.4, "vital-signs"),
    ("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", 201.0, "laboratory"),
    ("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", 47.0, "laboratory"),
    (
        "98979-8",
        "Glomerular filtration rate/1.73 sq M.predicted (CKD-EPI 2021)",
        "mL/min/{1.73_m2}",
        83.0,
        "laboratory",
    ),
    ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 0.84, "laboratory"),
    ("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", 6.1, "laboratory"),
    ("9318-7", "Albumin/Creatinine [Mass Ratio] in Urine", "mg/g", 14.0, "laboratory"),
    ("8867-4", "Heart rate", "/min", 84.0, "vital-signs"),
    ("9279-1", "Respiratory rate", "/min", 18.0, "vital-signs"),
    ("8310-5", "Body temperature", "Cel", 37.2, "vital-signs"),
    ("8480-6", "Systolic blood pressure", "mm[Hg]", 128.0, "vital-signs"),
    ("8462-4", "Diastolic blood pressure", "mm[Hg]", 76.0, "vital-signs"),
    ("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 131.0, "laboratory"),
    ("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", 4.2, "laboratory"),
    ("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", 139.0, "laboratory"),
    ("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma", "mg/dL", 19.0, "laboratory"),
    ("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", 9.8, "laboratory"),
    ("777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", 214.0, "laboratory"),
    ("2524-7", "Lactate [Moles/volume] in Serum or Plasma", "mmol/L", 1.4, "laboratory"),
    ("9269-2", "Glasgow coma score total", "{score}", 15.0, "vital-signs"),
    ("8478-0", "Mean blood pressure", "mm[Hg]", 91.0, "vital-signs"),
    ("9187-6", "Urine output", "mL", 80.0, "vital-signs"),
    ("1963-8", "Bicarbonate [Moles/volume] in Serum or Plasma", "mmol/L", 25.0, "laboratory"),
    ("20570-8", "Hematocrit [Volume Fraction] of Blood", "%", 33.0, "laboratory"),
    ("19123-9", "Magnesium [Mass/volume] in Serum or Plasma", "mg/dL", 2.0, "laboratory"),
)
_VITAL_SIGNS = frozenset(row[0] for row in ANALYSES if row[4] == "vital-signs")
PRESSURE_PANEL = "85354-9"
SMOKING_STATUS = "72166-2"


def call_body(service: CdsService, observations: int, newest: datetime) -> bytes:
    """A call of `service` whose prefetch holds `observations` Observations, the newest observed at `newest`."""
    prefetch = {query.name: _answer(query, service, observations, newest) for query in service.queries}
    call = {
        "hook": service.hooks[0],
        "hookInstance": str(uuid.uuid5(_NAMESPACE, f"{service.id} {observations}")),
        "context": {"userId": "Practitioner/1", "patientId": PATIENT_ID, "encounterId": "e1"},
        "prefetch": prefetch,
    }
    return json.dumps(call, separators=(",", ":")).encode()


def searchset(resources: Sequence[Resource]) -> Resource:
    """The Bundle a FHIR server answers a search with."""
    base = "https://ehr.example.org/fhir/R4"
    entries = [{"fullUrl": f"{base}/{item['resourceType']}/{item['id']}", "resource": item} for item in resources]
    return {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries}


def _answer(query: Query, service: CdsService, observations: int, newest: datetime) -> Resource:
    match query.resource:
        case "Patient":
            return _patient()
        case "Condition":
            return searchset([_condition(*item) for item in _CONDITIONS])
        case "MedicationRequest":
            return searchset([_order(*item, newest) for item in _DRUGS])
        case "Encounter":
            return searchset([_stay(newest)] if _in_hospital(service) else [])
        case "Observation":
            return searchset(_observations(query, service, observations, newest))
        case _:
            return searchset([])


def _in_hospital(service: CdsService) -> bool:
    """Whether the service is for people in hospital: then it cannot do without the stay."""
    return any(query.resource == "Encounter" and query.required for query in service.queries)


def _known_codes(query: Query) -> list[str]:
    """The codes of the query that this module can write, in the order of the query."""
    writable = {row[0] for row in ANALYSES} | {PRESSURE_PANEL, SMOKING_STATUS}
    return [code.code for code in query.codes if code.code in writable]


def _observations(query: Query, service: CdsService, observations: int, newest: datetime) -> list[Resource]:
    """The query's share of the Observations: they go round over all codes the service asks for, newest first."""
    asked = [q for q in service.queries if q.resource == "Observation"]
    turns = [(q.name, code) for q in asked for code in _known_codes(q)]
    if _in_hospital(service):  # there vital signs are noted 8 times as often as labs
        turns += 7 * [turn for turn in turns if turn[1] in _VITAL_SIGNS]
    span = min((q.lookback for q in asked if q.lookback is not None), default=timedelta(days=2))
    step = span * 0.9 / observations
    chosen = [(i, *turns[i % len(turns)]) for i in range(observations)]
    return [_observation(code, i, newest - i * step) for i, name, code in chosen if name == query.name]


def _observation(code: str, i: int, at: datetime) -> Resource:
    base = {
        "resourceType": "Observation",
        "id": str(uuid.uuid5(_NAMESPACE, f"observation {i}")),
        "status": "final",
        "subject": {"reference": f"Patient/{PATIENT_ID}"},
        "encounter": {"reference": f"Encounter/{uuid.uuid5(_NAMESPACE, f'encounter {i // 12}')}"},
        "effectiveDateTime": at.isoformat(timespec="seconds"),
        "issued": at.isoformat(timespec="milliseconds"),
    }
    if code == PRESSURE_PANEL:
        parts = [
            ("8462-4", "Diastolic Blood Pressure", 78.0 + i % 9),
            ("8480-6", "Systolic Blood Pressure", 126.0 + i % 17),
        ]
        component = [{"code": _concept(c, display), "valueQuantity": _quantity(v, "mm[Hg]")} for c, display, v in parts]
        return {**base, **_categorised(code, "Blood Pressure", "vital-signs"), "component": component}
    if code == SMOKING_STATUS:
        answer = {
            "coding": [{"system": SNOMED, "code": "266919005", "display": "Never smoker"}],
            "text": "Never smoker",
        }
        return {**base, **_categorised(code, "Tobacco smoking status NHIS", "survey"), "valueCodeableConcept": answer}
    _, display, unit, value, category = next(row for row in ANALYSES if row[0] == code)
    sent = value if unit == "{score}" else round(value * (1 + (i % 7) / 500), 2)
    return {**base, **_categorised(code, display, category), "valueQuantity": _quantity(sent, unit)}


def _categorised(code: str, display: str, category: str) -> Resource:
    coding = {"system": _CATEGORIES, "code": category}
    return {"category": [{"coding": [coding]}], "code": _concept(code, display)}


def _concept(code: str, display: str) -> Resource:
    return {"coding": [{"system": LOINC, "code": code, "display": display}], "text": display}


def _quantity(value: float, unit: str) -> Resource:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def _patient() -> Resource:
    return {
        "resourceType": "Patient",
        "id": PATIENT_ID,
        "meta": {"profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"]},
        "identifier": [{"system": "https://github.com/synthetichealth/synthea", "value": PATIENT_ID}],
        "name": [{"use": "official", "family": "Example", "given": ["Made"], "prefix": ["Mrs."]}],
        "telecom": [{"system": "phone", "value": "555-0100", "use": "home"}],
        "gender": "female",
        "birthDate": "1968-04-12",
        "address": [{"line": ["1 Example Way"], "city": "Springfield", "state": "MA", "country": "US"}],
        "maritalStatus": {"text": "M"},
        "communication": [
            {"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "en-US"}], "text": "English"}}
        ],
    }


_CONDITIONS = (
    ("59621000", "Hypertension", "2009-05-04"),
    ("15777000", "Prediabetes", "2014-02-17"),
    ("162864005", "Body mass index 30+ - obesity (finding)", "2011-09-30"),
    ("195662009", "Acute viral pharyngitis (disorder)", "2019-12-02"),
)
_DRUGS = (("314076", "lisinopril 10 MG Oral Tablet"), ("313782", "Acetaminophen 325 MG Oral Tablet"))


def _condition(code: str, display: str, onset: str) -> Resource:
    clinical = "http://terminology.hl7.org/CodeSystem/condition-clinical"
    verification = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
    return {
        "resourceType": "Condition",
        "id": f"c{code}",
        "clinicalStatus": {"coding": [{"system": clinical, "code": "active"}]},
        "verificationStatus": {"coding": [{"system": verification, "code": "confirmed"}]},
        "code": {"coding": [{"system": SNOMED, "code": code, "display": display}], "text": display},
        "subject": {"reference": f"Patient/{PATIENT_ID}"},
        "onsetDateTime": onset,
        "recordedDate": onset,
    }


def _order(code: str, name: str, newest: datetime) -> Resource:
    rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
    return {
        "resourceType": "MedicationRequest",
        "id": f"m{code}",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"coding": [{"system": rxnorm, "code": code, "display": name}], "text": name},
        "subject": {"reference": f"Patient/{PATIENT_ID}"},
        "authoredOn": (newest - timedelta(days=90)).isoformat(timespec="seconds"),
    }


def _stay(newest: datetime) -> Resource:
    since = (newest - timedelta(hours=47)).isoformat(timespec="seconds")
    return {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": f"Patient/{PATIENT_ID}"},
        "period": {"start": since},
        "location": [{"location": {"display": "Medical Intensive Care Unit (MICU)"}, "period": {"start": since}}],
    }
