"""`metrics.json` of warfarin_dose: every figure of the manifest and the model card, from held-out people alone.

Owns the report's form. Errors are in mg/week; "within 20" is the share of people whose estimate lies within 20 % of their
dose. Intervals are 95 % percentile bootstrap over people; differences are paired, on the same people.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.training.out_of_distribution import wilson
from model_artifacts.warfarin_dose.cohort import Cohort
from model_artifacts.warfarin_dose.columns import INDEX
from model_artifacts.warfarin_dose.held_out import HeldOut

Array = npt.NDArray[np.float64]
Metric = Callable[[Array, Array], float]

DRAWS = 1000
NOVELTY_PERCENTILE = 99.5
RIVALS = ("iwpc_equation", "clinical_equation", "support_vector", "gradient_boosting")
_SMALLEST_GROUP = 20


def mean_absolute_error(doses: Array, truth: Array) -> float:
    """In mg/week."""
    return float(np.abs(doses - truth).mean())


def within_20_percent(doses: Array, truth: Array) -> float:
    """Share of people."""
    return float((np.abs(doses - truth) <= 0.2 * truth).mean())


def bias(doses: Array, truth: Array) -> float:
    """Mean estimate minus mean dose, mg/week."""
    return float((doses - truth).mean())


METRICS: Mapping[str, Metric] = {
    "mean_absolute_error": mean_absolute_error,
    "within_20_percent": within_20_percent,
    "bias": bias,
}


def make_report(held: HeldOut, run: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `metrics.json`."""
    truth = held.cohort.dose
    draws = np.random.default_rng(0).integers(0, len(truth), (DRAWS, len(truth)))
    return {
        "what": "5-fold cross-fitting by person: each figure is of models that never saw the people it is computed on; the "
        "released model repeats the recipe on everybody and is scored on nobody",
        "selection": "features were chosen by cross-validation on these people, so the figures may be slightly optimistic",
        "interval": f"95 % percentile bootstrap over people, {DRAWS} draws; differences are paired",
        "units": "errors, bias and widths in mg/week; within 20 percent is a share of people",
        "cohort": {"people": len(truth), "left_out": dict(sorted(held.cohort.left_out.items()))},
        "model": _summary(held.doses["model"], truth, draws),
        "rivals": {name: _summary(held.doses[name], truth, draws) for name in RIVALS},
        "difference": {name: _difference(held.doses["model"], held.doses[name], truth, draws) for name in RIVALS},
        "without_genotypes": _without(held, draws),
        "reliability": _reliability(held.doses["model"], truth),
        "subgroups": _subgroups(held),
        "conformal": {
            "how": "quantiles of inner held-out residuals, linear in race as recorded, genotypes and the estimate; "
            "checked on the report folds",
            "nominal": 0.9,
            "with_genotypes_as_recorded": _coverage(held, "model", np.ones(len(truth), dtype=bool)),
            "with_both_genotypes": _coverage(held, "model", known_both(held.cohort)),
            "without_genotypes": _coverage(held, "without_genotypes", np.ones(len(truth), dtype=bool)),
        },
        "novelty": {"threshold": novelty_threshold(held.novelty), "percentile": NOVELTY_PERCENTILE},
        "run": {**run, "settings_by_fold": list(held.settings)},
    }


def novelty_threshold(novelty: Array) -> float:
    """Above it a person counts as unlike the training data; rounded as the manifest has it."""
    return _rounded(float(np.percentile(novelty, NOVELTY_PERCENTILE)))


def known_both(cohort: Cohort) -> npt.NDArray[np.bool_]:
    """Who has both genotypes."""
    both = cohort.features[:, INDEX["cyp2c9_known"]] * cohort.features[:, INDEX["vkorc1_known"]]
    return np.asarray(both > 0)


def _summary(doses: Array, truth: Array, draws: npt.NDArray[np.int64]) -> dict[str, Any]:
    return {
        name: _estimate(metric(doses, truth), [metric(doses[draw], truth[draw]) for draw in draws])
        for name, metric in METRICS.items()
    }


