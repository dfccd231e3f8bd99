"""A yes/no model on a table of inputs, from its rows to a released folder: what is the same in every such train.py.

    rows = read_csv(path, names, outcome)
    held_out = out_of_fold(make_classifier, rows)                        # what the figures are about
    write_graph(make_classifier().fit(rows.features, rows.labels), …)    # sklearn_graph.py
    write_reference(FOLDER, rows.names, rows.features, …)                # reference.py: what drift is told from
    release(package, rows, evaluate(rows, held_out, …))                  # manifest, metrics, examples, card, signature

Everything fitted is fitted inside of its fold, and no patient is in two. `release` writes the manifest from
`manifest.template.toml`: a mark `@file@` becomes that file's digest, `@baseline@` the lines of the occlusion's baseline.
To extend: another section of `metrics.json` is a member of what `evaluate` returns.
"""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from math import fsum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from model_artifacts.graph import run_graph
from model_artifacts.input_description import describe_inputs
from model_artifacts.manifest import BaselineValue
from model_artifacts.occlusion import most_rows
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import UNSIGNED
from model_artifacts.training.curves import curves
from model_artifacts.training.evaluate import METRICS, paired_difference, reliability, resamples, summarise
from model_artifacts.training.release import file_digest, fill_template, finish_release
from model_artifacts.training.split import make_folds

Array = npt.NDArray[np.float64]
Metrics = dict[str, Any]
MakeClassifier = Callable[[], Any]
"""A new, unfitted classifier with `fit` and `predict_proba`, as scikit-learn has them."""

FOLDS, SEED, DRAWS, GROUP_DRAWS = 5, 20261124, 1000, 300
COMPARED = ("auroc", "auprc", "brier")
IN_GROUPS = ("auroc", "calibration_slope", "calibration_intercept")
LEAST_EVENTS = 10  # of a group, below which its figures would say nothing
EXPLAINED_ROWS = 200
TIMED_CALLS = 1000


@dataclass(frozen=True, slots=True)
class Rows:
    """What is learned from, n rows.

    Attributes:
        names: the inputs, in the order of the columns.
        features: (n, inputs) float32, not-a-number where missing.
        labels: (n,) 0 or 1.
        patients: (n,) whose row it is; no patient is in two folds.
        groups: by what ("sex") to each row's group ("female"); "" belongs to none.
    """

    names: tuple[str, ...]
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    patients: npt.NDArray[Any]
    groups: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)


def read_csv(path: Path, names: tuple[str, ...], outcome: str, patient: str | None = None) -> Rows:
    """The rows of a file with a header; an empty field is a missing value. Without `patient` each row is one.

    Raises:
        ValueError: a column isn't there, or a field is no number; the outcome is neither 0 nor 1.
    """
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    wanted = {*names, outcome, *([] if patient is None else [patient])}
    lacking = wanted - set(table[0] if table else ())
    if lacking:
        raise ValueError(
            f"{path.name}: expected the columns {', '.join(sorted(wanted))}, got none for {', '.join(sorted(lacking))}"
        )
    features = np.array([[float(row[name] or "nan") for name in names] for row in table], np.float32)
    labels = np.array([float(row[outcome]) for row in table])
    if not set(labels.tolist()) <= {0.0, 1.0}:
        raise ValueError(f"{path.name}: expected 0 or 1 in the column {outcome}")
    people = np.arange(len(table)) if patient is None else np.array([row[patient] for row in table])
    return Rows(names, features, labels.astype(np.int64), people)


def out_of_fold(make: MakeClassifier, rows: Rows) -> Array:
    """Each row's probability by the classifier that was fitted without its patient's fold, (n,)."""
    held_out = np.empty(len(rows.labels))
    for fold in make_folds(rows.labels, FOLDS, SEED, rows.patients):
        fitted = make().fit(rows.features[fold.develop], rows.labels[fold.develop])
        held_out[fold.report] = fitted.predict_proba(rows.features[fold.report])[:, 1]
    return held_out


