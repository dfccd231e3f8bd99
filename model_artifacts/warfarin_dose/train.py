"""Trains warfarin_dose from the raw IWPC table: cross-fitting beside equations and rivals, the released graph, metrics.

Run by `make train MODEL=warfarin_dose`. Writes `model.onnx`, `metrics.json`, `reference.json` and, from these, `manifest.toml`
(`release.py`), the examples' expectations, the card and, with a key, the signature. One recipe (`recipe.py`), used six times:
on each of five development parts, whose reported fifth no part of the model has seen, and on all rows for the release, which is
scored on none. Each part is kept as it is done (`--checkpoints`), so that an interrupted training goes on there.
"""

import argparse
import platform
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from model_artifacts.training.checkpoints import add_arguments, open_checkpoints, recipe_digest
from model_artifacts.training.device import choose_device
from model_artifacts.training.dose_fit import Features, Fitted, fit
from model_artifacts.training.export import Explanation, Tensors, check_parity, export_explained
from model_artifacts.training.latency import latency
from model_artifacts.training.progress import say, track
from model_artifacts.training.reference import write_reference
from model_artifacts.training.release import add_sign_key, finish_release
from model_artifacts.training.report_file import write_metrics
from model_artifacts.training.variants import variants
from model_artifacts.warfarin_dose.assurance import evidence_values, explanations, uncertainty, unlike_training
from model_artifacts.warfarin_dose.cohort import Cohort, read_cohort
from model_artifacts.warfarin_dose.columns import COLUMNS, INDEX
from model_artifacts.warfarin_dose.held_out import HeldOut
from model_artifacts.warfarin_dose.recipe import FOLDS, KNOWN, RECIPE, SEED, Parts, cross_fit, fold_novelty
from model_artifacts.warfarin_dose.release import fill_manifest
from model_artifacts.warfarin_dose.report import make_report, mean_absolute_error, novelty_threshold

PACKAGE = "model_artifacts.warfarin_dose"
FOLDER = Path(__file__).parent
DATA = FOLDER.parents[2] / "shared" / "data"  # ../shared/data, seen from the repository's root
STEPS = 6
PARITY_ROWS = 1000
PARITY_MG_PER_WEEK = 1e-3
JUDGED = 500
"""People whose explanations are judged."""
TOLERANCE_MG_PER_WEEK = 0.05
"""How far a variant may move a dose: half of what a card can show."""
BASELINE = {"age_decades": 6.0, "height": 168.0, "weight": 75.0, "target_inr": 2.5}
"""Of the explanation; every other column is 0 there, sex is in the middle, and what is unknown stays unknown."""


def baseline(inputs: Tensors) -> Tensors:
    """The explanation's baseline of `x`: a typical person with no variant; what isn't recorded stays as it was filled."""
    x, known = inputs["x"], inputs["known"]
    reference = torch.zeros(len(COLUMNS))
    for name, value in BASELINE.items():
        reference[INDEX[name]] = value
    reference[INDEX["male"]] = 0.5
    recorded = torch.ones(len(COLUMNS))
    recorded[list(KNOWN)] = 0.0  # whether a genotype is known is no difference from anybody
    keep = known * recorded
    return {"x": keep * reference + (1 - keep) * x}


def export(fitted: Fitted, path: Path) -> Explanation:
    """Writes the graph to `path`; the explanation it computes."""
    explanation = Explanation(0, ("x",), baseline, STEPS, fitted.prepare.graph_inputs)
    example = torch.from_numpy(np.full((1, len(COLUMNS)), 0.5, dtype=np.float32))
    export_explained(fitted.model.eval(), {"features": example}, path, explanation)
    return explanation


