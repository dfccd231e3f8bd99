"""The four ways to draw of the model card's plots: lines, a reliability curve, a forest of intervals, and bars.

Each gives one SVG of `plot_axes.WIDTH`; positions follow from its Axes alone, so a known number lands where its axis says.
To extend: a function of what is to be drawn that ends in `svg`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from model_artifacts.figures import number_words
from model_artifacts.metrics import Kind
from model_artifacts.plot_axes import (
    LEGEND_LINE,
    WIDTH,
    Axes,
    Point,
    Scale,
    bar,
    below,
    dot,
    fitting,
    legend,
    letters,
    line,
    make_axes,
    rule,
    spanned,
    svg,
    text,
    tick_words,
    whisker,
)

Content: TypeAlias = Mapping[str, Any]
"""A whole `metrics.json`, or an object in it."""

_ROW = 34  # of a forest or of bars: a line of words, and what is drawn under it
_STRIP = 34  # the histogram under a reliability curve
_MARK = 5.0
_EDGE = 10


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot: the card's section and heading it stands under, its title, how to read it, the SVG and its numbers' table.

    `rows` is empty where the card prints the whole section as a table anyway.
    """

    kind: Kind
    heading: str
    title: str
    reading: str
    svg: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """What a plot is called and what is on it, in words; `key` is unique on a page."""

    key: str
    title: str
    summary: str


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name and points (x, y); `low` and `high`, where given, are each point's interval."""

    name: str
    points: tuple[Point, ...]
    intervals: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Interval:
    """One row of a forest: a group, how many it has ("n 12", where there is room), a figure with its interval as written."""

    label: str
    size: str
    value: float
    low: float
    high: float
    shown: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What the rows of a forest are seen against, and what that is."""

    value: float
    words: str


@dataclass(frozen=True, slots=True)
class Reliable:
    """One group of people: how many, the mean prediction, and what was seen with its interval."""

    n: int
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Share:
    """One bar of a histogram: how many predictions lie from `low` to below `high`."""

    low: float
    high: float
    n: int


def lines_axes(
    series: Sequence[Series],
    names: tuple[str, str],
    x: tuple[float, float] | None = None,
    y: tuple[float, float] | None = None,
) -> Axes:
    """The axes that `draw_lines` uses: the ends given, else round numbers around all points and intervals."""
    points = [point for each in series for point in each.points]
    ends = [end for each in series for interval in each.intervals for end in interval]
    return make_axes(
        x or spanned(point[0] for point in points), y or spanned([*(point[1] for point in points), *ends]), names
    )


def draw_lines(
    named: Named,
    series: Sequence[Series],
    axes: Axes,
    reference: tuple[Point, Point] | None = None,
    marked: bool = False,
) -> str:
    """Lines with a legend below; `reference` is a thin line between two points of the data, `marked` puts a dot on each."""
    drawn = axes.draw()
    if reference:
        start, end = axes.place(reference)
        drawn.append(rule(start, end))
    for place, each in enumerate(series):
        drawn.append(line(axes.place(_above(each.points, axes.y.low)), place))
        drawn += [dot(point, place) for point in axes.place(each.points)] if marked else []
        for (x, _), (low, high) in zip(each.points, each.intervals, strict=False):
            drawn.append(whisker((axes.x.at(x), axes.y.at(low)), (axes.x.at(x), axes.y.at(high)), place))
    top = below(axes)
    drawn += legend([each.name for each in series], top)
    return svg(named.key, named.title, named.summary, top + LEGEND_LINE * len(series) + 4, drawn)


def _above(points: Sequence[Point], low: float) -> list[Point]:
    """The line's part above `low`, cut where it crosses: a curve that leaves the frame doesn't run along its edge."""
    kept: list[Point] = []
    for place, (x, y) in enumerate(points):
        before = points[place - 1] if place else None
        if before is not None and (y < low) != (before[1] < low):
            share = (low - before[1]) / (y - before[1])
            kept.append((before[0] + share * (x - before[0]), low))
        if y >= low:
            kept.append((x, y))
    return kept


def reliability_axes(groups: Sequence[Reliable], names: tuple[str, str], whole: bool) -> Axes:
    """Both scales alike; `whole` is the scale of a probability, which begins at 0 and ends at a round number up to 1."""
    values = [end for group in groups for end in (group.predicted, group.low, group.high)]
    low, high = spanned(values, 0.0) if whole else spanned(values)
    ends = (low, min(high, 1.0)) if whole else (low, high)
    return make_axes(ends, ends, names, height=282)


def draw_reliability(named: Named, groups: Sequence[Reliable], axes: Axes, shares: Sequence[Share] = ()) -> str:
    """Points with their intervals beside the diagonal, and beneath how many people had such predictions."""
    start, end = axes.place([(axes.x.low, axes.y.low), (axes.x.high, axes.y.high)])
    drawn = [*axes.draw(), rule(start, end)]
    for group in groups:
        x = axes.x.at(group.predicted)
        drawn.append(whisker((x, axes.y.at(group.low)), (x, axes.y.at(group.high)), 0))
        drawn.append(dot((x, axes.y.at(group.observed)), 0))
    floor = below(axes) + LEGEND_LINE + _STRIP
    drawn += _histogram(axes, floor, shares) if shares else _marks(axes, floor, groups)
    drawn.append(rule((axes.x.start, floor), (axes.x.end, floor)))
    return svg(named.key, named.title, named.summary, floor + 6, drawn)


def _histogram(axes: Axes, floor: float, shares: Sequence[Share]) -> Iterable[str]:
    most = max(1, *(share.n for share in shares))
    yield text(axes.x.start, below(axes) + 12, f"people by prediction, at most {most:,} in a bar", kind="tick")
    for share in shares:
        left, right, height = axes.x.at(share.low), axes.x.at(share.high), round(_STRIP * share.n / most, 1)
        yield bar((left, floor - height), round(right - left - 0.5, 1), height)


def _marks(axes: Axes, floor: float, groups: Sequence[Reliable]) -> Iterable[str]:
    """Where there is no histogram: a bar at each group's prediction."""
    most = max(1, *(group.n for group in groups), 1)
    yield text(axes.x.start, below(axes) + 12, f"people by prediction, at most {most:,} at a mark", kind="tick")
    for group in groups:
        height = round(_STRIP * group.n / most, 1)
        yield bar((round(axes.x.at(group.predicted) - _MARK / 2, 1), floor - height), _MARK, height)


