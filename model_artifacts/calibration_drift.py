"""Whether a model's probabilities still mean what they say: predicted against what happened, at one site.

Owns, with intervals that allow for several decisions about one patient (the sandwich estimator, clustered by patient):

    observed / expected     sum of outcomes over sum of probabilities; 1 is as predicted
    slope, intercept        logit P(outcome) = intercept + slope * logit(probability) (Cox 1958); 1 and 0 are as predicted
    by month                the share that had the event, with Wilson's interval, beside the mean probability

An alarm asks that the whole interval of 99.9 % lies outside the manifest's range, so few outcomes raise none.

Numpy only; knows nothing of where the numbers are from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_artifacts.manifest import Monitoring
from model_artifacts.sketch_judgement import Alarm

Array = npt.NDArray[np.float64]

Z_95 = 1.959963984540054
Z_ALARM = 3.290526731491926  # 99.9 %, as `sketch_judgement.FAMILY_ALPHA`
_LOWEST = 1e-6
"""Probabilities are taken as lying between it and 1 less it, so that a logit is finite."""
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate with its interval of 95 %, and its standard error."""

    estimate: float
    low: float
    high: float
    error: float


@dataclass(frozen=True, slots=True)
class Month:
    """One month's decisions: how many, events that came and that were expected, and Wilson's interval of the events' share."""

    month: str
    n: int
    observed: int
    expected: float
    low: float
    high: float

    @property
    def as_predicted(self) -> bool:
        """Whether the mean probability lies in the interval of what happened."""
        return self.low <= self.expected / self.n <= self.high


@dataclass(frozen=True, slots=True)
class Calibration:
    """The figures; slope and intercept are None where all outcomes are alike, or all probabilities."""

    n: int
    patients: int
    observed: int
    expected: float
    ratio: Figure
    slope: Figure | None
    intercept: Figure | None
    months: tuple[Month, ...]


def measure_calibration(
    probability: Sequence[float], outcome: Sequence[int], patient: Sequence[int], month: Sequence[str]
) -> Calibration:
    """The figures over decisions: the probability, whether the event came (0 or 1), a number for each patient, "2026-11".

    Raises:
        ValueError: no decisions, or lists of different length.
    """
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if not len(p) or not len(p) == len(y) == len(patient) == len(month):
        raise ValueError("calibration: expected lists of one length, and at least one decision")
    _, cluster = np.unique(np.asarray(patient), return_inverse=True)
    expected = float(p.sum())
    spread = math.sqrt(float((np.bincount(cluster, weights=y - p) ** 2).sum()))
    intercept, slope = _fit(p, y, cluster)
    return Calibration(
        n=len(p),
        patients=int(cluster.max()) + 1,
        observed=int(y.sum()),
        expected=expected,
        ratio=_figure(float(y.sum()) / expected, spread / expected),
        slope=slope,
        intercept=intercept,
        months=tuple(_months(p, y, np.asarray(month))),
    )


def calibration_alarms(found: Calibration, output: str, monitoring: Monitoring) -> tuple[Alarm, ...]:
    """The alarms; none while fewer than the manifest's `minimum_events` had the event, or had none."""
    if min(found.observed, found.n - found.observed) < monitoring.minimum_events:
        return ()
    measured = (
        ("observed-to-expected", "events observed to expected", found.ratio, monitoring.observed_to_expected),
        ("calibration-slope", "calibration slope", found.slope, monitoring.calibration_slope),
    )
    alarms = []
    for measure, words, figure, (low, high) in measured:
        if figure is None:
            continue
        bottom, top = figure.estimate - Z_ALARM * figure.error, figure.estimate + Z_ALARM * figure.error
        if bottom > high or top < low:
            text = (
                f"{words} of {output} is {figure.estimate:.2f} (95 % {figure.low:.2f} to {figure.high:.2f}) over "
                f"{found.n} decisions, outside {low:g} to {high:g}"
            )
            alarms.append(Alarm(measure, output, figure.estimate, high if bottom > high else low, text))
    return tuple(alarms)


def wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's interval of 95 % of a share (J Am Stat Assoc 1927;22:209)."""
    rate, square = count / of, Z_95**2 / of
    middle, spread = rate + square / 2, Z_95 * math.sqrt(rate * (1 - rate) / of + square / (4 * of))
    low, high = (middle - spread) / (1 + square), (middle + spread) / (1 + square)
    return 0.0 if count == 0 else low, 1.0 if count == of else high


def _months(p: Array, y: Array, month: npt.NDArray[np.str_]) -> Iterator[Month]:
    for name in np.unique(month):
        here = month == name
        observed, n = int(y[here].sum()), int(here.sum())
        yield Month(str(name), n, observed, float(p[here].sum()), *wilson(observed, n))


def _fit(p: Array, y: Array, cluster: npt.NDArray[np.intp]) -> tuple[Figure | None, Figure | None]:
    """Intercept and slope by Newton's method, with the clustered sandwich as variance."""
    clipped = np.clip(p, _LOWEST, 1 - _LOWEST)
    x = np.stack([np.ones_like(p), np.log(clipped / (1 - clipped))], axis=1)
    if not 0 < y.sum() < len(y) or np.ptp(x[:, 1]) == 0:
        return None, None
    beta = np.zeros(2)  # far from the answer, and never saturated: from there Newton's method finds it
    for _ in range(_STEPS):
        fitted = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        information = x.T @ (x * (fitted * (1 - fitted))[:, None])
        try:
            step = np.linalg.solve(information, x.T @ (y - fitted))
        except np.linalg.LinAlgError:  # outcomes that the probabilities part perfectly
            return None, None
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    else:
        return None, None
    scores = x * (y - fitted)[:, None]
    by_patient = np.stack([np.bincount(cluster, weights=scores[:, place]) for place in (0, 1)], axis=1)
    bread = np.linalg.inv(information)
    errors = np.sqrt(np.diag(bread @ (by_patient.T @ by_patient) @ bread))
    return _figure(float(beta[0]), float(errors[0])), _figure(float(beta[1]), float(errors[1]))


def _figure(estimate: float, error: float) -> Figure:
    return Figure(estimate, estimate - Z_95 * error, estimate + Z_95 * error, error)
