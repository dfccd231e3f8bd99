from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.cards import MAX_SUMMARY_CHARS, OVERRIDE_SYSTEM, Card, Link, present, present_failure
from fhir_adapters.codes import LOINC, Code
from model_artifacts.assessment import Finding, OrderLab
from model_artifacts.explanation import Attribution
from model_artifacts.inputs import Evidence
from model_artifacts.runtime import ReleasedModel
from tests.cds_service.patients import empty_members

HOSTILE = "<img src=x onerror=alert(1)> [click](javascript:x) | **bold**\n# heading"
EVIDENCE = Evidence(
    "sbp",
    "Systolic pressure",
    151.0,
    "mm[Hg]",
    datetime(2026, 3, 1, 8, 5, tzinfo=UTC),
    "Observation/1",
    note="preliminary",
)
FINDING = Finding(
    code="risk:high",
    urgency="warning",
    headline="Risk: 12.0 % (high)",
    statements=("Statement one.", "Statement two."),
    reasons=((EVIDENCE, Attribution("sbp", 0.031)), (replace(EVIDENCE, label="HDL"), Attribution("hdl", -0.002))),
    missing=("HbA1c: not in the data received",),
    considerations=("Consider one.",),
    proposals=(OrderLab(Code(LOINC, "4548-4", "HbA1c"), "HbA1c", "No recent one"),),
    figures=(("30-year risk", "44.0 %"),),
)


def _card(prevent: ReleasedModel, finding: Finding = FINDING, **options: Any) -> Card:
    numbers = itertools.count()
    page = options.pop("model_page", "https://cds.example.org/models/prevent_cvd")
    return present(finding, prevent.manifest, "p1", page, lambda: f"uuid-{next(numbers)}", **options)


def test_cards_detail_keeps_its_order(prevent: ReleasedModel) -> None:
    detail = _card(prevent, gaps=("labs: not received",)).detail
    parts = (
        "Statement one.",
        "Statement two.",
        "- 30-year risk: 44.0 %",
        "**What moved this estimate**, compared with a person of the same age",
        "These are contributions inside the model, not causes and not effects of treatment:",
        (
            "- Systolic pressure: 151 mmHg (2026-03-01 08:05 UTC) raises it by 3.1 percentage points "
            "[preliminary; Observation/1]"
        ),
        "- HDL: 151 mmHg (2026-03-01 08:05 UTC) lowers it by 0.2 percentage points",
        "**Not available**",
        "- HbA1c: not in the data received",
        "- labs: not received",
        "**To consider**",
        "- Consider one.",
        "_AHA PREVENT cardiovascular risk, model prevent\\_cvd version",
    )
    places = [detail.index(part) for part in parts]
    assert places == sorted(places)


def test_cards_gaps_are_told_where_nothing_else_is_missing(prevent: ReleasedModel) -> None:
    detail = _card(prevent, replace(FINDING, missing=()), gaps=("labs: not received",)).detail
    assert "**Not available**\n\n- labs: not received" in detail


@pytest.mark.parametrize("field", ["label", "note", "source", "display"])
def test_cards_escape_what_came_from_fhir(prevent: ReleasedModel, field: str) -> None:
    evidence = replace(EVIDENCE, **{field: HOSTILE})
    detail = _card(prevent, replace(FINDING, reasons=((evidence, Attribution("sbp", 0.1)),))).detail
    assert "<img" not in detail
    assert "\n# " not in detail
    assert "[click]" not in detail
    assert "\\[click\\](javascript:x) \\| \\*\\*bold\\*\\*" in detail


def test_cards_escape_what_is_missing_and_gaps(prevent: ReleasedModel) -> None:
    detail = _card(prevent, replace(FINDING, missing=(HOSTILE,)), gaps=(HOSTILE,)).detail
    assert "<img" not in detail
    assert detail.count("&lt;img") == 2


@given(headline=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=400))
def test_cards_summary_is_below_140_characters(prevent: ReleasedModel, headline: str) -> None:
    summary = _card(prevent, replace(FINDING, headline=headline)).summary
    assert 0 < len(summary) <= MAX_SUMMARY_CHARS < 140
    assert summary == headline or summary.endswith("…")


@given(
    finding=st.builds(
        replace,
        st.just(FINDING),
        statements=st.lists(st.sampled_from(["One.", "Two."]), max_size=2).map(tuple),
        reasons=st.lists(st.sampled_from(FINDING.reasons), max_size=2).map(tuple),
        missing=st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
        considerations=st.lists(st.sampled_from(["c", "d"]), max_size=2).map(tuple),
        proposals=st.lists(st.sampled_from(FINDING.proposals), max_size=2).map(tuple),
        figures=st.lists(st.sampled_from(FINDING.figures), max_size=1).map(tuple),
    ),
    page=st.sampled_from([None, "https://cds.example.org/models/x"]),
)
def test_cards_have_no_null_and_no_empty_member(prevent: ReleasedModel, finding: Finding, page: str | None) -> None:
    card = _card(prevent, finding, model_page=page).to_json()
    assert empty_members(card) == []
    assert ("selectionBehavior" in card) == ("suggestions" in card)


