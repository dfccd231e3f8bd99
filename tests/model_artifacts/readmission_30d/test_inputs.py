"""What a record of a discharge becomes: columns, diagnoses, and what is said not to be known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fhir_adapters.codes import LOINC
from model_artifacts.readmission_30d.columns import CHOICES, COLUMNS, SLOTS
from model_artifacts.readmission_30d.inputs import INPUTS
from tests.model_artifacts.readmission_30d.stays import (
    AS_OF,
    condition,
    encounter,
    evidence,
    example,
    record,
    row,
    stay,
)


def _result(code: str, value: float, unit: str, at: str = "2026-06-06T08:00:00Z") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"{code}-{value}-{at}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": at,
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
    }


def test_inputs_count_age_in_decades_and_days_by_the_calendar() -> None:
    found = row(stay())
    assert (found["age_decade"], found["days"], found["female"]) == (7, 5, 1)


def test_inputs_of_the_same_day_count_as_one_day_as_in_the_training_data() -> None:
    assert row(encounter("stay", "IMP", "2026-06-10T08:00:00Z"))["days"] == 1


def test_inputs_count_of_tests_and_procedures_are_not_read_and_said_so() -> None:
    assert math.isnan(row(stay())["lab_tests"])
    assert math.isnan(row(stay())["procedures"])
    assert evidence("lab_tests", stay()).absence == "missing"


@pytest.mark.parametrize(
    ("value", "unit", "code", "word"),
    [
        (6.9, "%", "4548-4", "below 7 %"),
        (7.5, "%", "4548-4", "7 % to 8 %"),
        (8.1, "%", "17856-6", "above 8 %"),
        (75.0, "mmol/mol", "59261-8", "above 8 %"),
        (42.0, "mmol/mol", "59261-8", "below 7 %"),
    ],
)
def test_inputs_hba1c_is_read_in_both_units(value: float, unit: str, code: str, word: str) -> None:
    assert row(stay(), _result(code, value, unit))["hba1c"] == CHOICES["hba1c"].index(word)


def test_inputs_hba1c_from_before_the_stay_does_not_count() -> None:
    assert row(stay(), _result("4548-4", 9.0, "%", "2026-05-20T08:00:00Z"))["hba1c"] == 0


def test_inputs_glucose_is_the_highest_of_the_stay() -> None:
    results = [
        _result("2345-7", value, "mg/dL", f"2026-06-0{day}T08:00:00Z") for day, value in ((6, 120.0), (7, 250.0))
    ]
    assert row(stay(), *results)["glucose"] == CHOICES["glucose"].index("201 to 300 mg/dL")


def test_inputs_glucose_in_mmol_per_litre_is_converted() -> None:
    assert row(stay(), _result("14749-6", 17.0, "mmol/L"))["glucose"] == CHOICES["glucose"].index("above 300 mg/dL")


def test_inputs_nothing_after_the_moment_asked_about_is_used() -> None:
    later = _result("4548-4", 9.0, "%", "2026-06-11T08:00:00Z")
    np.testing.assert_array_equal(
        INPUTS.extract(record(stay(), later), AS_OF).arrays["features"],
        INPUTS.extract(record(stay()), AS_OF).arrays["features"],
    )


def test_inputs_of_somebody_not_in_hospital_keep_their_shape_and_names() -> None:
    inside, outside = (INPUTS.extract(record(*some), AS_OF) for some in ((stay(),), ()))
    assert {item.name for item in inside.evidence} == {item.name for item in outside.evidence} == set(SLOTS)
    assert outside.arrays["features"].shape == (1, len(COLUMNS))
    assert outside.arrays["diagnoses"].tolist() == [[0] * 9]


def test_inputs_own_every_slot_once() -> None:
    owned = sorted(slot for group in INPUTS.extract(record(stay()), AS_OF).slots for slot in group)
    assert owned == list(range(len(owned)))


def test_inputs_have_no_race() -> None:
    queries = {query.resource for query in INPUTS.queries()}
    assert queries == {"Patient", "Encounter", "Condition", "MedicationRequest", "Observation"}
    assert not any("race" in name for name in COLUMNS)


def test_inputs_of_a_site_that_writes_words_are_read() -> None:
    found = {item.name: item.display for item in INPUTS.extract(example("stroke-to-rehabilitation"), AS_OF).evidence}
    words = ("admission_type", "admission_source", "disposition", "specialty")
    assert [found[name] for name in words] == ["emergency", "another hospital", "rehabilitation", "neurology"]


def test_inputs_of_an_open_encounter_named_by_nobody_is_the_stay() -> None:
    assert evidence("days", stay(), condition("a", "E11.9")).source == "Encounter/stay"
