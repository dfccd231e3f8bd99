"""Trains icu_mortality from the raw challenge data: cross-validation beside the rivals, the released ensemble, its
graph and metrics.

Run by `make train MODEL=icu_mortality`. Writes `model.onnx`, `metrics.json`, `reference.json` and, from these,
`manifest.toml` (`release.py`). One recipe (`training.stay_fit`), used six times: on each of the five development parts
(metrics), and on all stays (the release). Folds are by patient, the seed is fixed; the released ensemble is never scored on
rows it was fitted on. The rivals are fitted anew for each hour, on what was measured up to it.

An interrupted training goes on with the next fold (`training.checkpoints`).
"""

import argparse
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId
from model_artifacts.icu_mortality.challenge import Challenge, read_challenge
from model_artifacts.icu_mortality.events import HOURS, STATICS, VARIABLES, hourly, plausible
from model_artifacts.icu_mortality.inputs import INPUTS
from model_artifacts.icu_mortality.outcomes import read_targets
from model_artifacts.icu_mortality.release import fill_manifest
from model_artifacts.icu_mortality.report import (
    EVALUATED_H,
    Cohort,
    Evaluation,
    make_report,
    software,
)
from model_artifacts.icu_mortality.summary import STATISTICS, summary_features
from model_artifacts.training.checkpoints import Checkpoints, add_arguments, open_checkpoints, recipe_digest
from model_artifacts.training.device import Device, choose_device
from model_artifacts.training.ensemble import Targets
from model_artifacts.training.evaluate import auroc
from model_artifacts.training.explanation_quality import explanation_quality, mean_attributions
from model_artifacts.training.export import Explanation, check_parity, export_explained
from model_artifacts.training.latency import latency
from model_artifacts.training.out_of_distribution import out_of_distribution
from model_artifacts.training.progress import say, track
from model_artifacts.training.reference import write_reference
from model_artifacts.training.release import add_sign_key, finish_release
from model_artifacts.training.report_file import write_metrics
from model_artifacts.training.rivals import boosted_predictions, regression_predictions
from model_artifacts.training.split import Fold, make_folds
from model_artifacts.training.stay_checks import explained, subject
from model_artifacts.training.stay_fit import (
    HOURS_LOOKED_AT,
    Fitted,
    Recipe,
    Stays,
    answers,
    fit,
    fitted_arrays,
    restore,
)
from model_artifacts.training.stay_model import baseline
from model_artifacts.training.variants import variants

FOLDER = Path(__file__).parent
DATA = FOLDER.parents[2] / "shared" / "data"  # ../shared/data, seen from the repository's root
SEED = 2012
FOLDS = 5
STEPS = 10
THREADS = 1
EXPLAINED_ROWS = 500
PERMUTATIONS = 8
"""Antithetic, for each of the explained rows: enough for a mean over 500, and minutes instead of an hour."""
PARITY_ROWS = 1000
MAY_MOVE = 0.005
"""Probability that a variant of the graph may differ by: half of what the card's rounding to a whole percent hides."""

# Variables whose logarithm is closer to normal; urine has zeros, so 10 mL are added first.
LOGARITHMIC = frozenset(
    {"ALP", "ALT", "AST", "BUN", "Bilirubin", "Cholesterol", "Creatinine", "Glucose", "K", "Lactate", "PaCO2", "PaO2"}
    | {"Platelets", "TroponinI", "TroponinT", "Urine", "WBC", "Weight"}
)
OFFSETS_ML = {"Urine": 10.0}
RECIPE = Recipe(
    members=8,
    epochs=14,
    coverage=0.9,
    logarithmic=tuple(variable.name in LOGARITHMIC for variable in VARIABLES),
    offset=tuple(OFFSETS_ML.get(variable.name, 0.0) for variable in VARIABLES),
    hidden=224,
    token=64,
)

