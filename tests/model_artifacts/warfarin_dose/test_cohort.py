import csv
from pathlib import Path

import numpy as np
import pytest

from model_artifacts.warfarin_dose.cohort import Cohort, read_cohort
from model_artifacts.warfarin_dose.columns import INDEX

COLUMNS = (
    "Gender",
    "Race",
    "Age",
    "Height (cm)",
    "Weight (kg)",
    "Diabetes",
    "Congestive Heart Failure and/or Cardiomyopathy",
    "Valve Replacement",
    "Aspirin",
    "Simvastatin (Zocor)",
    "Atorvastatin (Lipitor)",
    "Fluvastatin (Lescol)",
    "Lovastatin (Mevacor)",
    "Pravastatin (Pravachol)",
    "Rosuvastatin (Crestor)",
    "Amiodarone (Cordarone)",
    "Carbamazepine (Tegretol)",
    "Phenytoin (Dilantin)",
    "Rifampin or Rifampicin",
    "Sulfonamide Antibiotics",
    "Anti-fungal Azoles",
    "Target INR",
    "Estimated Target INR Range Based on Indication",
    "Subject Reached Stable Dose of Warfarin",
    "Therapeutic Dose of Warfarin",
    "Current Smoker",
    "CYP2C9 consensus",
    "VKORC1 -1639 consensus",
    "VKORC1 1173 consensus",
    "VKORC1 1542 consensus",
    "VKORC1 2255 consensus",
)
PERSON = {
    "Gender": "male",
    "Race": "White",
    "Age": "60 - 69",
    "Height (cm)": "180.0",
    "Weight (kg)": "90.0",
    "Subject Reached Stable Dose of Warfarin": "1.0",
    "Therapeutic Dose of Warfarin": "35.0",
    "CYP2C9 consensus": "*1/*3",
    "VKORC1 -1639 consensus": "A/G",
}


def _read(folder: Path, *people: dict[str, str]) -> Cohort:
    path = folder / "warfarin.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows([{**PERSON, **person} for person in people])
    return read_cohort(path)


def _value(cohort: Cohort, column: str) -> float:
    return float(cohort.features[0, INDEX[column]])


def test_cohort_reads_a_person(tmp_path: Path) -> None:
    cohort = _read(tmp_path, {"Phenytoin (Dilantin)": "1.0", "Target INR": "3.0", "Age": "90+"})
    expected = {
        "age_decades": 9,
        "height": 180,
        "white": 1,
        "inducer": 1,
        "*1/*3": 1,
        "A/G": 1,
        "target_inr": 3,
        "statin": 0,
    }
    assert {name: _value(cohort, name) for name in expected} == expected
    assert np.isnan(_value(cohort, "smoking"))
    assert (cohort.dose[0], cohort.race[0], cohort.vkorc1[0]) == (35.0, "white", "A/G")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"Subject Reached Stable Dose of Warfarin": "0.0"}, "no stable dose recorded"),
        ({"Subject Reached Stable Dose of Warfarin": ""}, "no stable dose recorded"),
        ({"Therapeutic Dose of Warfarin": "230.0"}, "no dose, or one above 200 mg/week"),
        ({"Therapeutic Dose of Warfarin": ""}, "no dose, or one above 200 mg/week"),
        ({"Age": ""}, "age unknown"),
        ({"Weight (kg)": ""}, "weight unknown"),
    ],
)
def test_cohort_leaves_out_and_counts(change: dict[str, str], why: str, tmp_path: Path) -> None:
    cohort = _read(tmp_path, {}, change)
    assert (len(cohort.dose), cohort.left_out) == (1, {why: 1})


@pytest.mark.parametrize(
    ("race", "column", "alleles", "genotype"),
    [
        ("White", "VKORC1 2255 consensus", "C/T", "A/G"),
        ("Black or African American", "VKORC1 2255 consensus", "C/T", "unknown"),
        ("Black or African American", "VKORC1 1173 consensus", "T/T", "A/A"),
        ("Unknown", "VKORC1 1542 consensus", "G/G", "unknown"),
        ("Asian", "VKORC1 1542 consensus", "C/C", "A/A"),
    ],
)
def test_cohort_imputes_rs9923231_by_the_appendix_s4(
    race: str, column: str, alleles: str, genotype: str, tmp_path: Path
) -> None:
    cohort = _read(tmp_path, {"Race": race, "VKORC1 -1639 consensus": "", column: alleles})
    assert cohort.vkorc1[0] == genotype
    assert _value(cohort, "vkorc1_known") == (genotype != "unknown")


def test_cohort_takes_the_middle_of_a_target_range(tmp_path: Path) -> None:
    assert _value(_read(tmp_path, {"Estimated Target INR Range Based on Indication": "2.5-3.5"}), "target_inr") == 3.0


def test_cohort_counts_other_alleles_as_not_known(tmp_path: Path) -> None:
    assert _value(_read(tmp_path, {"CYP2C9 consensus": "*1/*5"}), "cyp2c9_known") == 0.0
