"""Trains warfarin_dose from the raw IWPC table: cross-fitting beside equations and rivals, the released graph, metrics.

Run by `make train MODEL=warfarin_dose`. Writes `model.onnx`, `metrics.json` and, from both, `manifest.toml` (`release.py`) and
the examples' expectations. One recipe (`training.dose_fit`), used six times: on each of five development parts, whose
reported fifth no part of the model has seen, and on all rows for the release, which is scored on none.
"""

import argparse
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from model_artifacts.training.dose_fit import (
    Features,
    Fitted,
    Recipe,
    boosting_rival,
    fit,
    kernel_rival,
    scaled_rows,
    tune_boosting,
)
from model_artifacts.training.dose_model import Layout
from model_artifacts.training.export import Explanation, Tensors, check_parity, export_explained
from model_artifacts.training.release import add_sign_key, finish_release
from model_artifacts.warfarin_dose.cohort import Cohort, read_cohort
from model_artifacts.warfarin_dose.columns import COLUMNS, CYP2C9, INDEX, RACES, SLOTS, VKORC1
from model_artifacts.warfarin_dose.equations import clinical_dose, pharmacogenetic_dose
from model_artifacts.warfarin_dose.release import fill_manifest
from model_artifacts.warfarin_dose.report import HeldOut, make_report, write_metrics

FOLDER = Path(__file__).parent
DATA = FOLDER.parents[2] / "shared" / "data"  # ../shared/data, seen from the repository's root
SEED = 2009
FOLDS = 5
STEPS = 6
COVERAGE = 0.9
PARITY_ROWS = 1000
PARITY_MG_PER_WEEK = 1e-3
BASELINE = {"age_decades": 6.0, "height": 168.0, "weight": 75.0, "target_inr": 2.5}
"""Of the explanation; every other column is 0 there, sex is in the middle, and what is unknown stays unknown."""

_CYP2C9, _VKORC1 = SLOTS["cyp2c9"], SLOTS["vkorc1"]
_KNOWN = (INDEX["cyp2c9_known"], INDEX["vkorc1_known"])


def masked(features: Features, *columns: int) -> Features:
    """A copy in which these columns are 0."""
    copy = features.copy()
    copy[:, columns] = 0.0
    return copy


RECIPE = Recipe(
    Layout(
        nullable={INDEX["height"]: 168.0, INDEX["male"]: 0.5, INDEX["smoking"]: 0.14, INDEX["target_inr"]: 2.5},
        height=INDEX["height"],
        explains_height=(INDEX["male"], INDEX["weight"], INDEX["asian"]),
        crossed=tuple((known, INDEX[race]) for known in _KNOWN for race in RACES),
        always=tuple(INDEX[name] for name in RACES),
        groups=tuple(INDEX[name] for name in (*CYP2C9[1:], *VKORC1[1:])),
        unknown=_KNOWN,
    ),
    masks=(
        lambda rows: rows,
        lambda rows: masked(rows, *_CYP2C9, *_VKORC1),
        lambda rows: masked(rows, *_CYP2C9),
        lambda rows: masked(rows, *_VKORC1),
    ),
    novelty=tuple(INDEX[name] for name in ("age_decades", "height", "weight")),
    parts=5,
    coverage=COVERAGE,
    seed=SEED,
)


def cross_fit(cohort: Cohort) -> HeldOut:
    """Everybody's dose by models that never saw them: ours with and without genotypes, the rivals and the equations."""
    n, root = len(cohort.dose), np.sqrt(cohort.dose)
    fold = np.random.default_rng(SEED).permutation(n) % FOLDS
    doses = {
        "clinical_equation": clinical_dose(cohort.features),
        "iwpc_equation": pharmacogenetic_dose(cohort.features),
    }
    doses |= {name: np.zeros(n) for name in ("model", "without_genotypes", "support_vector", "gradient_boosting")}
    intervals = {name: np.zeros((n, 2)) for name in ("model", "without_genotypes")}
    novelty, settings = np.zeros(n), []
    for number in range(FOLDS):
        develop, report = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        fitted = fit(cohort.features[develop], cohort.dose[develop], RECIPE)
        for name, mask in zip(intervals, RECIPE.masks, strict=False):
            answer = fitted.predict(mask(cohort.features[report]))
            doses[name][report], intervals[name][report] = answer["dose"], answer["interval"]
        novelty[report] = fitted.predict(cohort.features[report])["novelty"]
        rows = scaled_rows(fitted, cohort.features)
        doses["support_vector"][report] = kernel_rival(rows, root, fitted.kernel, develop, report)
        boosting = tune_boosting(cohort.features[develop], root[develop], SEED)
        doses["gradient_boosting"][report] = boosting_rival(cohort.features, root, boosting, develop, report)
        settings.append(f"fold {number + 1}: kernel {fitted.kernel}, boosting {boosting}")
        error = np.abs(doses["model"][report] - cohort.dose[report]).mean()
        print(f"fold {number + 1} of {FOLDS}: mean absolute error {error:.2f} mg/week", file=sys.stderr, flush=True)
    return HeldOut(cohort, doses, intervals, novelty, tuple(settings))


