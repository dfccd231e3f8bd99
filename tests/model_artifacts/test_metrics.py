"""`metrics.json` of any shape becomes figures, grids and notes, and no number is lost or invented."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.errors import ArtifactError
from model_artifacts.figures import Figure, Grid, cell_words
from model_artifacts.metrics import Section, parse_metrics, read_metrics

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


def test_metrics_of_different_members_make_no_grid() -> None:
    section = _only({"run": {"gap": {"p99": 0.1, "max": 0.2}, "milliseconds": {"p50": 6.4, "p99": 15.2}}})
    assert not section.grids
    assert [figure.name for figure in section.figures] == [
        "gap, p99",
        "gap, max",
        "milliseconds, p50",
        "milliseconds, p99",
    ]


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
