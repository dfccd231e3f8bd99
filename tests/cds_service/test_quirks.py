"""Each quirk by name; what one changes in reading feedback is tested with feedback."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from audit.log import AuditLog
from audit.merkle import LeafIndex
from cds_service.cards import Card, present, present_failure
from cds_service.discovery import discovery_document
from cds_service.pipeline import answer
from cds_service.quirks import PROFILES, Quirk, profile_quirks
from cds_service.response import MAX_TOPIC_CHARS, response_bytes
from cds_service.services import ServiceSettings, find_service, services_of
from cds_service.suggestions import Action
from fhir_adapters.codes import LOINC, Code
from model_artifacts.assessment import Finding, OrderLab
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CLIENT, caller
from tests.cds_service.patients import empty_members
from tests.cds_service.test_response import LAUNCH, RECEIPT
from tests.conftest import NOW, MakeDesk

FILED = Action("Record the estimate", {"resourceType": "RiskAssessment"})
FINDING = Finding(
    code="total_cvd_10y:high",
    urgency="warning",
    headline="Risk: 12.0 % (high)",
    statements=("Statement.",),
    reasons=(),
    missing=(),
    considerations=(),
    proposals=(
        OrderLab(Code(LOINC, "4548-4", "HbA1c"), "HbA1c", "No recent one"),
        OrderLab(Code(LOINC, "2160-0", "Creatinine"), "creatinine", "No recent one"),
    ),
)
_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=250)


def _uuids() -> Callable[[], str]:
    numbers = count()
    return lambda: f"uuid-{next(numbers)}"


def _cards(model: ReleasedModel, finding: Finding = FINDING) -> tuple[Card, ...]:
    page = "https://cds.example.org/models/x"
    return (present(finding, model.manifest, "p1", page, _uuids()), present_failure(model.manifest, _uuids()))


def _answer(cards: tuple[Card, ...], *quirks: Quirk, actions: tuple[Action, ...] = ()) -> dict[str, Any]:
    data = response_bytes(cards, RECEIPT, LAUNCH, quirks=frozenset(quirks), system_actions=actions)
    body: dict[str, Any] = json.loads(data)
    assert empty_members(body) == []
    return body


def _topic(card: Card) -> dict[str, Any]:
    topic: dict[str, Any] = _answer((card,), Quirk.ALPHANUMERIC_TOPIC)["cards"][0]["source"]["topic"]
    return topic


def test_quirks_cds_hooks_1_0_leaves_what_1_0_defines(prevent: ReleasedModel) -> None:
    card, failed = _answer(_cards(prevent), Quirk.CDS_HOOKS_1_0, actions=(FILED,))["cards"]
    assert card.keys() == {"summary", "detail", "indicator", "source", "suggestions", "selectionBehavior", "links"}
    assert card["source"].keys() == {"label", "url"}
    assert card["selectionBehavior"] == "at-most-one"
    assert [item.keys() for item in card["suggestions"]] == [{"label", "uuid", "actions"}] * 2
    assert failed.keys() == {"summary", "detail", "indicator", "source", "links"}


def test_quirks_cds_hooks_1_0_has_no_system_actions(prevent: ReleasedModel) -> None:
    assert _answer(_cards(prevent), Quirk.CDS_HOOKS_1_0, actions=(FILED,)).keys() == {"cards", "extension"}


def test_quirks_cds_hooks_1_0_tells_the_app_which_card_it_was(prevent: ReleasedModel) -> None:
    first = _cards(prevent)[0]
    smart = _answer((first,), Quirk.CDS_HOOKS_1_0)["cards"][0]["links"][0]
    assert json.loads(smart["appContext"])["card"] == first.uuid


def test_quirks_cds_hooks_3_0_gets_dated_templates(prevent: ReleasedModel) -> None:
    client = replace(CLIENT, quirks=frozenset({Quirk.CDS_HOOKS_3_0}))
    plain, dated = (json.dumps(discovery_document(services_of([prevent]), one)) for one in (CLIENT, client))
    assert ("today()" in plain, "today()" in dated) == (False, True)


def test_quirks_one_id_per_hook_loses_no_service(prevent: ReleasedModel) -> None:
    services = services_of([prevent], [ServiceSettings("prevent_cvd", hooks=("patient-view", "order-sign"))])
    client = replace(CLIENT, quirks=frozenset({Quirk.ONE_ID_PER_HOOK}))
    offered = json.loads(json.dumps(discovery_document(services, client)))["services"]
    assert {entry["hook"]: find_service(services, entry["id"]).hooks for entry in offered} == {
        "patient-view": ("patient-view",),
        "order-sign": ("order-sign",),
    }


def test_quirks_opaque_scopes_are_not_taken_apart(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    access = patients.fhir_access("https://fhir.example.org", scope="Observation.Read (Labs) (R4) openid")
    desk = make_desk()
    who = caller(quirks=frozenset({Quirk.OPAQUE_SCOPES}))
    answer(patients.encoded(patients.call(patients.prefetch(NOW), **access)), desk.services[0], who, desk)
    assert json.loads(audit_log.entry(LeafIndex(0)))["request"]["scopes"] == ["opaque"]


def test_quirks_alphanumeric_topic_is_letters_and_digits(prevent: ReleasedModel) -> None:
    topic = _topic(_cards(prevent)[0])
    assert topic["code"] == "preventcvdtotalcvd10yhigh"
    assert topic["display"] == prevent.manifest.source.topic_display
    assert topic["system"] != prevent.manifest.source.topic_system


@given(kind=_text)
@example(kind="x" * (MAX_TOPIC_CHARS + 1))
@example(kind=":")
def test_quirks_alphanumeric_topic_is_never_too_long_and_never_empty(prevent: ReleasedModel, kind: str) -> None:
    (card,) = _answer((replace(_cards(prevent)[0], kind=kind),), Quirk.ALPHANUMERIC_TOPIC)["cards"]
    code = card["source"].get("topic", {"code": "none"})["code"]
    assert code.isascii()
    assert code.isalnum()
    assert len(code) <= MAX_TOPIC_CHARS


def test_quirks_alphanumeric_topic_is_the_same_for_two_patients(prevent: ReleasedModel) -> None:
    other = present(replace(FINDING, headline="Risk: 13.0 % (high)"), prevent.manifest, "p2", None, _uuids())
    assert _topic(other) == _topic(_cards(prevent)[0])


def test_quirks_alphanumeric_topic_differs_between_kinds_of_card(prevent: ReleasedModel) -> None:
    low = replace(FINDING, code="total_cvd_10y:low")
    long = replace(_cards(prevent)[0], kind="x" * 200)
    kinds = (*_cards(prevent), *_cards(prevent, low)[:1], long, replace(long, kind="x" * 201))
    assert len({_topic(card)["code"] for card in kinds}) == len(kinds)


def test_quirks_one_action_per_suggestion_is_so_for_everyone(prevent: ReleasedModel) -> None:
    suggestions = _answer(_cards(prevent))["cards"][0]["suggestions"]
    assert [len(suggestion["actions"]) for suggestion in suggestions] == [1, 1]
    assert len({suggestion["uuid"] for suggestion in suggestions}) == 2


def test_quirks_no_app_context_keeps_the_link(prevent: ReleasedModel) -> None:
    with_context, without = (_answer(_cards(prevent), *quirks)["cards"] for quirks in ((), (Quirk.NO_APP_CONTEXT,)))
    assert "appContext" in with_context[0]["links"][0]
    assert [link["url"] for link in without[0]["links"]] == [link["url"] for link in with_context[0]["links"]]
    assert not any("appContext" in link for card in without for link in card["links"])


def test_quirks_system_actions_in_extension_stand_there_too(prevent: ReleasedModel) -> None:
    body = _answer(_cards(prevent), Quirk.SYSTEM_ACTIONS_IN_EXTENSION, actions=(FILED,))
    assert body["extension"]["systemActions"] == body["systemActions"] == [FILED.to_json()]


@given(quirks=st.frozensets(st.sampled_from(Quirk)))
def test_quirks_change_no_word_that_is_read(prevent: ReleasedModel, quirks: frozenset[Quirk]) -> None:
    plain, formed = (_answer(_cards(prevent), *some)["cards"] for some in ((), quirks))
    for ours, theirs in zip(plain, formed, strict=True):
        for name in ("summary", "detail", "indicator", "suggestions"):
            assert ours.get(name) == theirs.get(name)


@given(quirks=st.frozensets(st.sampled_from(Quirk)))
def test_quirks_leave_the_recorded_card_as_it_is(prevent: ReleasedModel, quirks: frozenset[Quirk]) -> None:
    cards = _cards(prevent)
    before = [json.dumps(card.to_json()) for card in cards]
    _answer(cards, *quirks, actions=(FILED,))
    assert [json.dumps(card.to_json()) for card in cards] == before


def test_quirks_of_a_profile_and_further_ones_add_up() -> None:
    assert profile_quirks("spec", ()) == frozenset()
    assert profile_quirks("medplum", ()) == {Quirk.ONE_ID_PER_HOOK}
    assert profile_quirks("epic", ["cds-hooks-3.0"]) == PROFILES["epic"] | {Quirk.CDS_HOOKS_3_0}


@pytest.mark.parametrize(
    ("profile", "extra", "named"), [("cerner", [], tuple(PROFILES)), ("spec", ["cds-hooks-9"], tuple(Quirk))]
)
def test_quirks_that_there_are_not_are_refused_by_naming_those_there_are(
    profile: str, extra: list[str], named: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="expected one of") as refused:
        profile_quirks(profile, extra)
    assert all(name in str(refused.value) for name in named)
