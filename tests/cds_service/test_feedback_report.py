from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import (
    CardShown,
    DecisionEntry,
    FeedbackEntry,
    Output,
    Requester,
    Service,
    format_entry,
    parse_entry,
)
from audit.log import AuditLog
from audit.merkle import LeafIndex
from cds_service.card_ids import card_uuid
from cds_service.feedback_report import Answers, Selection, Share, feedback_report
from cds_service.pipeline import answer
from tests.cds_service import patients
from tests.cds_service.callers import CALLER
from tests.conftest import NOW, TENANT, MakeDesk

EVERYTHING = Selection()


class Ward:
    """Writes decisions and feedback to the log, as many and such as a test names."""

    def __init__(self, log: AuditLog, template: DecisionEntry) -> None:
        self.log = log
        self._template = template

    def show(
        self,
        kind: str | None = "high",
        *,
        service: str = "prevent-cvd",
        version: str = "1.0.0",
        time: str = "2026-11-24T09:30:00.000000Z",
        cards: int = 1,
    ) -> DecisionEntry:
        entry_id = self.log.new_entry_id()
        model = self._template.model
        assert model is not None
        entry = msgspec.structs.replace(
            self._template,
            id=entry_id,
            time=time,
            service=Service(service, "1"),
            model=msgspec.structs.replace(model, version=version),
            output=None if kind is None else Output(None, kind),
            status="failed" if kind is None else "answered",
            cards=tuple(CardShown(card_uuid(entry_id, n), "info", "5a" * 32, ()) for n in range(cards)),
            payload=None,
        )
        self.log.record(entry)
        return entry

    def say(
        self,
        decision: DecisionEntry,
        outcome: str,
        reason: str | None = None,
        *,
        moment: str | None = "2026-11-24T09:31:00.000000Z",
        time: str = "2026-11-24T12:00:00.000000Z",
    ) -> None:
        entry = FeedbackEntry(
            id=self.log.new_entry_id(),
            time=time,
            clock="unsynchronised",
            tenant=TENANT,
            service=decision.service,
            requester=Requester(None, "north-ehr", None, None),
            decision=decision.id,
            card=decision.cards[0].uuid,
            outcome=outcome,
            accepted_suggestions=(),
            override_reason=reason,
            outcome_time=moment,
            payload=None,
        )
        self.log.record(entry)


@pytest.fixture
def ward_log(make_desk: MakeDesk, audit_log: AuditLog) -> Ward:
    """A log whose first entry is a decision that showed no card: a shadow run."""
    desk = make_desk(shadow_models=frozenset({"prevent_cvd"}))
    answered = json.loads(answer(_body(), desk.services[0], CALLER, desk))
    assert answered["cards"] == []
    template = parse_entry(audit_log.entry(LeafIndex(0)))
    assert isinstance(template, DecisionEntry)
    return Ward(audit_log, template)


def _body() -> bytes:
    return patients.encoded(patients.call(patients.prefetch(NOW)))


def _counts(rows: Iterable[Answers]) -> dict[tuple[str, ...], tuple[int, int, int, int]]:
    return {row.name: (row.shown, row.accepted.count, row.overridden.count, row.unanswered.count) for row in rows}


def test_feedback_report_counts_each_kind_model_and_reason_exactly(ward_log: Ward) -> None:
    for number in range(10):
        shown = ward_log.show(version="1.0.0" if number < 6 else "1.1.0")
        if number < 3:
            ward_log.say(shown, "accepted")
        elif number < 7:
            ward_log.say(shown, "overridden", ("value-wrong", "value-wrong", "known-cvd", None)[number - 3])
    ward_log.say(ward_log.show("low"), "overridden", "value-wrong")
    ward_log.say(ward_log.show(None, service="icu-mortality"), "overridden", "other")
    report = feedback_report(ward_log.log.entries, EVERYTHING)
    assert _counts(report.kinds) == {
        ("icu-mortality", "failed"): (1, 0, 1, 0),
        ("prevent-cvd", "high"): (10, 3, 4, 3),
        ("prevent-cvd", "low"): (1, 0, 1, 0),
    }
    assert _counts(report.models) == {("prevent_cvd", "1.0.0"): (8, 3, 5, 0), ("prevent_cvd", "1.1.0"): (4, 0, 1, 3)}
    assert [(row.service, row.code, row.overrides) for row in report.reasons] == [
        ("icu-mortality", "other", Share(1, 1)),
        ("prevent-cvd", "value-wrong", Share(3, 5)),
        ("prevent-cvd", "known-cvd", Share(1, 5)),
        ("prevent-cvd", "none given", Share(1, 5)),
    ]
    high = report.kinds[1]
    assert [share.rate for share in (high.accepted, high.overridden, high.unanswered)] == [0.3, 0.4, 0.3]


def test_feedback_report_of_what_nobody_saw_is_empty(ward_log: Ward) -> None:
    report = feedback_report(ward_log.log.entries, EVERYTHING)
    assert (report.kinds, report.models, report.reasons) == ((), (), ())


