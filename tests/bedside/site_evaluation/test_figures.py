"""The figures of a site: right where they are given, and not given where they would tell of few."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.site_evaluation.figures import hidden_cells, site_figures, wilson
from model_artifacts.manifest import ModelManifest, Output
from tests.bedside.site_evaluation.wards import calibrated, cohort_of, model

BY = ("sex", "age", "race")


def _icu() -> tuple[ModelManifest, Output]:
    manifest = model("icu_mortality").manifest
    return manifest, manifest.outputs[0]


def _warfarin() -> tuple[ModelManifest, Output]:
    manifest = model("warfarin_dose").manifest
    return manifest, manifest.outputs[0]


def test_figures_of_risks_are_the_reference_implementations() -> None:
    risk, outcome = calibrated()
    found = site_figures(cohort_of(risk, outcome), *_icu(), BY)["measures"]
    judge = pytest.importorskip("sklearn.metrics")
    assert found["auroc"]["estimate"] == pytest.approx(judge.roc_auc_score(outcome, risk), rel=1e-5)
    assert found["auprc"]["estimate"] == pytest.approx(judge.average_precision_score(outcome, risk), rel=1e-5)
    assert found["brier"]["estimate"] == pytest.approx(np.mean((risk - outcome) ** 2), rel=1e-5)
    for name, right in (("calibration_slope", 1), ("calibration_intercept", 0), ("observed_to_expected", 1)):
        assert found[name]["low"] < right < found[name]["high"]


def test_figures_see_risks_that_are_twice_too_high() -> None:
    risk, outcome = calibrated()
    found = site_figures(cohort_of(np.minimum(2 * risk, 0.99), outcome), *_icu(), ())["measures"]
    assert found["observed_to_expected"]["high"] < 0.7
    assert found["calibration_intercept"]["high"] < 0


def test_figures_draw_patients_not_rows() -> None:
    """Rows that repeat each patient four times say no more than one row each: the interval stays as wide."""
    risk, outcome = calibrated(300)
    once = site_figures(cohort_of(risk, outcome), *_icu(), ())["measures"]["auroc"]
    fourfold = cohort_of(np.tile(risk, 4), np.tile(outcome, 4), patient=np.tile(np.arange(300), 4))
    often = site_figures(fourfold, *_icu(), ())["measures"]["auroc"]
    assert often["high"] - often["low"] == pytest.approx(once["high"] - once["low"], rel=0.3)


def test_figures_of_quantities_hold_error_share_and_coverage() -> None:
    truth = np.linspace(10, 60, 200)
    value = truth + np.where(np.arange(200) % 2, 3.0, -3.0)
    cohort = cohort_of(value, truth, low=value - 2.9, high=value + np.where(np.arange(200) % 4 == 0, 3.1, 2.9))
    found = site_figures(cohort, *_warfarin(), ())
    measures = found["measures"]
    assert measures["mean_absolute_error"]["estimate"] == pytest.approx(3.0)
    assert measures["within_20_percent"]["estimate"] == np.mean(0.2 * truth >= 3)
    assert measures["interval_coverage"]["estimate"] == pytest.approx(0.25)
    assert sum(row["n"] for row in found["reliability"]) == 200


def test_figures_of_bands_count_who_had_the_event() -> None:
    risk, outcome = calibrated()
    manifest, output = _icu()
    rows = site_figures(cohort_of(risk, outcome), manifest, output, ())["bands"]
    codes = np.array([manifest.band(value).code for value in risk])
    for band, row in zip(manifest.bands, rows, strict=True):
        assert row["n"] == (codes == band.code).sum()
        assert row["observed"]["estimate"] == pytest.approx(outcome[codes == band.code].mean(), rel=1e-5)


def test_figures_of_the_prediction_set_are_what_came_true() -> None:
    risk, outcome = calibrated(400)
    sets = tuple("event" if place % 2 else "no event" for place in range(400))
    found = site_figures(cohort_of(risk, outcome, outcome_sets=sets), *_icu(), ())["conformal"]
    held = [bool(outcome[place]) == (name == "event") for place, name in enumerate(sets)]
    assert found["coverage"]["estimate"] == pytest.approx(np.mean(held), rel=1e-5)


def test_figures_say_nothing_of_fewer_than_ten_people() -> None:
    risk, outcome = calibrated(9)
    assert site_figures(cohort_of(risk, outcome), *_icu(), BY) == {}


def test_figures_say_nothing_of_risks_with_fewer_than_ten_events() -> None:
    risk, _ = calibrated(200)
    found = site_figures(cohort_of(risk, np.arange(200) < 9), *_icu(), BY)
    assert found["measures"] == {}
    assert found["reliability"] == []
    assert all("withheld" in row for row in found["subgroups"])


def test_figures_withhold_a_second_group_where_one_could_be_reckoned() -> None:
    risk, outcome = calibrated(600)
    ages = ("under 18",) * 5 + ("18–44",) * 100 + ("45–64",) * 200 + ("65–79",) * 295
    groups = {"sex": ages, "age": ages, "race": ages}
    rows = site_figures(cohort_of(risk, outcome, groups=groups), *_icu(), ("age",))["subgroups"]
    assert {row["group"]: row["n"] for row in rows if "withheld" in row} == {"under 18": None, "18–44": None}
    assert {row["n"] for row in rows if "withheld" not in row} == {200, 295}


_CELLS = st.integers(0, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(st.dictionaries(st.sampled_from("abcde"), _CELLS))
def test_figures_hide_what_is_few_and_what_would_give_it_away(cells: dict[str, tuple[int, int]]) -> None:
    hidden = hidden_cells(cells)
    shown = {name: cell for name, cell in cells.items() if cell[0] and name not in hidden}
    assert all(10 <= events <= n - 10 for n, events in shown.values())
    assert len(hidden) != 1 or not shown


def test_figures_of_wilson() -> None:
    """Newcombe, Stat Med 1998;17:857, table I: 15 of 148."""
    share = wilson(15, 148)
    assert (round(share["low"], 4), round(share["high"], 4)) == (0.0624, 0.1605)
