"""Platt scaling: two numbers that turn a network's logit into a calibrated probability, small enough to live in the graph.

Owns the fit of `sigmoid(slope * logit + intercept)` by Newton's method, which is also how calibration slope and intercept are
measured (Cox 1958; Van Calster et al., J Clin Epidemiol 2016;74:167). Numpy only.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_STEPS = 50
_TOLERANCE = 1e-10
_EDGE = 1e-7
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""


@dataclass(frozen=True, slots=True)
class Platt:
    """`sigmoid(slope * logit + intercept)`."""

    slope: float
    intercept: float

    def apply(self, logits: Array) -> Array:
        """Calibrated probabilities of `logits`."""
        return sigmoid(self.slope * logits + self.intercept)


def sigmoid(logits: Array) -> Array:
    """The logistic function, without overflow."""
    result: Array = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return result


def logit(probabilities: npt.NDArray[np.floating]) -> Array:
    """The log odds, finite also at 0 and 1."""
    clipped = np.clip(probabilities.astype(np.float64), _EDGE, 1 - _EDGE)
    result: Array = np.log(clipped) - np.log1p(-clipped)
    return result


def fit_platt(logits: Array, labels: npt.NDArray[np.integer]) -> Platt:
    """The maximum-likelihood slope and intercept.

    Raises:
        ValueError: only one class is present.
    """
    if labels.min() == labels.max():
        raise ValueError("calibration needs events and non-events")
    slope, intercept = fit_logistic(np.stack([logits, np.ones_like(logits)], axis=1), labels)
    return Platt(float(slope), float(intercept))


def fit_logistic(design: Array, labels: npt.NDArray[np.integer]) -> Array:
    """The maximum-likelihood weights `(k,)` of a logistic regression on `design` `(n, k)`, by Newton's method."""
    weights = np.zeros(design.shape[1])
    weights[0] = 1.0
    for _ in range(_STEPS):
        predicted = sigmoid(design @ weights)
        gradient = design.T @ (labels - predicted)
        hessian = design.T @ (design * (predicted * (1 - predicted))[:, None])
        step = np.linalg.solve(hessian + 1e-9 * np.eye(len(weights)), gradient)
        weights = weights + np.clip(step, -5, 5)
        if np.abs(step).max() < _TOLERANCE:
            break
    return weights


def fit_intercept(logits: Array, labels: npt.NDArray[np.integer]) -> float:
    """The intercept with slope 1: calibration in the large, 0 when the mean risk is right."""
    intercept = 0.0
    for _ in range(_STEPS):
        predicted = sigmoid(logits + intercept)
        step = float((labels - predicted).sum() / max((predicted * (1 - predicted)).sum(), 1e-9))
        intercept += float(np.clip(step, -5, 5))
        if abs(step) < _TOLERANCE:
            break
    return intercept