def evaluate(
    rows: Rows, held_out: Array, rivals: Mapping[str, Array], *, outcome: str, threshold: float, run: Metrics
) -> Metrics:
    """The sections of `metrics.json` that the held-out probabilities give; `threshold` is where an estimate counts as high."""
    draws = resamples(rows.labels, DRAWS, SEED)
    labels = rows.labels
    return {
        "outcome": outcome,
        "how": f"every row by a classifier fitted without its patient's fold, {FOLDS} folds",
        "interval": f"95 % percentile bootstrap over rows, {DRAWS} draws ({GROUP_DRAWS} in subgroups)",
        "cohort": {"rows": len(labels), "events": int(labels.sum()), "share": float(labels.mean())},
        "model": summarise(held_out, labels, draws),
        "rivals": {name: summarise(values, labels, draws) for name, values in rivals.items()},
        "difference": {
            name: {metric: paired_difference(METRICS[metric], held_out, values, labels, draws) for metric in COMPARED}
            for name, values in rivals.items()
        },
        "reliability": reliability(held_out, labels),
        "curves": curves(held_out, labels, rivals),
        "subgroups": _subgroups(rows, held_out, threshold),
        "run": {"seed": SEED, **run},
    }


def _subgroups(rows: Rows, held_out: Array, threshold: float) -> list[Metrics]:
    """A row for each group with enough of both outcomes: how many, the figures, and how many events lie below `threshold`."""
    table = []
    for by, groups in rows.groups.items():
        for group in sorted(set(groups.tolist()) - {""}):
            inside = groups == group
            probability, labels = held_out[inside], rows.labels[inside]
            events = int(labels.sum())
            if min(events, len(labels) - events) < LEAST_EVENTS:
                continue
            found = summarise(probability, labels, resamples(labels, GROUP_DRAWS, SEED))
            missed = float((probability[labels == 1] < threshold).mean())
            figures = {name: found[name] for name in IN_GROUPS} | {"false_negative_rate": missed}
            table.append({"by": by, "group": group, "n": len(labels), "events": events, **figures})
    return table


def middle_patient(rows: Rows, rarely: float = 0.5) -> dict[str, BaselineValue]:
    """An occlusion baseline: each input's median, or "missing" where more than the share `rarely` lacks it."""
    lacking = np.isnan(rows.features).mean(axis=0)
    return {
        name: "missing" if share > rarely else float(f"{np.nanmedian(column):.4g}")
        for name, column, share in zip(rows.names, rows.features.T, lacking, strict=True)
    }


def release(
    package: str,
    rows: Rows,
    metrics: Metrics,
    texts: Mapping[str, str],
    sign_key: Path | None = None,
    baseline: Mapping[str, BaselineValue] | None = None,
) -> None:
    """Writes manifest, metrics, the examples' answers, card and signature into the folder of `package`; its graph is there.

    `texts` are further marks of the template; without `baseline` it is `middle_patient`. Without a key the folder is left
    unsigned, and no service runs it.

    Raises:
        ValueError: `inputs.py` has other inputs than the rows.
        ArtifactError: as `finish_release`.
    """
    folder = Path(str(files(package)))
    fill_template(folder, {**_marks(folder, middle_patient(rows) if baseline is None else baseline), **texts})
    model = ReleasedModel.load(package, UNSIGNED)
    names = [item.name for item in describe_inputs(model.inputs)]
    if names != list(rows.names):
        raise ValueError(f"inputs: expected those of the rows, {', '.join(rows.names)}, got {', '.join(names)}")
    write_metrics(folder, metrics | explanation(model, rows))
    finish_release(package, sign_key)


