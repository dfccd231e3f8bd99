"""A known number lands where the plot's own axes say; every number is in a table; hostile text stays text."""

import json
import math
import re
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from model_artifacts.plots import Plot, drawn_sections, not_drawn, plots_of, reliability_plot
from model_artifacts.training.evaluate import auroc

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</svg><script>alert("x")</script> & <b onload=y>'


def _figure(value: float) -> dict[str, float]:
    return {"estimate": value, "low": value - 0.02, "high": value + 0.03}


def _content() -> dict[str, Any]:
    """Every section, with curves of 500 people computed by hand here."""
    random = np.random.default_rng(7)
    odds = random.normal(-1.5, 1.5, 500)
    risks = 1 / (1 + np.exp(-odds))
    died = random.random(500) < risks
    cuts = np.quantile(risks, np.linspace(1, 0, 30))
    roc = [[float((risks[~died] >= cut).mean()), float((risks[died] >= cut).mean())] for cut in cuts]
    recall = [[float((risks[died] >= cut).mean()), float(died[risks >= cut].mean())] for cut in cuts]
    decision = [
        {
            "threshold": t,
            "model": float((died & (risks >= t)).mean() - (~died & (risks >= t)).mean() * t / (1 - t)),
            "treat_all": float(died.mean() - (1 - died.mean()) * t / (1 - t)),
            "rival": 0.01,
        }
        for t in (0.05, 0.1, 0.2, 0.4, 0.6)
    ]
    return {
        "model": {"auroc": _figure(float(auroc(risks, died.astype(np.int64))))},
        "reliability": [
            {"n": 300, "predicted": 0.05, "observed": 0.04, "low": 0.02, "high": 0.07},
            {"n": 150, "predicted": 0.21, "observed": 0.33, "low": 0.26, "high": 0.41},
            {"n": 50, "predicted": 0.62, "observed": 0.58, "low": 0.44, "high": 0.71},
        ],
        "curves": {
            "roc": roc,
            "precision_recall": recall,
            "decision": decision,
            "rivals": {"gradient_boosting": {"roc": [[0.0, 0.0], [0.3, 0.6], [1.0, 1.0]]}},
        },
        "subgroups": [
            {"by": "sex", "group": "female", "n": 240, "auroc": _figure(0.81), "calibration_slope": _figure(1.02)},
            {"by": "sex", "group": "male", "n": 260, "auroc": _figure(0.77), "calibration_slope": _figure(0.91)},
        ],
        "horizons": [
            {"hour": hour, "n": 500, "this_model": _figure(0.8 + hour / 1000), "gradient_boosting": _figure(0.79)}
            for hour in (6, 24, 48)
        ],
        "attributions": [
            {"input": "age", "label": "Age", "mean_absolute": 0.042},
            {"input": "gcs", "label": HOSTILE, "mean_absolute": 0.0213},
        ],
        "risk_coverage": [
            {"coverage": 1.0, "auroc": 0.8, "brier": 0.1},
            {"coverage": 0.7, "auroc": 0.83, "brier": 0.07},
            {"coverage": 0.3, "brier": 0.02},
        ],
        "explanation_curves": {
            "share_of_inputs": [0.0, 0.5, 1.0],
            "deletion": {"this_model": [0.3, 0.1, 0.05], "random": [0.3, 0.2, 0.05]},
            "insertion": {"this_model": [0.05, 0.25, 0.3], "random": [0.05, 0.15, 0.3]},
        },
    }


class Read(NamedTuple):
    """A plot as somebody with a ruler reads it: x and y of the data from the drawing's, by the ticks' labels."""

    root: ET.Element
    slope: tuple[float, float]
    at_zero: tuple[float, float]

    def data(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.at_zero[0]) / self.slope[0], (y - self.at_zero[1]) / self.slope[1]

    def line(self, series: int) -> list[tuple[float, float]]:
        path = next(item for item in self.root.iter(f"{SVG}path") if _is(item, series))
        numbers = [pair.split() for pair in path.get("d", "")[1:].split("L")]
        return [self.data(float(x), float(y)) for x, y in numbers]


def _is(item: ET.Element, series: int) -> bool:
    return item.get("class") == f"s{series}"


def _number(words: str) -> float:
    return float(words.replace("−", "-"))


