"""Writes into the manifest what only the evaluation knows: digests, thresholds, bounds and what each band meant.

Owns the marks `@…@` of `manifest.template.toml`, so that no figure in the manifest is typed by hand.
"""

import json
import math
from pathlib import Path
from typing import Any

from model_artifacts.training.release import file_digest, fill_template

FOLDER = Path(__file__).parent
LEAST_TOLERANCE = 1e-3
"""Probability; a gap that no card could show (a tenth of a point)."""


def fill_manifest(folder: Path) -> None:
    """Makes `manifest.toml` from its template, `metrics.json`, `model.onnx` and the listed files."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    fill_template(folder, marks(metrics, folder))


def marks(metrics: dict[str, Any], folder: Path) -> dict[str, str]:
    """The value of every mark in the template."""
    gap = metrics["run"]["graph"]["completeness_gap"]["max"]
    bounds, held_out = metrics["conformal"]["released"], metrics["conformal"]["held_out"]
    low, middle, high = metrics["bands"]
    return {
        "model.onnx": file_digest(folder / "model.onnx"),
        "variables.toml": file_digest(FOLDER / "variables.toml"),
        "completeness-tolerance": f"{max(LEAST_TOLERANCE, 2 * gap):.1e}",
        "novelty-threshold": f"{metrics['novelty']['threshold']:.4g}",
        "event-bound": f"{bounds['event']:.6g}",
        "no-event-bound": f"{bounds['no_event']:.6g}",
        "conformal": f"On held-out stays the set held the true outcome in {_percent(held_out['event_coverage'])} of deaths and "
        f"{_percent(held_out['no_event_coverage'])} of survivals; it held both in {_percent(held_out['both'])} of stays.",
        "below-15": _meaning(low, "below {to:.0f} %"),
        "from-15": _meaning(middle, "of {from:.0f} to below {to:.0f} %"),
        "from-40": _meaning(high, "of {from:.0f} % or more"),
    }


def _meaning(band: dict[str, Any], words: str) -> str:
    bounds = words.format_map({"from": 100 * band["from"], "to": 100 * band["to"]})
    return (
        f"In held-out stays of the training hospital {_percent(band['died']['estimate'])} of people with an estimate "
        f"{bounds} died in hospital (95 % interval {_range(band['died'])})."
    )


def _range(estimate: dict[str, float]) -> str:
    return f"{_percent(estimate['low']).removesuffix(' %')}–{_percent(estimate['high'])}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < math.nextafter(0.1, 0) else f"{100 * share:.0f} %"
