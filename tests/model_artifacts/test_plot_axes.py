"""Scales hold what they are made for, ticks are round, and words stay within their room."""

import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.plot_axes import Scale, fitting, letters, round_step, spanned, svg, text

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(NUMBERS, min_size=1, max_size=8))
def test_plot_axes_span_holds_every_number_between_round_ends(values: list[float]) -> None:
    low, high = spanned(values)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert low - slack <= min(values) <= max(values) <= high + slack
    assert low < high


@given(NUMBERS, st.floats(1e-6, 1e6))
def test_plot_axes_have_four_to_ten_ticks_in_order(low: float, extent: float) -> None:
    ticks = Scale(*spanned([low, low + extent]), 0, 300).ticks()
    assert 4 <= len(ticks) <= 13
    assert list(ticks) == sorted(ticks)


@pytest.mark.parametrize(("extent", "step"), [(1.0, 0.2), (0.7, 0.1), (60, 10), (8.0, 2.0), (0.04, 0.01)])
def test_plot_axes_steps_are_one_two_or_five_times_a_power_of_ten(extent: float, step: float) -> None:
    assert round_step(extent) == pytest.approx(step)


def test_plot_axes_scale_runs_from_start_to_end_and_stays_within() -> None:
    up = Scale(0.0, 0.5, 290, 10)
    assert [up.at(value) for value in (0.0, 0.125, 0.5)] == [290, 220, 10]
    assert [up.at(value) for value in (-3.0, math.inf)] == [290, 10]


@given(st.text(max_size=80), st.floats(20, 300))
def test_plot_axes_words_fit_their_room(words: str, room: float) -> None:
    assert letters(fitting(words, room)) <= max(room, letters("ab")) + 1e-6


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))))
def test_plot_axes_words_are_escaped(words: str) -> None:
    root = ET.fromstring(svg("key", words, words, 100, [text(1, 2, words)]))
    assert [item.text or "" for item in root] == [words] * 3
