import numpy as np
import pytest

from model_artifacts.training.conformal import Bounds, fit_bounds, fit_bounds_by_hour, set_rates


def drawn(seed, n=6000):
    random = np.random.default_rng(seed)
    probability = random.beta(1, 5, n)
    return probability, (random.random(n) < probability).astype(np.int64)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_conformal_covers_both_classes_on_unseen_rows(coverage):
    rates = set_rates(fit_bounds(*drawn(0), coverage), *drawn(1))
    assert rates.event_coverage == pytest.approx(coverage, abs=0.03)
    assert rates.no_event_coverage == pytest.approx(coverage, abs=0.03)


def test_conformal_kinds_of_sets_add_up():
    rates = set_rates(fit_bounds(*drawn(0), 0.9), *drawn(1))
    assert rates.only_event + rates.only_no_event + rates.both + rates.neither == pytest.approx(1)


def test_conformal_bound_is_the_finite_sample_quantile():
    own = np.arange(1, 20) / 20  # 19 of each class: (19 + 1) * 0.1 = 2, the second smallest
    outcome = np.repeat([1, 0], 19)
    bounds = fit_bounds(np.concatenate([own, 1 - own]), outcome, 0.9)
    assert (bounds.event, bounds.no_event) == pytest.approx((0.1, 0.1))


def test_conformal_refuses_a_class_too_small_for_the_coverage():
    with pytest.raises(ValueError, match="too few for a coverage"):
        fit_bounds(np.array([0.5, 0.6]), np.array([1, 0]), 0.9)


def test_conformal_a_probability_on_the_bound_is_in_the_set():
    rates = set_rates(Bounds(0.9, event=0.2, no_event=0.7), np.array([0.2, 0.3]), np.array([1, 0]))
    assert (rates.event_coverage, rates.no_event_coverage) == (1.0, 1.0)


def test_conformal_bounds_by_hour_keep_coverage_within_each_span():
    random = np.random.default_rng(3)
    outcome = (random.random(4000) < 0.2).astype(np.int64)
    hours = np.stack(
        [np.clip(0.2 + strength * (outcome - 0.2) + random.normal(0, 0.1, 4000), 0, 1) for strength in (0.1, 0.5)]
    )
    fitted = fit_bounds_by_hour(hours[:, ::2], outcome[::2], (12, 48), (6.0, 30.0), 0.9)
    for number, hour in enumerate((12, 48)):
        rates = set_rates(fitted.at(hour), hours[number, 1::2], outcome[1::2])
        assert rates.event_coverage == pytest.approx(0.9, abs=0.04)
        assert rates.no_event_coverage == pytest.approx(0.9, abs=0.03)
    assert fitted.at(29.9) == fitted.at(6) == fitted.at(0) == fitted.bounds[0]
    assert fitted.at(30) == fitted.at(99) == fitted.bounds[1]


def test_conformal_refuses_a_span_without_an_hour():
    with pytest.raises(ValueError, match="no hour in the span from 30 h on"):
        fit_bounds_by_hour(np.ones((1, 40)) * 0.5, np.arange(40) % 2, (12,), (6.0, 30.0), 0.9)
