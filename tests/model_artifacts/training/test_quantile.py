import numpy as np
import pytest

pytest.importorskip("scipy")

from model_artifacts.training.quantile import fit_quantile


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
