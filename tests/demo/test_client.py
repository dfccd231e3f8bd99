from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import requests

from demo.client import CdsClient, Via
from demo.ehr import PocketEhr
from demo.errors import CdsServiceError

if TYPE_CHECKING:
    from tests.demo.conftest import CdsServiceDouble


def test_client_fires_only_services_of_patient_view(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    calls = ehr.client.patient_view(ehr.store.charts[0], Via.PREFETCH)
    assert [call.service.id for call in calls] == ["risk"]
    assert cds_service.requests[0]["hook"] == "patient-view"
    uuid.UUID(cds_service.requests[0]["hookInstance"])


def test_client_sends_prefetch_without_fhir_access(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    ehr.client.patient_view(ehr.store.charts[0], Via.PREFETCH)
    request = cds_service.requests[0]
    assert set(request) == {"hook", "hookInstance", "context", "prefetch"}
    assert request["context"] == {"userId": "Practitioner/demo-clinician", "patientId": "p1"}
    assert request["prefetch"]["patient"]["id"] == "p1"
    assert request["prefetch"]["cholesterol"]["total"] == 26
    assert len(request["prefetch"]["cholesterol"]["entry"]) == 2
    assert request["prefetch"]["author"]["resourceType"] == "Practitioner"
    assert request["prefetch"]["unknown"]["resourceType"] == "OperationOutcome"


def test_client_drops_unresolvable_templates(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    (call,) = ehr.client.patient_view(ehr.store.charts[0], Via.PREFETCH)
    assert call.sent.dropped == ("encounter", "birthday")
    assert not {"encounter", "birthday"} & cds_service.requests[0]["prefetch"].keys()


def test_client_resolves_the_encounter_of_an_inpatient(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    (call,) = ehr.client.patient_view(ehr.store.charts[1], Via.PREFETCH)
    assert call.sent.dropped == ("birthday",)
    assert cds_service.requests[0]["context"]["encounterId"] == "stay"
    assert cds_service.requests[0]["prefetch"]["encounter"]["id"] == "stay"


def test_client_through_fhir_sends_access_that_works(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    ehr.client.patient_view(ehr.store.charts[0], Via.FHIR)
    request = cds_service.requests[0]
    assert "prefetch" not in request
    access = request["fhirAuthorization"]
    assert (access["token_type"], access["patient"], type(access["expires_in"])) == ("Bearer", "p1", int)
    answer = requests.get(
        f"{request['fhirServer']}/Patient/p1", headers={"Authorization": f"Bearer {access['access_token']}"}, timeout=5
    )
    assert answer.status_code == 200


def test_client_reads_cards_and_receipt(ehr: PocketEhr) -> None:
    (call,) = ehr.client.patient_view(ehr.store.charts[0], Via.PREFETCH)
    assert (call.status, call.problems) == (200, ())
    assert call.cards[0].states_a_risk
    assert call.receipt_proof is not None
    assert call.receipt_proof.startswith("c2sp.org/tlog-proof@v1\n")


def test_client_tells_a_refusal_with_its_reason(ehr: PocketEhr, cds_service: CdsServiceDouble) -> None:
    cds_service.status = 412
    cds_service.answer = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "no patient"}]}
    (call,) = ehr.client.patient_view(ehr.store.charts[0], Via.PREFETCH)
    assert (call.status, call.cards, call.problems) == (412, (), ("status 412: no patient",))


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"cards": 1}'])
def test_client_tells_an_answer_that_is_none(ehr: PocketEhr, cds_service: CdsServiceDouble, answer: bytes) -> None:
    cds_service.answer = answer
    (call,) = ehr.client.patient_view(ehr.store.charts[0], Via.PREFETCH)
    assert call.cards == ()
    assert len(call.problems) == 1


def test_client_discovery_of_nobody_is_an_error(ehr: PocketEhr) -> None:
    with pytest.raises(CdsServiceError, match="no answer"):
        CdsClient("http://127.0.0.1:9", ehr.fhir, ehr.client.signer).discover()
