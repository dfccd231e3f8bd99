"""Section K of the checklist: what differs between the versions of CDS Hooks."""

from __future__ import annotations

import json

import pytest

from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.hospital import Hospital

SMART_1 = "launch patient/Patient.read patient/Observation.read"
SMART_2 = "launch patient/Patient.rs patient/Observation.rs?category=laboratory"


def test_k_1_0_a_client_of_1_0_gets_nothing_that_came_with_2_0(hospital: Hospital) -> None:
    body = calls.call(prefetch=calls.prefetched(cholesterol=patients.bundle()))
    answer = hospital.call(body, "oracle").json()
    (card,) = answer["cards"]
    text = json.dumps(answer["cards"])
    assert not {"uuid", "overrideReasons", "extension"} & set(card)
    assert all(word not in text for word in ("isRecommended", "resourceId", "topic", '"any"'))
    assert "systemActions" not in answer


def test_k_2_0_a_client_of_2_0_gets_what_came_with_it(hospital: Hospital) -> None:
    (card,) = hospital.cards(calls.call(prefetch=calls.prefetched(cholesterol=patients.bundle())))
    assert {"uuid", "overrideReasons", "suggestions", "selectionBehavior"} <= set(card)
    assert "topic" in card["source"]
    assert card["selectionBehavior"] == "any"


def test_k_3_0_a_client_of_3_0_gets_its_version_and_tokens(hospital: Hospital) -> None:
    service = hospital.discover("third")[0]
    assert service["version"] == "3.0.0"
    assert any("{{today() - " in template for template in service["prefetch"].values())


@pytest.mark.parametrize("client", ["spec", "third"])
@pytest.mark.parametrize("scope", [SMART_1, SMART_2])
def test_k_3_0_scopes_of_both_smart_versions_are_taken(scope: str, client: str, hospital: Hospital) -> None:
    body = calls.without_prefetch(hospital.servers.fhir("good"), scope=scope)
    assert hospital.call(body, client).status_code == 200


def test_k_3_0_a_refusal_carries_an_outcome(hospital: Hospital) -> None:
    for client in ("oracle", "spec", "third"):
        answer = hospital.call(calls.call(prefetch={}), client)
        assert (answer.status_code, answer.json()["resourceType"]) == (412, "OperationOutcome")