RIVAL_MODULES = ("model_artifacts.training.rivals", "model_artifacts.icu_mortality.summary")
FIT_MODULES = (
    "model_artifacts.training.stay_fit",
    "model_artifacts.icu_mortality.events",
    "model_artifacts.icu_mortality.outcomes",
)
# Which of `out_of_distribution.CHILDREN` each variable is; units are the same.
CHILDREN = {
    "HR": "heart_rate",
    "RespRate": "respiratory_rate",
    "SysABP": "systolic",
    "DiasABP": "diastolic",
    "MAP": "mean_pressure",
    "NISysABP": "systolic",
    "NIDiasABP": "diastolic",
    "NIMAP": "mean_pressure",
    "Weight": "weight",
    "Creatinine": "creatinine",
}

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]


def load_stays(challenge: Challenge) -> Stays:
    """Tensors and targets of all stays."""
    inputs = graph_inputs(challenge, HOURS)
    return Stays(
        inputs["values"],
        inputs["counts"],
        inputs["statics"],
        challenge.outcomes["In-hospital_death"].astype(np.int64),
        Targets(*(torch.tensor(part, dtype=torch.float32) for part in read_targets(challenge.outcomes))),
    )


def graph_inputs(challenge: Challenge, hour: int) -> dict[str, torch.Tensor]:
    """What the graph is given of all stays at `hour`, as `events.stay_tensors` gives it of one: that moment included."""
    n, times_h = len(challenge.record_ids), challenge.minutes / 60.0
    values, counts = hourly(times_h, challenge.variable, challenge.values, challenge.stay, n, hour)
    return {
        "values": torch.tensor(values),
        "counts": torch.tensor(counts),
        "statics": torch.tensor(challenge.statics),
        "elapsed": torch.full((n, 1), float(hour)),
    }


def summaries(challenge: Challenge, hour: int) -> Features:
    """What the rivals are given at `hour`: the seven statistics of each variable up to it, and the statics; `(n, 263)`."""
    times_h = challenge.minutes / 60.0
    kept = plausible(challenge.variable, challenge.values) & (times_h <= hour)
    features = summary_features(
        times_h[kept],
        challenge.variable[kept],
        challenge.values[kept],
        challenge.stay[kept],
        len(challenge.record_ids),
    )
    return np.concatenate([features, challenge.statics], axis=1)


def cohort(challenge: Challenge, at_hour: Mapping[int, Features]) -> Cohort:
    """What the report says about who was evaluated."""
    dropped = np.bincount(
        challenge.variable[~plausible(challenge.variable, challenge.values)], minlength=len(VARIABLES)
    )
    counts = slice((len(STATISTICS) - 1) * len(VARIABLES), len(STATISTICS) * len(VARIABLES))
    return Cohort(
        challenge.outcomes["In-hospital_death"].astype(np.int64),
        challenge.statics,
        {hour: (features[:, counts] > 0).sum(axis=1) for hour, features in at_hour.items()},
        {v.name: int(n) for v, n in zip(VARIABLES, dropped, strict=True) if n},
    )


def rival_answers(challenge: Challenge, at_hour: Mapping[int, Features], kept: Checkpoints) -> dict[str, Array]:
    """Held-out probabilities `(hours, n)` of gradient boosting at each hour, and `(1, n)` of the regression at 48 hours."""
    died = challenge.outcomes["In-hospital_death"].astype(np.int64)
    folds = make_folds(died, FOLDS, SEED)
    boosted = [
        kept.part(f"boosting-{hour}", partial(_boosted, at_hour[hour], died, folds))["p"]
        for hour in track(EVALUATED_H, "gradient boosting")
    ]
    regression = kept.part("regression", lambda: {"p": regression_predictions(at_hour[HOURS], died, folds)})["p"]
    return {"gradient_boosting": np.stack(boosted), "logistic_regression": regression[None]}


def _boosted(features: Features, died: npt.NDArray[np.int64], folds: tuple[Fold, ...]) -> dict[str, Array]:
    return {"p": boosted_predictions(features, died, folds)}


