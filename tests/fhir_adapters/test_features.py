from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from fhir_adapters.codes import LOINC, Code
from fhir_adapters.errors import UnitError
from fhir_adapters.features import EventSpec, FeatureSpec, FeatureValue, extract, extract_events
from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord

Make = Callable[..., dict[str, Any]]
Build = Callable[..., PatientRecord]
GLUCOSE = FeatureSpec("glucose", "Glucose", (Code(LOINC, "2345-7"),), "mg/dL", "glucose", low=10, high=2000)
EVENTS = (
    EventSpec("glucose", "Glucose", (Code(LOINC, "2345-7"),), "mg/dL", "glucose", low=10, high=2000),
    EventSpec("heart rate", "Heart rate", (Code(LOINC, "8867-4"),), "/min", low=0, high=300),
)


@pytest.fixture
def series(observation: Make) -> Callable[..., list[dict[str, Any]]]:
    """Glucose Observations o0, o1, … on 1, 2, … May; a number is mg/dL, a dict changes the resource."""

    def make(*items: float | dict[str, Any]) -> list[dict[str, Any]]:
        made = []
        for i, item in enumerate(items):
            changes = item if isinstance(item, dict) else {"valueQuantity": {"value": item, "unit": "mg/dL"}}
            made.append(observation(**{"id": f"o{i}", "effectiveDateTime": f"2026-05-{i + 1:02}T08:00:00Z", **changes}))
        return made

    return make


def one(record: PatientRecord, as_of: datetime, **changes: Any) -> FeatureValue:
    (value,) = extract(record, [replace_spec(**changes)], as_of).values
    return value


def replace_spec(**changes: Any) -> FeatureSpec:
    return replace(GLUCOSE, **changes)


KG = {"valueQuantity": {"value": 100, "unit": "kg"}}


def test_features_latest_carries_unit_time_and_source(series: Make, record: Build, as_of: datetime) -> None:
    value = one(record(*series(90, 95)), as_of)
    assert value == FeatureValue(
        "glucose", "Glucose", 95.0, "mg/dL", datetime(2026, 5, 2, 8, tzinfo=UTC), "Observation/o1", None, None
    )


def test_features_converts_with_the_analyte(series: Make, record: Build, as_of: datetime) -> None:
    mmol = {"valueQuantity": {"value": 5.55, "unit": "mmol/L", "code": "mmol/L"}}
    assert one(record(*series(mmol)), as_of).value == pytest.approx(100.0, abs=0.05)


@pytest.mark.parametrize(
    ("statistic", "expected"), [("mean", 100.0), ("min", 90.0), ("max", 110.0), ("first", 90.0), ("count", 3.0)]
)
def test_features_statistics(statistic: str, expected: float, series: Make, record: Build, as_of: datetime) -> None:
    assert one(record(*series(90, 110, 100)), as_of, statistic=statistic).value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("statistic", "source"), [("min", "o3"), ("max", "o1"), ("mean", "o4"), ("count", "o4"), ("first", "o0")]
)
def test_features_statistic_names_the_result_that_decides_it(
    statistic: str, source: str, series: Make, record: Build, as_of: datetime
) -> None:
    value = one(record(*series(90, 110, 100, 90, 95)), as_of, statistic=statistic)
    assert value.source == f"Observation/{source}"
    assert value.observed_at == datetime(2026, 5, int(source[1]) + 1, 8, tzinfo=UTC)


def test_features_missing_has_no_source(record: Build, as_of: datetime) -> None:
    value = one(record(), as_of)
    assert (value.value, value.absence, value.source) == (None, Reason.MISSING, None)
    assert one(record(), as_of, statistic="mean").absence == Reason.MISSING
    assert one(record(), as_of, statistic="count").value == 0.0


@pytest.mark.parametrize(
    ("newest", "absence"),
    [
        (KG, Reason.UNIT),
        ({"valueQuantity": {"value": 100}}, Reason.UNIT),
        ({"valueQuantity": {"value": 100, "unit": "furlong"}}, Reason.UNIT),
        ({"valueQuantity": {"value": 5.5, "code": "mmol/L", "unit": "mg/dL"}}, Reason.UNIT),
        ({"valueQuantity": {"value": 100, "unit": "mg/dL", "comparator": ">"}}, Reason.COMPARATOR),
        ({"valueQuantity": None, "valueString": "hemolyzed"}, Reason.NOT_A_NUMBER),
        ({"valueQuantity": None, "valueString": "<20 mg/dL"}, Reason.COMPARATOR),
        ({"valueQuantity": {"value": 99999, "unit": "mg/dL"}}, Reason.IMPLAUSIBLE),
    ],
)
def test_features_unreadable_newest_result_is_not_replaced_by_an_older(
    newest: dict[str, Any], absence: Reason, series: Make, record: Build, as_of: datetime
) -> None:
    vector = extract(record(*series(90, newest)), [GLUCOSE], as_of)
    (value,) = vector.values
    assert (value.value, value.absence, value.source) == (None, absence, "Observation/o1")
    assert [(a.reference, a.reason) for a in vector.set_aside] == [("Observation/o1", absence)]


