import numpy as np
import pytest

from model_artifacts.training.evaluate import (
    METRICS,
    at_threshold,
    auprc,
    auroc,
    brier,
    calibration_intercept,
    calibration_slope,
    challenge_score,
    estimate,
    over_folds,
    paired_difference,
    reliability,
    resamples,
    summarise,
)


def drawn(n=3000, digits=3):
    random = np.random.default_rng(5)
    probability = np.round(random.beta(1, 6, n), digits)
    return probability, (random.random(n) < probability).astype(np.int64)


def test_evaluate_ranking_metrics_equal_scikit_learns_with_ties():
    metrics = pytest.importorskip("sklearn.metrics")
    for digits in (1, 3, 8):
        probability, outcome = drawn(digits=digits)
        assert auroc(probability, outcome) == pytest.approx(metrics.roc_auc_score(outcome, probability), abs=1e-12)
        assert auprc(probability, outcome) == pytest.approx(
            metrics.average_precision_score(outcome, probability), abs=1e-12
        )


def test_evaluate_challenge_score_is_the_best_smaller_of_sensitivity_and_ppv():
    probability = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    outcome = np.array([1, 0, 1, 1, 0])
    assert challenge_score(probability, outcome) == 0.75


def test_evaluate_a_calibrated_forecast_has_slope_one_and_intercept_zero():
    probability, outcome = drawn(40_000, 8)
    assert calibration_slope(probability, outcome) == pytest.approx(1, abs=0.05)
    assert calibration_intercept(probability, outcome) == pytest.approx(0, abs=0.05)
    assert brier(probability, outcome) == pytest.approx((probability * (1 - probability)).mean(), abs=0.003)


def test_evaluate_interval_holds_the_estimate_and_narrows_with_more_rows():
    widths = []
    for n in (300, 3000):
        probability, outcome = drawn(n)
        found = estimate(auroc, probability, outcome, resamples(outcome, 200, 0))
        assert found["low"] < found["estimate"] < found["high"]
        widths.append(found["high"] - found["low"])
    assert widths[1] < widths[0] / 2


def test_evaluate_difference_to_oneself_is_exactly_zero():
    probability, outcome = drawn(500)
    found = paired_difference(auroc, probability, probability, outcome, resamples(outcome, 50, 0))
    assert found == {"estimate": 0.0, "low": 0.0, "high": 0.0}


def test_evaluate_thresholds_count_as_a_confusion_matrix():
    probability, outcome = np.array([0.1, 0.2, 0.2, 0.8]), np.array([0, 1, 0, 1])
    found = at_threshold(probability, outcome, 0.2, np.array([[0, 1, 2, 3]]))
    assert {name: value["estimate"] for name, value in found.items()} == pytest.approx(
        {"sensitivity": 1.0, "specificity": 0.5, "ppv": 2 / 3, "npv": 1.0, "alert_rate": 0.75}
    )


def test_evaluate_reliability_bins_hold_everyone_and_their_rate():
    probability, outcome = drawn(1000)
    bins = reliability(probability, outcome)
    assert sum(item["n"] for item in bins) == 1000
    assert sum(item["n"] * item["observed"] for item in bins) == pytest.approx(outcome.sum())
    assert all(item["low"] <= item["observed"] <= item["high"] for item in bins)


def test_evaluate_summary_gives_every_metric_with_its_interval():
    probability, outcome = drawn(1000)
    found = summarise(probability, outcome, resamples(outcome, 20, 0))
    assert set(found) == set(METRICS)
    assert set(found["auroc"]) == {"estimate", "low", "high"}


def test_evaluate_over_folds_is_mean_and_spread_of_the_folds():
    probability, outcome = drawn(1000)
    halves = [np.arange(500), np.arange(500, 1000)]
    mean, spread = over_folds(probability, outcome, halves)
    by_fold = [auroc(probability[rows], outcome[rows]) for rows in halves]
    assert (mean["auroc"], spread["auroc"]) == pytest.approx((np.mean(by_fold), np.std(by_fold, ddof=1)))
