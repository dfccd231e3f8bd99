"""Trains readmission_30d from the raw table: cross-fitting beside gradient boosting, the released graph, metrics.

Run by `make train MODEL=readmission_30d`. Writes `vocabulary.toml`, `model.onnx`, `metrics.json`, `reference.json` and, from
them, `manifest.toml` (`release.py`) and the examples' expectations. One recipe, used six times: on each of five development
parts, whose reported fifth no part of the model has seen, and on everybody for the release, which is scored on nobody.

Calibration and conformal bounds are fitted on held-out estimates: those of a fold on the other folds', the release's on all.
An interrupted training goes on where it stopped.
"""

import argparse
import json
import platform
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_artifacts.readmission_30d.cohort import Cohort, diagnosis_levels, read_cohort, vocabulary
from model_artifacts.readmission_30d.columns import COLUMNS
from model_artifacts.readmission_30d.quality import (
    SERVICE_CODES,
    explanation_sections,
    outliers,
    service_rows,
    slot_groups,
)
from model_artifacts.readmission_30d.recipe import (
    SEED,
    VARIANTS,
    Array,
    Arrays,
    Features,
    Indices,
    as_read,
    fit_fold,
    fit_network,
    fit_trees,
    recipe_for,
)
from model_artifacts.readmission_30d.release import fill_manifest
from model_artifacts.readmission_30d.report import COVERAGE, NOVELTY_PERCENTILE, HeldOut, make_report
from model_artifacts.readmission_30d.rivals import tree_rows
from model_artifacts.training import checkpoints
from model_artifacts.training.calibrate import Platt, fit_platt, sigmoid
from model_artifacts.training.category_fit import Recipe, build
from model_artifacts.training.category_network import CategoryNetwork
from model_artifacts.training.conformal import fit_bounds
from model_artifacts.training.device import choose_device, load_state, state_arrays
from model_artifacts.training.evaluate import auroc
from model_artifacts.training.explanation_quality import Explained
from model_artifacts.training.export import Explanation, Tensors, check_parity, export_explained, whole_answer
from model_artifacts.training.latency import latency
from model_artifacts.training.progress import say
from model_artifacts.training.reference import write_reference
from model_artifacts.training.release import add_sign_key, finish_release
from model_artifacts.training.report_file import write_metrics
from model_artifacts.training.split import Fold, make_folds
from model_artifacts.training.tree_teacher import teacher_predictions
from model_artifacts.training.variants import variants

FOLDER = Path(__file__).parent
DATA = FOLDER.parents[2] / "shared" / "data"  # ../shared/data, seen from the repository's root
FOLDS = 5
STEPS = 5
PARITY_ROWS = 1000
EXPLAINED_ROWS = 500


def cross_fit(
    cohort: Cohort, codes: Indices, recipe: Recipe, folds: tuple[Fold, ...], kept: checkpoints.Checkpoints
) -> tuple[HeldOut, Platt]:
    """Everybody's held-out estimates, and the calibration that all of them give together."""
    parts = []
    for number, fold in enumerate(folds, start=1):
        trees = kept.part(f"trees{number}", partial(fit_trees, cohort, fold))
        soft = trees.pop("soft")
        network = kept.part(f"network{number}", partial(fit_fold, cohort, codes, recipe, fold, soft))
        parts.append(network | trees)
        ours, labels = network["model/members"].mean(axis=1), cohort.labels[fold.report]
        rival = auroc(trees["gradient_boosting_with_history"], labels)
        say(f"fold {number} of {FOLDS}: AUROC {auroc(ours, labels):.4f}, boosting with history {rival:.4f}")
    whole = {name: _put_together([part[name] for part in parts], folds) for name in parts[0]}
    raw, labels = whole["model/members"].mean(axis=1), cohort.labels
    scales = [fit_platt(raw[fold.develop], labels[fold.develop]) for fold in folds]
    calibrated = {name: _calibrated(whole[f"{name}/members"], scales, folds) for name in ("model", *VARIANTS)}
    probability = sigmoid(calibrated["model"].mean(axis=1))
    return (
        HeldOut(
            probability,
            sigmoid(calibrated["model"]),
            whole["model/novelty"],
            {name: sigmoid(calibrated[name].mean(axis=1)) for name in VARIANTS},
            {name: values for name, values in whole.items() if "/" not in name},
            tuple(fit_bounds(probability[fold.develop], labels[fold.develop], COVERAGE) for fold in folds),
        ),
        fit_platt(raw, labels),
    )


def _put_together(parts: list[npt.NDArray[Any]], folds: tuple[Fold, ...]) -> Array:
    whole = np.zeros((sum(len(part) for part in parts), *parts[0].shape[1:]))
    for part, fold in zip(parts, folds, strict=True):
        whole[fold.report] = part
    return whole


def _calibrated(members: Array, scales: list[Platt], folds: tuple[Fold, ...]) -> Array:
    """Log odds of the members, each fold's by the calibration of the others."""
    result = np.zeros_like(members)
    for scale, fold in zip(scales, folds, strict=True):
        result[fold.report] = scale.slope * members[fold.report] + scale.intercept
    return result


def released_network(
    cohort: Cohort, codes: Indices, recipe: Recipe, scale: Platt, kept: checkpoints.Checkpoints
) -> CategoryNetwork:
    """The recipe on everybody, calibrated by the held-out estimates."""
    everybody = np.arange(len(cohort.labels))

    def teach() -> Arrays:
        trees = tree_rows(cohort, history=True)
        return {"soft": teacher_predictions(trees, cohort.labels, cohort.any_later, everybody, (everybody,))[0]}

    soft = kept.part("trees", teach)["soft"]
    arrays = kept.part("network", lambda: state_arrays(fit_network(cohort, codes, recipe, everybody, soft)))
    network = build(recipe, cohort.features)
    load_state(network, arrays)
    network.slope.fill_(scale.slope)
    network.intercept.fill_(scale.intercept)
    return network.eval()