def test_feedback_report_counts_every_card_of_a_decision(ward_log: Ward) -> None:
    ward_log.say(ward_log.show(cards=3), "accepted")
    assert _counts(feedback_report(ward_log.log.entries, EVERYTHING).kinds) == {("prevent-cvd", "high"): (3, 1, 0, 2)}


@pytest.mark.parametrize(
    ("first", "second", "counted"),
    [
        ("2026-11-24T09:31:00.000000Z", "2026-11-24T09:32:00.000000Z", "overridden"),
        ("2026-11-24T09:32:00.000000Z", "2026-11-24T09:31:00.000000Z", "accepted"),  # late, but about an earlier moment
        ("2026-11-24T09:31:00.000000Z", "2026-11-24T09:31:00.000000Z", "overridden"),
        ("2031-01-01T00:00:00.000000Z", "2031-01-01T00:00:00.000000Z", "overridden"),
        (
            "2031-01-01T00:00:00.000000Z",
            "2026-11-24T12:00:05.000000Z",
            "overridden",
        ),  # no clock is believed ahead of ours
        (None, "2026-11-24T09:31:00.000000Z", "accepted"),
    ],
)
def test_feedback_report_counts_the_latest_feedback_of_a_card(
    first: str | None, second: str, counted: str, ward_log: Ward
) -> None:
    shown = ward_log.show()
    ward_log.say(shown, "accepted", moment=first, time="2026-11-24T12:00:00.000000Z")
    ward_log.say(shown, "overridden", moment=second, time="2026-11-24T12:00:10.000000Z")
    (row,) = feedback_report(ward_log.log.entries, EVERYTHING).kinds
    assert row.shown == 1
    assert (row.accepted.count, row.overridden.count) == ((1, 0) if counted == "accepted" else (0, 1))


@pytest.mark.parametrize(
    ("selection", "shown"),
    [
        (Selection(since="2026-11-24T00:00:00.000000Z"), 2),
        (Selection(before="2026-11-24T00:00:00.000000Z"), 1),
        (Selection(since="2026-11-23T23:59:59.999999Z", before="2026-11-24T00:00:00.000001Z"), 2),
        (Selection(since="2026-11-26T00:00:00.000000Z"), 0),
        (Selection(service="icu-mortality"), 1),
        (Selection(service="none-such"), 0),
    ],
)
def test_feedback_report_is_about_the_selected_cards(selection: Selection, shown: int, ward_log: Ward) -> None:
    days = ("2026-11-23T23:59:59.999999Z", "2026-11-24T00:00:00.000000Z", "2026-11-25T00:00:00.000000Z")
    for day, service in zip(days, ("prevent-cvd", "prevent-cvd", "icu-mortality"), strict=True):
        # Every answer came on the 26th; a card counts in the period in which it was shown.
        ward_log.say(ward_log.show(time=day, service=service), "accepted", time="2026-11-26T00:00:00.000000Z")
    report = feedback_report(ward_log.log.entries, selection)
    assert sum(row.shown for row in report.kinds) == sum(row.accepted.count for row in report.kinds) == shown


def test_feedback_report_passes_over_kinds_it_does_not_know(ward_log: Ward) -> None:
    ward_log.say(ward_log.show(), "accepted")
    entries: Callable[[], Iterator[bytes]] = lambda: iter(  # noqa: E731
        [b'{"_t":"access/v1","id":"00"}', *ward_log.log.entries(), b'{"_t":"decision/v2","cards":7}']
    )
    assert _counts(feedback_report(entries, EVERYTHING).kinds) == {("prevent-cvd", "high"): (1, 1, 0, 0)}


@given(st.integers(1, 10_000), st.data())
def test_feedback_report_intervals_are_where_the_score_test_turns(of: int, data: st.DataObject) -> None:
    share = Share(data.draw(st.integers(0, of)), of)
    low, high = share.interval
    assert 0 <= low <= share.rate <= high <= 1
    for bound in (low, high):  # Wilson's bounds by their definition, not by their formula
        assert abs(bound - share.rate) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / of), abs=1e-6)


def test_feedback_report_intervals_at_the_ends_have_their_closed_form() -> None:
    low, high = Share(0, 10).interval
    assert (low, high) == (0.0, pytest.approx(1.959964**2 / (10 + 1.959964**2)))


def test_feedback_report_reads_the_entries_that_the_log_writes(ward_log: Ward) -> None:
    """The report's own, smaller structs name fields that entries have."""
    shown = ward_log.show()
    ward_log.say(shown, "overridden", "value-wrong")
    fields: dict[str, Any] = json.loads(format_entry(shown))
    assert {"time", "service", "status", "cards", "model", "output"} <= fields.keys()
    (reason,) = feedback_report(ward_log.log.entries, EVERYTHING).reasons
    assert reason.code == "value-wrong"