def fit_or_restore(stays: Stays, rows: npt.NDArray[np.int64], name: str, kept: Checkpoints, device: Device) -> Fitted:
    """The recipe on these rows, as kept or fitted now."""
    seed = SEED + (FOLDS if name == "released" else int(name.rpartition("-")[2]))

    def compute() -> dict[str, npt.NDArray[Any]]:
        def report(epoch: int, loss: float) -> None:
            say(f"  {name}: epoch {epoch + 1}/{RECIPE.epochs}, loss {loss:.4f}")

        return fitted_arrays(fit(stays, rows, RECIPE, seed, device.torch, report))

    return restore(kept.part(name, compute), RECIPE, stays)


def evaluate(challenge: Challenge, folds: tuple[Fold, ...], fitted: tuple[Fitted, ...]) -> Evaluation:
    """Everything that is reported, at each hour, from rows each model never saw."""
    hours, n = len(EVALUATED_H), len(challenge.record_ids)
    probability, novelty, members = np.zeros((hours, n)), np.zeros((hours, n)), np.zeros((hours, n, RECIPE.members))
    for place, hour in enumerate(track(EVALUATED_H, "held-out answers")):
        inputs = graph_inputs(challenge, hour)
        for fold, model in zip(folds, fitted, strict=True):
            said = answers(model, {name: value[fold.report] for name, value in inputs.items()})
            for whole, part in zip((probability, members, novelty), said, strict=True):
                whole[place, fold.report] = part
    return Evaluation(probability, members, novelty, tuple(model.bounds for model in fitted))


def explanation_of(fitted: Fitted) -> Explanation:
    """Of the one output, by values and person; when was measured and the hour are held."""
    inputs = ("z", "person")
    return Explanation(explained=0, inputs=inputs, baseline=baseline, steps=STEPS, prepare=fitted.prepare.graph_inputs)


def export(fitted: Fitted, stays: Stays, path: Path, seed: int) -> dict[str, Any]:
    """Writes the released graph; what was checked on it over real rows, each as it was at an hour drawn at random."""
    random = np.random.default_rng(seed)
    rows = random.choice(len(stays.died), PARITY_ROWS, replace=False)
    hours = random.choice(HOURS_LOOKED_AT, PARITY_ROWS)
    each = [stays.at(rows[place : place + 1], int(hour)) for place, hour in enumerate(hours)]
    raw = {name: torch.cat([row[name] for row in each]) for name in each[0]}
    explanation = explanation_of(fitted)
    export_explained(fitted.model, {name: value[:1] for name, value in raw.items()}, path, explanation)
    arrays = {name: value.numpy() for name, value in raw.items()}
    died = stays.died[rows]
    return {
        "parity": {"rows": PARITY_ROWS, "largest_difference": check_parity(path, fitted.model, raw, explanation)},
        "graph": {"bytes": path.stat().st_size, "integration_steps": STEPS},
        "latency": latency(path, arrays),
        **variants(path, arrays, ("auroc_on_training_rows", lambda p: auroc(p, died)), tolerance=MAY_MOVE),
    }


def check(fitted: Fitted, fold: Fold, stays: Stays, threshold: float, seed: int) -> dict[str, Any]:
    """The sections about explanation and novelty, from one fold's model and the stays held out from it, at 48 hours."""
    some = np.random.default_rng(seed).choice(fold.report, EXPLAINED_ROWS, replace=False)
    nobody = INPUTS.extract(build_record(PatientId("nobody"), ()), datetime(2000, 1, 1, tzinfo=UTC))
    names = {place: (item.name, item.label) for place, item in enumerate(nobody.evidence)}
    judged, gaps = explained(fitted, stays.at(some, HOURS), explanation_of(fitted), nobody.slots)
    ranges = {variable.name: (variable.low, variable.high) for variable in VARIABLES if not variable.presence}
    tested = subject(fitted, stays.at(fold.report, HOURS), [v.name for v in VARIABLES], ranges, threshold)
    return {
        **explanation_quality(judged, gaps, permutations=PERMUTATIONS, seed=seed),
        "attributions": mean_attributions(judged, names),
        "out_of_distribution": out_of_distribution(
            tested, {name: (quantity, 1.0) for name, quantity in CHILDREN.items()}, seed=seed
        ),
    }