def _read(plot: Plot, up: bool = True) -> Read:
    root = ET.fromstring(plot.svg)
    ticks = [
        item
        for item in root.iter(f"{SVG}text")
        if item.get("class") == "tick" and re.fullmatch(r"[−\d.]+", item.text or "")
    ]
    across = [
        (_number(tick.text or ""), float(tick.get("x", ""))) for tick in ticks if tick.get("text-anchor") == "middle"
    ]
    upward = [
        (_number(tick.text or ""), float(tick.get("y", "")) - 4) for tick in ticks if tick.get("text-anchor") == "end"
    ]
    (across_slope, across_zero), (up_slope, up_zero) = _scale(across), _scale(upward if up else [])
    return Read(root, (across_slope, up_slope), (across_zero, up_zero))


def _scale(ticks: list[tuple[float, float]]) -> tuple[float, float]:
    """Drawing units per unit of the data, and where zero is, by the first and the last tick."""
    if len(ticks) < 2:
        return 1.0, 0.0
    (low, start), (high, end) = min(ticks), max(ticks)
    slope = (end - start) / (high - low)
    return slope, start - slope * low


def _plot(title: str, content: dict[str, Any] | None = None, unit: str = "") -> Plot:
    return next(plot for plot in plots_of(content or _content(), unit) if plot.title == title)


def _near(found: tuple[float, float], wanted: tuple[float, float], slack: float) -> bool:
    return math.dist(found, wanted) <= slack


