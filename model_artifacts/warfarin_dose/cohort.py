"""The IWPC cohort as rows of `columns.COLUMNS`: which people count, what is read of them, what is set aside.

Owns the reading of `warfarin.csv` (PharmGKB, International Warfarin Pharmacogenetics Consortium, N Engl J Med 2009;360:753)
and the imputation of rs9923231 by the decision list of the paper's appendix (section S4).

Who counts: recorded as having reached a stable dose, with that dose between 0 and 200 mg/week, with a known age and weight.
 - Not stable, or not recorded as stable: the dose is no answer to the question that the model is asked.
 - 200 mg/week: the paper's own analysis sets one dose of 315 mg/week aside as extraordinary (appendix, section S11); here one
   of 230 is, and the next is 157.5.
 - Target INR: every target is kept, for the model is given it; it is unknown for most.
 - Age and weight: the model doesn't answer without them, so rows without are no rows of its population.
What the table doesn't say of a drug or a disease counts as no, as a record's silence does when the model is asked. Site is
not in the table, and what is missing tells it: no column says that something else is missing, save the genotypes'.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_artifacts.warfarin_dose.columns import COLUMNS, genotype_columns

HIGHEST_DOSE_MG_PER_WEEK = 200.0
_DECADES = {
    "10 - 19": 1,
    "20 - 29": 2,
    "30 - 39": 3,
    "40 - 49": 4,
    "50 - 59": 5,
    "60 - 69": 6,
    "70 - 79": 7,
    "80 - 89": 8,
    "90+": 9,
}
_RACES = {"White": "white", "Asian": "asian", "Black or African American": "black"}
_YES: Mapping[str, tuple[str, ...]] = {
    "amiodarone": ("Amiodarone (Cordarone)",),
    "inducer": ("Carbamazepine (Tegretol)", "Phenytoin (Dilantin)", "Rifampin or Rifampicin"),
    "statin": (
        "Simvastatin (Zocor)",
        "Atorvastatin (Lipitor)",
        "Fluvastatin (Lescol)",
        "Lovastatin (Mevacor)",
        "Pravastatin (Pravachol)",
        "Rosuvastatin (Crestor)",
    ),
    "aspirin": ("Aspirin",),
    "azole": ("Anti-fungal Azoles",),
    "sulfonamide": ("Sulfonamide Antibiotics",),
    "heart_failure": ("Congestive Heart Failure and/or Cardiomyopathy",),
    "diabetes": ("Diabetes",),
    "valve": ("Valve Replacement",),
}
# Appendix S4, in its order: the SNP, its alleles as rs9923231's, and whether it stands in for it in people of any race.
_STAND_INS = (
    ("VKORC1 2255 consensus", {"C/C": "G/G", "C/T": "A/G", "T/T": "A/A"}, False),
    ("VKORC1 1173 consensus", {"C/C": "G/G", "C/T": "A/G", "T/T": "A/A"}, True),
    ("VKORC1 1542 consensus", {"G/G": "G/G", "C/G": "A/G", "C/C": "A/A"}, False),
)


@dataclass(frozen=True, slots=True)
class Cohort:
    """`features` (n, 27) float32, `dose` (n,) mg/week, `race` and the genotypes in words, and who was left out and why."""

    features: npt.NDArray[np.float32]
    dose: npt.NDArray[np.float64]
    race: npt.NDArray[np.str_]
    cyp2c9: npt.NDArray[np.str_]
    vkorc1: npt.NDArray[np.str_]
    left_out: Mapping[str, int]


def read_cohort(path: Path) -> Cohort:
    """The people who count, in the file's order."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    reasons = [_left_out(row) for row in rows]
    kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    features = np.array([[_features(row)[name] for name in COLUMNS] for row in kept], dtype=np.float32)
    return Cohort(
        features,
        np.array([float(row["Therapeutic Dose of Warfarin"]) for row in kept]),
        np.array([_RACES.get(row["Race"], "mixed or missing") for row in kept]),
        np.array([row["CYP2C9 consensus"] or "unknown" for row in kept]),
        np.array([read_vkorc1(row) or "unknown" for row in kept]),
        dict(Counter(reason for reason in reasons if reason is not None)),
    )


def _left_out(row: Mapping[str, str]) -> str | None:
    dose = _number(row["Therapeutic Dose of Warfarin"])
    if _number(row["Subject Reached Stable Dose of Warfarin"]) != 1:
        return "no stable dose recorded"
    if dose is None or not 0 < dose <= HIGHEST_DOSE_MG_PER_WEEK:
        return "no dose, or one above 200 mg/week"
    if row["Age"] not in _DECADES:
        return "age unknown"
    return "weight unknown" if _number(row["Weight (kg)"]) is None else None


def read_vkorc1(row: Mapping[str, str]) -> str | None:
    """rs9923231 as genotyped, else imputed by the appendix's decision list, else None."""
    if row["VKORC1 -1639 consensus"]:
        return row["VKORC1 -1639 consensus"]
    linked = _RACES.get(row["Race"]) in ("white", "asian")
    for column, alleles, in_any_race in _STAND_INS:
        if (linked or in_any_race) and row[column] in alleles:
            return alleles[row[column]]
    return None


def _features(row: Mapping[str, str]) -> dict[str, float]:
    race = _RACES.get(row["Race"])
    return {
        "age_decades": float(_DECADES[row["Age"]]),
        "height": _or_nan(_number(row["Height (cm)"])),
        "weight": _or_nan(_number(row["Weight (kg)"])),
        "male": {"male": 1.0, "female": 0.0}.get(row["Gender"], float("nan")),
        **{name: float(name == race) for name in _RACES.values()},
        **{name: float(any(_number(row[column]) == 1 for column in columns)) for name, columns in _YES.items()},
        "smoking": _or_nan(_number(row["Current Smoker"])),
        "target_inr": _or_nan(_target_inr(row)),
        **genotype_columns(row["CYP2C9 consensus"] or None, read_vkorc1(row)),
    }


def _target_inr(row: Mapping[str, str]) -> float | None:
    """The target, or the middle of the range aimed at."""
    target = _number(row["Target INR"])
    low, _, high = row["Estimated Target INR Range Based on Indication"].partition("-")
    if target is None and low and high:
        return (float(low) + float(high)) / 2
    return target


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
