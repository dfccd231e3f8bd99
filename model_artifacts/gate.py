"""The release gate: bounds on `metrics.json`, in the manifest's `[gate]`, that a version must keep to come into force.

A rule names a figure and its bounds: of the whole (`metric = "model.calibration_slope"`, members joined by dots), or of every
group of one kind (`by = "sex"`, then `metric` is a column of the section `subgroups`), where the gap between groups can be
bounded too. What cannot be judged is not passed: a figure that isn't there, no group large enough, not a number.

    [[gate.rules]]
    name = "auroc-by-sex"          # short: it stands in the log when the rule refuses a version
    metric = "auroc"
    by = "sex"
    at_least = 0.80
    largest_gap = 0.05             # between the best and the worst group
    judged_by = "estimate"         # or "worse-end": holds with 95 % confidence; "better-end": broken only if that is sure
    minimum_events = 50            # smaller groups are named and not judged
    reason = "Equal ranking of women and men."

    [[gate.comparisons]]           # with the version in force
    name = "no-worse-auroc"
    metric = "auroc"
    higher_is_better = true
    margin = 0.005                 # how much worse is as good
    reason = "A new version may not see less."

A comparison is paired where the new version's `metrics.json` has it: `difference."version 1.0.0".auroc`, new minus old on the
same people, whose worse end must not lie beyond the margin. Otherwise `model.auroc` of both is compared by its intervals, and
refused only if they lie apart. Pure: figures in, verdicts out. To extend: a bound here, its rule in `gate_problems`, a test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

JudgedBy = Literal["estimate", "worse-end", "better-end"]
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MAX_NAME = 64  # it must fit a code of the log, with a word before it
_EVENTS = ("events", "deaths")  # what subgroup rows call the number of people with the outcome


class GateRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on one figure, of the whole or of each group."""

    name: str
    metric: str
    reason: str
    by: str = ""
    at_least: float | None = None
    at_most: float | None = None
    largest_gap: float | None = None
    judged_by: JudgedBy = "estimate"
    minimum_n: int = 0
    minimum_events: int = 0


class GateComparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure that must not be worse than the version in force has it, by more than `margin`."""

    name: str
    metric: str
    higher_is_better: bool
    reason: str
    margin: float = 0.0


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a version must keep."""

    rules: tuple[GateRule, ...] = ()
    comparisons: tuple[GateComparison, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one rule is kept, with the figures it was judged by, in words."""

    name: str
    passed: bool
    figures: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Figure:
    """An estimate and its 95 % interval; without an interval both ends are the estimate."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.estimate:.4g}"
        return f"{self.estimate:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    size: str
    figure: _Figure


def gate_problems(gate: Gate) -> Iterator[tuple[bool, str]]:
    """What must hold for `gate` to be one, each with what to say if it doesn't."""
    names = [rule.name for rule in gate.rules] + [comparison.name for comparison in gate.comparisons]
    yield len(set(names)) == len(names), "gate rules must have names of their own"
    for name in names:
        yield (
            len(name) <= MAX_NAME and bool(_NAME.fullmatch(name)),
            f"gate rule {name!r}: a name is lower-case letters, digits and dashes",
        )
    for rule in gate.rules:
        bounds = [bound for bound in (rule.at_least, rule.at_most, rule.largest_gap) if bound is not None]
        yield (
            bool(bounds) and all(map(math.isfinite, bounds)),
            f"gate rule {rule.name} must have a bound that is a number",
        )
        yield (
            bool(rule.by) or rule.largest_gap is None,
            f"gate rule {rule.name}: a gap is between groups, so `by` is needed",
        )
        yield bool(rule.reason), f"gate rule {rule.name} must give a reason"
    for comparison in gate.comparisons:
        yield comparison.margin >= 0, f"gate comparison {comparison.name}: the margin must not be negative"


def joined(own: Gate, other: Gate) -> Gate:
    """A gate of the rules of both: what a version demands of itself, and what the one before it demands."""
    return Gate(
        (*own.rules, *(rule for rule in other.rules if rule not in own.rules)),
        (*own.comparisons, *(item for item in other.comparisons if item not in own.comparisons)),
    )


def judge(gate: Gate, metrics: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """The verdict of every rule on `metrics`, the content of a `metrics.json`."""
    return tuple(_judge_groups(rule, metrics) if rule.by else _judge_whole(rule, metrics) for rule in gate.rules)


def judge_against(
    gate: Gate, metrics: Mapping[str, Any], in_force: Mapping[str, Any], in_force_version: str
) -> tuple[Verdict, ...]:
    """The verdict of every comparison of `metrics` with those of the version in force."""
    return tuple(_compare(item, metrics, in_force, in_force_version) for item in gate.comparisons)


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """A line for each verdict, with its figures, and why the rule is there where it is broken."""
    return [
        f"gate {verdict.name}: {'passed' if verdict.passed else 'FAILED'}: {verdict.figures}"
        + ("" if verdict.passed else f" ({verdict.reason})")
        for verdict in verdicts
    ]


def _judge_whole(rule: GateRule, metrics: Mapping[str, Any]) -> Verdict:
    figure = _figure(_member(metrics, rule.metric))
    if figure is None:
        return _verdict(rule, False, f"{rule.metric} is not in metrics.json")
    return _verdict(rule, _within(rule, figure), f"{rule.metric} {figure}; expected {_bounds(rule)}")


def _judge_groups(rule: GateRule, metrics: Mapping[str, Any]) -> Verdict:
    rows = metrics.get("subgroups")
    named = (
        [row for row in rows if isinstance(row, dict) and row.get("by") == rule.by] if isinstance(rows, list) else []
    )
    judged, small, unknown = _sorted_out(rule, named)
    told = [f"{group.name} {group.figure} of {group.size}" for group in judged]
    told += [f"{name} too few to judge" for name in small] + [f"{name} without the figure" for name in unknown]
    needed = 1 if rule.largest_gap is None else 2
    enough = len(judged) >= needed
    if not enough:
        told.append(f"expected {needed} {'groups' if needed > 1 else 'group'} at least that can be judged")
    within = all(_within(rule, group.figure) for group in judged)
    gap = _gap(rule, [group.figure for group in judged]) if rule.largest_gap is not None and enough else None
    if gap is not None:
        told.append(f"gap {gap:.4g}")
    fair = rule.largest_gap is None or (gap is not None and gap <= rule.largest_gap)
    text = f"{rule.metric} by {rule.by}: {', '.join(told)}; expected {_bounds(rule)}"
    return _verdict(rule, enough and not unknown and within and fair, text)


def _sorted_out(rule: GateRule, rows: Sequence[Mapping[str, Any]]) -> tuple[list[_Group], list[str], list[str]]:
    """The groups to judge, and the names of those too small and of those without the figure."""
    judged: list[_Group] = []
    small: list[str] = []
    unknown: list[str] = []
    for row in rows:
        name, n = str(row.get("group")), _number(row.get("n"))
        events = next((_number(row[key]) for key in _EVENTS if key in row), None)
        if (n or 0) < rule.minimum_n or (events or 0) < rule.minimum_events:
            small.append(name)
        elif (figure := _figure(row.get(rule.metric))) is None:
            unknown.append(name)
        else:
            size = f"{n or 0:.0f}" if events is None else f"{events:.0f}/{n or 0:.0f}"
            judged.append(_Group(name, size, figure))
    return judged, small, unknown


def _compare(
    rule: GateComparison, metrics: Mapping[str, Any], in_force: Mapping[str, Any], in_force_version: str
) -> Verdict:
    sign = 1.0 if rule.higher_is_better else -1.0
    members = _member(metrics, "difference")
    by_version = members.get(f"version {in_force_version}") if isinstance(members, dict) else None
    paired = _figure(by_version.get(rule.metric)) if isinstance(by_version, dict) else None
    if paired is not None:
        worse = min(sign * paired.low, sign * paired.high)
        text = f"{rule.metric} minus version {in_force_version}'s, paired: {paired}; margin {rule.margin:.4g}"
        return Verdict(rule.name, worse >= -rule.margin, text, rule.reason)
    new, old = _figure(_member(metrics, f"model.{rule.metric}")), _figure(_member(in_force, f"model.{rule.metric}"))
    if new is None or old is None:
        whose = "this version" if new is None else f"version {in_force_version}"
        return Verdict(rule.name, False, f"model.{rule.metric} is not in metrics.json of {whose}", rule.reason)
    best, was = max(sign * new.low, sign * new.high), min(sign * old.low, sign * old.high)
    text = f"{rule.metric} {new}, version {in_force_version} {old}; not paired; margin {rule.margin:.4g}"
    return Verdict(rule.name, best >= was - rule.margin, text, rule.reason)


def _verdict(rule: GateRule, passed: bool, figures: str) -> Verdict:
    return Verdict(rule.name, passed, figures, rule.reason)


def _within(rule: GateRule, figure: _Figure) -> bool:
    low_end, high_end = {
        "estimate": (figure.estimate, figure.estimate),
        "worse-end": (figure.low, figure.high),
        "better-end": (figure.high, figure.low),
    }[rule.judged_by]
    above = rule.at_least is None or low_end >= rule.at_least
    return above and (rule.at_most is None or high_end <= rule.at_most)


def _gap(rule: GateRule, figures: Sequence[_Figure]) -> float:
    match rule.judged_by:
        case "estimate":
            return max(item.estimate for item in figures) - min(item.estimate for item in figures)
        case "worse-end":
            return max(a.high - b.low for a in figures for b in figures if a is not b)
        case "better-end":
            return max(0.0, max(item.low for item in figures) - min(item.high for item in figures))


def _bounds(rule: GateRule) -> str:
    bounds = [
        "" if rule.at_least is None else f"at least {rule.at_least:.4g}",
        "" if rule.at_most is None else f"at most {rule.at_most:.4g}",
        "" if rule.largest_gap is None else f"a gap of at most {rule.largest_gap:.4g}",
    ]
    ends = {"estimate": "", "worse-end": " with 95 % confidence", "better-end": ", unless within chance"}
    return " and ".join(filter(None, bounds)) + ends[rule.judged_by]


def _member(metrics: Mapping[str, Any], path: str) -> Any:
    found: Any = metrics
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _figure(value: Any) -> _Figure | None:
    """The figure in `value`; None where there is none, or one that is no number."""
    if isinstance(value, dict):
        estimate = _number(value.get("estimate"))
        low, high = _number(value.get("low", estimate)), _number(value.get("high", estimate))
    else:
        estimate = low = high = _number(value)
    if estimate is None or low is None or high is None or not low <= high:
        return None
    return _Figure(estimate, low, high)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
