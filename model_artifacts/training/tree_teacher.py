"""Gradient boosting on a table with codes: the rival that a network has to beat, and the teacher that it learns from.

Owns both recipes (scikit-learn), fixed here. Codes become the rate of events among the rows fitted, shrunk towards the mean
(Micci-Barreca, SIGKDD Explor 2001;3:27), inside cross-fitting on the fit rows themselves.

The teacher has larger trees than the rival, and the codes' rates of any later event beside those of the outcome. Its estimates
of the very rows that it was fitted on are the network's soft targets (Hinton, Vinyals, Dean, 2015): they hold little of those
rows' own noise and all of the trees' shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import KFold
from sklearn.preprocessing import TargetEncoder

from model_artifacts.training.calibrate import logit, sigmoid

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]

RIVAL_SEEDS = (0, 1)
TEACHER_SEEDS = (0, 1)
SMOOTHING = 50.0


@dataclass(frozen=True, slots=True)
class Rows:
    """A table for trees: numbers (n, c), not-a-number where missing, and code columns (n, k) as words."""

    numbers: Array
    codes: npt.NDArray[np.str_]


def rival(seed: int) -> HistGradientBoostingClassifier:
    """The recipe of `rivals.py`, without early stopping: with it the rival is the weaker for it on so many rows."""
    return HistGradientBoostingClassifier(
        max_iter=300,
        learning_rate=0.03,
        max_leaf_nodes=15,
        min_samples_leaf=30,
        l2_regularization=5.0,
        max_features=0.3,
        early_stopping=False,
        random_state=seed,
    )


def teacher(seed: int) -> HistGradientBoostingClassifier:
    """Larger trees than the rival's: what they overfit, the network that learns from them smooths away."""
    return HistGradientBoostingClassifier(
        max_iter=220,
        learning_rate=0.03,
        max_leaf_nodes=31,
        min_samples_leaf=50,
        l2_regularization=5.0,
        max_features=0.3,
        early_stopping=False,
        random_state=seed,
    )


def rival_predictions(rows: Rows, labels: Labels, fit: Indices, at: Indices) -> Array:
    """The rival's probabilities at the rows `at`, fitted on `fit`; the mean of the seeds."""
    found = np.zeros(len(at))
    for seed in RIVAL_SEEDS:
        here, there = _with_rates(rows, (labels,), fit, at, seed)
        found += rival(seed).fit(here, labels[fit]).predict_proba(there)[:, 1] / len(RIVAL_SEEDS)
    return found


def teacher_predictions(
    rows: Rows, labels: Labels, any_later: Labels, fit: Indices, at: Sequence[Indices]
) -> list[Array]:
    """The teacher's probabilities at each set of rows of `at`, which may be those it was fitted on."""
    sought = np.concatenate(at)
    total = np.zeros(len(sought))
    for seed in TEACHER_SEEDS:
        here, there = _with_rates(rows, (labels, any_later), fit, sought, seed)
        total += logit(teacher(seed).fit(here, labels[fit]).predict_proba(there)[:, 1]) / len(TEACHER_SEEDS)
    return np.split(sigmoid(total), np.cumsum([len(part) for part in at])[:-1])


def _with_rates(rows: Rows, targets: Sequence[Labels], fit: Indices, at: Indices, seed: int) -> tuple[Array, Array]:
    """The numbers with each code's event rate beside them, at the fit rows by cross-fitting, at the others by all of those."""
    here, there = [rows.numbers[fit]], [rows.numbers[at]]
    for target in targets:
        folds = KFold(5, shuffle=True, random_state=seed)
        encoder = TargetEncoder(target_type="binary", smooth=SMOOTHING, cv=folds)
        here.append(encoder.fit_transform(rows.codes[fit], target[fit]))
        there.append(encoder.transform(rows.codes[at]))
    return np.concatenate(here, axis=1), np.concatenate(there, axis=1)
