"""Section D of the checklist: the hooks' contexts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.discovery_rules import HOOKS
from tests.conformance.hospital import Hospital

PANEL = "24331-1"


def _answered(hospital: Hospital, hook: str, context: dict[str, Any], **changes: Any) -> dict[str, Any]:
    (card,) = hospital.cards(calls.call(hook, context=context, **changes))
    return card


def _codes(card: dict[str, Any]) -> set[str]:
    """What the card's suggestions order."""
    steps = [step for one in card["suggestions"] for step in one["actions"]]
    return {step["resource"]["code"]["coding"][0]["code"] for step in steps}


def _refused(hospital: Hospital, hook: str, context: dict[str, Any]) -> str:
    answer = hospital.call(calls.call(hook, context=context))
    assert answer.status_code == 400, answer.text
    said: str = answer.json()["issue"][0]["diagnostics"]
    return said


@pytest.mark.parametrize("hook", HOOKS)
def test_15_each_hook_is_answered_with_what_it_requires(hook: str, hospital: Hospital) -> None:
    assert _answered(hospital, hook, calls.context(hook))["summary"].startswith("10-year risk")


@pytest.mark.parametrize("hook", calls.OPTIONAL)
def test_15_each_hook_takes_what_is_optional(hook: str, hospital: Hospital) -> None:
    assert _answered(hospital, hook, calls.context(hook, **calls.OPTIONAL[hook]))


@pytest.mark.parametrize(
    ("hook", "name"), [(hook, name) for hook in HOOKS for name in ("patientId", *calls.REQUIRED[hook])]
)
def test_16_a_context_without_a_required_member_is_refused(hook: str, name: str, hospital: Hospital) -> None:
    assert f"context.{name}" in _refused(hospital, hook, calls.context(hook, **{name: None}))


@pytest.mark.parametrize("user", ["Practitioner/1", "PractitionerRole/1", "Patient/1", "RelatedPerson/1"])
def test_23_users_are_of_four_types(user: str, hospital: Hospital) -> None:
    assert _answered(hospital, "patient-view", calls.context(userId=user))


@pytest.mark.parametrize("user", ["Device/1", "1", "Practitioner", "Practitioner/", "practitioner/1", 7, {"a": 1}])
def test_23_another_user_is_refused(user: object, hospital: Hospital) -> None:
    assert "context.userId" in _refused(hospital, "patient-view", calls.context(userId=user))


def test_24_what_is_drafted_already_is_not_offered_again(hospital: Hospital) -> None:
    """Among the selections or in the background: to order it twice would be wrong either way."""
    lacking = calls.prefetched(cholesterol=patients.bundle(), kidney_function=patients.bundle())
    assert _codes(_answered(hospital, "patient-view", calls.context(), prefetch=lacking)) == {PANEL, "2160-0"}
    panel = calls.service_request(code={"coding": [{"system": patients.LOINC, "code": PANEL}]})
    drafts = calls.drafts(panel, calls.medication_request())
    for selections in (["ServiceRequest/s1"], ["MedicationRequest/m1"]):
        context = calls.context("order-select", draftOrders=drafts, selections=selections)
        assert _codes(_answered(hospital, "order-select", context, prefetch=lacking)) == {"2160-0"}


@pytest.mark.parametrize(
    "change",
    [
        {"intent": None, "status": None},
        {"status": "active", "intent": "original-order"},
        {"code": None},
        {"category": {"text": "an object, not an array"}},
        {"subject": None},
        {"code": {"coding": "x"}},
    ],
)
def test_25_orders_that_are_incomplete_or_no_drafts_are_taken(change: dict[str, Any], hospital: Hospital) -> None:
    changed = calls.service_request() | change
    order = {name: value for name, value in changed.items() if value is not None}
    bundle = calls.drafts(order)
    for hook in ("order-select", "order-sign"):
        assert _answered(hospital, hook, calls.context(hook, draftOrders=bundle))
    del bundle["type"]
    assert _answered(hospital, "order-sign", calls.context("order-sign", draftOrders=bundle))


@pytest.mark.parametrize(
    "selections", [["ServiceRequest/none"], ["x"], ["https://fhir.example/ServiceRequest/s1"], [""]]
)
def test_26_selections_that_point_at_nothing_are_no_fault(selections: list[str], hospital: Hospital) -> None:
    assert _answered(hospital, "order-select", calls.context("order-select", selections=selections))


@pytest.mark.parametrize("hook", HOOKS)
def test_27_unknown_members_of_a_context_are_no_fault(hook: str, hospital: Hospital) -> None:
    assert _answered(hospital, hook, calls.context(hook, newInAMinorVersion={"a": [1]}, extension={"b": 2}))


def test_27_a_custom_hook_is_no_hook_of_ours(hospital: Hospital) -> None:
    answer = hospital.call(calls.call() | {"hook": "com.example.greet"})
    assert answer.status_code == 400


def test_28_a_patient_id_may_come_as_a_reference(hospital: Hospital) -> None:
    assert _answered(hospital, "patient-view", calls.context(patientId=f"Patient/{patients.PATIENT_ID}"))


@pytest.mark.parametrize("identifier", ["Practitioner/1", "../1", "a b", "", "x" * 65, "Patient/a/b", 7, ["1"]])
def test_28_a_patient_id_that_is_none_is_refused(identifier: object, hospital: Hospital) -> None:
    assert "context.patientId" in _refused(hospital, "patient-view", calls.context(patientId=identifier))


def test_28_a_medication_may_be_contained_or_in_the_bundle(hospital: Hospital) -> None:
    medication = {"resourceType": "Medication", "id": "med", "code": calls.MEDICATION}
    contained = calls.medication_request(contained=[medication], medicationReference={"reference": "#med"})
    beside = calls.medication_request("m2", medicationReference={"reference": "Medication/med"})
    for order in (contained, beside):
        del order["medicationCodeableConcept"]
    assert _answered(
        hospital, "order-sign", calls.context("order-sign", draftOrders=calls.drafts(contained, beside, medication))
    )


def test_28_an_allergy_may_be_wrapped(hospital: Hospital) -> None:
    """The hook's page has it bare in its table and wrapped in its example."""
    for given in (calls.ALLERGY, {"resource": calls.ALLERGY}):
        assert _answered(
            hospital,
            "allergyintolerance-create",
            calls.context("allergyintolerance-create", allergyIntolerance=given),
        )


@pytest.mark.parametrize(
    "context",
    [
        {"dispatched-orders": ["ServiceRequest/s1"]},
        {"order": "ServiceRequest/s1", "task": calls.TASK},
    ],
)
def test_28_order_dispatch_of_the_ballot_and_of_the_example_are_taken(
    context: dict[str, Any], hospital: Hospital
) -> None:
    assert _answered(hospital, "order-dispatch", calls.context("order-dispatch", dispatchedOrders=None, **context))


def test_28_a_context_about_another_patient_is_refused(hospital: Hospital) -> None:
    other = calls.service_request(subject={"reference": "Patient/somebody-else"})
    said = _refused(hospital, "order-sign", calls.context("order-sign", draftOrders=calls.drafts(other)))
    assert "patient" in said
    assert "somebody-else" not in said
