import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pandas")

from model_artifacts.icu_mortality.challenge import Challenge
from model_artifacts.icu_mortality.events import STATICS, plausible
from model_artifacts.icu_mortality.train import cohort, graph_inputs, load_stays, summaries
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
    for hour in (6, 24, 48):
        inputs = graph_inputs(bundled(), hour)
        for position, stay in enumerate(STAYS.values()):
            for name, expected in arrays_of(stay, float(hour)).items():
                np.testing.assert_array_equal(inputs[name][position].numpy(), expected[0], err_msg=f"{name} at {hour}")
    assert loaded.targets.binary[:, 0].tolist() == loaded.died.tolist() == [0, 0, 1, 1, 0, 0]


def test_train_looks_back_at_stays_exactly_as_the_graph_sees_them_at_that_hour():
    loaded = load_stays(bundled())
    for hour in (6, 24, 48):
        looked_at = loaded.at(np.arange(len(STAYS)), hour)
        for name, expected in graph_inputs(bundled(), hour).items():
            np.testing.assert_array_equal(looked_at[name].numpy(), expected.numpy(), err_msg=f"{name} at {hour}")


def test_train_counts_what_was_measured_by_each_hour_and_what_was_set_aside():
    challenge = bundled()
    people = cohort(challenge, {hour: summaries(challenge, hour) for hour in (6, 48)})
    stay = STAYS["132585"]
    position = list(STAYS).index("132585")
    for hour in (6, 48):
        usable = plausible(stay.variable, stay.values) & (stay.times_h <= hour)
        assert people.measured[hour][position] == len(set(stay.variable[usable].tolist()))
    assert people.set_aside["pH"] == 3


def test_train_without_data_says_where_to_get_it(tmp_path):
    command = [sys.executable, "-m", "model_artifacts.icu_mortality.train", "--data", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "physionet.org/content/challenge-2012" in run.stderr
