"""Attributions are sums over an input's positions, and only what adds up is let through."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_artifacts.errors import GraphOutputError
from model_artifacts.explanation import Attribution, attribute, check_completeness

weights = st.floats(-1, 1, width=32)


@st.composite
def _partitions(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    flat = draw(hnp.arrays(np.float32, st.integers(1, 40), elements=weights))
    order = draw(st.permutations(range(flat.size)))
    cuts = sorted(draw(st.lists(st.integers(0, flat.size), max_size=5)))
    return flat, [tuple(order[a:b]) for a, b in zip([0, *cuts], [*cuts, flat.size], strict=True)]


@given(_partitions())
def test_explanation_sums_to_the_whole_however_positions_are_grouped(
    case: tuple[np.ndarray, list[tuple[int, ...]]],
) -> None:
    flat, slots = case
    attributions = attribute(flat, [str(place) for place in range(len(slots))], slots)
    assert [item.evidence for item in attributions] == [str(place) for place in range(len(slots))]
    assert math.fsum(item.contribution for item in attributions) == pytest.approx(math.fsum(flat.tolist()), abs=1e-9)


def test_explanation_gives_an_input_without_positions_nothing() -> None:
    assert attribute(np.array([0.5], np.float32), ["age", "dose"], [(), (0,)]) == (
        Attribution("age", 0.0),
        Attribution("dose", 0.5),
    )


@pytest.mark.parametrize("weight", [0.1, -0.1, 1e-30, math.nan, math.inf])
def test_explanation_with_weight_at_a_position_nobody_owns_is_refused(weight: float) -> None:
    with pytest.raises(GraphOutputError, match="1 unexplained position"):
        attribute(np.array([0.5, weight], np.float32), ["dose"], [(0,)])


def test_explanation_tolerates_an_unowned_position_without_weight() -> None:
    assert attribute(np.array([0.5, 0.0, -0.0], np.float32), ["dose"], [(0,)]) == (Attribution("dose", 0.5),)


@pytest.mark.parametrize("slots", [[(0,), (0,)], [(0, 0), (1,)], [(0,), (2,)], [(0,), (-1,)]])
def test_explanation_with_repeated_or_foreign_positions_is_refused(slots: list[tuple[int, ...]]) -> None:
    with pytest.raises(GraphOutputError, match="slots must be distinct"):
        attribute(np.array([0.1, 0.2], np.float32), ["a", "b"], slots)


@given(st.lists(st.floats(-1, 1), max_size=20), st.floats(0, 1))
def test_explanation_gap_is_what_is_left_over(parts: list[float], baseline: float) -> None:
    attributions = [Attribution(str(place), part) for place, part in enumerate(parts)]
    gap = check_completeness(attributions, baseline + math.fsum(parts) - 0.25, baseline, 0.5)
    assert gap == pytest.approx(0.25, abs=1e-9)


@pytest.mark.parametrize("part", [0.1011, 0.0989, math.nan, math.inf])
def test_explanation_that_misses_completeness_is_refused(part: float) -> None:
    with pytest.raises(GraphOutputError, match="miss completeness"):
        check_completeness([Attribution("dose", part)], 0.3, 0.2, 1e-3)


def test_explanation_within_the_tolerance_is_let_through() -> None:
    assert check_completeness([Attribution("dose", 0.1009)], 0.3, 0.2, 1e-3) == pytest.approx(0.0009)