def forest_scale(rows: Sequence[Interval], reference: Reference | None) -> Scale:
    """The scale of `draw_forest`: every interval and the reference are on it."""
    also = () if reference is None else (reference.value,)
    return Scale(*spanned([end for row in rows for end in (row.value, row.low, row.high)], *also), _EDGE, WIDTH - _EDGE)


def draw_forest(named: Named, rows: Sequence[Interval], reference: Reference | None, scale: Scale) -> str:
    """A line of words and an interval beneath it for each row, with a short thin line at the reference."""
    floor = _ROW * len(rows) + 6
    drawn: list[str] = []
    for place, row in enumerate(rows):
        top = _ROW * place
        drawn += _labelled(row.label, row.shown, top, row.size)
        if reference is not None:
            drawn.append(rule((scale.at(reference.value), top + 18), (scale.at(reference.value), top + 33)))
        drawn.append(whisker((scale.at(row.low), top + 25), (scale.at(row.high), top + 25), 0))
        drawn.append(dot((scale.at(row.value), top + 25), 0))
    drawn += _ruler(scale, floor)
    if reference is not None:
        drawn.append(text(_EDGE, floor + 32, fitting(reference.words, WIDTH - 2 * _EDGE)))
    return svg(named.key, named.title, named.summary, floor + (22 if reference is None else 38), drawn)


def draw_bars(named: Named, rows: Sequence[tuple[str, float]], scale: Scale) -> str:
    """A line of words and a bar from zero beneath it for each row."""
    floor = _ROW * len(rows) + 6
    drawn: list[str] = []
    for place, (label, value) in enumerate(rows):
        top = _ROW * place
        drawn += _labelled(label, number_words(value), top)
        drawn.append(bar((scale.start, top + 20), round(scale.at(value) - scale.start, 1), 9))
    return svg(named.key, named.title, named.summary, floor + 22, [*drawn, *_ruler(scale, floor)])


def bars_scale(rows: Sequence[tuple[str, float]]) -> Scale:
    """The scale of `draw_bars`: from zero to a round number."""
    return Scale(0.0, spanned((value for _, value in rows), 0.0)[1], _EDGE, WIDTH - _EDGE)


def _labelled(label: str, shown: str, top: float, size: str = "") -> list[str]:
    """The words at the left and the number at the right; what doesn't fit between them is cut, the size first."""
    room = WIDTH - 2 * _EDGE - letters(f"{shown}  ")
    whole = f"{label} ({size})" if size and letters(f"{label} ({size})") <= room else label
    return [text(_EDGE, top + 14, fitting(whole, room)), text(WIDTH - _EDGE, top + 14, shown, "end", "tick")]


def _ruler(scale: Scale, floor: float) -> Iterable[str]:
    yield rule((scale.start, floor), (scale.end, floor))
    for tick in scale.ticks():
        place = "middle"
        if math.isclose(scale.at(tick), scale.start):
            place = "start"
        elif math.isclose(scale.at(tick), scale.end):
            place = "end"
        yield text(scale.at(tick), floor + 15, tick_words(tick), place, "tick")


def capital(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"


def has_interval(figure: Any) -> bool:
    """Whether it is a figure as `metrics.json` has them, with both ends of its interval."""
    return isinstance(figure, dict) and {"estimate", "low", "high"} <= figure.keys()