def test_cards_give_every_part_of_an_override_reason(prevent: ReleasedModel) -> None:
    reasons = _card(prevent).to_json()["overrideReasons"]
    assert len(reasons) == len(prevent.manifest.override_reasons) > 0
    for reason in reasons:
        assert reason.keys() == {"code", "system", "display"}
        assert reason["system"] == OVERRIDE_SYSTEM


def test_cards_name_source_topic_and_model_page(prevent: ReleasedModel) -> None:
    card = _card(prevent).to_json()
    assert card["source"]["url"].startswith("https://")
    assert card["source"]["topic"].keys() == {"system", "code", "display"}
    assert card["links"] == [
        {
            "label": f"About this model: {prevent.manifest.title}",
            "url": "https://cds.example.org/models/prevent_cvd",
            "type": "absolute",
        }
    ]


def test_cards_uuids_are_the_cards_then_its_suggestions(prevent: ReleasedModel) -> None:
    card = _card(prevent).to_json()
    assert (card["uuid"], card["suggestions"][0]["uuid"]) == ("uuid-0", "uuid-1")


def test_cards_of_a_failed_model_say_so_and_say_nothing_else(prevent: ReleasedModel) -> None:
    card = present_failure(prevent.manifest, lambda: "u").to_json()
    assert card["summary"] == "10-year risk of cardiovascular disease not available: the model failed"
    assert "says nothing about the patient" in card["detail"]
    assert card.keys() == {"uuid", "summary", "detail", "indicator", "source"}
    assert empty_members(card) == []


def test_cards_links_carry_app_context_only_if_they_have_one() -> None:
    assert Link("a", "https://x.example", "absolute").to_json().keys() == {"label", "url", "type"}
    assert Link("a", "https://x.example", "smart", "{}").to_json()["appContext"] == "{}"


def test_cards_summary_is_never_cut_within_a_figure(prevent: ReleasedModel) -> None:
    headline = "x" * (MAX_SUMMARY_CHARS - 8) + " is 12.3 % (high)"
    assert _card(prevent, replace(FINDING, headline=headline)).summary == "x" * (MAX_SUMMARY_CHARS - 8) + " is…"


def test_cards_of_one_kind_are_the_same_kind_for_every_patient(prevent: ReleasedModel) -> None:
    card = _card(prevent)
    assert card.kind == "prevent_cvd:risk:high"
    assert card.kind == _card(prevent, replace(FINDING, headline="Risk: 13.0 % (high)")).kind
    assert "kind" not in card.to_json()
    assert present_failure(prevent.manifest, lambda: "u").kind == "prevent_cvd:failed"


@pytest.mark.parametrize("url", ["", "/models/x", "models/x", "//host/x", "javascript:alert(1)", "https://"])
def test_cards_links_must_be_absolute(url: str) -> None:
    with pytest.raises(ValueError, match="absolute"):
        Link("a", url, "absolute")


def test_cards_absolute_links_have_no_app_context() -> None:
    with pytest.raises(ValueError, match="app_context"):
        Link("a", "https://x.example", "absolute", "{}")


def test_cards_links_hold_nothing_that_came_from_fhir(prevent: ReleasedModel) -> None:
    evidence = replace(EVIDENCE, label=HOSTILE, source="https://evil.example/Observation/1", note=HOSTILE)
    hostile = replace(FINDING, reasons=((evidence, Attribution("sbp", 0.1)),), missing=(HOSTILE,))
    assert _card(prevent, hostile, gaps=(HOSTILE,)).links == _card(prevent).links


def test_cards_of_a_manifest_with_empty_texts_have_no_empty_member(prevent: ReleasedModel) -> None:
    source = msgspec.structs.replace(prevent.manifest.source, url="", topic_display="")
    manifest = msgspec.structs.replace(prevent.manifest, source=source)
    card = present_failure(manifest, lambda: "u").to_json()
    assert empty_members(card) == []
    assert card["source"].keys() == {"label", "topic"}


def test_cards_that_abstain_keep_the_form_of_the_others(prevent: ReleasedModel) -> None:
    abstained = replace(FINDING, code="abstained:missing-input", urgency="info", reasons=(), figures=(), proposals=())
    card = _card(prevent, abstained).to_json()
    assert empty_members(card) == []
    assert card.keys() == {"uuid", "summary", "detail", "indicator", "source", "overrideReasons", "links"}
