"""The training table: its columns, and what earlier rows may tell."""

from __future__ import annotations

import csv
import gzip
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from model_artifacts.readmission_30d.cohort import Cohort, diagnosis_levels, read_cohort, vocabulary, without_history
from model_artifacts.readmission_30d.columns import CHOICES, DRUGS, HISTORY_DAYS, INDEX

PLAIN = {
    "patient_nbr": "1",
    "race": "?",
    "gender": "Female",
    "age": "[70-80)",
    "admission_type_id": "1",
    "discharge_disposition_id": "1",
    "admission_source_id": "7",
    "time_in_hospital": "3",
    "medical_specialty": "?",
    "num_lab_procedures": "40",
    "num_procedures": "1",
    "num_medications": "12",
    "number_outpatient": "0",
    "number_emergency": "0",
    "number_inpatient": "1",
    "diag_1": "428",
    "diag_2": "250.4",
    "diag_3": "?",
    "number_diagnoses": "9",
    "max_glu_serum": "",
    "A1Cresult": ">8",
    "insulin": "Up",
    "change": "Ch",
    "diabetesMed": "Yes",
    "readmitted": "NO",
    **{drug.replace("_", "-"): "No" for drug in DRUGS if drug != "insulin"},
}


def _cohort(tmp_path: Path, *changes: dict[str, str]) -> Cohort:
    rows = [{"encounter_id": str(number), **PLAIN, **change} for number, change in enumerate(changes, start=1)]
    path = tmp_path / "table.csv.gz"
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(reversed(rows))  # the order of the file tells nothing
    return read_cohort(path)


def _rivals() -> ModuleType:
    """What the trees see; they are scikit-learn's."""
    pytest.importorskip("sklearn")
    return importlib.import_module("model_artifacts.readmission_30d.rivals")


def _column(cohort: Cohort, name: str) -> list[float]:
    values: list[float] = cohort.features[:, INDEX[name]].tolist()
    return values


def test_cohort_columns_are_those_of_the_table(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, {})
    found = {name: _column(cohort, name)[0] for name in ("age_decade", "days", "insulin", "hba1c", "changed", "female")}
    assert found == {
        "age_decade": 7,
        "days": 3,
        "insulin": CHOICES["insulin"].index("increased"),
        "hba1c": CHOICES["hba1c"].index("above 8 %"),
        "changed": 1,
        "female": 1,
    }
    assert cohort.codes.tolist() == [["428", "250.4", ""]]


@pytest.mark.parametrize("disposition", ["11", "13", "14", "19", "20", "21"])
def test_cohort_leaves_out_death_and_hospice(tmp_path: Path, disposition: str) -> None:
    assert len(_cohort(tmp_path, {}, {"patient_nbr": "2", "discharge_disposition_id": disposition}).labels) == 1


def test_cohort_outcome_is_a_return_within_30_days_and_any_later_one_beside_it(tmp_path: Path) -> None:
    cohort = _cohort(
        tmp_path, *({"patient_nbr": str(n), "readmitted": word} for n, word in enumerate(("<30", ">30", "NO")))
    )
    assert (cohort.labels.tolist(), cohort.any_later.tolist()) == ([1, 0, 0], [1, 1, 0])


def test_cohort_history_is_of_earlier_rows_alone(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, {"readmitted": "<30"}, {"readmitted": ">30"}, {})
    assert _column(cohort, "earlier_stays") == [0, 0, 0]  # three rows stand for years: nothing is recent
    many = _cohort(
        tmp_path, {"readmitted": "<30"}, {"readmitted": ">30"}, {}, *({"patient_nbr": str(n)} for n in range(9, 99))
    )
    assert _column(many, "earlier_stays")[:3] == [0, 1, 2]
    assert _column(many, "returned")[:3] == [0, 1, 0]
    assert _column(many, "earlier_returns")[:3] == [0, 1, 1]


