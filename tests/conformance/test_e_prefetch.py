"""Section E of the checklist: prefetch, what is missing of it, and how it is fetched."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.hospital import Hospital

OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}
NOTHING_AS_EPIC_SAYS_IT = {
    "resourceType": "Bundle",
    "type": "searchset",
    "total": 0,
    "entry": [
        {
            "search": {"mode": "outcome"},
            "resource": {
                "resourceType": "OperationOutcome",
                "issue": [{"severity": "warning", "code": "processing", "diagnostics": "nothing found"}],
            },
        }
    ],
}


def _templates(hospital: Hospital, client: str = "spec") -> list[str]:
    return [template for service in hospital.discover(client) for template in service["prefetch"].values()]


def _fetched(hospital: Hospital, body: dict[str, Any], client: str = "spec") -> tuple[dict[str, Any], list[str]]:
    """The answer of a call, and the FHIR types that were asked for meanwhile."""
    before = len(hospital.servers.asked)
    answer = hospital.call(body, client)
    paths = [asked.path for asked in hospital.servers.asked[before:] if "/fhir/" in asked.path]
    return answer.json(), [re.split(r"[/?]", path)[3] for path in paths]


def test_29_tokens_name_first_level_context_fields(hospital: Hospital) -> None:
    tokens = {token for template in _templates(hospital) for token in re.findall(r"\{\{(.*?)\}\}", template)}
    assert tokens == {"context.patientId"}


def test_30_only_a_client_that_knows_3_0_gets_its_tokens(hospital: Hospital) -> None:
    assert any("{{today() - " in template for template in _templates(hospital, "third"))
    for client in ("spec", "epic", "oracle", "medplum", "sandbox"):
        assert not any("today" in template for template in _templates(hospital, client))


@pytest.mark.parametrize("client", ["spec", "third"])
def test_31_no_template_depends_on_another(client: str, hospital: Hospital) -> None:
    assert not any("%" in token for one in _templates(hospital, client) for token in re.findall(r"\{\{(.*?)\}\}", one))


def test_32_queries_stay_within_what_is_recommended(hospital: Hospital) -> None:
    for template in _templates(hospital):
        _, _, search = template.partition("?")
        names = [pair.partition("=")[0] for pair in search.split("&") if pair]
        assert set(names) <= {"patient", "code", "status", "category", "clinical-status", "_count", "_sort", "date"}
        assert "_sort:" not in template


def test_33_only_what_is_missing_is_fetched(hospital: Hospital) -> None:
    data = calls.prefetched()
    del data["conditions"]
    body = calls.call(prefetch=data, **patients.fhir_access(hospital.servers.fhir("good")))
    answer, asked = _fetched(hospital, body)
    assert asked == ["Condition"]
    assert answer["cards"][0]["summary"].startswith("10-year risk")


def test_33_nothing_is_fetched_where_everything_was_sent(hospital: Hospital) -> None:
    _, asked = _fetched(hospital, calls.call(**patients.fhir_access(hospital.servers.fhir("good"))))
    assert asked == []


@pytest.mark.parametrize("key", ["patient", "conditions", "active_medications"])
def test_34_required_data_that_cannot_be_had_is_a_412_with_an_outcome(key: str, hospital: Hospital) -> None:
    data = calls.prefetched()
    del data[key]
    answer = hospital.call(calls.call(prefetch=data))
    assert answer.status_code == 412
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert key in answer.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize("key", ["cholesterol", "blood_pressure", "smoking_status"])
def test_34_other_data_that_cannot_be_had_is_told_on_the_card(key: str, hospital: Hospital) -> None:
    data = calls.prefetched()
    del data[key]
    (card,) = hospital.cards(calls.call(prefetch=data))
    assert f"{key.replace('_', ' ')}: not received" in card["detail"]


@pytest.mark.parametrize("value", [None, patients.bundle()], ids=["null", "empty Bundle"])
def test_35_nothing_found_is_an_answer_and_not_asked_again(value: Any, hospital: Hospital) -> None:
    data = calls.prefetched(conditions=value, active_medications=value)
    answer, asked = _fetched(hospital, calls.call(prefetch=data, **patients.fhir_access(hospital.servers.fhir("good"))))
    assert asked == []
    assert answer["cards"][0]["summary"].startswith("10-year risk")


@pytest.mark.parametrize("value", [OUTCOME, ...], ids=["OperationOutcome", "absent"])
def test_35_an_error_and_an_absent_key_are_asked_from_the_server(value: Any, hospital: Hospital) -> None:
    data = calls.prefetched(conditions=value)
    if value is ...:
        del data["conditions"]
    _, asked = _fetched(hospital, calls.call(prefetch=data, **patients.fhir_access(hospital.servers.fhir("good"))))
    assert asked == ["Condition"]


def test_35_an_error_and_no_server_is_a_412(hospital: Hospital) -> None:
    assert hospital.call(calls.call(prefetch=calls.prefetched(conditions=OUTCOME))).status_code == 412


def test_36_an_outcome_among_entries_is_seen(hospital: Hospital) -> None:
    found = patients.bundle(OUTCOME)
    _, asked = _fetched(
        hospital,
        calls.call(prefetch=calls.prefetched(conditions=found), **patients.fhir_access(hospital.servers.fhir("good"))),
    )
    assert asked == ["Condition"]


def test_36_an_outcome_from_the_server_is_told(hospital: Hospital) -> None:
    data = calls.prefetched()
    del data["hba1c"]
    (card,) = hospital.cards(calls.call(prefetch=data, **patients.fhir_access(hospital.servers.fhir("outcome"))))
    assert "hba1c: could not be had" in card["detail"]


def test_36_an_outcome_from_the_server_for_required_data_is_a_412(hospital: Hospital) -> None:
    data = calls.prefetched()
    del data["conditions"]
    answer = hospital.call(calls.call(prefetch=data, **patients.fhir_access(hospital.servers.fhir("outcome"))))
    assert answer.status_code == 412
    assert "conditions" in answer.json()["issue"][0]["diagnostics"]


def test_36_an_outcome_that_only_says_nothing_was_found_is_no_error(hospital: Hospital) -> None:
    data = calls.prefetched(conditions=NOTHING_AS_EPIC_SAYS_IT, active_medications=NOTHING_AS_EPIC_SAYS_IT)
    (card,) = hospital.cards(calls.call(prefetch=data))
    assert card["summary"].startswith("10-year risk")
    assert "OperationOutcome" not in card["detail"]


def test_37_a_first_page_is_asked_whole_from_the_server(hospital: Hospital) -> None:
    data = calls.prefetched(conditions=patients.bundle(patients.diabetes(), next_page=True))
    answer, asked = _fetched(hospital, calls.call(prefetch=data, **patients.fhir_access(hospital.servers.fhir("good"))))
    assert asked == ["Condition"]
    assert answer["cards"][0]["summary"].startswith("10-year risk")


def test_37_a_first_page_without_a_server_is_incomplete_and_says_so(hospital: Hospital) -> None:
    """Silence would mean "no further diagnosis", so nothing is calculated."""
    data = calls.prefetched(conditions=patients.bundle(patients.diabetes(), next_page=True))
    (card,) = hospital.cards(calls.call(prefetch=data))
    assert "only a first page was sent" in card["detail"]
    assert "not calculated" in card["summary"]


def test_37_pages_of_one_server_are_followed_up_to_the_limit(hospital: Hospital) -> None:
    _, asked = _fetched(hospital, calls.without_prefetch(hospital.servers.fhir("pages")), "unhurried")
    assert asked.count("Condition") == 3


def test_38_the_next_page_elsewhere_is_not_followed(hospital: Hospital) -> None:
    answer = hospital.call(calls.without_prefetch(hospital.servers.fhir("elsewhere")))
    assert answer.status_code in (200, 412)
    assert not hospital.servers.canary_was_called()


@pytest.mark.parametrize("key", ["-user", "x", "", "user.name", "ключ"])
def test_39_keys_that_were_not_asked_for_are_ignored(key: str, hospital: Hospital) -> None:
    body = calls.call(prefetch=calls.prefetched(**{key: {"resourceType": "Practitioner", "id": "1"}}))
    assert hospital.cards(body)[0]["detail"] == hospital.cards(calls.call())[0]["detail"]


def test_40_prefetch_alone_and_the_server_alone_give_the_same_card(hospital: Hospital) -> None:
    (sent,) = hospital.cards(calls.call())
    (fetched,) = hospital.cards(calls.without_prefetch(hospital.servers.fhir("good")))
    assert (sent["summary"], sent["indicator"]) == (fetched["summary"], fetched["indicator"])
