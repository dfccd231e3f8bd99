"""What the gate lets pass, and that it passes nothing it cannot judge."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.gate import Gate, GateComparison, GateRule, Verdict, gate_problems, judge, judge_against


def _interval(estimate: float, half: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


METRICS: dict[str, Any] = {
    "model": {"auroc": _interval(0.87, 0.01), "calibration_slope": _interval(1.04, 0.08)},
    "subgroups": [
        {"by": "sex", "group": "female", "n": 3493, "events": 512, "auroc": _interval(0.86, 0.02)},
        {"by": "sex", "group": "male", "n": 4499, "deaths": 610, "auroc": _interval(0.89, 0.02)},
        {"by": "sex", "group": "unknown", "n": 8, "events": 1, "auroc": _interval(0.2, 0.2)},
        {"by": "race", "group": "any", "n": 900, "events": 90, "auroc": _interval(0.8, 0.02)},
    ],
}


def _one(metrics: dict[str, Any] = METRICS, **rule: Any) -> Verdict:
    given = {"name": "rule", "metric": "auroc", "reason": "fairness", **rule}
    (verdict,) = judge(Gate((GateRule(**given),)), metrics)
    return verdict


@pytest.mark.parametrize(
    ("bounds", "passed"),
    [
        ({"at_least": 0.9, "at_most": 1.1}, True),
        ({"at_least": 1.05}, False),
        ({"at_most": 1.03}, False),
        ({"at_least": 0.96, "judged_by": "worse-end"}, True),
        ({"at_least": 0.97, "judged_by": "worse-end"}, False),
        ({"at_most": 1.1, "judged_by": "worse-end"}, False),
        ({"at_least": 1.11, "judged_by": "better-end"}, True),
        ({"at_least": 1.13, "judged_by": "better-end"}, False),
        ({"at_most": 0.97, "judged_by": "better-end"}, True),
        ({"at_most": 0.95, "judged_by": "better-end"}, False),
    ],
)
def test_gate_judges_a_figure_of_the_whole(bounds: dict[str, Any], passed: bool) -> None:
    verdict = _one(metric="model.calibration_slope", **bounds)
    assert verdict.passed is passed
    assert verdict.figures.startswith("model.calibration_slope 1.04 (0.96 to 1.12); expected at ")


@pytest.mark.parametrize(
    ("bounds", "passed"),
    [
        ({"at_least": 0.85}, True),
        ({"at_least": 0.87}, False),
        ({"at_least": 0.87, "judged_by": "better-end"}, True),
        ({"largest_gap": 0.031}, True),
        ({"largest_gap": 0.029}, False),
        ({"largest_gap": 0.071, "judged_by": "worse-end"}, True),
        ({"largest_gap": 0.069, "judged_by": "worse-end"}, False),
        ({"largest_gap": 0.0, "judged_by": "better-end"}, True),
    ],
)
def test_gate_judges_each_group_that_is_large_enough_and_the_gap_between_them(
    bounds: dict[str, Any], passed: bool
) -> None:
    verdict = _one(by="sex", minimum_events=50, **bounds)
    assert verdict.passed is passed
    assert "female 0.86 (0.84 to 0.88) of 512/3493, male 0.89" in verdict.figures
    assert "unknown too few to judge" in verdict.figures


def test_gate_judges_small_groups_too_where_no_least_size_is_given() -> None:
    assert not _one(by="sex", at_least=0.5).passed
    assert _one(by="sex", at_least=0.5, minimum_n=9).passed


def test_gate_refuses_a_gap_that_is_sure() -> None:
    apart = {
        "subgroups": [
            {**row, "auroc": _interval(0.9 - 0.1 * i, 0.01)} for i, row in enumerate(METRICS["subgroups"][:2])
        ]
    }
    assert not _one(apart, by="sex", largest_gap=0.07, judged_by="better-end").passed
    assert _one(apart, by="sex", largest_gap=0.09, judged_by="better-end").passed


@pytest.mark.parametrize(
    "rule",
    [
        {"metric": "model.accuracy", "at_least": 0.0},
        {"metric": "model", "at_least": 0.0},
        {"metric": "model.auroc.low.more", "at_least": 0.0},
        {"by": "language", "at_least": 0.0},
        {"by": "race", "largest_gap": 1.0},
        {"by": "sex", "minimum_events": 10_000, "at_least": 0.0},
        {"by": "sex", "metric": "accuracy", "at_least": 0.0},
    ],
)
def test_gate_does_not_pass_what_cannot_be_judged(rule: dict[str, Any]) -> None:
    assert not _one(**rule).passed


@pytest.mark.parametrize(
    "figure", [float("nan"), float("inf"), None, "0.9", True, {"estimate": 0.9, "low": float("nan")}]
)
def test_gate_does_not_pass_what_is_no_number(figure: Any) -> None:
    assert not _one({"model": {"auroc": figure}}, metric="model.auroc", at_least=-1.0, at_most=2.0).passed


def test_gate_does_not_pass_groups_of_which_one_lacks_the_figure() -> None:
    rows = [*METRICS["subgroups"][:2], {"by": "sex", "group": "other", "n": 100, "events": 60}]
    verdict = _one({"subgroups": rows}, by="sex", at_least=0.5)
    assert not verdict.passed
    assert "other without the figure" in verdict.figures


@given(estimate=st.floats(0, 1), half=st.floats(0, 0.5), bound=st.floats(0, 1))
def test_gate_is_strictest_by_the_worse_end(estimate: float, half: float, bound: float) -> None:
    metrics = {"model": {"auroc": _interval(estimate, half)}}
    worse, middle, better = (
        _one(metrics, metric="model.auroc", at_least=bound, judged_by=end).passed
        for end in ("worse-end", "estimate", "better-end")
    )
    assert worse <= middle <= better


def _compared(new: dict[str, Any], old: dict[str, Any], **rule: Any) -> Verdict:
    comparison = GateComparison("no-worse", "auroc", higher_is_better=True, reason="progress")
    (verdict,) = judge_against(Gate((), (_replaced(comparison, **rule),)), new, old, "1.0.0")
    return verdict


def _replaced(comparison: GateComparison, **changes: Any) -> GateComparison:
    fields = {name: getattr(comparison, name) for name in comparison.__struct_fields__}
    return GateComparison(**{**fields, **changes})


@pytest.mark.parametrize(
    ("difference", "rule", "passed"),
    [
        (_interval(0.01, 0.005), {}, True),
        (_interval(0.01, 0.02), {}, False),
        (_interval(0.01, 0.02), {"margin": 0.011}, True),
        (_interval(-0.01, 0.005), {"margin": 0.011}, False),
        (_interval(-0.01, 0.005), {"higher_is_better": False}, True),
        (_interval(0.01, 0.005), {"higher_is_better": False}, False),
    ],
)
def test_gate_compares_with_the_version_in_force_by_the_paired_difference(
    difference: dict[str, float], rule: dict[str, Any], passed: bool
) -> None:
    new = {"model": {"auroc": 0.1}, "difference": {"version 1.0.0": {"auroc": difference}, "version 0.9": {"auroc": 9}}}
    verdict = _compared(new, METRICS, **rule)
    assert verdict.passed is passed
    assert "paired" in verdict.figures


@pytest.mark.parametrize(("new", "passed"), [(0.86, True), (0.851, True), (0.849, False)])
def test_gate_compares_by_two_intervals_where_nothing_is_paired(new: float, passed: bool) -> None:
    verdict = _compared({"model": {"auroc": _interval(new, 0.01)}}, METRICS)
    assert verdict.passed is passed
    assert "not paired" in verdict.figures


def test_gate_does_not_pass_a_comparison_without_figures() -> None:
    assert not _compared({}, METRICS).passed
    assert "of version 1.0.0" in _compared(METRICS, {}).figures


def _problems(*rules: GateRule, comparisons: tuple[GateComparison, ...] = ()) -> list[str]:
    return [text for holds, text in gate_problems(Gate(rules, comparisons)) if not holds]


def test_gate_rules_are_checked() -> None:
    good = GateRule("slope", "model.calibration_slope", "calibration", at_least=0.9)
    assert not _problems(good)
    assert _problems(good, good) == ["gate rules must have names of their own"]
    assert "name" in _problems(GateRule("A name", "m", "r", at_least=0.0))[0]
    assert "bound" in _problems(GateRule("a", "m", "r"))[0]
    assert "bound" in _problems(GateRule("a", "m", "r", at_least=float("nan")))[0]
    assert "`by`" in _problems(GateRule("a", "m", "r", largest_gap=0.1))[0]
    assert "reason" in _problems(GateRule("a", "m", "", at_least=0.1))[0]
    assert "margin" in _problems(comparisons=(GateComparison("a", "m", True, "r", margin=-0.1),))[0]
