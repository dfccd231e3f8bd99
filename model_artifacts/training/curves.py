"""Curves of a yes/no outcome over every threshold: ROC, precision and recall, and net benefit against treating everybody.

Owns the section `curves` of `metrics.json`. Points are exact; what is drawn is thinned to `MOST_POINTS` along the curve, ends
kept, so that the file stays small. Areas are never taken from the thinned curve: `evaluate.py` computes them from all rows.
Net benefit is that of Vickers & Elkin (Med Decis Making 2006;26:565): true positives per person less false positives per
person weighed by the odds of the threshold. Numpy only.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.training.evaluate import precision_recall

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer]
Points = list[list[float]]

MOST_POINTS = 60
THRESHOLDS = np.arange(1, 61) / 100
"""Of the decision curve: 1 % to 60 %, where acting on a risk is a question."""
NOBODY: Mapping[str, Array] = MappingProxyType({})


def curves(
    probabilities: Array, labels: Labels, rivals: Mapping[str, Array] = NOBODY, thresholds: Array = THRESHOLDS
) -> dict[str, Any]:
    """The section `curves`: `roc`, `precision_recall`, `decision`, the share of events, and the rivals' curves."""
    return {
        **_both(probabilities, labels),
        "decision": decision(probabilities, labels, rivals, thresholds),
        "prevalence": float(labels.mean()),
        "rivals": {name: _both(values, labels) for name, values in rivals.items()},
    }


def _both(probabilities: Array, labels: Labels) -> dict[str, Points]:
    return {
        "roc": thinned(*roc(probabilities, labels)),
        "precision_recall": thinned(*precision_recall(probabilities, labels)[::-1]),
    }


def roc(probabilities: Array, labels: Labels) -> tuple[Array, Array]:
    """False and true positive rates at each distinct threshold from the highest down, (0, 0) first and (1, 1) last.

    Raises:
        ValueError: only one class is present.
    """
    events = int((labels == 1).sum())
    if events in (0, len(labels)):
        raise ValueError(f"a ROC curve needs events and non-events, got {events} events of {len(labels)}")
    order = np.argsort(-probabilities, kind="stable")
    last = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)
    true = np.cumsum(labels[order])[last].astype(np.float64)
    false = last + 1 - true
    return np.append(0.0, false / (len(labels) - events)), np.append(0.0, true / events)


def net_benefit(probabilities: Array, labels: Labels, threshold: float) -> float:
    """Net true positives per person of acting where the risk is at least `threshold` (above 0, below 1)."""
    acted = probabilities >= threshold
    true, false = float((acted & (labels == 1)).mean()), float((acted & (labels == 0)).mean())
    return true - false * threshold / (1 - threshold)


def decision(
    probabilities: Array, labels: Labels, rivals: Mapping[str, Array] = NOBODY, thresholds: Array = THRESHOLDS
) -> list[dict[str, float]]:
    """A row for each threshold: net benefit of the model, of treating all, and of rivals; of treating nobody it is 0."""
    everybody = np.ones(len(labels))
    rows = []
    for threshold in thresholds.tolist():
        compared = {"model": probabilities, "treat_all": everybody, **rivals}
        rows.append(
            {"threshold": threshold}
            | {name: net_benefit(values, labels, threshold) for name, values in compared.items()}
        )
    return rows


def thinned(across: Array, up: Array, at_most: int = MOST_POINTS) -> Points:
    """At most so many of the points `[across, up]`, spread evenly along the curve's length; the first and the last are kept."""
    points = np.stack([across, up], axis=1)
    if len(points) > at_most:
        length = np.append(0.0, np.cumsum(np.abs(np.diff(points, axis=0)).sum(axis=1)))
        wanted = np.linspace(0.0, length[-1], at_most)
        points = points[np.unique(np.searchsorted(length, wanted).clip(max=len(points) - 1))]
    return [[float(x), float(y)] for x, y in points]
