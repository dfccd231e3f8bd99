"""What a site's answers and outcomes come to: how well the model tells people apart, and whether its figures hold here.

Every figure has a 95 % percentile bootstrap interval over patients (all of a patient's rows are drawn together). Nothing is
said of fewer than ten people, nor of a group with fewer than ten of either outcome; where that would withhold one group of
several, the smallest other one goes too, as the total would give the first away. The names are those of `metrics.json`, so that
the same plots draw both.

To extend: a measure of (values, outcomes) in `_RISK` or `_QUANTITY`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bedside.site_evaluation.cohort import Cohort
from model_artifacts.manifest import ModelManifest, Output
from model_artifacts.training import evaluate

SMALLEST_CELL = 10
"""People, and people of either outcome, below which nothing is said."""
DRAWS, DRAWS_OF_MANY, DRAWS_OF_GROUPS = 500, 200, 200
_MANY = 20_000  # rows; from there on fewer draws, whose intervals are narrow anyway
_SEED = 1
_GROUPS_OF_PREDICTIONS = 10
_INTERVAL = (2.5, 97.5)

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Measure = Callable[[Array, Array], float]
Figures = dict[str, Any]


def _observed_to_expected(value: Array, outcome: Array) -> float:
    return float(outcome.sum() / value.sum())


_RISK: Mapping[str, Measure] = {
    "auroc": lambda p, y: evaluate.auroc(p, y.astype(np.int64)),
    "auprc": lambda p, y: evaluate.auprc(p, y.astype(np.int64)),
    "brier": lambda p, y: evaluate.brier(p, y.astype(np.int64)),
    "calibration_slope": lambda p, y: evaluate.calibration_slope(p, y.astype(np.int64)),
    "calibration_intercept": lambda p, y: evaluate.calibration_intercept(p, y.astype(np.int64)),
    "observed_to_expected": _observed_to_expected,
}
_QUANTITY: Mapping[str, Measure] = {
    "mean_absolute_error": lambda v, y: float(np.abs(v - y).mean()),
    "within_20_percent": lambda v, y: float((np.abs(v - y) <= 0.2 * y).mean()),
    "bias": lambda v, y: float((v - y).mean()),
}


def site_figures(cohort: Cohort, manifest: ModelManifest, output: Output, by: Sequence[str]) -> Figures:
    """The sections that say how the model did here; empty where fewer than ten people were answered."""
    if len(np.unique(cohort.patient)) < SMALLEST_CELL:
        return {}
    everyone = np.arange(len(cohort.value))
    count = DRAWS if len(everyone) < _MANY else DRAWS_OF_MANY
    sections: Figures = {"measures": _measures(cohort, manifest, output, everyone, count)}
    sections["reliability"] = _quantity_reliability(cohort) if output.unit else _risk_reliability(cohort)
    if _is_banded(manifest, output):
        sections["bands"] = _bands(cohort, manifest)
        sections["alert_from"] = manifest.bands[1].at_least
    if any(cohort.outcome_sets) and manifest.uncertainty.conformal is not None:
        sections["conformal"] = _conformal(cohort, manifest.uncertainty.conformal.coverage)
    sections["subgroups"] = [row for name in by for row in _subgroups(cohort, manifest, output, name)]
    sections["missing_inputs"] = _missing(cohort)
    return sections


def withheld(count: int) -> int | None:
    """The count, or None where it is of so few that it isn't said."""
    return None if 0 < count < SMALLEST_CELL else count


def _is_banded(manifest: ModelManifest, output: Output) -> bool:
    return manifest.gives_probabilities and output.name == manifest.outputs[0].name and len(manifest.bands) > 1


