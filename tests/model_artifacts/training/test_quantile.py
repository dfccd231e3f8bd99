import numpy as np
import pytest

pytest.importorskip("scipy")

from model_artifacts.training.quantile import fit_quantile, widen_small_groups


def test_quantile_of_a_constant_alone_is_the_quantile() -> None:
    residuals = np.random.default_rng(0).normal(size=999)
    (weight,) = fit_quantile(np.ones((999, 1)), residuals, 0.95)
    assert weight == pytest.approx(np.quantile(residuals, 0.95), abs=0.05)


def test_quantile_covers_overlapping_groups_each_at_the_stated_rate() -> None:
    random = np.random.default_rng(1)
    first, second = random.random((2, 2000)) < 0.4
    residuals = random.normal(size=2000) * (1 + 2 * first + 3 * second)
    groups = np.column_stack([np.ones(2000), first, second]).astype(float)
    high = groups @ fit_quantile(groups, residuals, 0.9)
    for group in (first, second, ~first | second):
        assert (residuals <= high)[group].mean() == pytest.approx(0.9, abs=0.015)


def test_quantile_small_groups_are_widened_until_new_members_are_covered_as_stated() -> None:
    random = np.random.default_rng(2)
    covered, widened_covered = [], []
    for _ in range(60):
        small = np.arange(500) < 40
        groups = np.column_stack([np.ones(500), small]).astype(float)
        residuals = random.normal(size=500) * (1 + 2 * small)
        plain = fit_quantile(groups, residuals, 0.95)
        wide = widen_small_groups(groups, residuals, plain, 0.95)
        fresh = 3 * random.normal(size=2000)
        covered.append((fresh <= plain.sum()).mean())
        widened_covered.append((fresh <= wide.sum()).mean())
        assert wide[1] >= plain[1]
    assert np.mean(widened_covered) >= 0.95 > np.mean(covered)
    assert np.mean(widened_covered) < 0.985


def test_quantile_widening_goes_outwards_on_either_side_and_leaves_what_is_no_group() -> None:
    residuals = np.array([-1.0, 0.0, 1.0, 2.0])
    groups = np.column_stack([np.ones(4), [0.5, 1.0, 2.0, 3.0]])
    weights = np.zeros(2)
    assert widen_small_groups(groups, residuals, weights, 0.95).tolist() == [2.0, 0.0]
    assert widen_small_groups(groups, residuals, weights, 0.05).tolist() == [-1.0, 0.0]
    assert weights.tolist() == [0.0, 0.0]
