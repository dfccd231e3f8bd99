from __future__ import annotations

import pytest
from fhir.resources.R4B.servicerequest import ServiceRequest

from cds_service.suggestions import suggest
from fhir_adapters.codes import LOINC, Code
from model_artifacts.assessment import OrderLab
from model_artifacts.prevent_cvd.finding import CREATININE, HBA1C, LIPID_PANEL, UACR
from tests.cds_service.patients import empty_members


@pytest.mark.parametrize("code", [CREATININE, HBA1C, LIPID_PANEL, UACR], ids=lambda code: code.code)
def test_suggestions_are_valid_draft_orders_for_the_patient(code: Code) -> None:
    suggestion = suggest(OrderLab(code, "the test", "a reason"), "p1", "u1").to_json()
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
    first, second = suggest(order, "p1", "u1").to_json(), suggest(order, "p2", "u2").to_json()
    assert first["actions"][0]["resource"]["subject"] == {"reference": "Patient/p1"}
    assert second["actions"][0]["resource"]["subject"] == {"reference": "Patient/p2"}


def test_suggestions_without_a_display_have_no_empty_member() -> None:
    suggestion = suggest(OrderLab(Code(LOINC, "4548-4"), "HbA1c", "a reason"), "p1", "u1").to_json()
    assert empty_members(suggestion) == []