def test_features_loinc_code_with_a_wrong_unit_names_units_and_no_value(
    series: Make, record: Build, as_of: datetime
) -> None:
    (aside,) = extract(record(*series({"valueQuantity": {"value": 173.25, "unit": "kg"}})), [GLUCOSE], as_of).set_aside
    assert aside.detail == "glucose: unit incommensurable: expected mg/dL, got kg"
    (aside,) = extract(record(*series({"valueQuantity": {"value": 1, "unit": "Jane Doe"}})), [GLUCOSE], as_of).set_aside
    assert aside.detail == "glucose: unit unknown: expected mg/dL, got none that is known"


@pytest.mark.parametrize(
    "newest",
    [
        {"valueQuantity": None, "dataAbsentReason": {"coding": [{"code": "not-performed"}]}},
        {"valueQuantity": None, "status": "registered"},
        {"valueQuantity": None, "status": "unknown"},
    ],
)
def test_features_passes_over_an_entry_without_measurement(
    newest: dict[str, Any], series: Make, record: Build, as_of: datetime
) -> None:
    vector = extract(record(*series(90, newest)), [GLUCOSE], as_of)
    assert vector.values[0].value == 90.0
    assert [a.reason for a in vector.set_aside] == [Reason.NO_VALUE]
    assert one(record(*series(newest)), as_of).absence == Reason.NO_VALUE


def test_features_never_uses_the_future(series: Make, record: Build) -> None:
    vector = extract(record(*series(90, 200)), [GLUCOSE], datetime(2026, 5, 1, 9, tzinfo=UTC))
    assert vector.values[0].value == 90.0
    assert [a.reason for a in vector.set_aside] == [Reason.FUTURE]


def test_features_date_of_today_is_not_the_future(series: Make, record: Build) -> None:
    today = series({"effectiveDateTime": "2026-05-07"})
    assert one(record(*today), datetime(2026, 5, 7, 6, tzinfo=UTC)).value == 100.0


def test_features_period_counts_from_its_end(series: Make, record: Build) -> None:
    period = {
        "effectiveDateTime": None,
        "effectivePeriod": {"start": "2026-05-01T00:00:00Z", "end": "2026-05-02T00:00:00Z"},
    }
    assert one(record(*series(period)), datetime(2026, 5, 1, 12, tzinfo=UTC)).absence == Reason.MISSING


def test_features_stale_value_keeps_its_source(series: Make, record: Build, as_of: datetime) -> None:
    value = one(record(*series(90)), as_of, max_age=timedelta(days=7))
    assert (value.value, value.absence, value.source) == (None, Reason.STALE, "Observation/o0")
    assert one(record(*series(90)), as_of, max_age=timedelta(days=7), statistic="mean").absence == Reason.STALE


def test_features_partial_date_is_as_old_as_it_may_be(series: Make, record: Build, as_of: datetime) -> None:
    assert (
        one(record(*series({"effectiveDateTime": "2025"})), as_of, max_age=timedelta(days=365)).absence == Reason.STALE
    )


def test_features_aggregates_look_at_the_window_only(series: Make, record: Build) -> None:
    value = one(
        record(*series(500, 90, 110)), datetime(2026, 5, 3, 8, tzinfo=UTC), max_age=timedelta(days=1), statistic="mean"
    )
    assert (value.value, value.source) == (100.0, "Observation/o2")


def test_features_aggregate_with_an_unreadable_result_is_absent(series: Make, record: Build, as_of: datetime) -> None:
    assert one(record(*series(90, KG, 100)), as_of, statistic="max").absence == Reason.UNIT
    assert one(record(*series(90, KG, 100)), as_of, statistic="count").value == 2.0


def test_features_aggregate_leaves_out_the_implausible(series: Make, record: Build, as_of: datetime) -> None:
    spec = replace_spec(statistic="max")
    vector = extract(record(*series(90, 99999)), [spec], as_of)
    assert vector.values[0].value == 90.0
    assert [a.reason for a in vector.set_aside] == [Reason.IMPLAUSIBLE]
    assert one(record(*series(99999)), as_of, statistic="max").absence == Reason.IMPLAUSIBLE