def test_cohort_a_rows_own_outcome_and_later_rows_do_not_change_its_columns(tmp_path: Path) -> None:
    others = [{"patient_nbr": str(n)} for n in range(9, 99)]
    first = [_cohort(tmp_path, {"readmitted": word}, *others).features[0].tolist() for word in ("<30", ">30", "NO")]
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[2])
    followed = _cohort(tmp_path, {"readmitted": "<30"}, {}, *others[:-1])
    np.testing.assert_array_equal(followed.features[0], first[0])


@pytest.mark.parametrize(
    ("earlier", "own"),
    [
        ({"readmitted": "NO"}, {}),
        ({"readmitted": "<30", "age": "[80-90)"}, {}),
        ({"readmitted": "<30"}, {"number_inpatient": "0"}),
    ],
    ids=["nobody came back", "older before", "nobody in hospital in the year before"],
)
def test_cohort_rows_that_contradict_the_order_are_no_history(
    tmp_path: Path, earlier: dict[str, str], own: dict[str, str]
) -> None:
    cohort = _cohort(tmp_path, earlier, own, *({"patient_nbr": str(n)} for n in range(9, 99)))
    assert _column(cohort, "earlier_stays")[1] == 0
    assert _column(cohort, "days_since_stay")[1] == HISTORY_DAYS
    assert sum(cohort.contradictions.values()) == 1


def test_cohort_days_since_the_last_stay_agree_with_what_it_said(tmp_path: Path) -> None:
    others = [{"patient_nbr": str(n)} for n in range(9, 99)]
    soon = _cohort(tmp_path, {"readmitted": "<30"}, {}, *others)
    late = _cohort(tmp_path, {"readmitted": ">30"}, {}, *others)
    assert 0 <= _column(soon, "days_since_stay")[1] <= 30
    assert 30 < _column(late, "days_since_stay")[1] < HISTORY_DAYS


def test_cohort_without_history_is_that_of_people_without_an_earlier_stay(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, {"readmitted": "<30"}, {}, *({"patient_nbr": str(n)} for n in range(9, 99)))
    plain = without_history(cohort.features)
    np.testing.assert_array_equal(plain[1], cohort.features[0])
    assert _column(cohort, "earlier_stays")[1] == 1  # a copy was changed


def test_cohort_vocabulary_holds_what_occurs_often_enough(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, *({"patient_nbr": str(n)} for n in range(60)), {"patient_nbr": "x", "diag_1": "V57"})
    assert vocabulary(cohort) == (("250", "428"), ("250.4",))
    codes = diagnosis_levels(cohort, *vocabulary(cohort))
    assert codes.shape == (61, 9)
    assert codes[0, 1] == 2
    assert codes[60, :3].tolist() == [18, 0, 0]


def test_rivals_get_the_same_history_or_none_of_it(tmp_path: Path) -> None:
    cohort = _cohort(tmp_path, {"readmitted": "<30"}, {}, *({"patient_nbr": str(n)} for n in range(9, 99)))
    rivals = _rivals()
    whole, less = rivals.tree_rows(cohort, history=True), rivals.tree_rows(cohort, history=False)
    assert whole.numbers.shape[1] - less.numbers.shape[1] == len(rivals.HISTORY)
    np.testing.assert_array_equal(less.numbers[0], less.numbers[1])  # nothing of the earlier stay is left
    assert not np.array_equal(whole.numbers[0], whole.numbers[1])


def test_rivals_see_no_race_and_no_payer(tmp_path: Path) -> None:
    tree_rows = _rivals().tree_rows
    plain = tree_rows(_cohort(tmp_path, {"race": "Asian"}), history=True)
    other = tree_rows(_cohort(tmp_path, {"race": "Caucasian"}), history=True)
    np.testing.assert_array_equal(plain.numbers, other.numbers)
    np.testing.assert_array_equal(plain.codes, other.codes)
