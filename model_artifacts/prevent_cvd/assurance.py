"""What the equations are tested for, nothing being fitted: what slips they notice, and whether their reasons are their own.

Owns which of the columns a slip can reach. The people are drawn, not real: no cohort comes with the equations, so nothing here
says how well they predict. The tests themselves are `training/`'s. No torch: the equations come as a function.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.prevent_cvd.columns import COLUMNS, MEASURED, SLOTS, VALID
from model_artifacts.prevent_cvd.inputs import INPUTS
from model_artifacts.training.explanation_quality import Explained, explanation_quality, input_labels, mean_attributions
from model_artifacts.training.out_of_distribution import Subject, out_of_distribution

Float = npt.NDArray[np.float32]

PEOPLE = "people drawn evenly over the ranges that the equations hold for, a half without HbA1c and a half without UACR"
_CHILDREN = {"sbp": ("systolic", 1.0), "bmi": ("bmi", 1.0)}
_SLIPS = {
    "total_cholesterol": ("mmol/L for mg/dL", 0.02586),
    "hdl_cholesterol": ("mmol/L for mg/dL", 0.02586),
    "hba1c": ("a fraction for percent", 0.01),
    "uacr": ("mg/mmol for mg/g", 0.113),
}


def slips_noticed(people: Float) -> dict[str, Any]:
    """The section `out_of_distribution`: there is no novelty score, so it says what the equations' ranges keep out."""
    rows = {name: people[:, place].astype(np.float64) for place, name in enumerate(COLUMNS) if name in VALID}
    ranges = {name: (float(valid.low), float(valid.high)) for name, valid in VALID.items()}
    section = out_of_distribution(Subject(rows, ranges, None, 0.0), _CHILDREN, slips=_SLIPS)
    return {
        "people": PEOPLE,
        "score": "none: the equations hold for every combination of values in their ranges",
        **section,
    }


def explanations(
    points: Float,
    baseline: Float,
    attributions: Float,
    answer: Callable[[Float, npt.NDArray[np.int64]], npt.NDArray[np.floating[Any]]],
    gaps: npt.NDArray[np.floating[Any]],
) -> dict[str, Any]:
    """The sections `explanation`, `explanation_curves` and `attributions`; the first four as `Explained` has them."""
    explained = [name for name in COLUMNS if SLOTS[name]]
    groups = np.full(len(MEASURED), -1, dtype=np.int64)
    for number, name in enumerate(explained):
        groups[list(SLOTS[name])] = number
    judged = Explained(points, baseline, attributions, groups, answer)
    labels = input_labels(INPUTS)
    names = {number: (name, labels[name]) for number, name in enumerate(explained)}
    sections = explanation_quality(judged, gaps)
    sections["explanation"]["people"] = PEOPLE
    return {**sections, "attributions": mean_attributions(judged, names)}
