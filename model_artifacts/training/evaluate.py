"""What `metrics.json` reports for a yes/no outcome: discrimination, calibration and their bootstrap intervals.

Owns the metrics and the bootstrap over patients. scikit-learn's ranking metrics are the reference in the tests; they
are written out here because the bootstrap calls them thousands of times. Numpy only.

To extend: add a function of (probabilities, labels) to `METRICS`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from model_artifacts.training.calibrate import fit_intercept, fit_platt, logit

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer]
Metric = Callable[[Array, Labels], float]
Estimate = dict[str, float]
"""`estimate`, `low`, `high`: the 95 % percentile bootstrap interval."""

INTERVAL = (2.5, 97.5)


def auroc(probabilities: Array, labels: Labels) -> float:
    """Area under the ROC curve, ties counted half."""
    values, place = np.unique(probabilities, return_inverse=True)
    events = np.bincount(place[labels == 1], minlength=len(values))
    others = np.bincount(place[labels == 0], minlength=len(values))
    below = np.concatenate([[0], np.cumsum(others)[:-1]])
    return float((events * (below + 0.5 * others)).sum() / (events.sum() * others.sum()))


def auprc(probabilities: Array, labels: Labels) -> float:
    """Average precision: precision summed over the steps of recall, tied rows taken together."""
    precision, recall = precision_recall(probabilities, labels)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def precision_recall(probabilities: Array, labels: Labels) -> tuple[Array, Array]:
    """Precision and recall at each distinct threshold, from the highest down."""
    order = np.argsort(-probabilities, kind="stable")
    last = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)
    true = np.cumsum(labels[order])[last].astype(np.float64)
    return true / (last + 1), true / true[-1]


def challenge_score(probabilities: Array, labels: Labels) -> float:
    """Score 1 of the PhysioNet Challenge 2012: the greatest min(sensitivity, positive predictivity) over the thresholds."""
    return float(np.minimum(*precision_recall(probabilities, labels)).max())


def brier(probabilities: Array, labels: Labels) -> float:
    """Mean squared difference between probability and outcome."""
    return float(np.mean((probabilities - labels) ** 2))


def calibration_slope(probabilities: Array, labels: Labels) -> float:
    """Slope of the outcome on the logit; 1 is right, below 1 overconfident."""
    return fit_platt(logit(probabilities), labels).slope


def calibration_intercept(probabilities: Array, labels: Labels) -> float:
    """Calibration in the large: 0 is right, above 0 means risks are too low."""
    return fit_intercept(logit(probabilities), labels)


METRICS: dict[str, Metric] = {
    "auroc": auroc,
    "auprc": auprc,
    "min_sensitivity_ppv": challenge_score,
    "brier": brier,
    "calibration_slope": calibration_slope,
    "calibration_intercept": calibration_intercept,
}


def resamples(labels: Labels, count: int, seed: int) -> npt.NDArray[np.int64]:
    """`(count, n)` row numbers drawn with replacement; each draw holds events and non-events."""
    generator = np.random.default_rng(seed)
    rows: list[npt.NDArray[np.int64]] = []
    while len(rows) < count:
        draw = generator.integers(0, len(labels), len(labels))
        if 0 < labels[draw].sum() < len(labels):
            rows.append(draw)
    return np.array(rows)


def estimate(metric: Metric, probabilities: Array, labels: Labels, draws: npt.NDArray[np.int64]) -> Estimate:
    """The metric with its bootstrap interval."""
    values = [metric(probabilities[draw], labels[draw]) for draw in draws]
    return _interval(metric(probabilities, labels), values)


def paired_difference(
    metric: Metric, ours: Array, rival: Array, labels: Labels, draws: npt.NDArray[np.int64]
) -> Estimate:
    """Our metric minus the rival's, both on the same resampled patients."""
    values = [metric(ours[draw], labels[draw]) - metric(rival[draw], labels[draw]) for draw in draws]
    return _interval(metric(ours, labels) - metric(rival, labels), values)


def summarise(probabilities: Array, labels: Labels, draws: npt.NDArray[np.int64]) -> dict[str, Estimate]:
    """Every metric pooled over the held-out rows, with its interval."""
    return {name: estimate(metric, probabilities, labels, draws) for name, metric in METRICS.items()}


def over_folds(
    probabilities: Array, labels: Labels, folds: Sequence[npt.NDArray[np.int64]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and standard deviation over the folds of every metric, each computed within its fold."""
    values = {name: [metric(probabilities[rows], labels[rows]) for rows in folds] for name, metric in METRICS.items()}
    mean = {name: float(np.mean(by_fold)) for name, by_fold in values.items()}
    return mean, {name: float(np.std(by_fold, ddof=1)) for name, by_fold in values.items()}


def at_threshold(
    probabilities: Array, labels: Labels, threshold: float, draws: npt.NDArray[np.int64]
) -> Mapping[str, Estimate]:
    """Sensitivity, specificity, predictive values and alert rate when a risk of `threshold` or more counts as positive."""
    metrics: dict[str, Metric] = {
        "sensitivity": lambda p, y: float((p[y == 1] >= threshold).mean()),
        "specificity": lambda p, y: float((p[y == 0] < threshold).mean()),
        "ppv": lambda p, y: _share(y[p >= threshold]),
        "npv": lambda p, y: 1.0 - _share(y[p < threshold]),
        "alert_rate": lambda p, y: float((p >= threshold).mean()),
    }
    return {name: estimate(metric, probabilities, labels, draws) for name, metric in metrics.items()}


def reliability(probabilities: Array, labels: Labels, bins: int = 10) -> list[dict[str, float]]:
    """Mean predicted and observed risk in bins of equal size, with Wilson's 95 % interval of the observed."""
    order = np.argsort(probabilities, kind="stable")
    return [_reliability_bin(probabilities[rows], labels[rows]) for rows in np.array_split(order, bins)]


def _reliability_bin(probabilities: Array, labels: Labels) -> dict[str, float]:
    n, observed, z = len(labels), float(labels.mean()), 1.959964
    centre = (observed + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(observed * (1 - observed) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {
        "n": n,
        "predicted": float(probabilities.mean()),
        "observed": observed,
        "low": float(max(0.0, centre - half)),
        "high": float(min(1.0, centre + half)),
    }


def _share(labels: Labels) -> float:
    return float(labels.mean()) if len(labels) else float("nan")


def _interval(value: float, draws: Sequence[float]) -> Estimate:
    low, high = np.nanpercentile(draws, INTERVAL)
    return {"estimate": value, "low": float(low), "high": float(high)}
