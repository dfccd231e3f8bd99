"""Scales, axes and marks of the model card's plots, written as SVG text: no library, no script, no style attribute.

Coordinates are user units of a viewBox `WIDTH` wide, so a plot fits any page; y grows downwards as in SVG 1.1. Every line of
text is escaped here. Colour comes from the page: marks carry the classes `s0` (this model), `s1`, `s2`, … (what it is compared
with), `grid`, `tick`; without a style sheet they are drawn in the text's colour, and series still differ by their dashes.

To extend: another mark is a function that returns one SVG element.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 340
"""Of every viewBox: at 320 CSS pixels of screen the letters are still 10 pixels high."""
LETTER = 12
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 8, 40
_LETTER_WIDTH = 6.2  # of a sans-serif letter of this size, on average; generous, so that nothing is cut off
_FAINT = 'stroke="currentColor" stroke-opacity=".18"'
_SMALLEST = 1e-9  # below it, relative to their size, numbers are drawn as one
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "1 5")

_NOT_IN_ID = re.compile(r"[^a-z0-9]+")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps `low`…`high` of the data onto `start`…`end` of the drawing, linearly."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where `value` is drawn, to a tenth of a unit; what lies outside is drawn at the nearer end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> tuple[float, ...]:
        """Four to eight round numbers within the scale."""
        step = round_step(self.high - self.low)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(round(place * step, 10) for place in range(first, last + 1))


def round_step(extent: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that divides `extent` into at least four parts."""
    power = 10.0 ** math.floor(math.log10(extent / 4))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= extent / 4 * (1 + 1e-9))


def spanned(values: Iterable[float], *also: float) -> tuple[float, float]:
    """The round numbers just below and above all finite values and `also`; never the same number twice."""
    known = [value for value in (*values, *also) if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    size = max(abs(low), abs(high), _SMALLEST)
    if high - low < _SMALLEST * size:
        low, high = low - 0.5 * size, high + 0.5 * size
    step = round_step(high - low)
    return step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)


@dataclass(frozen=True, slots=True)
class Axes:
    """A frame with a horizontal and a vertical scale and their names."""

    x: Scale
    y: Scale
    x_name: str
    y_name: str

    def place(self, points: Iterable[Point]) -> list[Point]:
        """The points in the drawing's coordinates; those that aren't finite are left out."""
        finite = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
        return [(self.x.at(x), self.y.at(y)) for x, y in finite]

    def draw(self) -> list[str]:
        """Grid, tick labels and the names of the axes."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        marks = [
            f'<path class="grid" {_FAINT} d="M{left:g} {self.y.at(tick):g}H{right:g}"/>' for tick in self.y.ticks()
        ]
        marks += [
            f'<path class="grid" {_FAINT} d="M{self.x.at(tick):g} {bottom:g}V{top:g}"/>' for tick in self.x.ticks()
        ]
        marks += [text(left - 5, self.y.at(tick) + 4, tick_words(tick), "end", "tick") for tick in self.y.ticks()]
        marks += [text(self.x.at(tick), bottom + 15, tick_words(tick), "middle", "tick") for tick in self.x.ticks()]
        middle = (top + bottom) / 2
        name = f'<text x="11" y="{middle:g}" transform="rotate(-90 11 {middle:g})" text-anchor="middle">'
        return [
            *marks,
            f'<path class="axis" fill="none" stroke="currentColor" d="M{left:g} {top:g}V{bottom:g}H{right:g}"/>',
            text((left + right) / 2, bottom + 32, self.x_name, "middle"),
            f"{name}{escape(fitting(self.y_name, bottom - top))}</text>",
        ]


def make_axes(
    x: tuple[float, float], y: tuple[float, float], names: tuple[str, str], top: float = _TOP, height: float = 250
) -> Axes:
    """Axes over the whole width, from `top` down to `top` + `height`; `x` and `y` are the ends of their scales."""
    return Axes(Scale(*x, _LEFT, WIDTH - _RIGHT), Scale(*y, top + height, top), *names)


def below(axes: Axes) -> float:
    """Where there is room again under the names of the axes."""
    return axes.y.start + _BOTTOM


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    """Words with their baseline at (x, y); `anchor` is start, middle or end."""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def fitting(words: str, width: float) -> str:
    """The words, or as many of their letters as fit into `width` with an ellipsis."""
    most = max(2, int(width / _LETTER_WIDTH + 1e-9))
    return words if len(words) <= most else f"{words[: most - 1].rstrip()}…"


def letters(words: str) -> float:
    """The width that the words need at most, roughly."""
    return len(words) * _LETTER_WIDTH


def line(points: Sequence[Point], series: int) -> str:
    """A line through points of the drawing, dashed by its series."""
    path = "L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path class="s{series}" fill="none" stroke="currentColor"{_dashes(series)} d="M{path}"/>' if path else ""


def rule(start: Point, end: Point) -> str:
    """A thin line of reference."""
    path = f"M{start[0]:g} {start[1]:g}L{end[0]:g} {end[1]:g}"
    return f'<path class="rule" stroke="currentColor" stroke-opacity=".55" d="{path}"/>'


def dot(point: Point, series: int) -> str:
    """A mark at a point: a disc for this model, a square for others."""
    x, y = point
    if not series:
        return f'<circle class="s0" fill="currentColor" cx="{x:g}" cy="{y:g}" r="3.5"/>'
    return f'<rect class="s{series}" fill="currentColor" x="{x - 3:g}" y="{y - 3:g}" width="6" height="6"/>'


def whisker(start: Point, end: Point, series: int) -> str:
    """An interval between two points."""
    path = f"M{start[0]:g} {start[1]:g}L{end[0]:g} {end[1]:g}"
    return f'<path class="s{series}" fill="none" stroke="currentColor" d="{path}"/>'


def bar(corner: Point, width: float, height: float, series: int = 0) -> str:
    """A filled bar from its upper left corner."""
    size = f'width="{max(width, 0):g}" height="{max(height, 0):g}"'
    return (
        f'<rect class="s{series}" x="{corner[0]:g}" y="{corner[1]:g}" {size} fill="currentColor" fill-opacity=".55"/>'
    )


def legend(names: Sequence[str], top: float) -> list[str]:
    """A line for each series, `LEGEND_LINE` apart, with a sample of its stroke."""
    drawn: list[str] = []
    for series, name in enumerate(names):
        y = top + LEGEND_LINE * (series + 0.5)
        drawn += [line([(_LEFT, y), (_LEFT + 28, y)], series)]
        drawn += [text(_LEFT + 36, y + 4, fitting(name, WIDTH - _LEFT - 40))]
    return drawn


LEGEND_LINE = 18


def svg(key: str, title: str, summary: str, height: float, marks: Iterable[str]) -> str:
    """The plot as one SVG element: named by its title, described by its summary; `key` makes its ids."""
    plain = _NOT_IN_ID.sub("-", key.lower())
    ids = f"{plain}-title", f"{plain}-desc"
    return (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-labelledby="{ids[0]}" aria-describedby="{ids[1]}" font-size="{LETTER}" fill="currentColor">'
        f'<title id="{ids[0]}">{escape(title)}</title><desc id="{ids[1]}">{escape(summary)}</desc>{"".join(marks)}</svg>'
    )


def tick_words(value: float) -> str:
    """A round number as an axis shows it."""
    return f"{value:g}".replace("-", "−")


def _dashes(series: int) -> str:
    dashes = _DASHES[series % len(_DASHES)]
    return f' stroke-dasharray="{dashes}"' if dashes else ""
