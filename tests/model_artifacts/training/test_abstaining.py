import numpy as np
import pytest

from model_artifacts.training.abstaining import (
    OF_QUANTITIES,
    absolute_error,
    abstaining,
    aurc,
    ensemble_spread,
    nearness,
    risk_coverage,
)


def told(n=3000):
    """Quantities whose error grows with a known noise, and that noise."""
    random = np.random.default_rng(2)
    truth, noise = random.uniform(10, 50, n), random.uniform(0.1, 5, n)
    return truth + random.normal(0, noise), truth, noise


def test_abstaining_picks_the_uncertainty_that_tells_errors_apart():
    answers, truth, noise = told()
    chance = np.random.default_rng(3).random(len(truth))
    made = abstaining(
        answers, truth, {"chance": chance, "known noise": noise}, loss=absolute_error, metrics=OF_QUANTITIES
    )
    areas = made["abstaining"]["area_under_risk_coverage"]
    assert areas["with_hindsight"] < areas["known noise"] < 0.8 * areas["chance"]
    assert areas["chance"] == pytest.approx(areas["at_random"], rel=0.1)
    assert "by the known noise" in made["abstaining"]["how"]
    errors = [row["mean_absolute_error"] for row in made["risk_coverage"]]
    assert made["risk_coverage"][0]["coverage"] == 1.0
    assert errors == sorted(errors, reverse=True)


def test_abstaining_area_is_the_mean_of_the_running_means():
    assert aurc(np.array([4.0, 0.0, 2.0]), np.array([3.0, 1.0, 2.0])) == pytest.approx((0 + 1 + 2) / 3)


def test_abstaining_leaves_out_a_metric_that_has_no_meaning_on_what_is_left():
    probability, outcome = np.linspace(0.01, 0.99, 100), np.zeros(100, dtype=int)
    outcome[-3:] = 1
    rows = risk_coverage(probability, outcome, uncertainty=probability)  # the events are the first to go
    assert "auroc" in rows[0]
    assert all("auroc" not in row and row["brier"] > 0 for row in rows[1:])


def test_abstaining_nearness_is_greatest_at_the_decision_and_spread_that_of_the_members():
    near = nearness(np.array([0.01, 0.15, 0.9, 1.0]), 0.15)
    assert near.argmax() == 1
    assert near[1] == pytest.approx(0)
    assert np.isfinite(near).all()
    assert ensemble_spread(np.array([[0.2, 0.4], [0.3, 0.3]])) == pytest.approx([0.1, 0])
