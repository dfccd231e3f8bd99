"""A valid call of every hook about one invented patient, and its context's required members."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.cds_service import patients

Json = dict[str, Any]
PATIENT = {"reference": f"Patient/{patients.PATIENT_ID}"}
MEDICATION = {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "617314"}]}
LABORATORY = {"coding": [{"system": "http://loinc.org", "code": "2093-3", "display": "Cholesterol"}]}


def medication_request(identifier: str = "m1", **changes: Any) -> Json:
    """A draft prescription."""
    request: Json = {
        "resourceType": "MedicationRequest",
        "id": identifier,
        "status": "draft",
        "intent": "order",
        "medicationCodeableConcept": MEDICATION,
        "subject": PATIENT,
    }
    return request | changes


def service_request(identifier: str = "s1", **changes: Any) -> Json:
    """A draft laboratory order."""
    request: Json = {
        "resourceType": "ServiceRequest",
        "id": identifier,
        "status": "draft",
        "intent": "order",
        "code": LABORATORY,
        "subject": PATIENT,
    }
    return request | changes


def drafts(*resources: Json) -> Json:
    """A Bundle as contexts have them."""
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": one} for one in resources]}


APPOINTMENT: Json = {
    "resourceType": "Appointment",
    "id": "a1",
    "status": "proposed",
    "participant": [{"actor": PATIENT, "status": "needs-action"}],
}
ALLERGY: Json = {"resourceType": "AllergyIntolerance", "id": "i1", "patient": PATIENT, "code": {"text": "Peanut"}}
PROBLEM: Json = {"resourceType": "Condition", "id": "p1", "subject": PATIENT, "code": {"text": "Asthma"}}
TASK: Json = {"resourceType": "Task", "id": "t1", "status": "draft", "intent": "order", "for": PATIENT}

# What each hook requires besides patientId; and what it may have.
REQUIRED: dict[str, Json] = {
    "patient-view": {"userId": "Practitioner/canary-user"},
    "order-select": {
        "userId": "Practitioner/canary-user",
        "selections": ["ServiceRequest/s1"],
        "draftOrders": drafts(service_request(), medication_request()),
    },
    "order-sign": {"userId": "Practitioner/canary-user", "draftOrders": drafts(medication_request())},
    "encounter-start": {"userId": "Practitioner/canary-user", "encounterId": "e1"},
    "encounter-discharge": {"userId": "Practitioner/canary-user", "encounterId": "e1"},
    "appointment-book": {"userId": "Practitioner/canary-user", "appointments": drafts(APPOINTMENT)},
    "order-dispatch": {"dispatchedOrders": ["ServiceRequest/s1"], "performer": "Organization/o1"},
    "allergyintolerance-create": {"userId": "Practitioner/canary-user", "allergyIntolerance": ALLERGY},
    "problem-list-item-create": {"userId": "Practitioner/canary-user", "conditions": drafts(PROBLEM)},
    "medication-refill": {"medications": drafts(medication_request())},
    "medication-verify": {"userId": "Practitioner/canary-user", "medication": medication_request(status="active")},
}
OPTIONAL: dict[str, Json] = {
    "patient-view": {"encounterId": "e1"},
    "order-dispatch": {"fulfillmentTasks": [TASK]},
    "medication-refill": {"userId": "Practitioner/canary-user", "encounterId": "e1"},
}


def context(hook: str = "patient-view", **changes: Any) -> Json:
    """A context with what the hook requires; what is None in `changes` is left out."""
    members = {"patientId": patients.PATIENT_ID, **REQUIRED[hook], **changes}
    return {name: value for name, value in members.items() if value is not None}


def call(hook: str = "patient-view", prefetch: Json | None = None, **changes: Any) -> Json:
    """A call with everything prefetched, or with `prefetch`."""
    sent = patients.prefetch(datetime.now(UTC)) if prefetch is None else prefetch
    members = changes.pop("context", None)
    return patients.call(sent, hook=hook, context=context(hook) if members is None else members) | changes


def prefetched(**changes: Any) -> Json:
    """The whole prefetch, save what differs in `changes`."""
    return patients.prefetch(datetime.now(UTC)) | changes


def without_prefetch(server: str, hook: str = "patient-view", **authorization: Any) -> Json:
    """A call whose data is to be fetched from `server`."""
    return patients.call(None, hook=hook, context=context(hook), **patients.fhir_access(server, **authorization))
