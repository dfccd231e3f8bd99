"""`metrics.json` of icu_mortality: every figure of the manifest and the model card, from held-out rows alone.

Owns the report's form. Nothing is written here that the evaluation did not compute; no row is scored by a model
fitted on it.
"""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.training.conformal import Bounds, set_rates
from model_artifacts.training.evaluate import (
    METRICS,
    at_threshold,
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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out answers: probability, novelty and the probability at 24 h `(n,)`, members `(n, m)`, and each fold's bounds."""

    probability: Array
    members: Array
    novelty: Array
    early: Array
    bounds: tuple[Bounds, ...]


@dataclass(frozen=True, slots=True)
class Cohort:
    """Who was evaluated: outcome, statics `(n, 4)` and number of variables measured `(n,)`; values set aside by variable."""

    died: Labels
    statics: npt.NDArray[np.float32]
    measured: npt.NDArray[np.int64]
    set_aside: Mapping[str, int]


def make_report(
    cohort: Cohort,
    evaluation: Evaluation,
    rivals: Mapping[str, Array],
    folds: Sequence[Fold],
    released: Bounds,
    run: Mapping[str, Any],
) -> Report:
    """The whole of `metrics.json`."""
    draws = resamples(cohort.died, BOOTSTRAPS, BOOTSTRAP_SEED)
    reported = [fold.report for fold in folds]
    probability, died = evaluation.probability, cohort.died
    over = {name: over_folds(p, died, reported) for name, p in (("this model", probability), *rivals.items())}
    return {
        "what": "5-fold cross-fitting by patient: each figure is of models that never saw the rows it is computed on; the "
        "released ensemble repeats the recipe on all stays and is not scored on them",
        "selection": "architecture and settings were chosen among more than a dozen by cross-validation on these stays, so the "
        "figures may be slightly optimistic",
        "interval": f"95 % percentile bootstrap over patients, {BOOTSTRAPS} draws ({SUBGROUP_BOOTSTRAPS} in subgroups)",
        "cohort": _describe(cohort),
        "model": summarise(probability, died, draws),
        "rivals": {name: summarise(values, died, draws) for name, values in rivals.items()},
        "difference": {
            name: {
                metric: paired_difference(METRICS[metric], probability, values, died, draws)
                for metric in ("auroc", "auprc", "min_sensitivity_ppv", "brier")
            }
            for name, values in rivals.items()
        },
        "mean_over_folds": {name: mean for name, (mean, _) in over.items()},
        "sd_over_folds": {name: spread for name, (_, spread) in over.items()},
        "member_auroc": [auroc(evaluation.members[:, member], died) for member in range(evaluation.members.shape[1])],
        "first_24_hours": summarise(evaluation.early, died, draws),
        "thresholds": {
            name: {"at_least": bound, **at_threshold(probability, died, bound, draws)}
            for name, bound in THRESHOLDS.items()
        },
        "bands": bands(probability, died, draws),
        "reliability": reliability(probability, died),
        "subgroups": subgroups(cohort, probability),
        "conformal": _conformal(evaluation, cohort.died, folds, released),
        "novelty": _novelty(evaluation.novelty),
        "run": {**run, "python": platform.python_version(), "libraries": {name: version(name) for name in _LIBRARIES}},
    }


def write_metrics(folder: Path, report: Report) -> None:
    """Writes `metrics.json`, six significant digits."""
    text = json.dumps(_rounded(report), indent=1, ensure_ascii=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")


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
        "variables_measured": _quantiles(cohort.measured.astype(np.float64)),
    }


def _conformal(evaluation: Evaluation, died: Labels, folds: Sequence[Fold], released: Bounds) -> Report:
    by_fold = [
        asdict(set_rates(bounds, evaluation.probability[fold.report], died[fold.report]))
        for bounds, fold in zip(evaluation.bounds, folds, strict=True)
    ]
    return {
        "released": asdict(released),
        "held_out": {name: float(np.mean([rates[name] for rates in by_fold])) for name in by_fold[0]},
        "how": "class-conditional split conformal on the parts that members left out; coverage checked on the report folds",
    }


def _novelty(novelty: Array) -> Report:
    threshold = float(np.percentile(novelty, NOVELTY_PERCENTILE))
    return {"threshold": threshold, "percentile": NOVELTY_PERCENTILE, **_quantiles(novelty)}


def _quantiles(values: Array) -> Report:
    return {f"p{q:g}": float(np.percentile(values, q)) for q in (0, 1, 5, 50, 95, 99, 100)}


def _rounded(value: Any) -> Any:
    match value:
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
        case bool() | int() | str() | None:
            return value
        case _:
            return float(f"{float(value):.6g}")
