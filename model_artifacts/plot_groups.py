"""Plots about people and inputs: the reliability curve, the forest of subgroups, and the inputs' contributions.

The sections they read are in `plots`; one of another form raises KeyError, TypeError or ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from model_artifacts.figures import Figure, cell_words, number_words, words
from model_artifacts.plot_shapes import (
    Content,
    Interval,
    Named,
    Plot,
    Reference,
    Reliable,
    Share,
    bars_scale,
    capital,
    draw_bars,
    draw_forest,
    draw_reliability,
    forest_scale,
    has_interval,
    reliability_axes,
)

Rows = Sequence[Mapping[str, Any]]
MOST_BARS = 20


def reliability_plot(rows: Rows, unit: str = "", key: str = "reliability", histogram: Rows = ()) -> Plot:
    """The reliability curve of rows as in the section `reliability`; `unit` is that of a quantity, "" a probability's.

    Beneath it how many people had such predictions: by `histogram` (rows of from, to, n), else by the curve's own groups.

    Raises:
        KeyError, TypeError, ValueError: a row lacks a number, or there is none.
    """
    groups = [_reliable(row) for row in rows]
    if not groups:
        raise ValueError("no group of people to draw")
    what = (f"estimate, {unit}", f"observed, {unit}") if unit else ("predicted probability", "share with the event")
    axes = reliability_axes(groups, what, whole=not unit)
    header = ("Group", "People", capital(what[0]), f"{capital(what[1])} (interval)")
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
        "above it, more. Bars and brackets: 95 % intervals."
        if not unit
        else "People in groups of similar estimates: on the diagonal, their mean is what was estimated; above it, it is more. "
        "Bars and brackets: 95 % intervals of the mean."
    )
    named = Named(key, "Predicted against observed", summary)
    shares = tuple(Share(float(row["from"]), float(row["to"]), int(row["n"])) for row in histogram)
    drawn = draw_reliability(named, groups, axes, shares)
    return Plot("calibration", "Reliability", named.title, reading, drawn, header, table)


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


def reliability(content: Content, unit: str) -> Iterator[Plot]:
    yield reliability_plot(content["reliability"], unit, histogram=content.get("histogram", ()))


_RIGHT: Mapping[str, float] = {"calibration_slope": 1.0, "calibration_intercept": 0.0, "bias": 0.0}
"""Where a figure should be; the reference of others is the same figure of all people."""


def subgroups(content: Content, _unit: str) -> Iterator[Plot]:
    """A forest for each figure that two groups have with an interval."""
    rows: Rows = content["subgroups"]
    for metric in dict.fromkeys(key for row in rows for key in row):
        groups = [_interval(row, metric) for row in rows if has_interval(row.get(metric))]
        if len(groups) < 2:
            continue
        reference = _reference(content, metric)
        low, high = (edge(groups, key=lambda row: row.value) for edge in (min, max))
        summary = f"{len(groups)} groups, from {low.label}: {low.shown} to {high.label}: {high.shown}."
        named = Named(f"forest-{metric.replace('_', '-')}", f"{capital(words(metric))} by group", summary)
        drawn = draw_forest(named, groups, reference, forest_scale(groups, reference))
        yield Plot("subgroups", "By group", named.title, "", drawn)


def _reference(content: Content, metric: str) -> Reference | None:
    if metric in _RIGHT:
        return Reference(_RIGHT[metric], f"thin line: {_RIGHT[metric]:g}, where it should be")
    stated = content.get("conformal", {}).get("nominal")
    if metric.startswith("interval_coverage") and stated is not None:
        return Reference(float(stated), f"thin line: {number_words(stated)}, as stated")
    whole = content.get("model", {}).get(metric)
    if not has_interval(whole):
        return None
    return Reference(float(whole["estimate"]), f"thin line: all people, {number_words(whole['estimate'])}")


def _interval(row: Mapping[str, Any], metric: str) -> Interval:
    figure = row[metric]
    value, low, high = (float(figure[name]) for name in ("estimate", "low", "high"))
    label = " ".join(words(text) for text in row.values() if isinstance(text, str))
    size = f"n {row['n']:,}" if "n" in row else ""
    return Interval(label, size, value, low, high, _shown(value, low, high))


def _shown(value: float, low: float, high: float) -> str:
    return cell_words(Figure("", value, low, high))


def attributions(content: Content, unit: str) -> Iterator[Plot]:
    found = [(str(row["label"]), float(row["mean_absolute"])) for row in content["attributions"]]
    rows = found[:MOST_BARS]
    if not rows:
        return
    in_unit = f"in {unit}" if unit else "in probability (0.01 is a percentage point)"
    rest = f" The {len(found) - len(rows)} others are in metrics.json." if len(found) > len(rows) else ""
    reading = (
        f"Mean of the contributions' absolute sizes over the people of the test, {in_unit}: how far an input moves the "
        f"estimate, in either direction. It is the model's arithmetic, not a cause.{rest}"
    )
    title = "Contributions of the inputs"
    summary = (
        f"{len(rows)} inputs, largest first: {rows[0][0]} {number_words(rows[0][1])}. The table holds every number."
    )
    drawn = draw_bars(Named("attributions", title, summary), rows, bars_scale(rows))
    table = tuple((label, number_words(value)) for label, value in rows)
    yield Plot("explanation", title, title, reading, drawn, ("Input", "Mean absolute contribution"), table)
