"""Section G of the checklist: cards, suggestions, actions and links."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt

from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.fhir_rules import check_resource
from tests.conformance.hospital import CLIENTS, LAUNCH_URL, PUBLIC_URL, Hospital
from tests.conformance.response_rules import UUID, check_outcome

Json = dict[str, Any]
CALLING = [name for name in CLIENTS if name not in ("limited", "certified", "rotating", "narrow")]


def _lacking() -> Json:
    """A call to which two laboratory orders are proposed."""
    return calls.call(prefetch=calls.prefetched(cholesterol=patients.bundle(), kidney_function=patients.bundle()))


def _card(hospital: Hospital, body: Json | None = None, client: str = "spec") -> Json:
    (card,) = hospital.cards(body or _lacking(), client)
    return card


@pytest.mark.parametrize("client", CALLING)
def test_46_an_answer_is_a_200_with_cards(client: str, hospital: Hospital) -> None:
    answer = hospital.call(calls.call(), client)
    assert answer.status_code == 200
    assert isinstance(answer.json()["cards"], list)
    assert set(answer.json()) <= {"cards", "systemActions", "extension"}


def test_47_no_guidance_is_a_200_with_no_cards(hospital: Hospital) -> None:
    answer = hospital.call(calls.call(), "shadow")
    assert (answer.status_code, answer.json()["cards"]) == (200, [])


@pytest.mark.parametrize(
    ("status", "how"),
    [
        (400, {"body": b"{"}),
        (401, {"body": b"{}", "client": None}),
        (403, {"body": b"{}", "client": "narrow"}),
        (404, {"body": b"{}", "service": "none"}),
        (412, {"body": calls.call(prefetch={})}),
        (415, {"body": b"{}", "headers": {"Content-Type": "text/plain"}}),
    ],
)
def test_48_a_refusal_carries_an_outcome(status: int, how: dict[str, Any], hospital: Hospital) -> None:
    answer = hospital.call(**how)
    assert answer.status_code == status
    assert check_outcome(answer.status_code, answer.headers, answer.content) == []
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_49_each_card_and_suggestion_has_an_id_of_its_own(hospital: Hospital) -> None:
    cards = [_card(hospital) for _ in range(3)]
    ids = [holder["uuid"] for card in cards for holder in (card, *card["suggestions"])]
    assert all(UUID.fullmatch(one) for one in ids)
    assert len(set(ids)) == len(ids) == 9


@pytest.mark.parametrize(
    "lacking", [(), ("cholesterol",), ("cholesterol", "kidney_function", "blood_pressure", "smoking_status")]
)
def test_50_summaries_have_fewer_than_140_characters(lacking: tuple[str, ...], hospital: Hospital) -> None:
    body = calls.call(prefetch=calls.prefetched(**{key: patients.bundle() for key in lacking}))
    assert 0 < len(_card(hospital, body)["summary"]) < 140


def test_51_details_hold_no_markup_from_the_record(hospital: Hospital) -> None:
    named = patients.diabetes()
    named["code"]["text"] = "<img src=x onerror=alert(1)> [a](javascript:x) **b** `c` | d"
    detail = _card(hospital, calls.call(prefetch=calls.prefetched(conditions=patients.bundle(named))))["detail"]
    shown = (
        MarkdownIt("commonmark", {"html": True}).enable("table").render(detail)
    )  # as a client that lets HTML through
    assert "onerror" in shown
    assert not any(mark in shown for mark in ("<img", "<a ", "<strong>b<", "<code>"))


@pytest.mark.parametrize("body", [calls.call(), _lacking()], ids=["estimate", "abstention"])
def test_52_indicators_are_of_three(body: Json, hospital: Hospital) -> None:
    assert _card(hospital, body)["indicator"] in ("info", "warning", "critical")


def test_53_sources_have_a_label_and_absolute_urls(hospital: Hospital) -> None:
    source = _card(hospital)["source"]
    assert source["label"]
    assert all(urlsplit(source[name]).scheme == "https" for name in ("url", "icon") if name in source)


def test_53_topics_are_plain_and_the_same_for_a_kind_of_card_where_a_client_wants_that(hospital: Hospital) -> None:
    first, again, other = (
        _card(hospital, body, "epic")["source"]["topic"]["code"] for body in (_lacking(), _lacking(), calls.call())
    )
    assert first == again != other
    assert all(re.fullmatch(r"[A-Za-z0-9]{1,100}", code) for code in (first, other))


def test_54_how_to_choose_is_said_where_there_are_suggestions(hospital: Hospital) -> None:
    assert _card(hospital)["selectionBehavior"] == "any"
    assert _card(hospital, client="oracle")["selectionBehavior"] == "at-most-one"


def test_54_how_to_choose_is_not_said_where_there_are_none(hospital: Hospital) -> None:
    cards = [_card(hospital, calls.call(prefetch=calls.prefetched(patient=_child())))]
    assert "suggestions" not in cards[0]
    assert "selectionBehavior" not in cards[0]


def _child() -> Json:
    return patients.patient() | {"birthDate": "2020-01-01"}


def test_55_suggestions_have_label_id_and_actions(hospital: Hospital) -> None:
    for client in ("spec", "epic", "sandbox"):
        for suggestion in _card(hospital, client=client)["suggestions"]:
            assert suggestion["label"]
            assert UUID.fullmatch(suggestion["uuid"])
            assert len(suggestion["actions"]) == 1
            assert "isRecommended" not in suggestion


@pytest.mark.parametrize("client", CALLING)
def test_56_no_choice_among_actions(client: str, hospital: Hospital) -> None:
    assert "actionSelectionBehavior" not in hospital.call(_lacking(), client).text


def test_57_actions_have_type_description_and_a_whole_resource(hospital: Hospital) -> None:
    actions = [step for one in _card(hospital)["suggestions"] for step in one["actions"]]
    actions += hospital.call(calls.call(), "filing").json()["systemActions"]
    for action in actions:
        assert set(action) == {"type", "description", "resource"}
        assert action["type"] == "create"
        assert action["description"]
        assert check_resource(action["resource"]) == []


def test_58_proposed_orders_are_drafts_about_the_patient(hospital: Hospital) -> None:
    for one in _card(hospital)["suggestions"]:
        (action,) = one["actions"]
        resource = action["resource"]
        assert (resource["status"], resource["intent"]) == ("draft", "proposal")
        assert resource["subject"] == {"reference": f"Patient/{patients.PATIENT_ID}"}


def test_59_override_reasons_are_whole_codings(hospital: Hospital) -> None:
    reasons = _card(hospital, calls.call())["overrideReasons"]
    assert reasons
    assert all(set(reason) == {"code", "system", "display"} and all(reason.values()) for reason in reasons)


def test_60_links_are_absolute_and_only_a_smart_link_has_context_which_is_text(hospital: Hospital) -> None:
    links = _card(hospital)["links"]
    assert {link["type"] for link in links} == {"absolute", "smart"}
    for link in links:
        assert link["label"]
        assert urlsplit(link["url"]).scheme == "https"
        assert ("appContext" in link) == (link["type"] == "smart")
        assert isinstance(link.get("appContext", ""), str)


def test_60_a_client_that_hands_over_no_context_gets_none(hospital: Hospital) -> None:
    assert all("appContext" not in link for link in _card(hospital, client="oracle")["links"])


def test_61_a_smart_link_has_no_launch_parameters_of_ours(hospital: Hospital) -> None:
    (link,) = [link for link in _card(hospital)["links"] if link["type"] == "smart"]
    assert link["url"] == LAUNCH_URL


def test_62_system_actions_go_to_those_who_agreed_to_them(hospital: Hospital) -> None:
    (action,) = hospital.call(calls.call(), "filing").json()["systemActions"]
    assert action["resource"]["resourceType"] == "RiskAssessment"
    for client in ("spec", "epic", "oracle", "medplum", "third"):
        answer = hospital.call(calls.call(), client).json()
        assert "systemActions" not in answer
        assert "systemActions" not in answer["extension"]


def test_62_a_client_that_reads_them_in_the_extension_finds_them_there(hospital: Hospital) -> None:
    answer = hospital.call(calls.call(), "sandbox").json()
    assert answer["extension"]["systemActions"] == answer["systemActions"]


def test_62_no_estimate_no_system_action(hospital: Hospital) -> None:
    assert "systemActions" not in hospital.call(_lacking(), "filing").json()


def test_63_extensions_are_objects_under_reverse_domain_names(hospital: Hospital) -> None:
    extension = hospital.call(calls.call()).json()["extension"]
    assert list(extension) == ["org.bedside.receipt"]
    assert isinstance(extension["org.bedside.receipt"], dict)


def _without_ids(card: Json) -> Json:
    kept = json.loads(json.dumps(card))
    for holder in (kept, *kept.get("suggestions", [])):
        del holder["uuid"]
    for link in kept["links"]:
        link.pop("appContext", None)
    return dict(kept)


def test_64_the_same_call_gives_the_same_card_under_fresh_ids(hospital: Hospital) -> None:
    body = _lacking()
    first, second = _card(hospital, body), _card(hospital, body)
    assert first["uuid"] != second["uuid"]
    assert _without_ids(first) == _without_ids(second)


def test_90_links_lead_only_to_our_own_pages(hospital: Hospital) -> None:
    urls = [link["url"] for body in (calls.call(), _lacking()) for link in _card(hospital, body)["links"]]
    assert all(url.startswith((f"{PUBLIC_URL}/models/", LAUNCH_URL)) for url in urls)
