"""What warfarin_dose is tested for beside its accuracy: when it is unsure, what it notices, whether its reasons are its own.

Owns which of the cohort's columns a unit slip can reach, what counts as uncertain, and how the graph's slots are inputs. The
tests themselves are `training/`'s. No torch: the model comes as functions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.training.abstaining import OF_QUANTITIES, absolute_error, abstaining, ensemble_spread
from model_artifacts.training.explanation_quality import Explained, explanation_quality, input_labels, mean_attributions
from model_artifacts.training.out_of_distribution import Rows, Subject, out_of_distribution
from model_artifacts.warfarin_dose.columns import COLUMNS, CYP2C9, INDEX, RACES, SLOTS, VKORC1
from model_artifacts.warfarin_dose.inputs import INPUTS, SPECS

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
Novelty = Callable[[Features], npt.NDArray[np.floating[Any]]]

KG_PER_LB, CM_PER_INCH = 0.45359237, 2.54
_CHILDREN = {"height": ("height", 1.0), "weight": ("weight", 1.0)}
_SLIPS = {
    "weight": ("pounds for kilograms", 1 / KG_PER_LB),
    "height": ("inches for centimetres", 1 / CM_PER_INCH),
}
_DECADE = 10.0


def uncertainty(doses: Array, truth: Array, members: Array, interval: Array, novelty: Array) -> dict[str, Any]:
    """The sections `risk_coverage` and `abstaining`; members `(n, m)`, interval `(n, 2)`, all in mg/week but the novelty."""
    width = interval[:, 1] - interval[:, 0]
    ways = {
        "spread of the ensemble": ensemble_spread(members),
        "width of the interval": width,
        "width of the interval in proportion to the dose": width / doses,
        "novelty": novelty,
    }
    return abstaining(doses, truth, ways, loss=absolute_error, metrics=OF_QUANTITIES)


def unlike_training(features: Features, novelty: Novelty, threshold: float) -> dict[str, Any]:
    """The section `out_of_distribution`; `novelty` answers rows in the order of `features`, by models that never saw them."""

    def of_rows(rows: Rows) -> Array:
        changed = features.copy()
        changed[:, INDEX["height"]], changed[:, INDEX["weight"]] = rows["height"], rows["weight"]
        changed[:, INDEX["age_decades"]] = rows["age"] / _DECADE
        return np.asarray(novelty(changed), dtype=np.float64)

    rows = {name: features[:, INDEX[name]].astype(np.float64) for name in ("height", "weight")}
    rows["age"] = _DECADE * features[:, INDEX["age_decades"]].astype(np.float64)
    ranges = {spec.name: (spec.low, spec.high) for spec in SPECS if spec.low is not None and spec.high is not None}
    subject = Subject(rows, ranges, of_rows, threshold)
    return out_of_distribution(subject, _CHILDREN, shuffled=("age", "height", "weight"), slips=_SLIPS)


def explanations(
    points: Features,
    baseline: Features,
    attributions: Features,
    answer: Callable[[Features, npt.NDArray[np.int64]], npt.NDArray[np.floating[Any]]],
    gaps: npt.NDArray[np.floating[Any]],
) -> dict[str, Any]:
    """The sections `explanation`, `explanation_curves` and `attributions`; the first four as `Explained` has them."""
    groups = np.full(len(COLUMNS), -1, dtype=np.int64)
    for number, slots in enumerate(SLOTS.values()):
        groups[list(slots)] = number
    judged = Explained(points, baseline, attributions, groups, answer)
    labels = input_labels(INPUTS)
    names = {number: (name, labels[name]) for number, name in enumerate(SLOTS)}
    return {**explanation_quality(judged, gaps), "attributions": mean_attributions(judged, names)}


def evidence_values(features: Features) -> dict[str, Array]:
    """What the card would show of each input, by the name of its evidence, a value for each row; not-a-number where missing."""
    columns = {name: features[:, INDEX[name]].astype(np.float64) for name in COLUMNS}
    shown = {name: columns[name] for name in SLOTS if name in columns}
    shown["age_decades"] = _DECADE * columns["age_decades"]
    race = np.stack([columns[name] for name in RACES], axis=1)
    shown["race"] = np.where(race.any(axis=1), race.argmax(axis=1) + 1.0, np.nan)
    shown["cyp2c9"] = _genotype(columns, CYP2C9, "cyp2c9_known")
    shown["vkorc1"] = _genotype(columns, VKORC1, "vkorc1_known")
    return {name: shown[name] for name in SLOTS}


def _genotype(columns: dict[str, Array], genotypes: tuple[str, ...], known: str) -> Array:
    """The position among `genotypes`, the first of which has no column of its own."""
    variants = np.stack([columns[name] for name in genotypes[1:]], axis=1)
    return np.where(columns[known] > 0, np.where(variants.any(axis=1), variants.argmax(axis=1) + 1.0, 0.0), np.nan)
