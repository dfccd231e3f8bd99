"""`metrics.json` of readmission_30d: every figure of the manifest and the model card, from held-out stays alone.

Owns the report's form. Stays of one person depend on each other, so the bootstrap draws people, not rows; differences are
paired, on the same people. The false-negative rate is the share of readmissions whose estimate lay below `raised`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from model_artifacts.readmission_30d.cohort import Cohort
from model_artifacts.readmission_30d.columns import CHOICES, HISTORY_DAYS, INDEX
from model_artifacts.training.abstaining import abstaining, ensemble_spread, nearness
from model_artifacts.training.conformal import Bounds, fit_bounds, set_rates
from model_artifacts.training.curves import curves
from model_artifacts.training.evaluate import METRICS, reliability
from model_artifacts.training.split import Fold

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]
Report = dict[str, Any]
Metric = Callable[[Array, npt.NDArray[np.integer[Any]]], float]

COVERAGE = 0.9
THRESHOLDS = {"average": 0.08, "raised": 0.15, "high": 0.25}
"""Lower bounds of the manifest's bands: around the average (11.5 %), above it, and more than twice as high."""
BOOTSTRAPS, SUBGROUP_BOOTSTRAPS = 200, 100
BOOTSTRAP_SEED = 7
NOVELTY_PERCENTILE = 99.5
_SMALLEST_GROUP = 500
_AGES = ((0, 40), (40, 60), (60, 70), (70, 80), (80, 100))
SHOWN = ("auroc", "auprc", "brier", "calibration_slope", "calibration_intercept")
COMPARED = ("auroc", "auprc", "brier")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Everybody's estimates by models that never saw the person: calibrated, by variant, `(n,)`; members `(n, m)`.

    `variants` are the network's estimates with less known; `rivals` others' estimates; `bounds` the conformal bounds by fold.
    """

    probability: Array
    members: Array
    novelty: Array
    variants: Mapping[str, Array]
    rivals: Mapping[str, Array]
    bounds: tuple[Bounds, ...]


def make_report(cohort: Cohort, held: HeldOut, folds: Sequence[Fold], parts: Mapping[str, Any]) -> Report:
    """The whole of `metrics.json`; `parts` are the sections that the released graph and the run give."""
    labels, probability = cohort.labels, held.probability
    draws = people(cohort.patients, BOOTSTRAPS)
    ours = measure(probability, labels, draws, SHOWN)
    rivals = {name: measure(values, labels, draws) for name, values in held.rivals.items()}
    return {
        "what": "5-fold cross-fitting by person: each figure is of models that never saw the person it is computed on; the "
        "released model repeats the recipe on everybody and is scored on nobody",
        "selection": "features, teacher and network were chosen on these people, mostly on a fifth of them; the network's "
        "width and epochs were raised once after a look at all five folds, so the figures may be slightly optimistic",
        "interval": f"95 % percentile bootstrap over people, {BOOTSTRAPS} draws ({SUBGROUP_BOOTSTRAPS} in subgroups); "
        "differences are paired",
        "cohort": describe(cohort),
        "model": summary(ours),
        "rivals": {name: summary(theirs) for name, theirs in rivals.items()},
        "difference": {name: differences(ours, theirs) for name, theirs in rivals.items()},
        **{name: summary(measure(values, labels, draws)) for name, values in held.variants.items()},
        "bands": bands(probability, labels, draws),
        "reliability": reliability(probability, labels),
        "curves": curves(probability, labels, held.rivals),
        "subgroups": subgroups(cohort, held),
        **abstaining(
            probability,
            labels,
            {
                "spread of the ensemble": ensemble_spread(held.members),
                "novelty": held.novelty,
                "nearness to the threshold of 15 %": nearness(probability, THRESHOLDS["raised"]),
                "height of the estimate": probability,
            },
        ),
        "conformal": _conformal(held, labels, folds),
        "novelty": {
            "threshold": float(np.percentile(held.novelty, NOVELTY_PERCENTILE)),
            "percentile": NOVELTY_PERCENTILE,
        },
        **parts,
    }


def people(patients: npt.NDArray[np.str_], count: int) -> list[Indices]:
    """Row numbers of as many people as there are, drawn with replacement, `count` times; somebody drawn twice counts twice."""
    _, person = np.unique(patients, return_inverse=True)
    order = np.argsort(person, kind="stable")
    starts = np.searchsorted(person[order], np.arange(person.max() + 2))
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    draws = []
    for _ in range(count):
        drawn = generator.integers(0, person.max() + 1, person.max() + 1)
        sizes = starts[drawn + 1] - starts[drawn]
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        draws.append(order[np.repeat(starts[drawn], sizes) + offsets])
    return draws


@dataclass(frozen=True, slots=True)
class Drawn:
    """A metric of one model: of everybody, and of each draw of people."""

    value: float
    draws: Array

    def estimate(self) -> dict[str, float]:
        """With its 95 % interval."""
        return _estimate(self.value, self.draws)


def measure(
    probability: Array, labels: Labels, draws: Sequence[Indices], metrics: Sequence[str] = COMPARED
) -> dict[str, Drawn]:
    """Every metric of one model on the same draws, so that two models can be compared on them.

    The ranking metrics of a draw come from counts at ranks that are found once: thousands of sortings less, the same figures.
    """
    _, place = np.unique(probability, return_inverse=True)
    ranks: Array = place.astype(np.float64)
    found = {}
    for name in metrics:
        metric, given = (_RANKED[name], ranks) if name in _RANKED else (METRICS[name], probability)
        found[name] = Drawn(metric(given, labels), np.array([metric(given[draw], labels[draw]) for draw in draws]))
    return found


def ranked_auroc(place: Array, labels: npt.NDArray[np.integer[Any]]) -> float:
    """As `evaluate.auroc`, of ranks."""
    events, others = _counts(place, labels)
    below = np.cumsum(others) - others
    return float((events * (below + 0.5 * others)).sum() / (events.sum() * others.sum()))


def ranked_auprc(place: Array, labels: npt.NDArray[np.integer[Any]]) -> float:
    """As `evaluate.auprc`, of ranks."""
    events, others = (counts[::-1] for counts in _counts(place, labels))
    true, flagged = np.cumsum(events), np.cumsum(events + others)
    return float((events * true / np.maximum(flagged, 1)).sum() / true[-1])


def _counts(place: Array, labels: npt.NDArray[np.integer[Any]]) -> tuple[Array, Array]:
    """How many events and others have each rank."""
    size = int(place.max()) + 1
    events = np.bincount(place[labels == 1].astype(np.int64), minlength=size)
    return events.astype(np.float64), (np.bincount(place.astype(np.int64), minlength=size) - events).astype(np.float64)


_RANKED: Mapping[str, Metric] = {"auroc": ranked_auroc, "auprc": ranked_auprc}


def summary(measured: Mapping[str, Drawn]) -> Report:
    """Every metric with its interval."""
    return {name: item.estimate() for name, item in measured.items()}


def differences(ours: Mapping[str, Drawn], theirs: Mapping[str, Drawn]) -> Report:
    """Our metrics minus the rival's, both on the same people drawn."""
    return {
        name: _estimate(ours[name].value - item.value, ours[name].draws - item.draws) for name, item in theirs.items()
    }


