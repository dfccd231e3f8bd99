import math
from itertools import permutations

import numpy as np
import pytest

from model_artifacts.training.explanation_quality import (
    Explained,
    completeness,
    explanation_quality,
    mean_attributions,
    shapley,
)

GROUPS = np.array([0, 0, 1, 2, 3, -1])


def function(points):
    """An interaction, a kink and a slot that never moves."""
    return (
        points[:, 0] * points[:, 2] + 2 * points[:, 1] - np.maximum(points[:, 3], 0) + 0.3 * points[:, 4] + points[:, 5]
    )


def explained(attributions=None, n=40, answer=lambda points, rows: function(points)):
    random = np.random.default_rng(6)
    points = random.normal(0, 1, (n, 6)).astype(np.float32)
    baseline = np.zeros((n, 6), dtype=np.float32)
    baseline[0, 4] = points[0, 4]  # an input that equals the baseline in one row
    given = np.zeros((n, 6), dtype=np.float32) if attributions is None else attributions
    return Explained(points, baseline, given, GROUPS, answer)


def by_definition(judged, row):
    """Shapley values over every order of the four inputs."""

    def value(present):
        moved = np.array([group == -1 or group in present for group in GROUPS])
        return function(np.where(moved, judged.points[row], judged.baseline[row])[None])[0]

    total = np.zeros(4)
    for order in permutations(range(4)):
        for place, player in enumerate(order):
            total[player] += value(order[: place + 1]) - value(order[:place])
    return total / math.factorial(4)


def test_explanation_quality_shapley_values_are_those_of_the_definition():
    judged = explained(n=3)
    values = shapley(judged, 4000, np.random.default_rng(0))
    for row in range(3):
        assert values[row] == pytest.approx(by_definition(judged, row), abs=0.03)
    assert values[0, 3] == 0


def test_explanation_quality_shapley_values_add_up_whatever_the_number_of_permutations():
    judged = explained()
    values = shapley(judged, 2, np.random.default_rng(0))
    still = np.where(GROUPS >= 0, judged.baseline, judged.points)
    assert values.sum(axis=1) == pytest.approx(function(judged.points) - function(still), abs=1e-5)


def test_explanation_quality_right_attributions_beat_chance_and_wrong_ones_lose_to_it():
    first = explained(n=60)
    exact = shapley(first, 200, np.random.default_rng(0))
    right = np.zeros((60, 6), dtype=np.float32)
    right[:, [0, 2, 3, 4]] = exact
    good = explanation_quality(explained(right, 60), np.zeros(60), permutations=200)["explanation"]
    assert good["deletion"]["this_model"] < good["deletion"]["random"] - 0.2
    assert good["insertion"]["this_model"] > good["insertion"]["random"] + 0.2
    assert good["deletion"]["this_model"] == pytest.approx(good["deletion"]["shapley"], abs=0.02)
    assert good["correlation_with_shapley"] > 0.99
    bad = explanation_quality(explained(-right, 60), np.zeros(60), permutations=200)["explanation"]
    assert bad["deletion"]["this_model"] > bad["deletion"]["random"] + 0.2
    assert bad["correlation_with_shapley"] < -0.99


def test_explanation_quality_curves_run_between_the_answer_and_the_baselines():
    judged = explained()
    curves = explanation_quality(judged, np.zeros(3), permutations=20)["explanation_curves"]
    still = np.where(GROUPS >= 0, judged.baseline, judged.points)
    for name in ("this_model", "random", "shapley"):
        assert len(curves["deletion"][name]) == len(curves["share_of_inputs"]) == 21
        ends = [function(judged.points).mean(), function(still).mean()]
        assert curves["deletion"][name][:: len(curves["share_of_inputs"]) - 1] == pytest.approx(ends, abs=1e-5)
        assert curves["insertion"][name][:: len(curves["share_of_inputs"]) - 1] == pytest.approx(ends[::-1], abs=1e-5)


def test_explanation_quality_answers_come_in_batches_each_with_its_rows_own_other_inputs():
    asked = []

    def answer(points, rows):
        asked.append(len(rows))
        return function(points) + 100 * rows

    values = shapley(explained(n=5, answer=answer), 100, np.random.default_rng(0))
    assert np.abs(values).max() < 50  # a row's own number is in each of its answers, and in no difference
    assert sum(asked) == 8 + 4 * 16  # every set of inputs once: 2 to the number of players
    assert max(asked) <= 2048


def test_explanation_quality_gap_quantiles_are_of_absolute_gaps():
    assert completeness(np.array([-3.0, 1.0, 2.0])) == pytest.approx({"p50": 2.0, "p99": 2.98, "max": 3.0})


def test_explanation_quality_mean_attributions_are_of_whole_inputs_largest_first():
    given = np.tile(np.array([1.0, -3.0, 0.5, -4.0, 0.0, 9.0], dtype=np.float32), (40, 1))
    rows = mean_attributions(explained(given), {g: (f"i{g}", f"input {g}") for g in range(4)})
    assert [(row["input"], row["mean_absolute"]) for row in rows] == [
        ("i2", 4.0),
        ("i0", 2.0),
        ("i1", 0.5),
        ("i3", 0.0),
    ]
