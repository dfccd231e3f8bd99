"""`metrics.json` of any shape becomes figures, grids and notes, and no number is lost or invented."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.errors import ArtifactError
from model_artifacts.metrics import Figure, Grid, Section, cell_words, number_words, parse_metrics, read_metrics, words

ESTIMATE = {"estimate": 0.8714, "low": 0.861, "high": 0.8812, "sd_of_folds": 0.004}


def _only(content: dict[str, Any]) -> Section:
    (section,) = parse_metrics(content)
    return section


def test_metrics_figure_has_its_interval_and_what_stands_beside_it() -> None:
    section = _only({"evaluation": {"auroc": ESTIMATE, "stays": 8000}})
    assert section.figures == (
        Figure("AUROC", 0.8714, 0.861, 0.8812, "95 % interval", (("sd of folds", 0.004),)),
        Figure("stays", 8000),
    )
    assert cell_words(section.figures[0]) == "0.871 (0.861 to 0.881)" or cell_words(section.figures[0]).endswith(
        "0.882)"
    )


def test_metrics_interquartile_range_is_not_called_an_interval() -> None:
    figure = _only({"published": {"c_statistic": {"median": 0.794, "interquartile": [0.763, 0.809]}}}).figures[0]
    assert (figure.value, figure.low, figure.high, figure.spread) == (0.794, 0.763, 0.809, "interquartile range")


def test_metrics_put_the_model_and_its_rivals_into_one_grid() -> None:
    content = {
        "model": {"auroc": ESTIMATE, "brier": 0.09},
        "rivals": {"gradient_boosting": {"auroc": ESTIMATE, "brier": 0.1}, "logistic": {"auroc": ESTIMATE}},
        "difference": {"gradient_boosting": {"auroc": {"estimate": 0.002, "low": -0.01, "high": 0.01}}},
    }
    (grid,) = _only(content).grids
    assert grid.columns == ("this model", "gradient boosting", "logistic", "this model minus gradient boosting")
    assert [name for name, _ in grid.rows] == ["AUROC", "Brier"]
    assert [cell_words(cell) for cell in grid.rows[1][1]] == ["0.09", "0.10", "not available", "not available"]


def test_metrics_put_groups_into_rows_named_by_their_texts() -> None:
    groups = [{"by": "sex", "group": "female", "n": 3500, "auroc": ESTIMATE}, {"by": "sex", "group": "male", "n": 4500}]
    (grid,) = _only({"subgroups": groups}).grids
    assert grid == Grid(
        "",
        ("n", "AUROC"),
        (
            ("sex female", (3500, Figure("", 0.8714, 0.861, 0.8812, "95 % interval", (("sd of folds", 0.004),)))),
            ("sex male", (4500, None)),
        ),
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("published", "published"),
        ("external_validation", "external"),
        ("subgroups", "subgroups"),
        ("reliability", "calibration"),
        ("conformal", "uncertainty"),
        ("cohort", "data"),
        ("run", "build"),
        ("cross_validation", "evaluation"),
    ],
)
def test_metrics_section_is_about_what_its_name_says(name: str, kind: str) -> None:
    assert _only({name: {"n": 1}}).kind == kind


def test_metrics_outside_of_sections_say_how_it_was_measured() -> None:
    section = _only({"what": "five folds", "member_auroc": [0.86, 0.8712], "converged": True})
    assert section.name == "general"
    assert section.notes == (("what", "five folds"), ("member AUROC", "0.86, 0.871"), ("converged", "yes"))


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (8000, "8000"),
        (8000.0, "8000"),
        (1, "1"),
        (1.0, "1.00"),
        (0.0, "0.00"),
        (0.87, "0.87"),
        (0.8714, "0.871"),
        (1.0449, "1.045"),
        (-0.0123, "-0.012"),
        (0.00231, "0.0023"),
        (2.384e-07, "2.4e-07"),
        (math.nan, "not defined"),
        (math.inf, "not defined"),
    ],
)
def test_metrics_numbers_are_shown_as_precisely_as_they_deserve(number: float, shown: str) -> None:
    assert number_words(number) == shown


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (Figure("", 0.8714, 0.861, 0.8812), "0.871 (0.861 to 0.881)"),
        (Figure("", 0.87, 0.8614, 0.8812), "0.870 (0.861 to 0.881)"),
        (Figure("", 1.03, 0.81, 1.16), "1.03 (0.81 to 1.16)"),
        (Figure("", 0.0051, -0.00025, 0.0097), "0.0051 (-0.0003 to 0.0097)"),
        (Figure("", -0.00031, -0.018, 0.021), "-0.0003 (-0.0180 to 0.0210)"),
        (Figure("", 0.5, math.nan, 1.0), "0.50 (not defined to 1.00)"),
        (Figure("", 0.5), "0.50"),
    ],
)
def test_metrics_interval_is_as_precise_as_its_figure(figure: Figure, shown: str) -> None:
    assert cell_words(figure) == shown


def test_metrics_of_different_members_make_no_grid() -> None:
    section = _only({"run": {"gap": {"p99": 0.1, "max": 0.2}, "milliseconds": {"p50": 6.4, "p99": 15.2}}})
    assert not section.grids
    assert [figure.name for figure in section.figures] == [
        "gap, p99",
        "gap, max",
        "milliseconds, p50",
        "milliseconds, p99",
    ]


def test_metrics_member_names_become_words() -> None:
    assert words("min_sensitivity_ppv") == "min sensitivity PPV"


_values = st.recursive(
    st.one_of(st.floats(-10, 10), st.integers(0, 9999), st.text("ab", max_size=3), st.booleans(), st.none()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["estimate", "low", "high", "n", "x", "y"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["model", "rivals", "difference", "subgroups", "other"]), _values, max_size=4))
def test_metrics_of_any_shape_are_read(content: dict[str, Any]) -> None:
    assert all(isinstance(section, Section) for section in parse_metrics(content))


@pytest.mark.parametrize("text", ["", "[]", "3", "{"])
def test_metrics_that_are_no_object_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"metrics\.json of"):
        read_metrics(tmp_path)


def test_metrics_that_are_missing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="FileNotFoundError"):
        read_metrics(tmp_path)


def test_metrics_file_is_read_in_its_own_order(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({"run": {"seed": 1}, "evaluation": {"n": 2}, "data": {"n": 3}}))
    assert [section.name for section in read_metrics(tmp_path)] == ["run", "evaluation", "data"]
