"""Writes into the manifest what only the evaluation knows: digests, thresholds, bounds and what each band meant.

Owns the marks `@…@` of `manifest.template.toml`, so that no figure in the manifest is typed by hand.
"""

import json
import math
from pathlib import Path
from typing import Any

from model_artifacts.training.release import file_digest, fill_template

FOLDER = Path(__file__).parent
BANDS = ("below {to:.0f} %", "of {from:.0f} to below {to:.0f} %", "of {from:.0f} % or more")
LEAST_TOLERANCE = 1e-3
"""Probability; a gap that no card could show (a tenth of a point)."""


def fill_manifest(folder: Path) -> None:
    """Makes `manifest.toml` from its template, `metrics.json`, `model.onnx` and the listed files."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    fill_template(folder, marks(metrics, folder))


def marks(metrics: dict[str, Any], folder: Path) -> dict[str, str]:
    """The value of every mark in the template."""
    gap = metrics["explanation"]["completeness_gap"]["max"]
    conformal, horizons = metrics["conformal"], metrics["horizons"]
    latest = list(conformal["released"].values())[-1]
    died, survived = (_span([at[name] for at in horizons.values()]) for name in ("event_coverage", "no_event_coverage"))
    both = {name: at["both"] for name, at in horizons.items()}
    bands = zip(metrics["bands"], metrics["bands_24_h"], strict=True)
    low, middle, high = (_meaning(late, early, words) for (late, early), words in zip(bands, BANDS, strict=True))
    return {
        "model.onnx": file_digest(folder / "model.onnx"),
        "variables.toml": file_digest(FOLDER / "variables.toml"),
        "reference.json": file_digest(folder / "reference.json"),
        "completeness-tolerance": f"{max(LEAST_TOLERANCE, 2 * gap):.1e}",
        "novelty-threshold": f"{metrics['novelty']['threshold']:.4g}",
        "event-bound": f"{latest['event']:.6g}",
        "no-event-bound": f"{latest['no_event']:.6g}",
        "spans": "\n".join(_span_table(name, bounds) for name, bounds in conformal["released"].items()),
        "conformal": f"On held-out stays, looked at after 6 to 48 hours, the set held the true outcome in {died} of deaths and "
        f"{survived} of survivals; it held both in {_percent(both['48_h'])} of stays at 48 hours and in "
        f"{_percent(both['6_h'])} at 6.",
        "calibration-rules": "\n".join(_slope_rule(name) for name in horizons),
        "below-15": low,
        "from-15": middle,
        "from-40": high,
    }


def _slope_rule(name: str) -> str:
    """The gate's rule on calibration at an hour; the name is the metrics' `6_h`."""
    return (
        f'[[gate.rules]]\nname = "slope-at-{name.replace("_", "-")}"\nmetric = "horizons.{name}.calibration_slope"\n'
        'at_least = 0.9\nat_most = 1.1\nreason = "Estimates must be neither too extreme nor too timid, at every hour."'
    )


def _span_table(name: str, bounds: dict[str, float]) -> str:
    """Bounds from an hour on, as the manifest lists them; the name is the metrics' `from_6_h`."""
    hour = name.removeprefix("from_").removesuffix("_h")
    return (
        f"[[uncertainty.conformal.spans]]\nat_least = {float(hour):.1f}\n"
        f"event_bound = {bounds['event']:.6g}\nno_event_bound = {bounds['no_event']:.6g}"
    )


def _meaning(late: dict[str, Any], early: dict[str, Any], words: str) -> str:
    bounds = words.format_map({"from": 100 * late["from"], "to": 100 * late["to"]})
    return (
        f"In held-out stays of the training hospital {_percent(late['died']['estimate'])} of people with an estimate "
        f"{bounds} at 48 hours died in hospital (95 % interval {_range(late['died'])}), and "
        f"{_percent(early['died']['estimate'])} of those with one at 24 hours ({_range(early['died'])})."
    )


def _span(shares: list[float]) -> str:
    low, high = _percent(min(shares)), _percent(max(shares))
    return low if low == high else f"{low.removesuffix(' %')}–{high}"


def _range(estimate: dict[str, float]) -> str:
    return f"{_percent(estimate['low']).removesuffix(' %')}–{_percent(estimate['high'])}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < math.nextafter(0.1, 0) else f"{100 * share:.0f} %"
