"""Section F of the checklist: the token for the FHIR server, and what that server may do."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.hospital import BUSY_S, DEADLINE_S, Hospital

EPIC_SCOPES = "Observation.Read (Labs) (R4) Patient.Read (R4) CONDITION.SEARCH (Problems) (R4)"


def _asked(hospital: Hospital, body: dict[str, Any], client: str = "spec") -> tuple[int, list[Any]]:
    before = len(hospital.servers.asked)
    status = hospital.call(body, client).status_code
    return status, [asked for asked in hospital.servers.asked[before:] if "/fhir/" in asked.path]


def test_41_an_authorization_with_all_members_is_used(hospital: Hospital) -> None:
    status, asked = _asked(hospital, calls.without_prefetch(hospital.servers.fhir("good")))
    assert status == 200
    assert asked


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "a\nb"},
        {"token_type": "MAC"},
        {"expires_in": "soon"},
        {"expires_in": -1},
        {"scope": 7},
        {"subject": 7},
        {"patient": ["x"]},
    ],
)
def test_41_an_authorization_that_is_none_is_refused(change: dict[str, Any], hospital: Hospital) -> None:
    status, asked = _asked(hospital, calls.without_prefetch(hospital.servers.fhir("good"), **change))
    assert (status, asked) == (400, [])


def test_41_patient_may_be_missing(hospital: Hospital) -> None:
    body = calls.without_prefetch(hospital.servers.fhir("good"))
    del body["fhirAuthorization"]["patient"]
    assert _asked(hospital, body)[0] == 200


def test_42_the_token_is_presented_with_each_request(hospital: Hospital) -> None:
    _, asked = _asked(hospital, calls.without_prefetch(hospital.servers.fhir("good")))
    assert {one.headers.get("authorization") for one in asked} == {f"Bearer {patients.CANARY_TOKEN}"}


def test_42_the_token_is_not_kept_for_another_call(hospital: Hospital) -> None:
    hospital.call(calls.without_prefetch(hospital.servers.fhir("good")))
    body = patients.call(None, fhirServer=hospital.servers.fhir("good"))
    _, asked = _asked(hospital, body)
    assert asked
    assert all("authorization" not in one.headers for one in asked)


def test_43_a_token_for_another_patient_is_not_used(hospital: Hospital) -> None:
    body = calls.without_prefetch(hospital.servers.fhir("good"), patient="somebody-else")
    assert _asked(hospital, body) == (412, [])


def test_43_a_token_that_has_expired_is_not_used(hospital: Hospital) -> None:
    body = calls.without_prefetch(hospital.servers.fhir("good"), expires_in=0)
    assert _asked(hospital, body) == (412, [])


def test_43_a_token_of_another_client_is_not_used(hospital: Hospital) -> None:
    body = calls.without_prefetch(hospital.servers.fhir("good"), subject="another-client")
    assert _asked(hospital, body, "subject") == (412, [])
    body = calls.without_prefetch(hospital.servers.fhir("good"), subject="agreed-subject")
    assert _asked(hospital, body, "subject")[0] == 200


@pytest.mark.parametrize("client", ["spec", "epic"])
@pytest.mark.parametrize(
    "scope", ["", "patient/*.read", "patient/Observation.rs?category=x", EPIC_SCOPES, "(((", "x" * 5000]
)
def test_44_scopes_of_any_syntax_are_no_fault(scope: str, client: str, hospital: Hospital) -> None:
    body = calls.without_prefetch(hospital.servers.fhir("good"), scope=scope)
    assert _asked(hospital, body, client)[0] == 200


def test_44_what_the_scope_does_not_allow_is_missing_data(hospital: Hospital) -> None:
    body = calls.without_prefetch(hospital.servers.fhir("403"))
    assert _asked(hospital, body)[0] == 412


@pytest.mark.parametrize("behaviour", ["401", "403", "404", "503", "redirect", "outcome", "drip"])
def test_45_a_server_that_fails_costs_required_data(behaviour: str, hospital: Hospital) -> None:
    started = time.monotonic()
    answer = hospital.call(calls.without_prefetch(hospital.servers.fhir(behaviour)))
    assert answer.status_code == 412
    assert time.monotonic() - started < DEADLINE_S + BUSY_S
    assert not hospital.servers.canary_was_called()


@pytest.mark.parametrize("behaviour", ["401", "403", "404", "503", "redirect", "drip"])
def test_45_a_server_that_fails_costs_other_data_a_line_on_the_card(behaviour: str, hospital: Hospital) -> None:
    data = calls.prefetched()
    del data["hba1c"]
    started = time.monotonic()
    body = calls.call(prefetch=data, **patients.fhir_access(hospital.servers.fhir(behaviour)))
    (card,) = hospital.cards(body)
    assert "hba1c: could not be had" in card["detail"]
    assert time.monotonic() - started < DEADLINE_S + BUSY_S


def test_45_a_hundred_pages_are_cut_off_inside_the_deadline(hospital: Hospital) -> None:
    started = time.monotonic()
    answer = hospital.call(calls.without_prefetch(hospital.servers.fhir("pages")))
    assert answer.status_code in (200, 412)
    assert time.monotonic() - started < DEADLINE_S + BUSY_S


def test_45_somebody_elses_data_is_not_used(hospital: Hospital) -> None:
    data = calls.prefetched()
    other = patients.observation(3, "2093-3", 999.0, "mg/dL", datetime.now(UTC), "other")
    (card,) = hospital.cards(calls.call(prefetch=data | {"hba1c": patients.bundle(other)}))
    assert "Observation: " in card["detail"]
    assert "999" not in card["detail"]
