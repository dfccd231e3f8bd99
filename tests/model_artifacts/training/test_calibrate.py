import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.training.calibrate import fit_intercept, fit_platt, logit, sigmoid


def drawn(slope, intercept, n=40_000):
    random = np.random.default_rng(0)
    logits = random.normal(-1, 1.5, n)
    return logits, (random.random(n) < sigmoid(slope * logits + intercept)).astype(np.int64)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.6, -0.4), (1.7, 0.5)])
def test_calibrate_finds_the_slope_and_intercept_that_made_the_outcomes(slope, intercept):
    platt = fit_platt(*drawn(slope, intercept))
    assert platt.slope == pytest.approx(slope, abs=0.06)
    assert platt.intercept == pytest.approx(intercept, abs=0.06)


def test_calibrate_leaves_the_mean_risk_equal_to_the_rate():
    logits, outcomes = drawn(0.5, -0.3)
    assert fit_platt(logits, outcomes).apply(logits).mean() == pytest.approx(outcomes.mean(), abs=1e-8)


def test_calibrate_intercept_is_zero_when_the_mean_is_right():
    logits, outcomes = drawn(1.0, 0.0)
    assert fit_intercept(logits, outcomes) == pytest.approx(0.0, abs=0.05)


def test_calibrate_refuses_one_class():
    with pytest.raises(ValueError, match="events and non-events"):
        fit_platt(np.zeros(3), np.ones(3, dtype=np.int64))


@given(st.floats(1e-6, 1 - 1e-6))
def test_calibrate_sigmoid_undoes_logit(probability):
    assert sigmoid(logit(np.array([probability])))[0] == pytest.approx(probability, abs=1e-12)