def _marks(folder: Path, baseline: Mapping[str, BaselineValue]) -> dict[str, str]:
    template = (folder / "manifest.template.toml").read_text(encoding="utf-8")
    marks = {name: file_digest(folder / name) for name in re.findall(r"@([\w-]+\.\w+)@", template)}
    if "@baseline@" in template:
        marks["baseline"] = "\n".join(f"{name} = {json.dumps(value)}" for name, value in baseline.items())
    return marks


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Writes `metrics.json`, six significant digits."""
    text = json.dumps(_rounded(metrics), indent=1, ensure_ascii=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    match value:
        case dict():
            return {key: _rounded(member) for key, member in value.items()}
        case list() | tuple():
            return [_rounded(member) for member in value]
        case float():
            return float(f"{value:.6g}")
        case _:
            return value


def explanation(model: ReleasedModel, rows: Rows) -> Metrics:
    """The sections `explanation` (does it add up, how near to exact Shapley values), `attributions` and `latency`."""
    tensor = model.manifest.artifact.inputs[0].name
    chosen = np.random.default_rng(SEED).choice(len(rows.labels), min(EXPLAINED_ROWS, len(rows.labels)), replace=False)
    feeds = [{tensor: rows.features[row : row + 1]} for row in chosen]
    answers = [model.run(feed) for feed in feeds]
    place = model.manifest.explained_index
    gaps = [abs(fsum(a.attributions.tolist()) - float(a.probability[place] - a.baseline)) for a in answers]
    found: Metrics = {"rows": len(feeds), "completeness_gap": {"p50": float(np.median(gaps)), "max": max(gaps)}}
    occlusion = model.manifest.explanation.occlusion
    if occlusion is not None:
        reference = [_by_many_orders(model, feed) for feed in feeds[:REFERENCE_ROWS]]
        alike = [
            float(np.corrcoef(ours.attributions, exact)[0, 1]) for ours, exact in zip(answers, reference, strict=False)
        ]
        found |= {
            "correlation_with_shapley": {"mean": float(np.mean(alike)), "lowest": min(alike)},
            "rows_of_the_graph_at_most": most_rows(occlusion),
            "how": f"against {REFERENCE_ORDERS} orders, forwards and backwards, in {len(alike)} rows",
        }
    size = np.abs([answer.attributions for answer in answers]).mean(axis=0)
    labels = [(item.name, item.label) for item in describe_inputs(model.inputs)]
    table = [
        {"input": labels[place][0], "label": labels[place][1], "mean_absolute": float(size[place])}
        for place in np.argsort(-size)
    ]
    return {"explanation": found, "attributions": table, "latency": _latency(model, feeds)}


def _by_many_orders(model: ReleasedModel, feed: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """The attributions by so many orders that what is left of chance doesn't matter."""
    manifest, occlusion = model.manifest, model.manifest.explanation.occlusion
    assert occlusion is not None
    many = msgspec.structs.replace(occlusion, permutations=REFERENCE_ORDERS)
    how = msgspec.structs.replace(manifest.explanation, occlusion=many)
    return run_graph(model.session, feed, msgspec.structs.replace(manifest, explanation=how)).attributions


REFERENCE_ORDERS, REFERENCE_ROWS = 2000, 50


def _latency(model: ReleasedModel, feeds: list[dict[str, npt.NDArray[Any]]]) -> Metrics:
    """By the clock, which a busy machine stops at times, and in processor time, which is the model's own."""
    by_clock, processor = [], []
    for call in range(TIMED_CALLS):
        started, used = time.perf_counter(), time.thread_time()
        model.run(feeds[call % len(feeds)])
        by_clock.append(time.perf_counter() - started)
        processor.append(time.thread_time() - used)
    return {
        "how": f"{TIMED_CALLS} calls of one row each, one after the other, by the clock and in processor time",
        "threads": 1,
        "prediction_and_explanation": _percentiles(by_clock),
        "processor_time": _percentiles(processor),
    }


def _percentiles(seconds: list[float]) -> Metrics:
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50_ms": 1000 * float(p50), "p99_ms": 1000 * float(p99)}
