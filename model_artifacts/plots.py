"""The model card's plots: pure functions from the common sections of `metrics.json` to accessible SVG and the same numbers.

`plots_of` draws what the file holds, and `not_drawn` says what it doesn't hold; neither knows which model it is. A plot stands
under the card's heading `heading`; its table holds every number that is drawn (WCAG 2.2, 1.1.1). Sections, of which anything
else is ignored:

- `reliability`: rows of n, predicted, observed, low, high; of a quantity n, estimated, needed {estimate, low, high};
- `curves`: roc [[false positive rate, true positive rate], …], precision_recall [[recall, precision], …], decision
  [{threshold, model, treat_all, a rival's name: …}, …], and under `rivals` by name the rivals' roc and precision_recall;
- `subgroups`: rows of texts, n and figures {estimate, low, high};
- `attributions`: rows of label and mean_absolute;
- `risk_coverage`: rows of coverage and numbers;
- `horizons`: rows of hour and figures by model;
- `explanation_curves`: deletion and insertion, each by name a list of [share of inputs, output].

To extend: a drawing in `_DRAWINGS`; the ways to draw are in `plot_shapes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_artifacts.figures import Figure, cell_words, number_words
from model_artifacts.plot_shapes import Named, Reliable, draw_reliability, reliability_axes

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot: the card's heading it stands under, how to read it, the SVG, and the table of its numbers.

    `rows` is empty where the card's own table of that section holds the numbers already.
    """

    heading: str
    reading: str
    svg: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def reliability_plot(rows: Rows, unit: str = "", key: str = "reliability") -> Plot:
    """The reliability curve of rows as in the section `reliability`; `unit` is that of a quantity, "" a probability's.

    Raises:
        KeyError, TypeError, ValueError: a row lacks a number, or there is none.
    """
    groups = [_reliable(row) for row in rows]
    if not groups:
        raise ValueError("no group of people to draw")
    what = (f"estimate, {unit}", f"observed, {unit}") if unit else ("predicted probability", "share with the event")
    axes = reliability_axes(groups, what, whole=not unit)
    header = ("Group", "People", capital(what[0]), f"{capital(what[1])} (95 % interval)")
    table = tuple(
        (str(place), str(group.n), number_words(group.predicted), _interval_words(group))
        for place, group in enumerate(groups, start=1)
    )
    worst = max(groups, key=lambda group: abs(group.observed - group.predicted))
    summary = (
        f"{len(groups)} groups of {sum(group.n for group in groups):,} people in all, by {what[0]} from "
        f"{number_words(groups[0].predicted)} to {number_words(groups[-1].predicted)}. Farthest from the diagonal: predicted "
        f"{number_words(worst.predicted)}, observed {number_words(worst.observed)}. The table holds every number."
    )
    reading = (
        "People in groups of similar predictions: on the diagonal, as many had the event as was predicted; below it, fewer; "
        "above it, more. Bars: 95 % intervals."
        if not unit
        else "People in groups of similar estimates: on the diagonal, their mean is what was estimated; above it, it is more. "
        "Bars: 95 % intervals of the mean."
    )
    named = Named(key, "Reliability: predicted against observed", summary)
    return Plot("Reliability", reading, draw_reliability(named, groups, axes, "people"), header, table)


def _reliable(row: Mapping[str, Any]) -> Reliable:
    """A row's group, of a probability or of a quantity."""
    if "predicted" in row:
        return Reliable(int(row["n"]), *(float(row[name]) for name in ("predicted", "observed", "low", "high")))
    needed = row["needed"]
    return Reliable(
        int(row["n"]), float(row["estimated"]), *(float(needed[name]) for name in ("estimate", "low", "high"))
    )


def _interval_words(group: Reliable) -> str:
    return cell_words(Figure("", group.observed, group.low, group.high))


def capital(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"
