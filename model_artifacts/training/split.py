"""Folds by patient: fit, calibrate and report on disjoint people, the same for every model compared.

Owns the assignment of rows to folds. One row of the challenge is one patient's first stay, so rows are patients
there; other sets pass `groups`. Numpy only, so the folds don't change with a library's version.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Fold:
    """Row numbers to develop on and, disjoint from them, to report on; both ascending."""

    develop: Indices
    report: Indices


def fold_numbers(labels: Labels, folds: int, seed: int, groups: npt.NDArray[np.generic] | None = None) -> Indices:
    """The fold, 0 to `folds - 1`, of every row; each fold holds its share of events, and no group is in two folds.

    A group is an event group if any of its rows is an event. O(n log n).
    """
    if folds < 2 or folds > len(labels):
        raise ValueError(f"folds must be between 2 and the number of rows, got {folds}")
    _, group = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    event = np.zeros(group.max() + 1, dtype=np.int64)
    np.maximum.at(event, group, labels.astype(np.int64))
    generator = np.random.default_rng(seed)
    number = np.empty(len(event), dtype=np.int64)
    start = 0
    for value in (1, 0):
        members = generator.permutation(np.flatnonzero(event == value))
        number[members] = (np.arange(len(members)) + start) % folds
        start += len(members)
    return number[group]


def make_folds(
    labels: Labels, folds: int, seed: int, groups: npt.NDArray[np.generic] | None = None
) -> tuple[Fold, ...]:
    """Cross-validation folds; every row is reported on exactly once."""
    number = fold_numbers(labels, folds, seed, groups)
    return tuple(Fold(np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(folds))
