"""Writes into the manifest what only the evaluation knows: digests, thresholds, and the figures that a card shows.

Owns the marks `@…@` of `manifest.template.toml`, so that no figure in the manifest is typed by hand.
"""

import json
from pathlib import Path
from typing import Any

from model_artifacts.training.release import file_digest, fill_template

LEAST_TOLERANCE = 0.05
"""mg/week; a gap that no card could show (it gives a tenth)."""
LISTED = (
    "warfarin.toml",
    "history.toml",
    "heart_failure.toml",
    "diabetes.toml",
    "valve.toml",
    "pregnancy.toml",
    "reference.json",
)


def fill_manifest(folder: Path) -> None:
    """Makes `manifest.toml` from its template, `metrics.json`, `model.onnx` and the listed files."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    fill_template(folder, marks(metrics, folder))


def marks(metrics: dict[str, Any], folder: Path) -> dict[str, str]:
    """The value of every mark in the template."""
    conformal, without = metrics["conformal"], metrics["without_genotypes"]["this_model"]
    black = _group(metrics, "race as recorded", "black")
    error, equation = metrics["model"]["mean_absolute_error"], metrics["rivals"]["iwpc_equation"]["mean_absolute_error"]
    return {
        **{name: file_digest(folder / name) for name in ("model.onnx", *LISTED)},
        "completeness-tolerance": f"{max(LEAST_TOLERANCE, 2 * metrics['explanation']['completeness_gap']['max']):.2g}",
        "novelty-threshold": f"{metrics['novelty']['threshold']:.4g}",
        "people": f"{metrics['cohort']['people']:,}",
        "coverage": f"{100 * conformal['with_genotypes_as_recorded']['coverage']:.0f} %",
        "width-with": f"{conformal['with_both_genotypes']['mean_width']:.0f}",
        "width-without": f"{conformal['without_genotypes']['mean_width']:.0f}",
        "error": f"{error['estimate']:.1f}",
        "error-without": f"{without['mean_absolute_error']['estimate']:.1f}",
        "error-equation": f"{equation['estimate']:.1f}",
        "within-20": f"{100 * metrics['model']['within_20_percent']['estimate']:.0f} %",
        "error-black": f"{black['mean_absolute_error']['estimate']:.1f}",
        "black": f"{black['n']:,}",
        "cyp2c9-unknown": _share(_group(metrics, "CYP2C9", "unknown")["interval_coverage"]),
        "vkorc1-unknown": _share(_group(metrics, "VKORC1", "unknown")["interval_coverage"]),
        "pounds": _share(_test(metrics, "pounds for kilograms (weight)")["rate"]),
    }


def _group(metrics: dict[str, Any], by: str, group: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in metrics["subgroups"] if (row["by"], row["group"]) == (by, group))
    return found


def _test(metrics: dict[str, Any], test: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in metrics["out_of_distribution"]["detected"] if row["test"] == test)
    return found


def _share(figure: dict[str, float]) -> str:
    return f"{100 * figure['estimate']:.0f} %"