def test_plots_reliability_points_lie_at_their_prediction_and_what_was_observed() -> None:
    plot = _read(reliability_plot(_content()["reliability"]))
    dots = [plot.data(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in plot.root.iter(f"{SVG}circle")]
    assert len(dots) == 3
    assert all(
        _near(found, wanted, 0.001)
        for found, wanted in zip(dots, [(0.05, 0.04), (0.21, 0.33), (0.62, 0.58)], strict=True)
    )


def test_plots_reliability_intervals_reach_from_low_to_high() -> None:
    plot = _read(reliability_plot(_content()["reliability"]))
    bars = [re.findall(r"[\d.]+", item.get("d", "")) for item in plot.root.iter(f"{SVG}path") if _is(item, 0)]
    ends = [(plot.data(float(x), float(low)), plot.data(float(x), float(high))) for x, low, _, high in bars]
    assert _near(ends[1][0], (0.21, 0.26), 0.001)
    assert _near(ends[1][1], (0.21, 0.41), 0.001)


def test_plots_reliability_of_a_quantity_names_its_unit() -> None:
    rows = [
        {
            "n": 9,
            "estimated": 20.0 + 9 * i,
            "needed": {"estimate": 21.0 + 9 * i, "low": 20.0 + 9 * i, "high": 25.0 + 9 * i},
        }
        for i in (0, 1)
    ]
    plot = reliability_plot(rows, "mg/week")
    read = _read(plot)
    assert "estimate, mg/week" in plot.svg
    assert plot.rows[0] == ("1", "9", "20", "21.00 (20.00 to 25.00)")
    (first, _) = [
        read.data(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in read.root.iter(f"{SVG}circle")
    ]
    assert _near(first, (20, 21), 0.05)


def test_plots_histogram_bars_are_as_high_as_their_share() -> None:
    histogram = [{"from": 0.0, "to": 0.1, "n": 400}, {"from": 0.1, "to": 0.3, "n": 100}]
    root = ET.fromstring(reliability_plot(_content()["reliability"], histogram=histogram).svg)
    tall, low = (float(bar.get("height", "")) for bar in root.iter(f"{SVG}rect"))
    assert tall == 4 * low
    assert "at most 400 in a bar" in "".join(root.itertext())


def test_plots_roc_line_encloses_the_area_that_the_figure_says() -> None:
    content = _content()
    line = _read(_plot("Receiver operating characteristic")).line(0)
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(line))
    assert area == pytest.approx(content["model"]["auroc"]["estimate"], abs=0.02)


def test_plots_rivals_line_is_drawn_beside_the_models_and_dashed() -> None:
    read = _read(_plot("Receiver operating characteristic"))
    assert _near(read.line(1)[1], (0.3, 0.6), 0.002)
    dashes = {
        item.get("class"): item.get("stroke-dasharray")
        for item in read.root.iter(f"{SVG}path")
        if item.get("fill") == "none"
    }
    assert dashes["s0"] is None
    assert dashes["s1"]
    assert "gradient boosting" in "".join(read.root.itertext())


def test_plots_decision_curve_leaves_the_frame_where_it_falls_below_it() -> None:
    rows = _content()["curves"]["decision"]
    read = _read(_plot("Decision curve"))
    everybody = read.line(2)
    assert _near(everybody[0], (0.05, rows[0]["treat_all"]), 0.003)
    floor = min(y for _, y in everybody)
    before, after = next((a, b) for a, b in pairwise(rows) if b["treat_all"] < floor - 0.001)
    share = (floor - before["treat_all"]) / (after["treat_all"] - before["treat_all"])
    assert everybody[-1][0] == pytest.approx(
        before["threshold"] + share * (after["threshold"] - before["threshold"]), abs=0.01
    )


def test_plots_horizons_show_every_hour_with_its_interval() -> None:
    read = _read(_plot("AUROC by hour"))
    assert [pytest.approx(x, abs=0.3) for x, _ in read.line(0)] == [6, 24, 48]
    assert _near(read.line(0)[2], (48, 0.848), 0.3)
    marks = list(read.root.iter(f"{SVG}circle"))
    assert read.data(float(marks[2].get("cx", "")), float(marks[2].get("cy", "")))[1] == pytest.approx(0.848, abs=0.001)


@pytest.mark.parametrize(
    ("title", "values"), [("AUROC by group", (0.81, 0.77)), ("Calibration slope by group", (1.02, 0.91))]
)
def test_plots_forest_marks_lie_at_their_figures(title: str, values: tuple[float, float]) -> None:
    read = _read(_plot(title), up=False)
    marks = [read.data(float(mark.get("cx", "")), 0.0)[0] for mark in read.root.iter(f"{SVG}circle")]
    assert marks == [pytest.approx(value, abs=0.002) for value in values]
    assert "sex female (n 240)" in "".join(read.root.itertext())


def test_plots_forest_stands_against_all_people_or_what_is_right() -> None:
    content = _content()
    content["model"]["auroc"]["estimate"] = 0.795
    read = _read(_plot("AUROC by group", content), up=False)
    (rule, _) = [item for item in read.root.iter(f"{SVG}path") if item.get("class") == "rule"][:2]
    assert read.data(float(re.findall(r"[\d.]+", rule.get("d", ""))[0]), 0.0)[0] == pytest.approx(0.795, abs=0.002)
    assert "thin line: all people, 0.795" in "".join(read.root.itertext())
    groups = [{"by": "sex", "group": name, "interval_coverage": _figure(0.9)} for name in ("female", "male")]
    stated = {"subgroups": groups, "conformal": {"nominal": 0.9}}
    assert "thin line: 0.90, as stated" in _plot("Interval coverage by group", stated).svg
    assert "thin line: 1, where it should be" in _plot("Calibration slope by group").svg


def test_plots_bars_are_as_long_as_their_contributions() -> None:
    read = _read(_plot("Contributions of the inputs"), up=False)
    long, short = (float(bar.get("width", "")) for bar in read.root.iter(f"{SVG}rect"))
    assert short / long == pytest.approx(0.0213 / 0.042, abs=0.01)
    assert long == pytest.approx(0.042 * read.slope[0], abs=0.2)


def test_plots_of_coverage_leave_out_what_is_not_defined_there() -> None:
    assert len(_read(_plot("AUROC if the least certain are left out")).line(0)) == 2
    assert len(_read(_plot("Brier if the least certain are left out")).line(0)) == 3


def test_plots_of_deletion_share_their_scale() -> None:
    read = _read(_plot("Deletion"))
    assert _near(read.line(0)[1], (0.5, 0.1), 0.005)
    assert _near(read.line(1)[1], (0.5, 0.2), 0.005)


@pytest.mark.parametrize("plot", plots_of(_content()), ids=lambda plot: str(plot.title))
def test_plots_are_named_described_and_inert(plot: Plot) -> None:
    root = ET.fromstring(plot.svg)
    ids = {item.get("id") for item in root if item.get("id")}
    assert {root.get("aria-labelledby"), root.get("aria-describedby")} == ids
    assert root.get("role") == "img"
    assert all(item.text for item in root if item.tag in {f"{SVG}title", f"{SVG}desc"})
    assert not {item.tag for item in root.iter()} & {f"{SVG}script", f"{SVG}style", f"{SVG}b", f"{SVG}foreignObject"}
    assert not any(
        name == "style" or name.startswith("on") or "href" in name for item in root.iter() for name in item.attrib
    )
    width, height = (float(part) for part in root.get("viewBox", "").split()[2:])
    for item in root.iter(f"{SVG}text"):
        assert 0 <= float(item.get("x", "")) <= width
        assert 0 <= float(item.get("y", "")) <= height


def test_plots_have_no_two_elements_of_one_id() -> None:
    ids = re.findall(r' id="([^"]+)"', "".join(plot.svg for plot in plots_of(_content())))
    assert len(ids) == len(set(ids)) >= 20


def test_plots_hostile_labels_stay_text() -> None:
    plot = _plot("Contributions of the inputs")
    assert "<script" not in plot.svg
    assert plot.rows[1][0] == HOSTILE
    assert any((item.text or "").startswith("</svg><script>") for item in ET.fromstring(plot.svg).iter())


def test_plots_tables_hold_the_drawn_numbers() -> None:
    assert _plot("Predicted against observed").rows[1] == ("2", "150", "0.21", "0.33 (0.26 to 0.41)")
    assert _plot("Contributions of the inputs").rows[0] == ("Age", "0.042")
    assert ("gradient boosting", "0.30", "0.60") in _plot("Receiver operating characteristic").rows
    assert all(plot.rows or plot.heading in {"By group", "Horizons"} for plot in plots_of(_content()))


def test_plots_tables_of_curves_are_thinned_but_keep_their_ends() -> None:
    roc = _content()["curves"]["roc"]
    rows = [row for row in _plot("Receiver operating characteristic").rows if row[0] == "this model"]
    assert len(rows) == 15
    assert rows[-1][1:] == ("1.00", "1.00")
    assert _plot("Receiver operating characteristic").reading.endswith(
        "15 points of each line; metrics.json holds all."
    )
    assert "points of each line" not in _plot("Decision curve").reading
    assert float(rows[0][2]) == pytest.approx(roc[0][1], abs=0.001)


@pytest.mark.parametrize(
    "section", ["curves", "reliability", "subgroups", "attributions", "risk_coverage", "explanation_curves"]
)
def test_plots_that_are_missing_are_named_with_the_reason(section: str) -> None:
    whole, content = _content(), _content()
    del content[section]
    assert not not_drawn(whole)
    (line,) = not_drawn(content)
    assert line.endswith(f": `metrics.json` has no section `{section}`")
    assert len(plots_of(content)) < len(plots_of(whole))
    assert section not in drawn_sections(content)


def test_plots_by_hour_are_missed_by_no_model_that_has_but_one_moment() -> None:
    content = {key: value for key, value in _content().items() if key != "horizons"}
    assert not not_drawn(content)
    assert "AUROC by hour" not in {plot.title for plot in plots_of(content)}


@pytest.mark.parametrize("value", [[], {}, "text", [{"n": 1}], [[1]], None, 3, {"roc": [[1]], "deletion": {"x": [1]}}])
def test_plots_of_another_form_are_not_drawn_and_not_hidden(value: Any) -> None:
    for section in _content():
        content = {**_content(), section: value}
        assert section not in drawn_sections(content)
        assert all(ET.fromstring(plot.svg) is not None for plot in plots_of(content))


def test_plots_of_quantities_do_not_miss_what_has_no_meaning_for_them() -> None:
    content = {key: value for key, value in _content().items() if key not in {"curves", "reliability"}}
    assert [line.split(":")[0] for line in not_drawn(content, "mg/week")] == ["reliability curve"]
    assert len(not_drawn(content)) == 2


@pytest.mark.parametrize("model", ["icu_mortality", "warfarin_dose"])
def test_plots_of_a_released_model_fit_its_page(model: str) -> None:
    content = json.loads((Path(str(files(f"model_artifacts.{model}"))) / "metrics.json").read_text())
    plots = plots_of(content)
    assert {plot.title for plot in plots} >= {"Predicted against observed"}
    assert sum(len(plot.svg) for plot in plots) < 150_000