def test_features_notes_preliminary_and_report_dates(series: Make, record: Build, as_of: datetime) -> None:
    issued = {"effectiveDateTime": None, "issued": "2026-05-01T08:00:00Z", "status": "preliminary"}
    assert one(record(*series(issued)), as_of).note == "preliminary result; dated by its report"


def test_features_code_and_words_that_differ_by_an_offset_contradict(
    series: Make, record: Build, as_of: datetime
) -> None:
    both = {"valueQuantity": {"value": 310, "code": "K", "unit": "Cel", "system": "http://unitsofmeasure.org"}}
    assert one(record(*series(both)), as_of, unit="Cel", analyte=None).absence == Reason.UNIT


def test_features_code_and_words_that_agree_are_fine(series: Make, record: Build, as_of: datetime) -> None:
    both = {"valueQuantity": {"value": 4, "code": "mmol/L", "unit": "mEq/L", "system": "http://unitsofmeasure.org"}}
    assert one(record(*series(both)), as_of, unit="mmol/L", analyte="potassium", low=1).value == 4.0


@pytest.mark.parametrize("make", [FeatureSpec, EventSpec])
def test_features_spec_with_an_unknown_unit_or_analyte_is_refused(make: Callable[..., object]) -> None:
    with pytest.raises(UnitError):
        make("x", "X", (), "furlong")
    with pytest.raises(UnitError):
        make("x", "X", (), "mg/dL", "glucoes")


def test_features_events_are_sorted_by_time_then_variable(series: Make, record: Build, observation: Make) -> None:
    heart = observation(
        id="h",
        code={"coding": [{"system": LOINC, "code": "8867-4"}]},
        effectiveDateTime="2026-05-01T08:00:00Z",
        valueQuantity={"value": 80, "unit": "beats/min", "code": "/min"},
    )
    start = datetime(2026, 5, 1, tzinfo=UTC)
    events = extract_events(record(heart, *series(90, 95)), EVENTS, start, start + timedelta(days=2))
    np.testing.assert_array_equal(events.times_h, [8.0, 8.0, 32.0])
    np.testing.assert_array_equal(events.variable, [0, 1, 0])
    np.testing.assert_array_equal(events.values, [90.0, 80.0, 95.0])
    assert (events.times_h.dtype, events.variable.dtype, events.values.dtype) == (np.float64, np.int32, np.float64)
    assert events.sources == ("Observation/o0", "Observation/h", "Observation/o1")


def test_features_events_outside_the_window_are_not_used(series: Make, record: Build) -> None:
    start = datetime(2026, 5, 2, tzinfo=UTC)
    events = extract_events(record(*series(90, 95, 100)), EVENTS, start, start + timedelta(days=1))
    np.testing.assert_array_equal(events.values, [95.0])
    assert [a.reason for a in events.set_aside] == [Reason.FUTURE]


def test_features_events_set_aside_what_cannot_be_read(series: Make, record: Build) -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    events = extract_events(record(*series(KG, 99999, 95)), EVENTS, start, start + timedelta(days=9))
    np.testing.assert_array_equal(events.values, [95.0])
    assert [a.reason for a in events.set_aside] == [Reason.UNIT, Reason.IMPLAUSIBLE]


def test_features_no_events_give_empty_arrays(record: Build, as_of: datetime) -> None:
    events = extract_events(record(), EVENTS, as_of - timedelta(days=2), as_of)
    assert events.times_h.shape == events.variable.shape == events.values.shape == (0,)


def test_features_says_when_two_results_of_one_moment_differ(series: Make, record: Build, as_of: datetime) -> None:
    first, second = series(90, 140)
    second = {**second, "effectiveDateTime": first["effectiveDateTime"]}
    value = one(record(first, second), as_of)
    assert {value.value, value.note} in (
        {90.0, "another result of the same time says 140"},
        {140.0, "another result of the same time says 90"},
    )
    assert one(record(first, {**first, "id": "again"}), as_of).note is None


@pytest.mark.parametrize("status", ["unknown", "", None, "invented"])
def test_features_flags_a_result_that_is_not_marked_final(
    status: str | None, series: Make, record: Build, as_of: datetime
) -> None:
    value = one(
        record(*series({"valueQuantity": {"value": 90, "unit": "mg/dL", "code": "mg/dL"}, "status": status})), as_of
    )
    assert (value.value, value.note) == (90.0, "result not marked final")


def test_features_what_is_only_registered_has_no_result(series: Make, record: Build, as_of: datetime) -> None:
    registered = {"valueQuantity": {"value": 90, "unit": "mg/dL", "code": "mg/dL"}, "status": "registered"}
    assert one(record(*series(registered)), as_of).absence == Reason.NO_VALUE