def write_seen(
    folder: Path, people: Cohort, evaluation: Evaluation, at_hour: Mapping[int, Features], threshold: float
) -> None:
    """`reference.json`: the last values and the answers of each stay as it was at one of the hours, drawn at random."""
    n = len(people.died)
    place = np.random.default_rng(SEED).integers(0, len(EVALUATED_H), n)
    usable = evaluation.usable(people, threshold)[place, np.arange(n)]
    last = slice(STATISTICS.index("last") * len(VARIABLES), (STATISTICS.index("last") + 1) * len(VARIABLES))
    values = np.stack([at_hour[hour][:, last] for hour in EVALUATED_H])[place, np.arange(n)]
    write_reference(
        folder,
        [item.name for item in (*VARIABLES, *STATICS)],
        np.concatenate([values, people.statics], axis=1)[usable],
        {"in_hospital_death": evaluation.probability[place, np.arange(n)][usable]},
        source=f"held-out predictions of {n:,} stays, each at one of {', '.join(map(str, EVALUATED_H))} h, drawn at random",
        categorical=("MechVent", "Gender", "ICUType"),
        novel=float((evaluation.novelty > threshold).mean()),
    )


def train(challenge: Challenge, arguments: argparse.Namespace) -> None:
    """Every step, each taken up where it was left."""
    started = time.monotonic()
    device = choose_device(arguments.seed, threads=THREADS)
    say(f"on {device.words}")
    files = sorted((arguments.data / "physionet2012").glob("*_*.*"))
    settings = {"seed": arguments.seed, "folds": FOLDS, "hours": EVALUATED_H}
    rivals_digest = recipe_digest(RIVAL_MODULES, settings, files)
    digest = recipe_digest(FIT_MODULES, settings | {"recipe": repr(RECIPE)}, files)
    kept = open_checkpoints(arguments.checkpoints / "model", digest, fresh=arguments.fresh)
    kept_rivals = open_checkpoints(arguments.checkpoints / "rivals", rivals_digest, fresh=arguments.fresh)
    resumed = kept.has("fold-0") or kept_rivals.has("regression")
    stays = load_stays(challenge)
    folds = make_folds(stays.died, FOLDS, SEED)
    at_hour = {hour: summaries(challenge, hour) for hour in EVALUATED_H}
    fitted = tuple(
        fit_or_restore(stays, fold.develop, f"fold-{number}", kept, device)
        for number, fold in enumerate(track(folds, "folds"))
    )
    released = fit_or_restore(stays, np.arange(len(stays.died)), "released", kept, device)
    evaluation = evaluate(challenge, folds, fitted)
    rivals = rival_answers(challenge, at_hour, kept_rivals)
    say("released graph")
    run: dict[str, Any] = export(released, stays, arguments.out / "model.onnx", arguments.seed)
    people = cohort(challenge, at_hour)
    report = make_report(people, evaluation, rivals, folds, released.bounds)
    say("explanation and novelty")
    report |= check(fitted[0], folds[0], stays, report["novelty"]["threshold"], arguments.seed)
    report |= {name: run.pop(name) for name in ("latency", "variants", "variants_released")}
    run |= {"seed": arguments.seed, "device": device.words}
    if not resumed:  # the time of a part of a training would be taken for that of the whole
        run["seconds"] = round(time.monotonic() - started)
    write_metrics(arguments.out, report | {"run": run | software()})
    write_seen(arguments.out, people, evaluation, at_hour, report["novelty"]["threshold"])
    say(f"done in {time.monotonic() - started:.0f} s")


def main() -> None:
    """The whole training."""
    parser = argparse.ArgumentParser(description="train icu_mortality")
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds physionet2012/")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the model's files go")
    add_arguments(parser, "icu_mortality")
    add_sign_key(parser)
    arguments = parser.parse_args()
    try:
        challenge = read_challenge(arguments.data)
    except FileNotFoundError as exc:
        sys.exit(str(exc))
    train(challenge, arguments)
    if arguments.out == FOLDER:
        fill_manifest(FOLDER)
        finish_release("model_artifacts.icu_mortality", arguments.sign_key)


if __name__ == "__main__":
    main()