def graph_sections(fitted: Fitted, path: Path, rows: Features) -> dict[str, Any]:
    """Whether the graph's reasons are its own, and how fast it gives them: `explanation` and its like, `latency`."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = ["attributions", "completeness_gap"]
    answers = [session.run(names, {"features": row[None]}) for row in rows]
    attributions, gaps = (np.concatenate(part) for part in zip(*answers, strict=True))
    inputs = fitted.prepare(torch.from_numpy(rows[:JUDGED]))

    @torch.no_grad()
    def answer(points: Features, at: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        dose: npt.NDArray[np.float32] = fitted.model(torch.from_numpy(points), inputs["known"][at])[0][:, 0].numpy()
        return dose

    points, reference = inputs["x"].numpy(), baseline(inputs)["x"].numpy()
    return {
        **explanations(points, reference, attributions[:JUDGED], answer, gaps),
        "latency": latency(path, {"features": rows}),
    }


def variant_sections(cohort: Cohort, rows: npt.NDArray[np.int64], fitted: Fitted) -> dict[str, Any]:
    """The variants of the graph of `fitted` on `rows`, people that it never saw."""
    truth = cohort.dose[rows]
    score = ("mean_absolute_error", lambda doses: mean_absolute_error(doses, truth))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fold.onnx"
        export(fitted, path)
        made = variants(path, {"features": cohort.features[rows]}, score, tolerance=TOLERANCE_MG_PER_WEEK)
    made["variants_released"]["how"] = "the graph of the last fold, on the people that it never saw"
    return made


def write_drift_reference(folder: Path, held: HeldOut) -> None:
    """`reference.json`: the cohort as the card would show it, with the held-out doses."""
    values = evidence_values(held.cohort.features)
    novel = float((held.novelty > novelty_threshold(held.novelty)).mean())
    write_reference(
        folder,
        list(values),
        np.stack(list(values.values()), axis=1),
        {"weekly_dose": held.doses["model"]},
        source=f"held-out doses of {len(held.cohort.dose):,} people of the IWPC cohort, ages by decade",
        categorical=("race", "cyp2c9", "vkorc1"),
        novel=novel,
    )


def evaluate(cohort: Cohort, parts: Parts, fitted: Fitted, path: Path, run: dict[str, Any]) -> dict[str, Any]:
    """The content of `metrics.json`."""
    held, rows = parts.held_out(cohort), _some_masked(cohort.features)[:PARITY_ROWS]
    threshold = novelty_threshold(held.novelty)
    last = parts.fold == FOLDS - 1
    say("explanations, latency")
    sections = graph_sections(fitted, path, rows)
    say("variants, unlike the training data")
    sections |= variant_sections(cohort, np.flatnonzero(last), fit(*_developed(cohort, ~last), RECIPE))
    sections["out_of_distribution"] = unlike_training(
        cohort.features, lambda changed: fold_novelty(parts, changed), threshold
    )
    sections |= uncertainty(held.doses["model"], cohort.dose, held.members, held.intervals["model"], held.novelty)
    return make_report(held, run) | sections


def main() -> None:
    """Trains, evaluates, exports and writes everything."""
    parser = argparse.ArgumentParser(description="train warfarin_dose")
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds iwpc-warfarin/warfarin.csv")
    add_arguments(parser, "warfarin_dose")
    add_sign_key(parser)
    arguments = parser.parse_args()
    device, began = choose_device(SEED, prefer="cpu"), time.monotonic()  # networks this small gain nothing from a GPU
    say(device.words)
    table = arguments.data / "iwpc-warfarin" / "warfarin.csv"
    cohort = read_cohort(table)
    digest = recipe_digest([f"{PACKAGE}.recipe", f"{PACKAGE}.cohort"], {"seed": SEED}, [table])
    kept = open_checkpoints(arguments.checkpoints, digest, fresh=arguments.fresh)
    parts = Parts.of(
        [kept.part(f"fold-{number}", partial(cross_fit, cohort, number)) for number in track(range(FOLDS), "fold")]
    )
    say("released model")
    fitted, path = fit(cohort.features, cohort.dose, RECIPE), FOLDER / "model.onnx"
    explanation = export(fitted, path)
    rows: dict[str, Tensor] = {"features": torch.from_numpy(_some_masked(cohort.features)[:PARITY_ROWS])}
    parity = check_parity(path, fitted.model, rows, explanation, tolerance=PARITY_MG_PER_WEEK)
    run = {
        "parity": {"rows": PARITY_ROWS, "largest_difference_mg_per_week": max(parity.values())},
        "graph": {"bytes": path.stat().st_size, "integration_steps": STEPS},
        "seed": SEED,
        "device": device.words,
    }
    report = evaluate(cohort, parts, fitted, path, run)
    report["run"] |= {"seconds": round(time.monotonic() - began), **_versions()}
    write_metrics(FOLDER, report)
    write_drift_reference(FOLDER, parts.held_out(cohort))
    fill_manifest(FOLDER)
    finish_release(PACKAGE, arguments.sign_key)
    say(f"done in {time.monotonic() - began:.0f} s")


def _versions() -> dict[str, Any]:
    names = ("torch", "numpy", "scikit-learn", "scipy", "onnx", "onnxruntime")
    return {"python": platform.python_version(), "libraries": {name: version(name) for name in names}}


def _developed(cohort: Cohort, rows: npt.NDArray[np.bool_]) -> tuple[Features, npt.NDArray[np.float64]]:
    return cohort.features[rows], cohort.dose[rows]


def _some_masked(features: Features) -> Features:
    """Every third row without genotypes, so that both kinds are measured."""
    rows = features.copy()
    rows[::3] = RECIPE.masks[1](rows[::3])
    return rows


if __name__ == "__main__":
    main()
