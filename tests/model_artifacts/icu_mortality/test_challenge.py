from pathlib import Path

import numpy as np
import pytest

from model_artifacts.icu_mortality.challenge import format_stay, parse_stay, read_challenge
from model_artifacts.icu_mortality.events import INDEX
from tests.model_artifacts.icu_mortality.stays import PATHS, STAYS


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_challenge_parse_and_format_are_inverse(path):
    text = path.read_text(encoding="utf-8")
    assert format_stay(parse_stay(text)) == text


def test_challenge_keeps_slips_and_drops_unknown_statics():
    stay = STAYS["140525"]
    assert 735.0 in stay.values[stay.variable == INDEX["pH"]]
    assert "Gender" not in STAYS["144078"].statics


@pytest.mark.parametrize("text", ["Time,Parameter,Value\n00:00,Age,50\n", "Time,Parameter,Value\n00:00,RecordID\n"])
def test_challenge_refuses_what_is_not_a_stay(text):
    with pytest.raises(ValueError):
        parse_stay(text)


def test_challenge_says_where_to_get_the_data(tmp_path: Path):
    pytest.importorskip("pandas")
    with pytest.raises(FileNotFoundError, match=r"physionet\.org/content/challenge-2012.*ODC-BY"):
        read_challenge(tmp_path)


def test_challenge_reads_columns_as_stays(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    folder = tmp_path / "physionet2012"
    folder.mkdir()
    rows = []
    for path in PATHS:
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            time, name, value = line.split(",")
            minutes = int(time[:2]) * 60 + int(time[3:])
            rows.append(("a", int(path.stem), minutes, name, float(value)))
    columns = ["set", "RecordID", "minutes", "Parameter", "Value"]
    pandas.DataFrame(rows, columns=columns).to_parquet(folder / "p12_long.parquet")
    outcomes = {
        name: [0] * len(PATHS) for name in ("SAPS-I", "SOFA", "Length_of_stay", "Survival", "In-hospital_death")
    }
    table = pandas.DataFrame({"RecordID": [int(path.stem) for path in reversed(PATHS)], **outcomes})
    table.to_csv(folder / "outcomes_ab.csv", index=False)
    challenge = read_challenge(tmp_path)
    for position, record_id in enumerate(challenge.record_ids):
        found, expected = challenge.one(position), STAYS[str(record_id)]
        np.testing.assert_array_equal(found.minutes, expected.minutes)
        np.testing.assert_array_equal(found.variable, expected.variable)
        np.testing.assert_array_equal(found.values, expected.values)
        assert found.statics == pytest.approx(expected.statics)
