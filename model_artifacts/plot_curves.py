"""Plots that are lines: ROC, precision-recall and decision curves, AUROC by hour, risk by coverage, deletion and insertion.

The sections they read are in `plots`; one of another form raises KeyError, TypeError or ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_artifacts.figures import number_words, words
from model_artifacts.plot_shapes import Content, Named, Plot, Series, capital, draw_lines, has_interval, lines_axes

Rows = Sequence[Mapping[str, Any]]
Line = tuple[tuple[float, float], tuple[float, float]]

MOST_ROWS = 15
"""Of a curve's table, for each line: what is between them is in metrics.json."""
THIS_MODEL = "this model"
_ACT_ON_ALL = "act on everybody"


@dataclass(frozen=True, slots=True)
class _Curve:
    """A curve with all its points in the unit square: member of `curves`, names of its axes, and its line of chance."""

    member: str
    title: str
    names: tuple[str, str]
    reading: str
    chance: Line | None


_UNIT_SQUARE_CURVES = (
    _Curve(
        "roc",
        "Receiver operating characteristic",
        ("false positive rate", "true positive rate"),
        "For every threshold: how many of those with the event are found, against how many of those without it are raised "
        "in vain. The thin diagonal is chance.",
        ((0.0, 0.0), (1.0, 1.0)),
    ),
    _Curve(
        "precision_recall",
        "Precision and recall",
        ("recall (sensitivity)", "precision (positive predictive value)"),
        "For every threshold: which share of those raised have the event, against which share of those with it are found. The "
        "thin line is chance: the share of all people who have it.",
        None,
    ),
)


def curves(content: Content, _unit: str) -> Iterator[Plot]:
    curves = content["curves"]
    for curve in _UNIT_SQUARE_CURVES:
        if curve.member in curves:
            lines = [Series(THIS_MODEL, _pairs(curves[curve.member]))]
            rivals = curves.get("rivals", {}).items()
            lines += [
                Series(words(name), _pairs(rival[curve.member])) for name, rival in rivals if curve.member in rival
            ]
            share = curves.get("prevalence")
            yield _curve(curve, lines, curve.chance or (share and ((0.0, share), (1.0, share))))
    if "decision" in curves:
        yield _decision(curves["decision"])


def _curve(curve: _Curve, lines: Sequence[Series], chance: Line | None) -> Plot:
    key = curve.member.replace("_", "-")
    summary = f"{_listed(lines)} in the unit square, {curve.names[1]} by {curve.names[0]}. The table holds the numbers."
    axes = lines_axes(lines, curve.names, (0.0, 1.0), (0.0, 1.0))
    drawn = draw_lines(Named(key, curve.title, summary), lines, axes, chance)
    header, rows = _lines_table(lines, curve.names)
    return Plot("evaluation", curve.title, curve.title, curve.reading + _thinning(lines), drawn, header, rows)


def _decision(rows: Rows) -> Plot:
    named = [key for key in rows[0] if key != "threshold"]
    lines = [
        Series(_decision_name(key), tuple((float(row["threshold"]), float(row[key])) for row in rows)) for key in named
    ]
    lines.sort(key=lambda each: {THIS_MODEL: 0, _ACT_ON_ALL: 2}.get(each.name, 1))
    best = max(y for each in lines for _, y in each.points)
    axes = lines_axes(lines, ("threshold probability", "net benefit"), None, (-0.25 * best, 1.1 * best))
    title = "Decision curve"
    reading = (
        "Net benefit (Vickers and Elkin 2006): true positives less false ones weighed by the odds of the threshold at which "
        "one would act, per person. A model is of use where its line is the highest; zero is to act on nobody."
    )
    summary = f"{_listed(lines)} by threshold probability; the thin line is zero. The table holds the numbers."
    drawn = draw_lines(Named("decision", title, summary), lines, axes, ((axes.x.low, 0.0), (axes.x.high, 0.0)))
    header = ("Threshold", *(capital(each.name) for each in lines))
    points = _thinned(list(zip(*(each.points for each in lines), strict=True)))
    table = tuple((number_words(each[0][0]), *(number_words(y) for _, y in each)) for each in points)
    return Plot("evaluation", title, title, reading + _thinning(lines), drawn, header, table)


def _decision_name(key: str) -> str:
    return {"model": THIS_MODEL, "treat_all": _ACT_ON_ALL}.get(key, words(key))


