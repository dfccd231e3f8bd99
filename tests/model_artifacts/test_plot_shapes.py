"""Where a line is cut, and what gives way where there is no room."""

import re

import pytest

from model_artifacts.plot_shapes import Interval, Named, Series, draw_forest, draw_lines, forest_scale, lines_axes

NAMED = Named("key", "A title", "A summary")


def _forest(label: str, shown: str = "0.5 (0.4 to 0.6)") -> str:
    rows = [Interval(label, "n 12", 0.5, 0.4, 0.6, shown)]
    return draw_forest(NAMED, rows, None, forest_scale(rows, None))


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("female", "female (n 12)"),
        ("race as recorded, another one", "race as recorded, another one"),
        ("x" * 60, f"{'x' * 32}…"),
    ],
)
def test_plot_shapes_labels_lose_the_size_first_and_then_their_end(label: str, written: str) -> None:
    assert f">{written}</text>" in _forest(label)


def test_plot_shapes_line_that_leaves_the_frame_and_returns_is_cut_at_both_crossings() -> None:
    line = Series("this model", ((0.0, 1.0), (1.0, -1.0), (2.0, 1.0)))
    axes = lines_axes([line], ("x", "y"), (0.0, 2.0), (0.0, 1.0))
    (path,) = re.findall(r'class="s0" fill="none" stroke="currentColor" d="([^"]+)"', draw_lines(NAMED, [line], axes))[
        :1
    ]
    points = [tuple(map(float, point.split())) for point in path[1:].split("L")]
    assert [x for x, _ in points] == [axes.x.at(x) for x in (0.0, 0.5, 1.5, 2.0)]
    assert {y for _, y in points[1:3]} == {axes.y.start}


def test_plot_shapes_axes_hold_the_intervals_too() -> None:
    axes = lines_axes(
        [Series("this model", ((6.0, 0.8), (48.0, 0.87)), ((0.71, 0.9), (0.85, 0.93)))], ("hour", "AUROC")
    )
    assert axes.y.low <= 0.71
    assert axes.y.high >= 0.93