def _measures(cohort: Cohort, manifest: ModelManifest, output: Output, rows: Rows, count: int) -> Figures:
    """Each measure of these rows with its interval; none where one of the outcomes has fewer than ten people."""
    measures = dict(_QUANTITY if output.unit else _RISK)
    if not output.unit and not _has_both(cohort.outcome[rows]):
        return {}
    if _is_banded(manifest, output):
        raised = manifest.bands[1].at_least
        measures["false_negative_rate"] = lambda p, y: float((np.round(p[y == 1], 3) < raised).mean())
    columns = [cohort.value[rows], cohort.outcome[rows]]
    drawn: dict[str, list[float]] = {name: [] for name in measures}
    coverage = not np.isnan(cohort.low[rows]).all()
    held = (cohort.low[rows] <= columns[1]) & (columns[1] <= cohort.high[rows])
    width = cohort.high[rows] - cohort.low[rows]
    if coverage:
        drawn |= {"interval_coverage": [], "interval_width": []}
    for draw in _draws(cohort.patient[rows], columns[1], count, both=not output.unit):
        value, outcome = (column[draw] for column in columns)
        for name, measure in measures.items():
            drawn[name].append(measure(value, outcome))
        if coverage:
            drawn["interval_coverage"].append(float(held[draw].mean()))
            drawn["interval_width"].append(float(np.median(width[draw])))
    whole = {name: measure(*columns) for name, measure in measures.items()}
    if coverage:
        whole |= {"interval_coverage": float(held.mean()), "interval_width": float(np.median(width))}
    return {name: _estimate(whole[name], values) for name, values in drawn.items()}


def _has_both(outcome: Array) -> bool:
    events = int(outcome.sum())
    return events >= SMALLEST_CELL and len(outcome) - events >= SMALLEST_CELL


def _draws(patient: Rows, outcome: Array, count: int, *, both: bool) -> Iterator[Rows]:
    """Row numbers of patients drawn with replacement, each with all of its rows; of risks each draw holds both outcomes."""
    generator = np.random.default_rng(_SEED)
    _, number = np.unique(patient, return_inverse=True)
    order = np.argsort(number, kind="stable")
    lengths = np.bincount(number)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    made = 0
    while made < count:
        drawn = generator.integers(0, len(lengths), len(lengths))
        many = lengths[drawn]
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        rows: Rows = order[np.repeat(starts[drawn], many) + within]
        if not both or 0 < outcome[rows].sum() < len(rows):
            made += 1
            yield rows


def _estimate(value: float, draws: Sequence[float]) -> dict[str, float]:
    low, high = np.nanpercentile(draws, _INTERVAL)
    return {"estimate": _short(value), "low": _short(low), "high": _short(high)}


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def wilson(events: int, n: int) -> dict[str, float]:
    """A share with Wilson's 95 % interval."""
    z, share = 1.959964, events / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"estimate": _short(share), "low": _short(low), "high": _short(high)}


