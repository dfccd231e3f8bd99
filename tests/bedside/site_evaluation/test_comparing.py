"""A site's figure beside the released one, in words that claim no more than the numbers do."""

import json
from pathlib import Path

import pytest

from bedside.site_evaluation.comparing import compare, released_figures


def _figure(estimate: float, low: float, high: float) -> dict[str, float]:
    return {"estimate": estimate, "low": low, "high": high}


RELEASED = {"auroc": _figure(0.80, 0.78, 0.82), "calibration_slope": _figure(1.0, 0.9, 1.1)}


def _verdict(name: str, site: dict[str, float], events: int | None = 100, people: int = 200) -> tuple[str, str]:
    [row] = compare({name: site}, RELEASED, events, people)
    return row["verdict"], row["words"]


@pytest.mark.parametrize(
    ("site", "verdict"),
    [
        (_figure(0.78, 0.74, 0.80), "compatible"),
        (_figure(0.76, 0.73, 0.79), "unclear"),
        (_figure(0.70, 0.65, 0.77), "lower"),
        (_figure(0.90, 0.83, 0.95), "higher"),
    ],
)
def test_comparing_says_whether_the_interval_is_compatible(site: dict[str, float], verdict: str) -> None:
    assert _verdict("auroc", site)[0] == verdict


def test_comparing_says_whether_a_difference_is_for_the_better() -> None:
    """Of an error less is better, of a share that is right more."""
    released = {name: _figure(0.5, 0.49, 0.51) for name in ("auroc", "brier")}
    rows = compare(dict.fromkeys(released, _figure(0.3, 0.2, 0.4)), released, 100, 200)
    assert ["worse" in row["words"] for row in rows] == [True, False]
    assert ["better" in row["words"] for row in rows] == [False, True]


@pytest.mark.parametrize(
    ("events", "people", "words"),
    [
        (99, 1000, "too few events (n=99) to say"),
        (950, 1049, "too few people without the event (n=99) to say"),
        (None, 99, "too few people (n=99) to say"),
    ],
)
def test_comparing_concludes_nothing_from_few(events: int | None, people: int, words: str) -> None:
    for site in (_figure(0.78, 0.74, 0.80), _figure(0.5, 0.4, 0.6)):
        assert _verdict("auroc", site, events, people) == ("too-few", words)


@pytest.mark.parametrize(
    ("name", "site", "words"),
    [
        ("calibration_slope", _figure(0.7, 0.6, 0.8), "risks are too extreme"),
        ("calibration_slope", _figure(1.3, 1.2, 1.4), "risks are not spread enough"),
        ("calibration_intercept", _figure(0.3, 0.1, 0.5), "risks are too low"),
        ("observed_to_expected", _figure(0.7, 0.6, 0.8), "risks are too high"),
        ("bias", _figure(-3.0, -4.0, -2.0), "estimates are too low"),
        ("calibration_slope", _figure(1.0, 0.9, 1.1), "compatible with 1, which is right"),
    ],
)
def test_comparing_holds_calibration_to_what_is_right(name: str, site: dict[str, float], words: str) -> None:
    assert words in _verdict(name, site)[1]


def test_comparing_says_that_no_figure_was_released() -> None:
    assert _verdict("false_negative_rate", _figure(0.2, 0.1, 0.3))[0] == "not-released"


def test_comparing_takes_the_released_figures_with_intervals_alone(tmp_path: Path) -> None:
    section = RELEASED | {"stays": 8000, "note": {"estimate": "much"}}
    (tmp_path / "metrics.json").write_text(json.dumps({"model": section}))
    assert released_figures(tmp_path) == RELEASED
    (tmp_path / "metrics.json").write_text("[]")
    assert released_figures(tmp_path) == {}