def baseline(inputs: Tensors) -> Tensors:
    """The explanation's baseline of `x`: a typical person with no variant; what isn't recorded stays as it was filled."""
    x, known = inputs["x"], inputs["known"]
    reference = torch.zeros(len(COLUMNS))
    for name, value in BASELINE.items():
        reference[INDEX[name]] = value
    reference[INDEX["male"]] = 0.5
    recorded = torch.ones(len(COLUMNS))
    recorded[list(_KNOWN)] = 0.0  # whether a genotype is known is no difference from anybody
    keep = known * recorded
    return {"x": keep * reference + (1 - keep) * x}


def export(fitted: Fitted, path: Path) -> Explanation:
    """Writes the graph to `path`; the explanation it computes."""
    explanation = Explanation(0, ("x",), baseline, STEPS, fitted.prepare.graph_inputs)
    example = torch.from_numpy(np.full((1, len(COLUMNS)), 0.5, dtype=np.float32))
    export_explained(fitted.model.eval(), {"features": example}, path, explanation)
    return explanation


def graph_facts(path: Path, features: Features) -> dict[str, object]:
    """Size, speed and the largest completeness gap of the graph, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    gaps, times = [], []
    for row in features:
        began = time.perf_counter()
        (gap,) = session.run(["completeness_gap"], {"features": row[None]})
        times.append(1000 * (time.perf_counter() - began))
        gaps.append(float(np.abs(gap).max()))
    return {
        "bytes": path.stat().st_size,
        "integration_steps": STEPS,
        "completeness_gap_max": max(gaps),
        "milliseconds": {"median": float(np.median(times)), "p99": float(np.percentile(times, 99))},
    }


def main() -> None:
    """Trains, evaluates, exports and writes everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds iwpc-warfarin/warfarin.csv")
    add_sign_key(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    cohort = read_cohort(arguments.data / "iwpc-warfarin" / "warfarin.csv")
    held = cross_fit(cohort)
    fitted = fit(cohort.features, cohort.dose, RECIPE)
    path = FOLDER / "model.onnx"
    explanation = export(fitted, path)
    rows: dict[str, Tensor] = {"features": torch.from_numpy(_some_masked(cohort.features)[:PARITY_ROWS])}
    parity = check_parity(path, fitted.model, rows, explanation, tolerance=PARITY_MG_PER_WEEK)
    run = {
        "parity": {"rows": PARITY_ROWS, "largest_difference_mg_per_week": max(parity.values())},
        "graph": graph_facts(path, _some_masked(cohort.features)[:PARITY_ROWS]),
        "seed": SEED,
        "seconds": round(time.monotonic() - began),
        "python": platform.python_version(),
        "libraries": {
            name: version(name) for name in ("torch", "numpy", "scikit-learn", "scipy", "onnx", "onnxruntime")
        },
    }
    write_metrics(make_report(held, run), FOLDER / "metrics.json")
    fill_manifest(FOLDER)
    finish_release("model_artifacts.warfarin_dose", arguments.sign_key)


def _some_masked(features: Features) -> npt.NDArray[np.float32]:
    """Every third row without genotypes, so that both kinds are measured."""
    rows = features.copy()
    rows[::3] = RECIPE.masks[1](rows[::3])
    return rows


if __name__ == "__main__":
    main()