def export(network: CategoryNetwork, path: Path) -> Explanation:
    """Writes the graph to `path`; the explanation it computes."""

    def prepare(inputs: Tensors) -> Tensors:
        x, novelty = network.encoder(inputs["features"], inputs["diagnoses"])
        return {"x": x, "novelty": novelty}

    def baseline(inputs: Tensors) -> Tensors:
        return {"x": network.average.expand_as(inputs["x"])}

    explanation = Explanation(0, ("x",), baseline, STEPS, prepare)
    example = {"features": torch.zeros(1, len(COLUMNS)), "diagnoses": torch.zeros(1, 9, dtype=torch.int64)}
    export_explained(network, example, path, explanation)
    return explanation


def graph_parts(network: CategoryNetwork, cohort: Cohort, codes: Indices, held: HeldOut) -> dict[str, Any]:
    """The sections of `metrics.json` that need the released graph, which is written first."""
    path = FOLDER / "model.onnx"
    explanation = export(network, path)
    chosen = np.random.default_rng(SEED).permutation(len(codes))[:PARITY_ROWS]
    features = cohort.features[chosen].copy()
    features[::3] = as_read(features[::3])
    rows: Arrays = {"features": features, "diagnoses": codes[chosen]}
    tensors: dict[str, Tensor] = {name: torch.from_numpy(values) for name, values in rows.items()}
    parity = check_parity(path, network, tensors, explanation)
    labels = cohort.labels[chosen]
    limit = float(np.percentile(held.novelty, NOVELTY_PERCENTILE))
    return {
        "out_of_distribution": outliers(lambda some: _novelty(network, some), cohort.features[chosen], limit),
        **explanation_sections(*_explained(network, explanation, tensors)),
        "latency": latency(path, rows),
        **variants(path, rows, ("auroc", lambda answers: auroc(answers, labels)), tolerance=1e-3),
        "run": {
            "parity": {"rows": PARITY_ROWS, "largest_difference": max(parity.values())},
            "bytes": path.stat().st_size,
            "integration_steps": STEPS,
        },
    }


def _novelty(network: CategoryNetwork, features: Features) -> Array:
    with torch.no_grad():
        return network.encoder.novelty(torch.from_numpy(features)).numpy().astype(np.float64)


def _explained(
    network: CategoryNetwork, explanation: Explanation, tensors: dict[str, Tensor]
) -> tuple[Explained, npt.NDArray[np.float32]]:
    """The first rows with their attributions, and the completeness gaps of all."""
    answer = whole_answer(network, tuple(tensors), explanation)
    with torch.no_grad():
        _, _, attributions, _, gaps, _ = answer(*tensors.values())
        x, novelty = network.encoder(*tensors.values())

    def explained_output(points: npt.NDArray[np.float32], _: Indices) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            found: npt.NDArray[np.float32] = network(torch.from_numpy(points), novelty[:1])[0][:, 0].numpy()
        return found

    some = slice(EXPLAINED_ROWS)
    average = network.average.numpy()[None].repeat(EXPLAINED_ROWS, axis=0)
    points = x[some].numpy()
    return Explained(points, average, attributions[some].numpy(), slot_groups(), explained_output), gaps.numpy()


def write_vocabulary(categories: tuple[str, ...], codes: tuple[str, ...]) -> None:
    """Writes which diagnoses have a number of their own, in the order of the numbers."""
    lines = ["# ICD-9-CM categories and codes that occur often enough to be learned; written by train.py."]
    lines += [f"{name} = {json.dumps(items)}" for name, items in (("categories", categories), ("codes", codes))]
    (FOLDER / "vocabulary.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Trains, evaluates, exports and writes everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds diabetes130/diabetic_data.csv.gz")
    checkpoints.add_arguments(parser, "readmission_30d")
    add_sign_key(parser)
    arguments = parser.parse_args()
    device = choose_device(SEED, prefer="cpu")  # too small to gain from a GPU
    began, data = time.monotonic(), arguments.data / "diabetes130" / "diabetic_data.csv.gz"
    cohort = read_cohort(data)
    known = vocabulary(cohort)
    write_vocabulary(*known)
    codes, recipe = diagnosis_levels(cohort, *known), recipe_for(*map(len, known))
    digest = checkpoints.recipe_digest(
        ["model_artifacts.readmission_30d.recipe"], {"seed": SEED, "folds": FOLDS}, [data]
    )
    kept = checkpoints.open_checkpoints(arguments.checkpoints, digest, fresh=arguments.fresh)
    folds = make_folds(cohort.labels, FOLDS, SEED, cohort.patients)
    held, scale = cross_fit(cohort, codes, recipe, folds, kept)
    parts = graph_parts(released_network(cohort, codes, recipe, scale, kept), cohort, codes, held)
    parts["run"] |= {
        "seed": SEED,
        "seconds_since_the_last_start": round(time.monotonic() - began),
        "device": device.words,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in ("torch", "numpy", "scikit-learn", "onnx", "onnxruntime")},
    }
    write_metrics(FOLDER, make_report(cohort, held, folds, parts))
    write_reference(
        FOLDER,
        *service_rows(cohort, codes, held.variants["as_read_from_a_record"]),
        source="held-out estimates of the training stays, with what a record tells of them",
        categorical=SERVICE_CODES,
        novel=1 - NOVELTY_PERCENTILE / 100,
    )
    fill_manifest(FOLDER)
    finish_release("model_artifacts.readmission_30d", arguments.sign_key)


if __name__ == "__main__":
    main()
