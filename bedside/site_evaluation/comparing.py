"""A site's figures beside the released ones, and in words whether they agree.

The released figures are those of the section `model` of the model's `metrics.json`. Fewer than 100 people with the event, or
without it, are too few to say (Vergouwe et al., J Clin Epidemiol 2005;58:475; Collins et al., Stat Med 2016;35:214): then the
words say so, whatever the figures are. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

FEWEST = 100
"""People with the event and without it, of quantities people in all, below which nothing is concluded."""

Verdict = Literal["too-few", "compatible", "unclear", "lower", "higher", "as-it-should-be", "off", "not-released"]

_IDEAL = {"calibration_slope": 1.0, "calibration_intercept": 0.0, "observed_to_expected": 1.0, "bias": 0.0}
_OFF = {
    "calibration_slope": ("risks are too extreme here", "risks are not spread enough here"),
    "calibration_intercept": ("risks are too high here", "risks are too low here"),
    "observed_to_expected": ("risks are too high here", "risks are too low here"),
    "bias": ("estimates are too low here", "estimates are too high here"),
}
_LOWER_IS_BETTER = frozenset({"brier", "mean_absolute_error", "false_negative_rate", "interval_width"})
_BY_PREVALENCE = frozenset({"auprc", "brier"})

Estimate = Mapping[str, float]


def released_figures(folder: Path) -> dict[str, dict[str, float]]:
    """The figures with intervals that the model was released with, by name; none where `metrics.json` has no such section."""
    try:
        section = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("model", {})
    except (OSError, ValueError, AttributeError):
        return {}
    if not isinstance(section, dict):
        return {}
    return {name: value for name, value in section.items() if _is_estimate(value)}


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), int | float) for key in ("estimate", "low", "high")
    )


def compare(
    site: Mapping[str, Estimate], released: Mapping[str, Estimate], events: int | None, people: int
) -> list[dict[str, Any]]:
    """A row for each figure of the site; `events` is None for a quantity."""
    fewest = people if events is None else min(events, people - events)
    return [_row(name, figure, released.get(name), fewest, events, people) for name, figure in site.items()]


def _row(
    name: str, site: Estimate, released: Estimate | None, fewest: int, events: int | None, people: int
) -> dict[str, Any]:
    verdict, said = _verdict(name, site, released)
    if fewest < FEWEST:
        what = f"people (n={people})"
        if events is not None:
            what = f"events (n={events})" if events == fewest else f"people without the event (n={fewest})"
        verdict, said = "too-few", f"too few {what} to say"
    ideal = {"ideal": _IDEAL[name]} if name in _IDEAL else {}
    return (
        {"measure": name, "site": dict(site)}
        | ideal
        | {"released": released and dict(released)}
        | {
            "verdict": verdict,
            "words": said,
        }
    )


def _verdict(name: str, site: Estimate, released: Estimate | None) -> tuple[Verdict, str]:
    if name in _IDEAL:
        return _against_ideal(name, site)
    if released is None:
        return "not-released", "no figure of this name was released"
    note = "; it also depends on how common the event is" if name in _BY_PREVALENCE else ""
    if site["low"] <= released["estimate"] <= site["high"]:
        return "compatible", "compatible with the released figure, which lies in this site's interval" + note
    if site["low"] <= released["high"] and released["low"] <= site["high"]:
        return "unclear", "the released figure lies outside this site's interval, and the intervals overlap" + note
    direction: Verdict = "lower" if site["estimate"] < released["estimate"] else "higher"
    judged = "worse" if (direction == "higher") == (name in _LOWER_IS_BETTER) else "better"
    return (
        direction,
        f"not compatible: {direction} here than released, which is {judged}; the intervals don't overlap" + note,
    )


def _against_ideal(name: str, site: Estimate) -> tuple[Verdict, str]:
    ideal = _IDEAL[name]
    if site["low"] <= ideal <= site["high"]:
        return "as-it-should-be", f"compatible with {ideal:g}, which is right"
    return "off", f"not compatible with {ideal:g}: {_OFF[name][0 if site['estimate'] < ideal else 1]}"
