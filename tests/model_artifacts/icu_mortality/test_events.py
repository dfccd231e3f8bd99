import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapters.codes import LOINC, Code
from fhir_adapters.features import EventSpec
from model_artifacts.icu_mortality.events import (
    HIGH,
    HOURS,
    INDEX,
    LOW,
    STATICS,
    UNIT_CODES,
    VARIABLES,
    hourly,
    plausible,
    static_row,
    stay_tensors,
)


def one(*events):
    """Tensors of (hour, name, value) events."""
    times, names, values = zip(*events, strict=True)
    return stay_tensors(np.array(times), np.array([INDEX[name] for name in names]), np.array(values), {})


def test_events_table_has_the_37_variables_and_four_statics():
    assert (len(VARIABLES), len(STATICS), len(INDEX)) == (37, 4, 37)
    assert all(variable.low <= variable.high for variable in (*VARIABLES, *STATICS))


def test_events_table_gives_no_code_to_two_variables():
    codes = [code for variable in (*VARIABLES, *STATICS) for code in variable.codes]
    assert len(codes) == len(set(codes))
    assert all(variable.codes for variable in VARIABLES)


def test_events_table_loinc_check_digits_are_right():
    """LOINC numbers end in a mod-10 check digit (LOINC Users' Guide, appendix C)."""
    for variable in (*VARIABLES, *STATICS):
        for code in (*variable.codes, *variable.not_with):
            assert code == with_check_digit(code.split("-")[0]), variable.name
    for codes in UNIT_CODES.values():
        assert all(code == with_check_digit(code.split("-")[0]) for code in codes)


def with_check_digit(number):
    digits = number[::-1]
    total = sum(int(digit) for digit in str(2 * int(digits[0::2])) + digits[1::2])
    return f"{number}-{-total % 10}"


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_events_table_units_are_known_to_the_adapters(variable):
    EventSpec(variable.name, variable.label, (Code(LOINC, "x"),), variable.unit, variable.analyte)


def test_events_an_hour_holds_the_mean_and_the_count():
    tensors = one((3.0, "K", 4.0), (3.99, "K", 5.0), (4.0, "K", 6.0))
    assert tensors["values"][0, 2:4, INDEX["K"]].tolist() == [4.0, 5.5]
    assert tensors["counts"][0, 2:4, INDEX["K"]].tolist() == [1.0, 2.0]
    assert tensors["counts"].sum() == 3


def test_events_the_48th_hour_is_inclusive_and_nothing_outside_counts():
    counts = one((48.0, "K", 4.0), (48.1, "K", 4.0), (-0.1, "K", 4.0))["counts"]
    assert counts.sum() == counts[0, HOURS - 1, INDEX["K"]] == 1


def test_events_the_last_row_is_the_last_hour_at_any_time_of_the_stay():
    events = (np.array([0.0, 9.5, 10.4]), np.full(3, INDEX["K"]), np.array([3.0, 4.0, 5.0]))
    tensors = stay_tensors(*events, {}, 10.4)
    assert np.flatnonzero(tensors["counts"][0, :, INDEX["K"]]).tolist() == [37, 47]
    assert tensors["values"][0, [37, 47], INDEX["K"]].tolist() == [3.0, 4.5]
    assert tensors["elapsed"].tolist() == [[pytest.approx(10.4)]]


def test_events_nothing_later_than_the_time_looked_at_counts():
    events = (np.array([5.0, 6.0, 6.01]), np.full(3, INDEX["K"]), np.array([3.0, 4.0, 5.0]))
    assert stay_tensors(*events, {}, 6.0)["values"][0, 46:, INDEX["K"]].tolist() == [3.0, 4.0]


def test_events_the_moment_of_admission_is_in_the_first_row_of_the_stay():
    for elapsed_h, first in ((48.0, 0), (6.0, 42), (6.5, 41), (0.0, 47)):
        counts = stay_tensors(np.zeros(1), np.full(1, INDEX["K"]), np.ones(1) * 4, {}, elapsed_h)["counts"]
        assert np.flatnonzero(counts[0, :, INDEX["K"]]).tolist() == [first]


@pytest.mark.parametrize("elapsed_h", [-0.1, 48.1])
def test_events_refuse_a_time_that_is_not_read(elapsed_h):
    with pytest.raises(ValueError, match="expected 0 to 48"):
        stay_tensors(np.zeros(0), np.zeros(0, dtype=int), np.zeros(0), {}, elapsed_h)


@given(
    st.integers(6, 48), st.lists(st.tuples(st.integers(0, 2880), st.sampled_from(list(INDEX))), min_size=1, max_size=20)
)
def test_events_rows_of_a_whole_hour_are_those_of_48_hours_moved(hour, events):
    times = np.array([minutes for minutes, _ in events]) / 60
    names = np.array([INDEX[name] for _, name in events])
    inside = times <= hour
    late = stay_tensors(times[inside], names[inside], np.ones(inside.sum()) * 3, {}, 48)["counts"][0]
    early = stay_tensors(times, names, np.ones(len(times)) * 3, {}, hour)["counts"][0]
    np.testing.assert_array_equal(early[48 - hour :], late[:hour])
    assert early[: 48 - hour].sum() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("Temp", -17.8), ("Temp", 0.0), ("pH", 735.0), ("Weight", -1.0), ("SysABP", 0.0), ("WBC", 12500.0)],
)
def test_events_the_challenges_slips_are_set_aside(name, value):
    assert one((1.0, name, value))["counts"].sum() == 0


@given(st.integers(0, 36), st.floats(allow_nan=True, allow_infinity=True))
def test_events_plausible_is_exactly_the_tables_range(variable, value):
    kept = plausible(np.array([variable]), np.array([value]))[0]
    assert kept == (LOW[variable] <= value <= HIGH[variable])


@given(st.lists(st.tuples(st.floats(0, 48), st.sampled_from(list(INDEX)), st.floats(0, 100)), min_size=1, max_size=30))
def test_events_order_does_not_matter(events):
    forwards, backwards = one(*events), one(*events[::-1])
    np.testing.assert_array_equal(forwards["counts"], backwards["counts"])
    np.testing.assert_allclose(forwards["values"], backwards["values"], rtol=1e-6)


def test_events_many_stays_are_the_same_as_one_by_one():
    times, variable, values = np.array([1.0, 1.5, 2.0]), np.array([3, 3, 4]), np.array([2.9, 3.1, 20.0])
    together = hourly(times, variable, values, np.array([0, 1, 1]), 2)
    for stay in (0, 1):
        rows = np.array([0, 1, 1]) == stay
        alone = hourly(times[rows], variable[rows], values[rows], np.zeros(rows.sum(), dtype=int), 1)
        np.testing.assert_array_equal(together[0][stay], alone[0][0])
        np.testing.assert_array_equal(together[1][stay], alone[1][0])


def test_events_statics_out_of_range_or_missing_are_not_a_number():
    row = static_row({"Age": 70.0, "Gender": None, "Height": 462.3})[0]
    assert row[0] == 70
    assert np.isnan(row[1:]).all()
