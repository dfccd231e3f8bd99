import numpy as np
import pytest

from model_artifacts.icu_mortality.outcomes import read_targets

OUTCOMES = {
    "In-hospital_death": np.array([0.0, 0, 1, 1, 0, 0]),
    "Survival": np.array([-1.0, 20, 5, 9, 300, -1]),
    "Length_of_stay": np.array([5.0, 10, 5, 9, 20, 7]),
    "SAPS-I": np.array([10.0, 12, 20, 25, -1, 14]),
    "SOFA": np.array([1.0, 4, 10, 12, 5, 3]),
}


def test_outcomes_later_deaths_include_those_in_hospital_and_survivors_count_their_stay():
    targets = read_targets(OUTCOMES)
    assert targets.binary[:, :3].tolist() == [[0, 0, 0], [0, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert targets.binary[:, 3].tolist() == [0, 1, 1, 1, 1, 0]
    assert targets.known[:, 0].tolist() == [1, 1, 1, 1, 0, 1]
    assert targets.known[:, 2].tolist() == [1, 1, 0, 0, 1, 1]


def test_outcomes_scores_are_standardised_over_those_known_and_0_elsewhere():
    targets = read_targets(OUTCOMES)
    known = targets.known[:, 0] == 1
    assert targets.numeric[known, 0].mean() == pytest.approx(0)
    assert targets.numeric[known, 0].std() == pytest.approx(1)
    assert targets.numeric[~known, 0].tolist() == [0]
