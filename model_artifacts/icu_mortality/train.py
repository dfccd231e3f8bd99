"""Trains icu_mortality from the raw challenge data: cross-validation beside the rivals, the released ensemble, its
graph and metrics.

Run by `make train MODEL=icu_mortality`. Writes `model.onnx`, `metrics.json` and, from both, `manifest.toml`
(`release.py`). One recipe, used six times: on each of the five development parts (metrics), and on all stays (the
release).

1. develop on four fifths, report on the fifth; folds by patient, seed fixed;
2. five inner parts: each of five members is fitted without one of them, for a fixed number of epochs;
3. each member's logits on the part it left out calibrate the ensemble (Platt) and set the conformal bounds;
4. scales, pooling and novelty are fitted on the development part only;
5. the release repeats 2–4 on all stays; it is never scored on rows it was fitted on.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from model_artifacts.icu_mortality.challenge import Challenge, read_challenge
from model_artifacts.icu_mortality.events import HOURS, VARIABLES, hourly, plausible
from model_artifacts.icu_mortality.release import fill_manifest
from model_artifacts.icu_mortality.report import Cohort, Evaluation, make_report, write_metrics
from model_artifacts.icu_mortality.summary import summary_features
from model_artifacts.training.calibrate import fit_platt
from model_artifacts.training.conformal import Bounds, fit_bounds
from model_artifacts.training.ensemble import Rows, Targets, fit_ensemble, member_logits
from model_artifacts.training.event_network import EventNetwork, ExactPooling, Shape
from model_artifacts.training.export import Explanation, check_parity, export_explained
from model_artifacts.training.release import add_sign_key, finish_release
from model_artifacts.training.rivals import boosted_predictions, regression_predictions
from model_artifacts.training.split import Fold, Indices, fold_numbers, make_folds
from model_artifacts.training.stay_model import (
    KNOWN,
    PERSON,
    Novelty,
    Prepare,
    StayModel,
    baseline,
    fit_scales,
)

FOLDER = Path(__file__).parent
DATA = FOLDER.parents[2] / "shared" / "data"  # ../shared/data, seen from the repository's root
SEED = 2012
FOLDS = 5
MEMBERS = 5
EPOCHS = 8
STEPS = 8
COVERAGE = 0.9
PARITY_ROWS = 1000
EARLY_HOUR = 24
THREADS = 2

# Variables whose logarithm is closer to normal; urine has zeros, so 10 mL are added first.
LOGARITHMIC = frozenset(
    {"ALP", "ALT", "AST", "BUN", "Bilirubin", "Cholesterol", "Creatinine", "Glucose", "K", "Lactate", "PaCO2", "PaO2"}
    | {"Platelets", "TroponinI", "TroponinT", "Urine", "WBC", "Weight"}
)
OFFSETS_ML = {"Urine": 10.0}
LATER_DEATH_DAYS = (30, 90, 365)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stays:
    """The challenge as the graph's raw tensors, with outcome and auxiliary targets; `summary` is what the rivals see."""

    values: Tensor
    counts: Tensor
    statics: Tensor
    died: npt.NDArray[np.int64]
    targets: Targets
    summary: npt.NDArray[np.float32]
    set_aside: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted ensemble with its preparation, and what its left-out parts said: `left_out` are calibrated probabilities."""

    prepare: Prepare
    model: StayModel
    left_out: Array
    bounds: Bounds


def load_stays(challenge: Challenge) -> Stays:
    """Tensors, targets and summaries of all stays."""
    stays, times_h = len(challenge.record_ids), challenge.minutes / 60.0
    kept = plausible(challenge.variable, challenge.values)
    mean, count = hourly(times_h, challenge.variable, challenge.values, challenge.stay, stays)
    summary = summary_features(
        times_h[kept], challenge.variable[kept], challenge.values[kept], challenge.stay[kept], stays
    )
    dropped = np.bincount(challenge.variable[~kept], minlength=len(VARIABLES))
    return Stays(
        values=torch.tensor(mean),
        counts=torch.tensor(count),
        statics=torch.tensor(challenge.statics),
        died=challenge.outcomes["In-hospital_death"].astype(np.int64),
        targets=read_targets(challenge.outcomes),
        summary=np.concatenate([summary, challenge.statics], axis=1),
        set_aside={v.name: int(n) for v, n in zip(VARIABLES, dropped, strict=True) if n},
    )


def read_targets(outcomes: Mapping[str, Array]) -> Targets:
    """In-hospital death, then what members learn besides: death within 30, 90, 365 days; SAPS-I, SOFA, log length of stay."""
    died, survival = outcomes["In-hospital_death"], outcomes["Survival"]
    later = [np.maximum(died, (survival >= 0) & (survival <= days)) for days in LATER_DEATH_DAYS]
    stay_days = outcomes["Length_of_stay"]
    numeric = (
        (outcomes["SAPS-I"], outcomes["SAPS-I"] > 0),
        (outcomes["SOFA"], outcomes["SOFA"] >= 0),
        (np.log(np.maximum(stay_days, 2)), (stay_days >= 2) & (died == 0)),
    )
    columns = [np.where(known, (x - x[known].mean()) / x[known].std(), 0.0) for x, known in numeric]
    return Targets(
        torch.tensor(np.stack([died, *later], axis=1), dtype=torch.float32),
        torch.tensor(np.stack(columns, axis=1), dtype=torch.float32),
        torch.tensor(np.stack([known for _, known in numeric], axis=1), dtype=torch.float32),
    )


def fit(stays: Stays, develop: Indices, seed: int) -> Fitted:
    """Steps 2 to 4 on the rows `develop`."""
    torch.manual_seed(seed)
    prepare = fit_prepare(stays, develop)
    with torch.no_grad():
        inputs = prepare(stays.values, stays.counts, stays.statics)
        pooling = ExactPooling(len(VARIABLES))
        pooling.fit(inputs["z"][develop], inputs["counts"][develop])
        pooled = pooling(inputs["z"], inputs["counts"])
        novelty = Novelty(len(VARIABLES))
        novelty.fit(pooled[develop])
    rows = Rows(pooled, inputs["z"], inputs["counts"], torch.cat([inputs["person"], inputs["known"]], dim=1))
    targets = stays.targets.binary.shape[1] + stays.targets.numeric.shape[1]
    network = EventNetwork(Shape(MEMBERS, len(VARIABLES), PERSON + KNOWN, targets))
    part = fold_numbers(stays.died[develop], MEMBERS, seed)
    fit_ensemble(
        network,
        rows,
        stays.targets,
        [develop[part != member] for member in range(MEMBERS)],
        epochs=EPOCHS,
        seed=seed,
        report=lambda epoch, loss: say(f"  epoch {epoch + 1}/{EPOCHS}, loss {loss:.4f}"),
    )
    logits = member_logits(network, rows, develop)[part, np.arange(len(develop))]
    platt = fit_platt(logits, stays.died[develop])
    left_out = platt.apply(logits)
    return Fitted(
        prepare,
        StayModel(pooling, network, novelty, platt).eval(),
        left_out,
        fit_bounds(left_out, stays.died[develop], COVERAGE),
    )


def fit_prepare(stays: Stays, rows: Indices) -> Prepare:
    """Scales from these rows alone."""
    logarithmic = torch.tensor([variable.name in LOGARITHMIC for variable in VARIABLES])
    offset = torch.tensor([OFFSETS_ML.get(variable.name, 0.0) for variable in VARIABLES])
    return Prepare(fit_scales(stays.values[rows], stays.counts[rows], stays.statics[rows], logarithmic, offset))


@torch.no_grad()
def answers(fitted: Fitted, stays: Stays, rows: Indices, hours: int = HOURS) -> tuple[Array, Array, Array]:
    """Probabilities `(n,)`, members `(n, m)` and novelty `(n,)` of these rows, from the first `hours` only."""
    parts = []
    for chunk in np.array_split(rows, max(1, len(rows) // 200)):
        counts = stays.counts[chunk].clone()
        counts[:, hours:] = 0
        inputs = fitted.prepare(stays.values[chunk] * (counts > 0), counts, stays.statics[chunk])
        parts.append([answer.numpy().astype(np.float64) for answer in fitted.model(**inputs)])
    probability, members, novelty = (np.concatenate(part) for part in zip(*parts, strict=True))
    return probability[:, 0], members[:, :, 0], novelty


def cross_validate(stays: Stays, folds: tuple[Fold, ...], seed: int) -> Evaluation:
    """Step 1: everything that is reported, from rows each model never saw."""
    n = len(stays.died)
    probability, early, novelty, members = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((n, MEMBERS))
    bounds = []
    for number, fold in enumerate(folds):
        say(f"fold {number + 1}/{len(folds)}")
        fitted = fit(stays, fold.develop, seed + number)
        probability[fold.report], members[fold.report], novelty[fold.report] = answers(fitted, stays, fold.report)
        early[fold.report] = answers(fitted, stays, fold.report, EARLY_HOUR)[0]
        bounds.append(fitted.bounds)
    return Evaluation(probability, members, novelty, early, tuple(bounds))


def release(stays: Stays, seed: int, path: Path) -> tuple[Fitted, dict[str, object]]:
    """Step 5: the released graph, and what was checked on it over real rows."""
    everyone = np.arange(len(stays.died))
    fitted = fit(stays, everyone, seed + FOLDS)
    rows = np.random.default_rng(seed).choice(everyone, PARITY_ROWS, replace=False)
    raw = {"values": stays.values[rows], "counts": stays.counts[rows], "statics": stays.statics[rows]}
    explanation = Explanation(
        explained=0, inputs=("z", "person"), baseline=baseline, steps=STEPS, prepare=fitted.prepare.graph_inputs
    )
    export_explained(fitted.model, {name: rows[:1] for name, rows in raw.items()}, path, explanation)
    checks: dict[str, object] = {
        "parity": {"rows": PARITY_ROWS, "largest_difference": check_parity(path, fitted.model, raw, explanation)},
        "graph": measure_graph(path, {name: values.numpy() for name, values in raw.items()}),
    }
    return fitted, checks


def measure_graph(path: Path, rows: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, object]:
    """Completeness gaps and latency of the released graph, one row at a time on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    gaps, milliseconds = [], []
    for row in range(len(rows["values"])):
        feed = {name: values[row : row + 1] for name, values in rows.items()}
        started = time.perf_counter()
        gap = session.run(["completeness_gap"], feed)[0]
        milliseconds.append(1000 * (time.perf_counter() - started))
        gaps.append(abs(float(gap[0])))
    return {
        "bytes": path.stat().st_size,
        "integration_steps": STEPS,
        "completeness_gap": {"p99": float(np.percentile(gaps, 99)), "max": max(gaps)},
        "milliseconds": {"p50": float(np.median(milliseconds)), "p99": float(np.percentile(milliseconds, 99))},
    }


