"""A number on the card is as precise as it deserves, and its interval as precise as the number."""

import math

import pytest

from model_artifacts.figures import Figure, cell_words, number_words, words


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
def test_figures_numbers_are_shown_as_precisely_as_they_deserve(number: float, shown: str) -> None:
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
        (Figure("", 8.2071, 7.9452, 8.4689), "8.21 (7.95 to 8.47)"),
        (Figure("", 26.9712, 24.1049, 30.5), "27.0 (24.1 to 30.5)"),
    ],
)
def test_figures_interval_is_as_precise_as_its_figure(figure: Figure, shown: str) -> None:
    assert cell_words(figure) == shown


def test_figures_member_names_become_words() -> None:
    assert words("min_sensitivity_ppv") == "min sensitivity PPV"
    assert words("a value tenfold (bmi)") == "a value tenfold (BMI)"
    assert words("race as recorded black") == "race as recorded Black"