def horizons(content: Content, _unit: str) -> Iterator[Plot]:
    rows: Rows = content["horizons"]
    named = [key for key in rows[0] if has_interval(rows[0][key])]
    lines = [_horizon_line(rows, key) for key in named]
    if not lines:
        return
    names = "hours after admission", "AUROC"
    axes = lines_axes(lines, names)
    title = "AUROC by hour"
    summary = f"{_listed(lines)} at {len(rows)} times. Bars are 95 % intervals. The table holds the numbers."
    drawn = draw_lines(Named("horizons", title, summary), lines, axes, marked=True)
    yield Plot("evaluation", "Horizons", title, "", drawn)


def _horizon_line(rows: Rows, key: str) -> Series:
    hours = [float(row["hour"]) for row in rows]
    figures = [row[key] for row in rows]
    points = zip(hours, (float(figure["estimate"]) for figure in figures), strict=True)
    return Series(words(key), tuple(points), tuple((float(figure["low"]), float(figure["high"])) for figure in figures))


def risk_coverage(content: Content, _unit: str) -> Iterator[Plot]:
    rows: Rows = content["risk_coverage"]
    for metric in dict.fromkeys(key for row in rows for key in row if key not in {"coverage", "n"}):
        line = Series(THIS_MODEL, _pairs((row["coverage"], row[metric]) for row in rows if metric in row))
        title = f"{capital(words(metric))} if the least certain are left out"
        summary = f"{capital(words(metric))} by the share of people who get an answer. The table holds the numbers."
        names = "share of people who get an answer", words(metric)
        drawn = draw_lines(
            Named(f"coverage-{metric.replace('_', '-')}", title, summary), [line], lines_axes([line], names)
        )
        header, table = _lines_table([line], names)
        reading = (
            "What it would be if those of whom the model is least sure got no answer: from right to left more of them. "
            "When it does not answer in service is said under “When it does not answer”."
        )
        yield Plot("uncertainty", title, title, reading, drawn, header, table)


_CURVES_OF_EXPLANATION: Mapping[str, tuple[str, str]] = {
    "deletion": (
        "Deletion",
        "Inputs are set to the baseline, the most important first: the lower the line, the better the order names what counts.",
    ),
    "insertion": (
        "Insertion",
        "From the baseline, inputs are given back, the most important first: the higher the line, the better the order.",
    ),
}


def explanation_curves(content: Content, unit: str) -> Iterator[Plot]:
    found = content["explanation_curves"]
    for member, (title, reading) in _CURVES_OF_EXPLANATION.items():
        lines = [Series(words(name), _shared(found, values)) for name, values in found.get(member, {}).items()]
        if not lines:
            continue
        names = "share of the inputs moved", f"mean estimate, {unit}" if unit else "mean estimate"
        summary = f"{_listed(lines)} by share of the inputs moved. The table holds the numbers."
        drawn = draw_lines(Named(member, title, summary), lines, lines_axes(lines, names))
        header, rows = _lines_table(lines, names)
        yield Plot("explanation", title, title, reading + _thinning(lines), drawn, header, rows)


def _shared(found: Content, values: Any) -> tuple[tuple[float, float], ...]:
    """The points of a list of estimates at the shares that all curves have."""
    return _pairs(zip(found["share_of_inputs"], values, strict=True))


def _lines_table(
    lines: Sequence[Series], names: tuple[str, str]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Each line's points one under the other; at most `MOST_ROWS` of each."""
    rows = [
        (each.name, number_words(x), number_words(y))
        for each in lines
        for x, y in _thinned(list(each.points), MOST_ROWS)
    ]
    return ("Line", *map(capital, names)), tuple(rows)


def _thinning(lines: Sequence[Series]) -> str:
    """Says so where the table leaves points out."""
    if all(len(each.points) <= MOST_ROWS for each in lines):
        return ""
    return f" The table holds {MOST_ROWS} points of each line; metrics.json holds all."


def _thinned(items: Sequence[Any], most: int = MOST_ROWS) -> list[Any]:
    """At most `most` of the items, evenly, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _pairs(value: Any) -> tuple[tuple[float, float], ...]:
    points = tuple((float(x), float(y)) for x, y in value)
    if not points:
        raise ValueError("a curve without points")
    return points


def _listed(lines: Sequence[Series]) -> str:
    return ", ".join(each.name for each in lines)