def bands(probability: Array, labels: Labels, draws: Sequence[Indices]) -> list[Report]:
    """How many came back of those whose estimate lies in each band, bounds included below, excluded above."""
    rows = []
    for low, high in pairwise((0.0, *THRESHOLDS.values(), math.inf)):

        def share(p: Array, y: npt.NDArray[np.integer[Any]], low: float = low, high: float = high) -> float:
            return float(y[(p >= low) & (p < high)].mean())

        inside = int(((probability >= low) & (probability < high)).sum())
        came_back = _interval(share, probability, labels, draws)
        rows.append({"from": low, "to": min(high, 1.0), "n": inside, "came_back": came_back})
    return rows


def subgroups(cohort: Cohort, held: HeldOut) -> list[Report]:
    """Discrimination, calibration and missed readmissions by sex, age, race, specialty and what is known of before."""
    age = cohort.features[:, INDEX["age_decade"]] * 10
    specialty = cohort.features[:, INDEX["specialty"]].astype(int)
    known = cohort.features[:, INDEX["days_since_stay"]] < HISTORY_DAYS
    sex = cohort.features[:, INDEX["female"]]
    race = np.where(cohort.column("race") == "?", "not recorded", cohort.column("race"))
    groups = [
        *(("sex", name, sex == value) for name, value in (("female", 1), ("male", 0))),
        *(
            ("age", f"{low}–{high - 1}" if high < 100 else f"{low} and over", (age >= low) & (age < high))
            for low, high in _AGES
        ),
        *(("race as recorded", str(name), race == name) for name in np.unique(race)),
        *(("specialty", name, specialty == place) for place, name in enumerate(CHOICES["specialty"])),
        *(("stays in the two years before", name, known == value) for name, value in (("none known", 0), ("some", 1))),
    ]
    return [_subgroup(by, name, cohort, held, inside) for by, name, inside in groups if inside.sum() >= _SMALLEST_GROUP]


def describe(cohort: Cohort) -> Report:
    """Who was evaluated."""
    return {
        "stays": len(cohort.labels),
        "people": len(np.unique(cohort.patients)),
        "events": int(cohort.labels.sum()),
        "with_an_earlier_stay_known": int((cohort.features[:, INDEX["days_since_stay"]] < HISTORY_DAYS).sum()),
        "earlier_rows_not_used": dict(cohort.contradictions),
    }


def _subgroup(by: str, name: str, cohort: Cohort, held: HeldOut, inside: npt.NDArray[np.bool_]) -> Report:
    probability, labels = held.probability[inside], cohort.labels[inside]
    draws = people(cohort.patients[inside], SUBGROUP_BOOTSTRAPS)
    shown = summary(
        measure(probability, labels, draws, ("auroc", "auprc", "calibration_slope", "calibration_intercept"))
    )
    return {
        "by": by,
        "group": name,
        "n": len(labels),
        "events": int(labels.sum()),
        **shown,
        "false_negative_rate": _interval(_missed, probability, labels, draws),
    }


def _missed(probability: Array, labels: npt.NDArray[np.integer[Any]]) -> float:
    return float((probability[labels == 1] < THRESHOLDS["raised"]).mean())


def _conformal(held: HeldOut, labels: Labels, folds: Sequence[Fold]) -> Report:
    by_fold = [
        asdict(set_rates(bounds, held.probability[fold.report], labels[fold.report]))
        for bounds, fold in zip(held.bounds, folds, strict=True)
    ]
    return {
        "released": asdict(fit_bounds(held.probability, labels, COVERAGE)),
        "held_out": {name: float(np.mean([rates[name] for rates in by_fold])) for name in by_fold[0]},
        "how": "class-conditional conformal on held-out estimates; each fold's coverage is that of bounds from the other folds",
    }


def _interval(metric: Metric, probability: Array, labels: Labels, draws: Sequence[Indices]) -> dict[str, float]:
    return _estimate(metric(probability, labels), [metric(probability[draw], labels[draw]) for draw in draws])


def _estimate(value: float, draws: Sequence[float] | Array) -> dict[str, float]:
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return {"estimate": value, "low": float(low), "high": float(high)}
