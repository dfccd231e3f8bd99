"""The released graph against the published equations; onnxruntime and numpy only."""

import itertools
import math
from importlib.resources import files

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_artifacts.prevent_cvd.columns import COLUMNS, MEASURED, SLOTS, VALID

from .equations import risks

NAN = math.nan
SESSION = onnxruntime.InferenceSession((files("model_artifacts.prevent_cvd") / "model.onnx").read_bytes())
NAMES = [output.name for output in SESSION.get_outputs()]
# preventr 0.11, tests/testthat/test-prevent_equations.R (MIT): woman or man of 50, SBP 160 treated, cholesterol 200/45 mg/dL,
# diabetes, eGFR 90, BMI 35. The first row is Table S25 of Khan et al., Circulation 2024;149:430, and its Excel supplement.
PUBLISHED = [
    (0, NAN, NAN, [0.147, 0.092, 0.081, 0.530, 0.354, 0.390]),
    (0, 9.2, NAN, [0.165, 0.103, 0.107, 0.541, 0.356, 0.449]),
    (0, NAN, 92, [0.181, 0.111, 0.105, 0.565, 0.381, 0.437]),
    (1, NAN, NAN, [0.163, 0.102, 0.106, 0.514, 0.349, 0.424]),
    (1, 9.2, NAN, [0.187, 0.112, 0.130, 0.524, 0.340, 0.457]),
    (1, NAN, 92, [0.195, 0.123, 0.130, 0.535, 0.368, 0.448]),
]


def run(rows):
    return dict(zip(NAMES, SESSION.run(None, {"features": np.asarray(rows, np.float32)}), strict=True))


def grid():
    axes = [
        *((30, 44, 59, 60, 79), (0, 1)),
        *((135, 260), (30, 85), (95, 110, 165), (22, 37), (25, 60, 110)),
        *((0, 1), (0, 1), (0, 1), (0, 1), (NAN, 5.0, 9.5), (NAN, 4.0, 900.0)),
    ]
    rows = list(itertools.product(*axes))
    return rows[:: len(rows) // 4001]  # a prime number of steps visits every combination of levels in turn


def test_graph_equals_the_published_equations_over_a_grid():
    rows = grid()
    expected = np.array([risks(*row) for row in rows])
    got = run(rows)["probability"]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    assert np.nanmax(np.abs(got - expected)) < 2e-6
    for column in range(len(COLUMNS)):
        assert len({str(row[column]) for row in rows}) > 1


number = {
    name: st.floats(VALID[name].low, VALID[name].high).map(lambda value: float(np.float32(value))) for name in VALID
}
yes_no = st.sampled_from((0.0, 1.0))
person = st.tuples(
    *(st.integers(30, 79), yes_no),
    *(number[name] for name in ("total_cholesterol", "hdl_cholesterol", "sbp", "bmi", "egfr")),
    *(yes_no, yes_no, yes_no, yes_no),
    *(st.one_of(st.just(NAN), number[name].filter(lambda value: value > 0)) for name in ("hba1c", "uacr")),
)


@settings(deadline=None)
@given(person)
def test_graph_equals_the_published_equations_for_anyone_in_range(row):
    got = run([row])["probability"][0]
    np.testing.assert_allclose(got, risks(*row), atol=1e-5, equal_nan=True)


@settings(deadline=None)
@given(person)
def test_graph_attributions_sum_to_the_rise_over_the_reference(row):
    outputs = run([row])
    rise = outputs["probability"][0, 0] - outputs["baseline_probability"][0]
    assert abs(float(outputs["attributions"][0].sum()) - rise) < 1e-5
    assert abs(float(outputs["completeness_gap"][0])) < 1e-5
    assert np.isfinite(outputs["attributions"]).all()


@pytest.mark.parametrize(("male", "hba1c", "uacr", "expected"), PUBLISHED)
def test_graph_gives_the_published_example(male, hba1c, uacr, expected):
    got = run([(50, male, 200, 45, 160, 35, 90, 1, 0, 1, 0, hba1c, uacr)])["probability"][0]
    np.testing.assert_allclose(got, expected, atol=0.0005 + 1e-6)


def test_graph_defines_30_years_up_to_59():
    ages = [(age, 0, 200, 45, 120, 25, 90, 0, 0, 0, 0, NAN, NAN) for age in (59, 60)]
    assert np.isnan(run(ages)["probability"])[:, 3:].all(axis=1).tolist() == [False, True]


@pytest.mark.parametrize("labs", [(NAN, NAN), (5.3, NAN), (NAN, 10.0), (5.3, 10.0)])
def test_graph_attributes_nothing_to_the_reference_person(labs):
    reference = (61, 1, 4.8 / 0.02586, 1.3 / 0.02586, 120, 25, 90, 0, 0, 0, 0, *labs)
    assert np.abs(run([reference])["attributions"]).max() < 1e-6


def test_graph_rows_do_not_depend_on_each_other():
    rows = grid()[:50]
    together = run(rows)
    for i in (0, 17, 49):
        alone = run([rows[i]])
        for name in NAMES:
            np.testing.assert_allclose(alone[name][0], together[name][i], atol=1e-6, equal_nan=True)


def test_graph_attribution_slots_cover_every_position_once():
    assert sorted(position for slots in SLOTS.values() for position in slots) == list(range(len(MEASURED)))
    assert SLOTS["age"] == SLOTS["male"] == ()