def _risk_reliability(cohort: Cohort) -> list[Figures]:
    """By predicted risk, in groups of a tenth of the rows or more, until each holds ten of both outcomes."""
    order = np.argsort(cohort.value, kind="stable")
    size = max(SMALLEST_CELL, len(order) // _GROUPS_OF_PREDICTIONS)
    groups: list[Rows] = []
    start = 0
    for end in range(1, len(order) + 1):
        part = order[start:end]
        if end - start >= size and _has_both(cohort.outcome[part]):
            groups.append(part)
            start = end
    if start < len(order) and groups:
        groups[-1] = np.concatenate([groups[-1], order[start:]])
    return [_reliable(cohort.value[part], cohort.outcome[part]) for part in groups]


def _reliable(value: Array, outcome: Array) -> Figures:
    observed = wilson(int(outcome.sum()), len(outcome))
    return {
        "n": len(outcome),
        "predicted": _short(float(value.mean())),
        "observed": observed["estimate"],
        "low": observed["low"],
        "high": observed["high"],
    }


def _quantity_reliability(cohort: Cohort) -> list[Figures]:
    order = np.argsort(cohort.value, kind="stable")
    parts = np.array_split(order, max(1, min(_GROUPS_OF_PREDICTIONS, len(order) // (2 * SMALLEST_CELL))))
    return [
        {
            "n": len(part),
            "estimated": _short(float(cohort.value[part].mean())),
            "needed": _estimate(
                float(cohort.outcome[part].mean()),
                [
                    float(cohort.outcome[part][draw].mean())
                    for draw in _draws(cohort.patient[part], cohort.outcome[part], DRAWS_OF_GROUPS, both=False)
                ],
            ),
        }
        for part in parts
    ]


def _bands(cohort: Cohort, manifest: ModelManifest) -> list[Figures]:
    codes = [manifest.band(value).code for value in cohort.value.tolist()]
    n = Counter(codes)
    events = Counter(code for code, outcome in zip(codes, cohort.outcome, strict=True) if outcome)
    hidden = hidden_cells({band.code: (n[band.code], events[band.code]) for band in manifest.bands})
    untold = any(n[code] < SMALLEST_CELL for code in hidden)
    return [
        {"band": band.label}
        | _told(n[band.code], untold and band.code in hidden)
        | ({} if band.code in hidden or not n[band.code] else {"observed": wilson(events[band.code], n[band.code])})
        for band in manifest.bands
    ]


def _told(n: int, hidden: bool) -> dict[str, int | None]:
    return {"n": None if hidden else n}


def hidden_cells(cells: Mapping[str, tuple[int, int]]) -> frozenset[str]:
    """The cells of (people, events) too small to be told, and one more where only one is."""
    few = [name for name, (n, events) in cells.items() if n and not SMALLEST_CELL <= events <= n - SMALLEST_CELL]
    others = sorted((n, name) for name, (n, _) in cells.items() if n and name not in few)
    return frozenset([*few, others[0][1]] if len(few) == 1 and others else few)


def _conformal(cohort: Cohort, nominal: float) -> Figures:
    """How often the set held what came true, in all and by outcome."""
    holds = {"either": (True, True), "event": (True, False), "no event": (False, True)}
    held = np.array(
        [
            holds.get(name, (False, False))[0 if outcome else 1]
            for name, outcome in zip(cohort.outcome_sets, cohort.outcome, strict=True)
        ]
    )
    parts = {
        "coverage": np.ones(len(held), dtype=bool),
        "coverage_of_events": cohort.outcome == 1,
        "coverage_of_no_events": cohort.outcome == 0,
    }
    shares = {
        name: wilson(int(held[part].sum()), int(part.sum()))
        for name, part in parts.items()
        if part.sum() >= SMALLEST_CELL
    }
    both = float(np.mean([name == "either" for name in cohort.outcome_sets]))
    return {"nominal": nominal, **shares, "both_outcomes_in_the_set": _short(both)}


def _by_name(group: str) -> tuple[bool, bool, str]:
    """In their order: the youngest first, whom nothing is recorded of last."""
    return group.startswith("not "), not group.startswith("under "), group


def _subgroups(cohort: Cohort, manifest: ModelManifest, output: Output, name: str) -> Iterator[Figures]:
    column = np.array(cohort.groups[name])
    found = sorted(set(cohort.groups[name]), key=_by_name)
    rows = {group: np.flatnonzero(column == group) for group in found}
    events = {group: int(cohort.outcome[part].sum()) for group, part in rows.items()}
    people = {group: (len(part), len(part) // 2 if output.unit else events[group]) for group, part in rows.items()}
    hidden = hidden_cells(people)
    untold = any(len(rows[group]) < SMALLEST_CELL for group in hidden)
    for group, part in rows.items():
        row: Figures = {"by": name, "group": group, **_told(len(part), untold and group in hidden)}
        if group in hidden:
            yield row | {"withheld": "too few people, or too few with one of the outcomes"}
            continue
        counted = {} if output.unit else {"events": events[group]}
        yield row | counted | _measures(cohort, manifest, output, part, DRAWS_OF_GROUPS)


def _missing(cohort: Cohort) -> list[Figures]:
    """The share of answers made without each input, most often missing first."""
    n = len(cohort.missing)
    counts = cohort.missing.sum(axis=0).tolist()
    return [
        {"input": label, "share": None if withheld(int(count)) is None else _short(count / n)}
        for count, label in sorted(zip(counts, cohort.inputs, strict=True), key=lambda pair: -pair[0])
    ]
