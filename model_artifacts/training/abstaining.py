"""What abstaining on the most uncertain buys: risk-coverage curves, by several ways to say how uncertain an answer is.

Owns the sections `risk_coverage` and `abstaining` of `metrics.json`. Rows are set aside from the most uncertain on; on those
kept, the mean loss is the risk (El-Yaniv & Wiener, JMLR 2010;11:1605), and AURC, the area under it over coverage (Geifman,
Uziel, El-Yaniv, ICLR 2019), says in one number how well an uncertainty tells bad answers from good ones: the lower the
better, and no better than the risk of everybody if it tells nothing. Which way is best is measured, never assumed; the
figures of all are kept. Loss of a probability is Brier's, of a quantity the absolute error. Numpy only.

To extend: another way to measure uncertainty is one more entry of the mapping that the caller gives.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.training.evaluate import auroc, brier

Array = npt.NDArray[np.float64]
Metric = Callable[[Array, npt.NDArray[Any]], float]
Loss = Callable[[Array, npt.NDArray[Any]], Array]

COVERAGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3)
OF_PROBABILITIES: Mapping[str, Metric] = {"auroc": auroc, "brier": brier}
OF_QUANTITIES: Mapping[str, Metric] = {
    "mean_absolute_error": lambda answers, truth: float(np.abs(answers - truth).mean()),
    "within_20_percent": lambda answers, truth: float((np.abs(answers - truth) <= 0.2 * truth).mean()),
}


def ensemble_spread(members: Array) -> Array:
    """Standard deviation over the members `(n, m)`."""
    return np.asarray(members.std(axis=1))


def nearness(probabilities: Array, threshold: float) -> Array:
    """How near the log odds lie to the threshold's, 0 at most: right at the decision an answer is most uncertain."""
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return -np.abs(np.log(clipped / (1 - clipped)) - np.log(threshold / (1 - threshold)))


def squared_error(answers: Array, truth: npt.NDArray[Any]) -> Array:
    """Brier's loss of each row."""
    return np.asarray((answers - truth) ** 2)


def absolute_error(answers: Array, truth: npt.NDArray[Any]) -> Array:
    """The loss of a quantity, in its own unit."""
    return np.abs(answers - truth)


def risk_coverage(
    answers: Array, truth: npt.NDArray[Any], uncertainty: Array, metrics: Mapping[str, Metric] = OF_PROBABILITIES
) -> list[dict[str, float]]:
    """Rows of `coverage` and the metrics on the rows kept, from everybody down; without a metric that is undefined there."""
    order = np.argsort(uncertainty, kind="stable")
    rows = []
    for coverage in COVERAGES:
        kept = order[: max(1, round(coverage * len(order)))]
        found = {name: _defined(metric, answers[kept], truth[kept]) for name, metric in metrics.items()}
        rows.append({"coverage": coverage, **{name: value for name, value in found.items() if value is not None}})
    return rows


def aurc(loss: Array, uncertainty: Array) -> float:
    """The mean, over every coverage from one row to all, of the mean loss on the rows kept. Ties are kept in file order."""
    ordered = loss[np.argsort(uncertainty, kind="stable")]
    return float((np.cumsum(ordered) / np.arange(1, len(ordered) + 1)).mean())


def abstaining(
    answers: Array,
    truth: npt.NDArray[Any],
    uncertainties: Mapping[str, Array],
    *,
    loss: Loss = squared_error,
    metrics: Mapping[str, Metric] = OF_PROBABILITIES,
) -> dict[str, Any]:
    """The sections `risk_coverage` (by the best way) and `abstaining` (AURC of each way, of chance and of hindsight).

    `uncertainties` gives, by a name in words ("spread of the ensemble"), a number for each row, larger where less certain.
    """
    losses = loss(answers, truth)
    areas = {name: aurc(losses, values) for name, values in uncertainties.items()}
    best = min(areas, key=lambda name: areas[name])
    return {
        "risk_coverage": risk_coverage(answers, truth, uncertainties[best], metrics),
        "abstaining": {
            "how": f"risk_coverage sets aside the most uncertain rows first, by the {best}: of {len(areas)} ways it has the "
            "smallest area under the curve of mean loss over coverage. at_random is the mean loss of all, with_hindsight the "
            "area when each row's loss is known",
            "area_under_risk_coverage": {
                **areas,
                "at_random": float(losses.mean()),
                "with_hindsight": aurc(losses, losses),
            },
        },
    }


def _defined(metric: Metric, answers: Array, truth: npt.NDArray[Any]) -> float | None:
    with np.errstate(divide="ignore", invalid="ignore"):
        try:
            value = metric(answers, truth)
        except (ZeroDivisionError, IndexError):  # no event, or nothing but events, among those kept
            return None
    return value if np.isfinite(value) else None