def _difference(ours: Array, theirs: Array, truth: Array, draws: npt.NDArray[np.int64]) -> dict[str, Any]:
    return {
        name: _estimate(
            metric(ours, truth) - metric(theirs, truth),
            [metric(ours[draw], truth[draw]) - metric(theirs[draw], truth[draw]) for draw in draws],
        )
        for name, metric in METRICS.items()
        if name != "bias"
    }


def _without(held: HeldOut, draws: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The model with every genotype masked, beside the clinical equation, which reads none."""
    ours, theirs, truth = held.doses["without_genotypes"], held.doses["clinical_equation"], held.cohort.dose
    return {
        "this_model": _summary(ours, truth, draws),
        "clinical_equation": _summary(theirs, truth, draws),
        "this_model_minus_clinical_equation": _difference(ours, theirs, truth, draws),
    }


def _reliability(doses: Array, truth: Array) -> list[dict[str, Any]]:
    """Mean estimate and mean dose in tenths of the estimate."""
    order = np.argsort(doses, kind="stable")
    rows = []
    for part in np.array_split(order, 10):
        half = 1.96 * truth[part].std(ddof=1) / len(part) ** 0.5
        mean = float(truth[part].mean())
        rows.append(
            {
                "n": len(part),
                "estimated": _rounded(float(doses[part].mean())),
                "needed": {"estimate": _rounded(mean), "low": _rounded(mean - half), "high": _rounded(mean + half)},
            }
        )
    return rows


def _subgroups(held: HeldOut) -> list[dict[str, Any]]:
    cohort = held.cohort
    age = cohort.features[:, INDEX["age_decades"]]
    male = cohort.features[:, INDEX["male"]]
    height = np.where(np.isnan(cohort.features[:, INDEX["height"]]), "not recorded", "recorded")
    by = {
        "race as recorded": cohort.race,
        "VKORC1": cohort.vkorc1,
        "CYP2C9": cohort.cyp2c9,
        "sex": np.where(male == 1, "male", np.where(male == 0, "female", "not recorded")),
        "age": np.where(age < 5, "below 50", np.where(age < 7, "50 to 69", "70 and over")),
        "height": height,
        "dose": np.where(
            cohort.dose <= 21, "21 or less", np.where(cohort.dose < 49, "above 21 to below 49", "49 or more")
        ),
    }
    return [
        _subgroup(held, name, str(value), values == value)
        for name, values in by.items()
        for value in np.unique(values)
        if (values == value).sum() >= _SMALLEST_GROUP
    ]


def _subgroup(held: HeldOut, by: str, group: str, inside: npt.NDArray[np.bool_]) -> dict[str, Any]:
    truth = held.cohort.dose[inside]
    draws = np.random.default_rng(1).integers(0, len(truth), (DRAWS, len(truth)))
    ours = held.doses["model"][inside]
    return {
        "by": by,
        "group": group,
        "n": len(truth),
        **_summary(ours, truth, draws),
        "iwpc_equation_mean_absolute_error": _rounded(mean_absolute_error(held.doses["iwpc_equation"][inside], truth)),
        "interval_coverage": _covered(held, "model", inside),
        "mean_width": _coverage(held, "model", inside)["mean_width"],
        "interval_coverage_without_genotypes": _covered(held, "without_genotypes", inside),
    }


def _covered(held: HeldOut, name: str, inside: npt.NDArray[np.bool_]) -> dict[str, float]:
    """With Wilson's interval: a group of 80 can't tell 90 % from 83 %."""
    truth, (low, high) = held.cohort.dose[inside], held.intervals[name][inside].T
    return wilson(int(((low <= truth) & (truth <= high)).sum()), len(truth))


def _coverage(held: HeldOut, name: str, inside: npt.NDArray[np.bool_]) -> dict[str, Any]:
    low, high = held.intervals[name][inside].T
    return {
        "coverage": _rounded(_covered(held, name, inside)["estimate"]),
        "mean_width": _rounded(float((high - low).mean())),
    }


def _estimate(value: float, draws: list[float]) -> dict[str, float]:
    low, high = np.percentile(draws, (2.5, 97.5))
    return {"estimate": _rounded(value), "low": _rounded(float(low)), "high": _rounded(float(high))}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
