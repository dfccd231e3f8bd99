from __future__ import annotations

import json
from typing import Any

import pytest
from fhir.resources.R4B.servicerequest import ServiceRequest

from cds_service.hooks.context import ContextResource
from cds_service.suggestions import suggest, without_drafted
from fhir_adapters.codes import LOINC, RXNORM, Code
from model_artifacts.assessment import ChangeDose, OrderLab
from model_artifacts.prevent_cvd.finding import CREATININE, HBA1C, LIPID_PANEL, UACR
from tests.cds_service.patients import empty_members

ORDERS = (OrderLab(HBA1C, "HbA1c", "a reason"), OrderLab(CREATININE, "creatinine", "a reason"))


def _ordered(order: OrderLab, patient_id: str, uuid: str) -> dict[str, Any]:
    suggestion = suggest(order, patient_id, uuid)
    assert suggestion is not None
    return suggestion.to_json()


@pytest.mark.parametrize("code", [CREATININE, HBA1C, LIPID_PANEL, UACR], ids=lambda code: code.code)
def test_suggestions_are_valid_draft_orders_for_the_patient(code: Code) -> None:
    suggestion = _ordered(OrderLab(code, "the test", "a reason"), "p1", "u1")
    (action,) = suggestion["actions"]
    resource = action["resource"]
    ServiceRequest.model_validate(resource)
    assert (resource["resourceType"], resource["status"], resource["intent"]) == ("ServiceRequest", "draft", "proposal")
    assert resource["subject"] == {"reference": "Patient/p1"}
    assert resource["code"]["coding"] == [{"system": LOINC, "code": code.code, "display": code.display}]
    assert (suggestion["label"], suggestion["uuid"]) == ("Order the test", "u1")
    assert (action["type"], action["description"]) == ("create", "Draft order: the test")
    assert empty_members(suggestion) == []


def test_suggestions_for_two_patients_share_nothing() -> None:
    order = OrderLab(HBA1C, "HbA1c", "a reason")
    first, second = _ordered(order, "p1", "u1"), _ordered(order, "p2", "u2")
    assert first["actions"][0]["resource"]["subject"] == {"reference": "Patient/p1"}
    assert second["actions"][0]["resource"]["subject"] == {"reference": "Patient/p2"}


def test_suggestions_without_a_display_have_no_empty_member() -> None:
    suggestion = _ordered(OrderLab(Code(LOINC, "4548-4"), "HbA1c", "a reason"), "p1", "u1")
    assert empty_members(suggestion) == []


def _draft(resource: Any, *, selected: bool = True) -> ContextResource:
    document = resource if isinstance(resource, bytes) else json.dumps(resource).encode()
    return ContextResource("ServiceRequest/1", "ServiceRequest", document, selected)


def _order(*codings: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"resourceType": "ServiceRequest", "status": "draft", "code": {"coding": list(codings)}, **members}


@pytest.mark.parametrize("selected", [True, False])
def test_suggestions_leave_out_what_is_drafted(selected: bool) -> None:
    draft = _order({"system": "urn:local", "code": "A1C"}, {"system": LOINC, "code": HBA1C.code})
    assert without_drafted(ORDERS, (_draft(draft, selected=selected),)) == ORDERS[1:]


@pytest.mark.parametrize(
    "coding",
    [
        {"system": "urn:local", "code": HBA1C.code},
        {"system": LOINC, "code": HBA1C.code[:-1]},
        {"system": LOINC, "code": f"{HBA1C.code} "},
        {"code": HBA1C.code},
        {"system": LOINC},
    ],
)
def test_suggestions_stay_where_system_or_code_differs(coding: dict[str, Any]) -> None:
    assert without_drafted(ORDERS, (_draft(_order(coding)),)) == ORDERS


@pytest.mark.parametrize("status", ["revoked", "entered-in-error"])
def test_suggestions_stay_where_the_draft_was_withdrawn(status: str) -> None:
    draft = _order({"system": LOINC, "code": HBA1C.code}, status=status)
    assert without_drafted(ORDERS, (_draft(draft),)) == ORDERS


def test_suggestions_look_at_service_requests_alone() -> None:
    document = json.dumps(_order({"system": LOINC, "code": HBA1C.code})).encode()
    assert without_drafted(ORDERS, (ContextResource(None, "MedicationRequest", document),)) == ORDERS


@pytest.mark.parametrize(
    "unreadable",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[" * 100_000,
        b'{"code": {"coding": "4548-4"}}',
        b'{"code": {"coding": [{"system": 1}]}}',
        b'{"code": {"text": "HbA1c"}}',
    ],
)
def test_suggestions_stay_where_a_draft_cannot_be_read(unreadable: bytes) -> None:
    assert without_drafted(ORDERS, (_draft(unreadable),)) == ORDERS


CHANGE = ChangeDose(
    Code(RXNORM, "11289"), "Change the draft to 4 mg daily", "MedicationRequest/d", 4.0, "4 mg once daily"
)
DRAFT = {
    "resourceType": "MedicationRequest",
    "id": "d",
    "status": "draft",
    "intent": "order",
    "medicationCodeableConcept": {"text": "warfarin"},
    "subject": {"reference": "Patient/p1"},
    "extension": [{"url": "https://ehr.example/own", "valueString": "kept"}],
    "dosageInstruction": [{"text": "10 mg daily"}, {"text": "and 5 mg at night"}],
}


def test_suggestions_change_nothing_of_a_draft_but_its_dosage() -> None:
    suggestion = suggest(CHANGE, "p1", "u1", {"MedicationRequest/d": json.dumps(DRAFT).encode()})
    assert suggestion is not None
    (action,) = suggestion.to_json()["actions"]
    (dosage,) = action["resource"].pop("dosageInstruction")
    assert action["type"] == "update"
    assert action["resource"] == {name: value for name, value in DRAFT.items() if name != "dosageInstruction"}
    quantity = {"value": 4.0, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}
    assert dosage["doseAndRate"] == [{"doseQuantity": quantity}]


@pytest.mark.parametrize(
    "document",
    [
        b"null",
        b"[]",
        b"{",
        json.dumps({**DRAFT, "intent": None}).encode(),
        json.dumps({"resourceType": "Task"}).encode(),
    ],
)
def test_suggestions_that_make_no_valid_order_are_left_out(document: bytes) -> None:
    assert suggest(CHANGE, "p1", "u1", {"MedicationRequest/d": document}) is None


def test_suggestions_for_a_draft_that_is_not_there_are_left_out() -> None:
    assert suggest(CHANGE, "p1", "u1") is None
