"""Labels are read strictly, and what is wrong is said by line and column without what stood there."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedside.config import ConfigError
from bedside.site_evaluation.labels import read_labels
from model_artifacts.manifest import Output

RISK = Output("death", "risk of death", "death")
DOSE = Output("dose", "weekly dose", "dose", unit="mg/wk", at_most=200.0)
HEADER = "patient,as_of,outcome\n"


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _problem(folder: Path, text: str | bytes, output: Output = RISK) -> str:
    with pytest.raises(ConfigError) as raised:
        read_labels(_write(folder, text), output)
    return str(raised.value)


def test_labels_are_read_with_what_may_be_given_besides(tmp_path: Path) -> None:
    text = (
        "\ufeffoutcome,patient,as_of,order,encounter,outcome_at\r\n"
        "1,Patient/4711,2026-03-01T09:30:00+01:00,MedicationRequest/7,Encounter/8,2026-03-02T00:00:00Z\r\n"
        "\r\n"
        "0,4711,2026-03-01T09:30:00Z,,,\r\n"
    )
    first, second = read_labels(_write(tmp_path, text), RISK).rows
    assert (first.patient, first.outcome, first.order, first.encounter) == ("4711", 1.0, "7", "8")
    assert first.as_of == datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
    assert (second.line, second.order, second.encounter, second.outcome) == (4, None, None, 0.0)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("4711,2026-03-01T08:00:00Z,2", "line 2, column outcome: expected 0 or 1, got something else"),
        ("4711,2026-03-01T08:00:00Z,yes", "line 2, column outcome: expected 0 or 1"),
        ("4711,2026-03-01T08:00:00Z,0.5", "line 2, column outcome: expected 0 or 1"),
        ("4711,2026-03-01T08:00:00,1", "line 2, column as_of: expected a date with time and offset"),
        ("4711,2026-03-01,1", "line 2, column as_of: expected a date with time and offset"),
        ("4711,01.03.2026 08:00,1", "line 2, column as_of: expected a date with time and offset"),
        (",2026-03-01T08:00:00Z,1", "line 2, column patient: expected the id of a Patient, got nothing"),
        ("4711,2026-03-01T08:00:00Z", "line 2: expected 3 cells, got 2"),
    ],
)
def test_labels_out_of_form_are_refused_by_line_and_column(tmp_path: Path, row: str, problem: str) -> None:
    told = _problem(tmp_path, HEADER + row + "\n")
    assert problem in told
    assert "4711" not in told
    assert "2026-03-01" not in told.replace("such as 2026-03-01T08:00:00Z", "")


def test_labels_twice_for_one_moment_are_refused(tmp_path: Path) -> None:
    rows = "1,2026-03-01T08:00:00Z,1\n1,2026-03-02T08:00:00Z,1\n1,2026-03-01T09:00:00+01:00,0\n"
    assert "line 4: expected each patient and as_of once, got those of line 2 again" in _problem(
        tmp_path, HEADER + rows
    )


def test_labels_known_before_they_were_asked_for_are_refused(tmp_path: Path) -> None:
    text = "patient,as_of,outcome,outcome_at\n1,2026-03-01T08:00:00Z,1,2026-03-01T09:00:00+01:00\n"
    assert "line 2, column outcome_at: expected a moment after as_of" in _problem(tmp_path, text)


def test_labels_tell_of_ten_problems_at_most(tmp_path: Path) -> None:
    told = _problem(tmp_path, HEADER + "1,x,1\n" * 50)
    assert told.count("column as_of") == 10
    assert told.endswith("and perhaps more")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e9", "", "35 mg"])
def test_labels_of_a_quantity_are_in_its_range(tmp_path: Path, value: str) -> None:
    told = _problem(tmp_path, f"{HEADER}1,2026-03-01T08:00:00Z,{value}\n", DOSE)
    assert "column outcome: expected a number above 0, at most 200, in mg/wk" in told


def test_labels_of_a_quantity_are_numbers(tmp_path: Path) -> None:
    path = _write(tmp_path, HEADER + "1,2026-03-01T08:00:00Z,32.5\n")
    assert read_labels(path, DOSE).rows[0].outcome == 32.5


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "lacks patient, as_of, outcome"),
        ("patient;as_of;outcome\n", "lacks patient"),
        ("patient,as_of,outcome,age\n", "column 4 is none of them"),
        ("patient,as_of,outcome,outcome\n", "twice one"),
        (HEADER, "expected at least one row"),
        (HEADER + '1,"x\n', "line 2"),
        (b"\xff\xfe", "expected UTF-8"),
    ],
)
def test_labels_need_their_columns(tmp_path: Path, text: str | bytes, problem: str) -> None:
    assert problem in _problem(tmp_path, text)


def test_labels_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"labels none\.csv: No such file"):
        read_labels(tmp_path / "none.csv", RISK)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: (HEADER + text).encode("utf-8", "surrogatepass")))
def test_labels_fail_in_one_way(tmp_path: Path, data: bytes) -> None:
    with suppress(ConfigError):
        assert read_labels(_write(tmp_path, data), RISK).rows