def cohort(stays: Stays) -> Cohort:
    """What the report says about who was evaluated."""
    measured = (stays.counts.sum(dim=1) > 0).sum(dim=1).numpy().astype(np.int64)
    return Cohort(stays.died, stays.statics.numpy(), measured, stays.set_aside)


def say(text: str) -> None:
    """Progress, to standard error."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def main() -> None:
    """The whole training."""
    parser = argparse.ArgumentParser(description="train icu_mortality")
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds physionet2012/")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=FOLDER, help="where model.onnx and metrics.json go")
    add_sign_key(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    started = time.monotonic()
    try:
        stays = load_stays(read_challenge(arguments.data))
    except FileNotFoundError as exc:
        sys.exit(str(exc))
    folds = make_folds(stays.died, FOLDS, SEED)
    evaluation = cross_validate(stays, folds, arguments.seed)
    say("released model")
    fitted, checks = release(stays, arguments.seed, arguments.out / "model.onnx")
    say("rivals on the same folds")
    rivals = {
        "gradient_boosting": boosted_predictions(stays.summary, stays.died, folds),
        "logistic_regression": regression_predictions(stays.summary, stays.died, folds),
    }
    say("metrics")
    run = {**checks, "seed": arguments.seed, "seconds": round(time.monotonic() - started)}
    write_metrics(arguments.out, make_report(cohort(stays), evaluation, rivals, folds, fitted.bounds, run))
    if arguments.out == FOLDER:
        fill_manifest(FOLDER)
        finish_release("model_artifacts.icu_mortality", arguments.sign_key)
    say(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
