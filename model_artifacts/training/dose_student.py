"""A small kernel machine that answers as a large one does: the support vector regression distilled to some hundred kernels.

Owns the distillation (Hinton, Vinyals, Dean, arXiv:1503.02531: a student learns the teacher's answers, on as many rows as one
likes). A support vector regression keeps nearly every row it was fitted on, so each answer costs thousands of kernels, and with
the explanation several times that; the student keeps `CENTRES`, and none of them is one person: each is put together
from two. What it loses of the teacher is measured by the evaluation, which knows the student alone.

Rows are asked in the columns that the teacher sees. Numpy and scikit-learn's fitted machine only.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_artifacts.training.dose_model import Kernel

Array = npt.NDArray[np.float64]
Teacher = Callable[[Array], Array]

CENTRES = 400
INVENTED = 10_000
"""Rows asked about besides the real ones; fewer left the student further from the teacher on people it hadn't seen."""
TRADED = 0.3  # chance that a group of columns comes from somebody else, besides the one group that always does
NARROWER = 10.0  # than the teacher's kernels: wide ones of so few centres are hard to tell apart
RIDGE = 1e-7  # of the mean square of the answers


def distil(
    teacher: Teacher, scaled: Sequence[Tensor], trades: Sequence[tuple[int, ...]], gamma: float, seed: int
) -> Kernel:
    """The student of `teacher`, whose kernels are exp(-gamma d²), from rows `scaled` (a tensor for each masking, `(n, d)`).

    `trades` are the groups of columns in which an invented person may be like somebody else.
    """
    random = np.random.default_rng(seed)
    people = np.stack([rows.numpy().astype(np.float64) for rows in scaled])
    asked = np.concatenate([*people, invent(people, trades, INVENTED, random)])
    centres = invent(people, trades, CENTRES, random)
    design = _design(asked, centres, NARROWER * gamma)
    normal = design.T @ design + RIDGE * len(asked) * np.eye(design.shape[1])
    weights = np.linalg.solve(normal, design.T @ teacher(asked))
    kernels, linear = weights[:CENTRES], weights[CENTRES:-1]
    tensors = (torch.from_numpy(centres), torch.from_numpy(kernels), torch.from_numpy(linear))
    return Kernel(*tensors, float(weights[-1]), NARROWER * gamma)


def invent(people: Array, trades: Sequence[tuple[int, ...]], count: int, random: np.random.Generator) -> Array:
    """So many people like one of `people` `(maskings, n, d)` each, and in a group of columns or more like another."""
    one, other = random.integers(0, people.shape[1], (2, count))
    masking = random.integers(0, len(people), count)
    made, lent = people[masking, one].copy(), people[masking, other]
    always = random.integers(0, len(trades), count)
    for place, columns in enumerate(map(list, trades)):
        traded = (random.random(count) < TRADED) | (always == place)
        made[np.ix_(traded, columns)] = lent[np.ix_(traded, columns)]
    return made


def _design(rows: Array, centres: Array, gamma: float) -> Array:
    distance = (rows**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * rows @ centres.T
    return np.column_stack([np.exp(-gamma * np.maximum(distance, 0.0)), rows, np.ones(len(rows))])
