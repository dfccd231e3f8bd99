"""What became of the cards that were shown: accepted, overridden or left without an answer; by kind, model and reason.

The log is read twice from front to back: for the latest feedback of each card, then for the cards shown in the period. Memory
is taken by the cards that have feedback and by the counters, not by the log. A card counts in the period in which it was
shown, whenever its feedback came; what no user saw (a shadow run, a repetition that was left out) has no card in the log.

An interval is Wilson's of 95 % for a proportion: it says how far so few cards can speak, under the assumption that they are
independent, which cards about one patient to one physician are not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

Z_95 = 1.959963984540054  # standard normal quantile of 0.975
NO_REASON = "none given"
_DECISION = b'{"_t":"decision/v1"'
_FEEDBACK = b'{"_t":"feedback/v1"'


@dataclass(frozen=True, slots=True)
class Share:
    """A count of so many, at least one."""

    count: int
    of: int

    @property
    def rate(self) -> float:
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of 95 % (Wilson, J Am Stat Assoc 1927;22:209)."""
        square = Z_95**2 / self.of
        middle = self.rate + square / 2
        spread = Z_95 * math.sqrt(self.rate * (1 - self.rate) / self.of + square / (4 * self.of))
        low, high = (middle - spread) / (1 + square), (middle + spread) / (1 + square)
        # At the ends the bound is the rate itself, which rounding would miss.
        return 0.0 if self.count == 0 else low, 1.0 if self.count == self.of else high


@dataclass(frozen=True, slots=True)
class Answers:
    """Of the cards that `name` tells, how many were answered and how."""

    name: tuple[str, ...]
    shown: int
    accepted: Share
    overridden: Share
    unanswered: Share


@dataclass(frozen=True, slots=True)
class Reason:
    """How many of a service's overrides had this reason."""

    service: str
    code: str
    overrides: Share


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """The figures. `kinds` by service and decision code, `models` by model and version."""

    kinds: tuple[Answers, ...]
    models: tuple[Answers, ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which cards: shown from `since` on and before `before` (entry times), by one service; None: all."""

    since: str | None = None
    before: str | None = None
    service: str | None = None

    def has(self, time: str, service: str) -> bool:
        """Whether a decision of that time and service is among them; entry times are of one width, so text order is time."""
        return (
            (self.since is None or time >= self.since)
            and (self.before is None or time < self.before)
            and self.service in (None, service)
        )


class _Named(msgspec.Struct, frozen=True):
    id: str
    version: str


class _Output(msgspec.Struct, frozen=True):
    decision: str


class _Card(msgspec.Struct, frozen=True):
    uuid: str


class _Decision(msgspec.Struct, frozen=True):
    """The fields of a decision that are counted; the entry's form is `audit verify`'s business."""

    time: str
    service: _Named
    status: str
    cards: tuple[_Card, ...]
    model: _Named | None = None
    output: _Output | None = None


class _Feedback(msgspec.Struct, frozen=True):
    time: str
    service: _Named
    card: str
    outcome: str
    override_reason: str | None = None
    outcome_time: str | None = None


@dataclass(frozen=True, slots=True)
class _Latest:
    moment: str
    outcome: str
    reason: str


_DECISIONS = msgspec.json.Decoder(_Decision)
_FEEDBACKS = msgspec.json.Decoder(_Feedback)


def feedback_report(read: Callable[[], Iterable[bytes]], selection: Selection) -> FeedbackReport:
    """The figures for the selected cards; `read` gives every entry of the log in order, each time it is called."""
    latest = _latest_feedback(read(), selection)
    kinds: Counter[tuple[str, str, str]] = Counter()
    models: Counter[tuple[str, str, str]] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    for entry in read():
        if not entry.startswith(_DECISION):
            continue
        decision = _DECISIONS.decode(entry)
        service = decision.service.id
        if not selection.has(decision.time, service):
            continue
        kind = decision.status if decision.output is None else decision.output.decision
        for card in decision.cards:
            found = latest.get(card.uuid)
            outcome = "unanswered" if found is None else found.outcome
            kinds[service, kind, outcome] += 1
            if decision.model is not None:
                models[decision.model.id, decision.model.version, outcome] += 1
            if found is not None and outcome == "overridden":
                reasons[service, found.reason] += 1
    return FeedbackReport(_answers(kinds), _answers(models), _reasons(reasons))


def _latest_feedback(entries: Iterable[bytes], selection: Selection) -> dict[str, _Latest]:
    """By card; the later outcome counts, and of two at one moment the one recorded later."""
    latest: dict[str, _Latest] = {}
    for entry in entries:
        if not entry.startswith(_FEEDBACK):
            continue
        feedback = _FEEDBACKS.decode(entry)
        if selection.service not in (None, feedback.service.id):
            continue
        # A client's clock that is fast must not outlast what it says later: no outcome is later than its record.
        moment = min(feedback.outcome_time or feedback.time, feedback.time)
        known = latest.get(feedback.card)
        if known is None or moment >= known.moment:
            latest[feedback.card] = _Latest(moment, feedback.outcome, feedback.override_reason or NO_REASON)
    return latest


def _answers(counted: Counter[tuple[str, str, str]]) -> tuple[Answers, ...]:
    rows = []
    for name in sorted({(first, second) for first, second, _ in counted}):
        accepted, overridden, unanswered = (
            counted[(*name, outcome)] for outcome in ("accepted", "overridden", "unanswered")
        )
        shown = accepted + overridden + unanswered
        rows.append(Answers(name, shown, Share(accepted, shown), Share(overridden, shown), Share(unanswered, shown)))
    return tuple(rows)


def _reasons(counted: Counter[tuple[str, str]]) -> tuple[Reason, ...]:
    overrides: Counter[str] = Counter()
    for (service, _), count in counted.items():
        overrides[service] += count
    ranked = sorted(counted.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return tuple(Reason(service, code, Share(count, overrides[service])) for (service, code), count in ranked)
