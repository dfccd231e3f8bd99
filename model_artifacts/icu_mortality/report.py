"""`metrics.json` of icu_mortality: every figure of the manifest and the model card, from held-out rows alone.

Owns the report's form. What is not said to be of another hour is of stays as they were at 48 hours. Nothing is written here
that the evaluation did not compute; no row is scored by a model fitted on it.
"""

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.training.abstaining import abstaining, ensemble_spread, nearness
from model_artifacts.training.conformal import BoundsByHour, set_rates
from model_artifacts.training.curves import curves
from model_artifacts.training.evaluate import (
    METRICS,
    at_threshold,
    auprc,
    auroc,
    calibration_intercept,
    calibration_slope,
    estimate,
    over_folds,
    paired_difference,
    reliability,
    resamples,
    summarise,
)
from model_artifacts.training.split import Fold

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Report = dict[str, Any]

THRESHOLDS = {"elevated": 0.15, "high": 0.40}
"""Lower bounds of the manifest's bands: about the average risk, and where more than half of those above it died."""

BOOTSTRAPS = 500
SUBGROUP_BOOTSTRAPS = 200
BOOTSTRAP_SEED = 7
NOVELTY_PERCENTILE = 99.0
_AGES = ((16, 45), (45, 65), (65, 80), (80, 121))
_KINDS = {1: "coronary care", 2: "cardiac surgery recovery", 3: "medical", 4: "surgical"}
_LIBRARIES = ("torch", "numpy", "scikit-learn", "onnx", "onnxscript", "onnxruntime")


EVALUATED_H = (6, 12, 24, 36, 48)
LEAST_INPUTS = 12
"""Of 41; the manifest's `minimum_present`."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out answers at each of `EVALUATED_H`: probability and novelty `(hours, n)`, members `(hours, n, m)`.

    `bounds` are those of each fold's model.
    """

    probability: Array
    members: Array
    novelty: Array
    bounds: tuple[BoundsByHour, ...]

    def usable(self, cohort: "Cohort", threshold: float) -> npt.NDArray[np.bool_]:
        """Where the model would answer `(hours, n)`: enough inputs, novelty not above the threshold."""
        enough = np.stack([cohort.inputs_there(hour) >= LEAST_INPUTS for hour in EVALUATED_H])
        result: npt.NDArray[np.bool_] = enough & (self.novelty <= threshold)
        return result


@dataclass(frozen=True, slots=True)
class Cohort:
    """Who was evaluated: outcome, statics `(n, 4)`, number of variables measured by each hour `(n,)`.

    `set_aside` counts implausible values by variable.
    """

    died: Labels
    statics: npt.NDArray[np.float32]
    measured: Mapping[int, npt.NDArray[np.int64]]
    set_aside: Mapping[str, int]

    def inputs_there(self, hour: int) -> npt.NDArray[np.int64]:
        """How many of the 41 inputs have a value by that hour `(n,)`."""
        result: npt.NDArray[np.int64] = self.measured[hour] + (~np.isnan(self.statics)).sum(axis=1)
        return result


