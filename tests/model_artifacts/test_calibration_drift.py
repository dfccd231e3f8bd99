"""Predicted against what happened: the figures against others' arithmetic, their intervals, and when they alarm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.feedback_report import Share
from model_artifacts.calibration_drift import Calibration, calibration_alarms, measure_calibration, wilson
from model_artifacts.manifest import Monitoring

MONITORING = Monitoring()


def _site(
    seed: int, n: int, *, slope: float = 1.0, shift: float = 0.0, each: int = 1
) -> tuple[Calibration, np.ndarray, np.ndarray]:
    """A site whose true log odds are `slope` times the predicted ones plus `shift`; `each` decisions share a patient's fate."""
    random = np.random.default_rng(seed)
    logit = np.repeat(random.normal(-1.5, 1.0, n // each), each)
    p = 1 / (1 + np.exp(-logit))
    fate = np.repeat(random.random(n // each), each)
    y = (fate < 1 / (1 + np.exp(-(shift + slope * logit)))).astype(int)
    month = [f"2026-{1 + place * 6 // n:02}" for place in range(n)]
    patient = np.repeat(np.arange(n // each), each).tolist()
    return measure_calibration(p.tolist(), y.tolist(), patient, month), p, y


def test_slope_and_intercept_are_those_of_an_independent_fit() -> None:
    found, p, y = _site(1, 3000, slope=0.7, shift=0.4)
    logit = np.log(p / (1 - p))[:, None]
    judge = pytest.importorskip("sklearn.linear_model")
    fitted = judge.LogisticRegression(C=1e12, tol=1e-10).fit(logit, y)
    assert found.slope is not None
    assert found.intercept is not None
    assert found.slope.estimate == pytest.approx(float(fitted.coef_[0, 0]), abs=1e-4)
    assert found.intercept.estimate == pytest.approx(float(fitted.intercept_[0]), abs=1e-4)
    assert found.ratio.estimate == pytest.approx(y.sum() / p.sum())


@pytest.mark.parametrize("each", [1, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(each: int) -> None:
    """With five decisions to a patient too, where the usual standard error would hold it in seven of ten."""
    held = np.zeros(2)
    for seed in range(200):
        found, _, _ = _site(seed, 1000, each=each)
        assert found.slope is not None
        held += [found.ratio.low <= 1 <= found.ratio.high, found.slope.low <= 1 <= found.slope.high]
    assert (held / 200 > 0.9).all()
    assert found.patients == 1000 // each


@pytest.mark.parametrize("n", [50, 500, 5000])
def test_a_calibrated_model_raises_no_alarm_in_200_repetitions(n: int) -> None:
    alarms = [calibration_alarms(_site(seed, n)[0], "death", MONITORING) for seed in range(200)]
    assert sum(map(bool, alarms)) == 0


def test_risks_twice_too_high_are_an_alarm() -> None:
    found, _, _ = _site(3, 2000, shift=-0.9)
    (alarm,) = calibration_alarms(found, "death", MONITORING)
    assert (alarm.measure, alarm.of, alarm.limit) == ("observed-to-expected", "death", 0.8)
    assert alarm.value < 0.6
    assert "outside 0.8 to 1.25" in alarm.words


def test_risks_that_say_too_much_are_an_alarm_of_the_slope() -> None:
    found, _, _ = _site(4, 4000, slope=0.3, shift=-0.8)
    assert "calibration-slope" in {alarm.measure for alarm in calibration_alarms(found, "death", MONITORING)}


def test_few_events_raise_no_alarm_however_far_off() -> None:
    found = measure_calibration([0.9] * 40, [0] * 40, list(range(40)), ["2026-01"] * 40)
    assert found.ratio.estimate == 0
    assert calibration_alarms(found, "death", MONITORING) == ()


@pytest.mark.parametrize(
    ("probability", "outcome"), [([0.2] * 30, [0, 1] * 15), ([0.1, 0.2, 0.3], [0, 0, 0]), ([0.1, 0.9], [0, 1])]
)
def test_a_slope_that_cannot_be_had_is_none(probability: list[float], outcome: list[int]) -> None:
    found = measure_calibration(probability, outcome, list(range(len(outcome))), ["2026-01"] * len(outcome))
    assert found.slope is None


def test_months_stand_beside_what_was_predicted() -> None:
    found = measure_calibration(
        [0.5] * 40 + [0.1] * 40, [1, 0] * 20 + [1] * 20 + [0] * 20, list(range(80)), ["2026-01"] * 40 + ["2026-02"] * 40
    )
    first, second = found.months
    assert (first.month, first.n, first.observed, first.as_predicted) == ("2026-01", 40, 20, True)
    assert (second.expected, second.observed, second.as_predicted) == (pytest.approx(4.0), 20, False)


def test_probabilities_of_0_and_1_are_taken() -> None:
    found = measure_calibration([0.0, 1.0] * 50, [0, 1] * 40 + [1, 0] * 10, list(range(100)), ["2026-01"] * 100)
    assert found.slope is not None


@given(st.integers(1, 400).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_wilsons_interval_is_the_one_of_the_feedback_report(pair: tuple[int, int]) -> None:
    count, of = pair
    assert wilson(count, of) == pytest.approx(Share(count, of).interval)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one decision"):
        measure_calibration([], [], [], [])
