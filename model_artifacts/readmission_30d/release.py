"""Writes into the manifest what only the evaluation knows: digests, thresholds, bounds and what each band meant.

Owns the marks `@…@` of `manifest.template.toml`, so that no figure in the manifest is typed by hand.
"""

import json
from pathlib import Path
from typing import Any

from model_artifacts.training.release import file_digest, fill_template

LEAST_TOLERANCE = 1e-3
"""Probability; a gap that no card could show (a tenth of a point)."""
LISTED = (
    "diabetes.toml",
    "diabetes_drugs.toml",
    "drugs.toml",
    "encounter_words.toml",
    "hospice.toml",
    "icd10_to_icd9.toml",
    "reference.json",
    "vocabulary.toml",
)


def fill_manifest(folder: Path) -> None:
    """Makes `manifest.toml` from its template, `metrics.json`, `model.onnx` and the listed files."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    fill_template(folder, marks(metrics, folder))


def marks(metrics: dict[str, Any], folder: Path) -> dict[str, str]:
    """The value of every mark in the template."""
    gap, bounds = metrics["explanation"]["completeness_gap"]["max"], metrics["conformal"]["released"]
    held_out, model = metrics["conformal"]["held_out"], metrics["model"]
    read, without = metrics["as_read_from_a_record"], metrics["without_earlier_stays"]
    rivals = metrics["rivals"]
    below, average, raised, high = metrics["bands"]
    return {
        **{name: file_digest(folder / name) for name in ("model.onnx", *LISTED)},
        "completeness-tolerance": f"{max(LEAST_TOLERANCE, 2 * gap):.1e}",
        "novelty-threshold": f"{metrics['novelty']['threshold']:.4g}",
        "event-bound": f"{bounds['event']:.6g}",
        "no-event-bound": f"{bounds['no_event']:.6g}",
        "conformal": f"On held-out stays the set held the true outcome in {_percent(held_out['event_coverage'])} of those who "
        f"came back and {_percent(held_out['no_event_coverage'])} of those who did not; it held both in "
        f"{_percent(held_out['both'])} of stays.",
        "below-8": _meaning(below, "below {to:.0f} %"),
        "from-8": _meaning(average, "of {from:.0f} to below {to:.0f} %"),
        "from-15": _meaning(raised, "of {from:.0f} to below {to:.0f} %"),
        "from-25": _meaning(high, "of {from:.0f} % or more"),
        "stays": f"{metrics['cohort']['stays']:,}",
        "people": f"{metrics['cohort']['people']:,}",
        "events": f"{metrics['cohort']['events']:,}",
        "auroc": f"{model['auroc']['estimate']:.3f}",
        "pairs": f"{100 * model['auroc']['estimate']:.0f} %",
        "pairs-read": f"{100 * read['auroc']['estimate']:.0f} %",
        "auroc-read": f"{read['auroc']['estimate']:.3f}",
        "auroc-without": f"{without['auroc']['estimate']:.3f}",
        "auroc-boosting": f"{rivals['gradient_boosting']['auroc']['estimate']:.3f}",
        "auroc-teacher": f"{rivals['boosting_it_learned_from']['auroc']['estimate']:.3f}",
        "auroc-boosting-history": f"{rivals['gradient_boosting_with_history']['auroc']['estimate']:.3f}",
    }


def _meaning(band: dict[str, Any], words: str) -> str:
    bounds = words.format_map({"from": 100 * band["from"], "to": 100 * band["to"]})
    low, high = (f"{100 * band['came_back'][end]:.1f}" for end in ("low", "high"))
    return (
        f"In held-out stays of the training hospitals {_percent(band['came_back']['estimate'])} of people with an estimate "
        f"{bounds} were readmitted within 30 days (95 % interval {low}–{high} %)."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