def make_report(
    cohort: Cohort,
    evaluation: Evaluation,
    rivals: Mapping[str, Array],
    folds: Sequence[Fold],
    released: BoundsByHour,
) -> Report:
    """`metrics.json` but for what is measured on the graph; each rival has an answer `(n,)` at some hours, the last 48."""
    draws = resamples(cohort.died, BOOTSTRAPS, BOOTSTRAP_SEED)
    reported = [fold.report for fold in folds]
    probability, died, members = evaluation.probability[-1], cohort.died, evaluation.members[-1]
    last = {name: answers[-1] for name, answers in rivals.items()}
    over = {name: over_folds(p, died, reported) for name, p in (("this model", probability), *last.items())}
    threshold = novelty_threshold(evaluation.novelty)
    uncertainties = {
        "spread of the ensemble": ensemble_spread(members),
        "nearness to the threshold of 15 %": nearness(probability, THRESHOLDS["elevated"]),
        "novelty": evaluation.novelty[-1],
    }
    return {
        "what": "5-fold cross-fitting by patient: each figure is of models that never saw the rows it is computed on; the "
        "released ensemble repeats the recipe on all stays and is not scored on them. Where no hour is named, stays are "
        "looked at 48 hours after admission",
        "selection": "architecture and settings were chosen among more than a dozen by cross-validation on these stays, so the "
        "figures may be slightly optimistic",
        "interval": f"95 % percentile bootstrap over patients, {BOOTSTRAPS} draws ({SUBGROUP_BOOTSTRAPS} in subgroups)",
        "cohort": _describe(cohort),
        "model": summarise(probability, died, draws),
        "rivals": {name: summarise(values, died, draws) for name, values in last.items()},
        "difference": {
            name: {
                metric: paired_difference(METRICS[metric], probability, values, died, draws)
                for metric in ("auroc", "auprc", "min_sensitivity_ppv", "brier")
            }
            for name, values in last.items()
        },
        "horizons": {
            f"{hour}_h": _horizon(place, cohort, evaluation, rivals["gradient_boosting"][place], folds, draws)
            for place, hour in enumerate(EVALUATED_H)
        },
        "mean_over_folds": {name: mean for name, (mean, _) in over.items()},
        "sd_over_folds": {name: spread for name, (_, spread) in over.items()},
        "member_auroc": [auroc(members[:, member], died) for member in range(members.shape[1])],
        "thresholds": {
            name: {"at_least": bound, **at_threshold(probability, died, bound, draws)}
            for name, bound in THRESHOLDS.items()
        },
        "bands": bands(probability, died, draws),
        "bands_24_h": bands(evaluation.probability[EVALUATED_H.index(24)], died, draws),
        "curves": curves(probability, died, last),
        "reliability": reliability(probability, died),
        "reliability_24_h": reliability(evaluation.probability[EVALUATED_H.index(24)], died),
        "subgroups": subgroups(cohort, probability),
        "conformal": _conformal(evaluation, cohort.died, folds, released),
        **abstaining(probability, died, uncertainties),
        "novelty": {
            "threshold": threshold,
            "percentile": NOVELTY_PERCENTILE,
            "how": "distance from the stays fitted on, over its 99th percentile among stays looked at as early; of held-out "
            "stays at all hours evaluated",
            **_quantiles(evaluation.novelty),
        },
    }


def software() -> Report:
    """What the figures were computed with."""
    return {"python": platform.python_version(), "libraries": {name: version(name) for name in _LIBRARIES}}


def novelty_threshold(novelty: Array) -> float:
    """Above it the model abstains: 1 in 100 of the held-out stays."""
    return float(np.percentile(novelty, NOVELTY_PERCENTILE))


def _horizon(
    place: int,
    cohort: Cohort,
    evaluation: Evaluation,
    rival: Array,
    folds: Sequence[Fold],
    draws: npt.NDArray[np.int64],
) -> Report:
    """The figures of one hour: the model, gradient boosting trained for that hour alone, sets, and who gets no answer."""
    probability, died, hour = evaluation.probability[place], cohort.died, EVALUATED_H[place]
    ranking = ("auroc", "auprc", "min_sensitivity_ppv")
    return {
        "hours_since_admission": hour,
        **{name: estimate(metric, probability, died, draws) for name, metric in METRICS.items()},
        **{f"gradient_boosting_{name}": estimate(METRICS[name], rival, died, draws) for name in ranking},
        **{f"difference_{name}": paired_difference(METRICS[name], probability, rival, died, draws) for name in ranking},
        **_set_rates(probability, died, folds, evaluation.bounds, hour),
        "too_few_inputs": float((cohort.inputs_there(hour) < LEAST_INPUTS).mean()),
        "unlike_training_data": float((evaluation.novelty[place] > novelty_threshold(evaluation.novelty)).mean()),
    }


