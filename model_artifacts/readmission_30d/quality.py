"""What the evaluation says besides discrimination: faithfulness of the explanation, outliers noticed, and service's reference.

Owns how this model's rows become what `training/explanation_quality.py`, `out_of_distribution.py` and `reference.py` take.
Numpy only: the network comes as functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.readmission_30d.cohort import Cohort
from model_artifacts.readmission_30d.columns import CHOICES, COLUMNS, DRUGS, INDEX, LEVELS, NUMBERS, SLOTS, TAKEN
from model_artifacts.training.explanation_quality import Explained, explanation_quality, mean_attributions
from model_artifacts.training.out_of_distribution import Subject, out_of_distribution

Features = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

PERMUTATIONS = 30
"""Antithetic; of some 36 inputs that all play in every row."""
GROUPS = dict(enumerate(SLOTS))
_LABELS = {
    "age_decade": "Age",
    "days": "Days in hospital",
    "lab_tests": "Laboratory tests",
    "diagnosis_count": "Number of diagnoses",
    "inpatient_stays": "Hospital stays in the year before",
    "earlier_returns": "Earlier returns within 30 days",
    "returned": "Stay began within 30 days of a discharge",
    "days_since_stay": "Time since the last discharge",
    "female": "Sex",
    "changed": "Change of a drug for diabetes",
    "diabetes_drug": "Any drug for diabetes",
    "disposition": "Discharged to",
    "admission_source": "Admitted from",
    "admission_type": "Kind of admission",
    "hba1c": "HbA1c",
    "diagnosis_1": "Principal diagnosis",
    "diagnosis_2": "Second diagnosis",
    "diagnosis_3": "Third diagnosis",
}
_NOT_IN_SERVICE = frozenset({"lab_tests", "procedures", "changed", "hba1c", "glucose"})
"""Not read from a record, read as "yes" alone, or a number there where the table has a range."""

_NO_QUANTITIES = {*CHOICES, "female", "returned", "diabetes_drug", "diagnosis_1", "diagnosis_2", "diagnosis_3"}
SERVICE_CODES = tuple(name for name in SLOTS if name in _NO_QUANTITIES - _NOT_IN_SERVICE)
"""Of those in service, the ones that are codes and no quantities."""


def slot_groups() -> Indices:
    """For each of the network's inputs the number of the clinical input it belongs to."""
    groups = np.full(1 + max(place for places in SLOTS.values() for place in places), -1, dtype=np.int64)
    for number, name in GROUPS.items():
        groups[list(SLOTS[name])] = number
    return groups


def explanation_sections(explained: Explained, gaps: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """The sections `explanation`, `explanation_curves` and `attributions`."""
    names = {number: (name, _LABELS.get(name, name.replace("_", " ").capitalize())) for number, name in GROUPS.items()}
    return {
        **explanation_quality(explained, gaps, permutations=PERMUTATIONS),
        "attributions": mean_attributions(explained, names),
    }


def outliers(novelty: Callable[[Features], Array], features: Features, limit: float) -> dict[str, Any]:
    """The section `out_of_distribution`; counts have no implausible values, so what is noticed the novelty notices."""
    rows = {name: features[:, INDEX[name]].astype(np.float64) for name in COLUMNS}

    def score(changed: Mapping[str, npt.NDArray[np.floating[Any]]]) -> npt.NDArray[np.floating[Any]]:
        return novelty(np.stack([changed[name] for name in COLUMNS], axis=1).astype(np.float32))

    tested = ("days", "medications", "outpatient_visits", "emergency_visits", "inpatient_stays", "earlier_stays")
    subject = Subject(rows, dict.fromkeys(tested, (0.0, np.inf)), score, limit)
    return {
        **out_of_distribution(subject, {}),
        "children": "no input tells a child apart but the age itself: the population's criterion keeps everybody below 18 out",
    }


def service_rows(cohort: Cohort, codes: Indices, probability: Array) -> tuple[list[str], Array, dict[str, Array]]:
    """Names, values and outputs of the rows as service would see them, for `reference.json`."""
    names = [name for name in SLOTS if name not in _NOT_IN_SERVICE]
    values = np.stack([_in_service(name, cohort.features, codes) for name in names], axis=1)
    return names, values, {"readmission_30d": probability}


def _in_service(name: str, features: Features, codes: Indices) -> Array:
    """The value that the evidence would show, not-a-number where the record is silent."""
    if name.startswith("diagnosis_") and name not in NUMBERS:
        chapter = codes[:, LEVELS * (int(name[-1]) - 1)].astype(np.float64)
        return np.where(chapter > 0, chapter, np.nan)
    column = features[:, INDEX[name]].astype(np.float64)
    if name in DRUGS:
        return np.where(column > 0, CHOICES[name].index(TAKEN), 0.0)
    if name in CHOICES:
        return np.where(column > 0, column, np.nan)
    return 10 * column + 5 if name == "age_decade" else column
