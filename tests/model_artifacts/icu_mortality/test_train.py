import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pandas")

from model_artifacts.icu_mortality.challenge import Challenge
from model_artifacts.icu_mortality.events import STATICS
from model_artifacts.icu_mortality.train import load_stays, read_targets
from tests.model_artifacts.icu_mortality.stays import STAYS, arrays_of


def bundled():
    stays = list(STAYS.values())
    position = np.concatenate([np.full(len(stay.values), i) for i, stay in enumerate(stays)])
    statics = [[stay.statics.get(static.name, np.nan) for static in STATICS] for stay in stays]
    outcomes = {
        "In-hospital_death": np.array([0.0, 0, 1, 1, 0, 0]),
        "Survival": np.array([-1.0, 20, 5, 9, 300, -1]),
        "Length_of_stay": np.array([5.0, 10, 5, 9, 20, 7]),
        "SAPS-I": np.array([10.0, 12, 20, 25, -1, 14]),
        "SOFA": np.array([1.0, 4, 10, 12, 5, 3]),
    }
    return Challenge(
        np.array([stay.record_id for stay in stays]),
        position,
        np.concatenate([stay.minutes for stay in stays]),
        np.concatenate([stay.variable for stay in stays]),
        np.concatenate([stay.values for stay in stays]),
        np.array(statics, dtype=np.float32),
        outcomes,
    )


def test_train_all_stays_at_once_are_the_tensors_of_each():
    loaded = load_stays(bundled())
    for position, stay in enumerate(STAYS.values()):
        for name, expected in arrays_of(stay).items():
            np.testing.assert_array_equal(getattr(loaded, name)[position].numpy(), expected[0], err_msg=name)
    assert loaded.set_aside["pH"] == 3


def test_train_later_deaths_include_those_in_hospital_and_survivors_count_their_stay():
    targets = read_targets(bundled().outcomes)
    assert targets.binary[:, :3].tolist() == [[0, 0, 0], [0, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert targets.binary[:, 3].tolist() == [0, 1, 1, 1, 1, 0]
    assert targets.known[:, 0].tolist() == [1, 1, 1, 1, 0, 1]
    assert targets.known[:, 2].tolist() == [1, 1, 0, 0, 1, 1]


def test_train_without_data_says_where_to_get_it(tmp_path):
    command = [sys.executable, "-m", "model_artifacts.icu_mortality.train", "--data", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "physionet.org/content/challenge-2012" in run.stderr