def _set_rates(
    probability: Array, died: Labels, folds: Sequence[Fold], bounds: Sequence[BoundsByHour], hour: int
) -> dict[str, float]:
    """Coverage and kinds of conformal sets on the report folds, each with its own bounds; the mean over folds."""
    by_fold = [
        asdict(set_rates(mine.at(hour), probability[fold.report], died[fold.report]))
        for mine, fold in zip(bounds, folds, strict=True)
    ]
    return {name: float(np.mean([rates[name] for rates in by_fold])) for name in by_fold[0]}


def subgroups(cohort: Cohort, probability: Array) -> list[Report]:
    """AUROC, calibration and false-negative rate at the `elevated` threshold by sex, age band and kind of unit."""
    age, sex, kind = cohort.statics[:, 0], cohort.statics[:, 1], cohort.statics[:, 3]
    groups: list[tuple[str, str, npt.NDArray[np.bool_]]] = [
        ("sex", name, sex == value) for value, name in ((0, "female"), (1, "male"))
    ]
    groups += [("age", f"{low}–{high - 1}", (age >= low) & (age < high)) for low, high in _AGES]
    groups += [("unit", name, kind == value) for value, name in _KINDS.items()]
    return [_subgroup(by, name, probability[rows], cohort.died[rows]) for by, name, rows in groups]


def bands(probability: Array, died: Labels, draws: npt.NDArray[np.int64]) -> list[Report]:
    """How many died of those whose estimate lies in each of the manifest's bands, bounds included below, excluded above."""
    edges = (0.0, *THRESHOLDS.values(), math.inf)
    return [_band(low, high, probability, died, draws) for low, high in pairwise(edges)]


def _band(low: float, high: float, probability: Array, died: Labels, draws: npt.NDArray[np.int64]) -> Report:
    def share_died(p: Array, y: npt.NDArray[np.integer[Any]]) -> float:
        return float(y[(p >= low) & (p < high)].mean())

    inside = (probability >= low) & (probability < high)
    return {
        "from": low,
        "to": min(high, 1.0),
        "n": int(inside.sum()),
        "died": estimate(share_died, probability, died, draws),
    }


def _subgroup(by: str, name: str, probability: Array, died: Labels) -> Report:
    draws = resamples(died, SUBGROUP_BOOTSTRAPS, BOOTSTRAP_SEED)
    threshold = THRESHOLDS["elevated"]
    metrics = {
        "auroc": auroc,
        "auprc": auprc,
        "calibration_slope": calibration_slope,
        "calibration_intercept": calibration_intercept,
        "false_negative_rate": lambda p, y: float((p[y == 1] < threshold).mean()),
    }
    return {
        "by": by,
        "group": name,
        "n": len(died),
        "deaths": int(died.sum()),
        **{key: estimate(metric, probability, died, draws) for key, metric in metrics.items()},
    }


def _describe(cohort: Cohort) -> Report:
    unknown = np.isnan(cohort.statics).sum(axis=0).tolist()
    return {
        "stays": len(cohort.died),
        "deaths": int(cohort.died.sum()),
        "statics_unknown": dict(zip(("Age", "Gender", "Height", "ICUType"), unknown, strict=True)),
        "values_set_aside": dict(cohort.set_aside),
        "variables_measured": {
            f"{hour}_h": _quantiles(cohort.measured[hour].astype(np.float64)) for hour in EVALUATED_H
        },
    }


def _conformal(evaluation: Evaluation, died: Labels, folds: Sequence[Fold], released: BoundsByHour) -> Report:
    return {
        "how": "class-conditional split conformal on the parts that members left out, for each span of hours; coverage checked "
        "on the report folds, at 48 hours here and at each hour under horizons",
        "released": {
            f"from_{start:g}_h": {"event": item.event, "no_event": item.no_event}
            for start, item in zip(released.from_h, released.bounds, strict=True)
        },
        "coverage": released.bounds[-1].coverage,
        "held_out": _set_rates(evaluation.probability[-1], died, folds, evaluation.bounds, EVALUATED_H[-1]),
    }


def _quantiles(values: Array) -> Report:
    return {f"p{q:g}": float(np.percentile(values, q)) for q in (0, 1, 5, 50, 95, 99, 100)}
