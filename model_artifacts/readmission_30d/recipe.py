"""The recipe of readmission_30d: how trees and network are fitted on some people, and asked about others.

Owns everything that decides what the model says; the evaluation (`report.py`) and the rest of `train.py` only use it, so what
an interrupted training has done counts as long as this, the cohort and what they import stay as they are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.readmission_30d.cohort import Cohort, without_history
from model_artifacts.readmission_30d.columns import (
    CHOICES,
    DRUGS,
    EMBEDDING,
    FLAGS,
    INDEX,
    NUMBERS,
    POSITIONS,
    TAKEN,
)
from model_artifacts.readmission_30d.diagnoses import CHAPTERS
from model_artifacts.readmission_30d.rivals import tree_rows
from model_artifacts.training.calibrate import logit
from model_artifacts.training.category_fit import Recipe, Rows, fit, predict
from model_artifacts.training.category_network import CategoryNetwork, Table
from model_artifacts.training.progress import track
from model_artifacts.training.split import Fold
from model_artifacts.training.tree_teacher import rival_predictions, teacher_predictions

SEED = 2014
SOFT = 0.9
"""Weight of the teacher's estimate in the target; the rest is the outcome itself."""
TEACHER = "boosting_it_learned_from"
Features = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]


def without_counts(features: Features) -> Features:
    """As a record tells them: laboratory tests and procedures aren't counted."""
    rows = features.copy()
    rows[:, [INDEX["lab_tests"], INDEX["procedures"]]] = np.nan
    return rows


def without_changes(features: Features) -> Features:
    """As a record tells them: a drug is taken, whether its dose was changed isn't known."""
    rows = features.copy()
    for drug in DRUGS:
        rows[:, INDEX[drug]] = np.where(rows[:, INDEX[drug]] > 0, CHOICES[drug].index(TAKEN), 0)
    rows[:, INDEX["changed"]] = np.nan
    return rows


def as_read(features: Features) -> Features:
    """As a record tells them all."""
    return without_changes(without_counts(features))


VARIANTS = {"without_earlier_stays": without_history, "as_read_from_a_record": as_read}


def recipe_for(categories: int, codes: int) -> Recipe:
    """The recipe for a vocabulary of this size."""
    return Recipe(
        Table(
            NUMBERS,
            FLAGS,
            {name: len(words) for name, words in CHOICES.items()},
            frozenset(DRUGS),
            (len(CHAPTERS), categories + 1, codes + 1),
            POSITIONS,
            EMBEDDING,
        ),
        (without_counts, without_changes),
    )


def fit_trees(cohort: Cohort, fold: Fold) -> Arrays:
    """The teacher's estimates of the people it was fitted on, and what the trees say of those they never saw."""
    trees, fit_on, at = tree_rows(cohort, history=True), fold.develop, fold.report
    soft, teacher = teacher_predictions(trees, cohort.labels, cohort.any_later, fit_on, (fit_on, at))
    return {
        "soft": soft,
        TEACHER: teacher,
        "gradient_boosting": rival_predictions(tree_rows(cohort, history=False), cohort.labels, fit_on, at),
        "gradient_boosting_with_history": rival_predictions(trees, cohort.labels, fit_on, at),
    }


def fit_fold(cohort: Cohort, codes: Indices, recipe: Recipe, fold: Fold, soft: Array) -> Arrays:
    """What the network says of the people it never saw: each member's log odds, and the novelty."""
    network = fit_network(cohort, codes, recipe, fold.develop, soft)
    answers: dict[str, npt.NDArray[Any]] = {}
    for name, change in {"model": lambda rows: rows, **VARIANTS}.items():
        _, members, novelty = predict(network, change(cohort.features[fold.report]), codes[fold.report])
        answers |= {f"{name}/members": logit(members), f"{name}/novelty": novelty}
    return answers


def fit_network(cohort: Cohort, codes: Indices, recipe: Recipe, at: Indices, soft: Array) -> CategoryNetwork:
    """The network fitted on the rows `at`, of which `soft` are the teacher's estimates."""
    targets = np.stack([cohort.labels, cohort.any_later], axis=1).astype(np.float64)
    targets[at, 0] = (1 - SOFT) * targets[at, 0] + SOFT * soft
    rows = Rows(cohort.features, codes, targets)
    return fit(rows, at, recipe, SEED, lambda epochs: track(list(epochs), "epoch"))
