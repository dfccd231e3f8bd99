from datetime import timedelta

import numpy as np
import pytest

from fhir_adapters.codes import LOINC
from model_artifacts.icu_mortality.events import HOURS, INDEX, VARIABLES
from model_artifacts.icu_mortality.inputs import INPUTS, unit_kind
from model_artifacts.inputs import ModelInputs
from model_artifacts.population import current_icu_stay
from tests.model_artifacts.icu_mortality.stays import ADMITTED, AS_OF, STAYS, arrays_of, record_of

STAY = STAYS["132585"]


def observations(bundle, code):
    return [
        entry["resource"]
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == "Observation" and entry["resource"]["code"]["coding"][0]["code"] == code
    ]


def evidence(inputs: ModelInputs, name):
    return next(item for item in inputs.evidence if item.name == name)


@pytest.mark.parametrize("stay", STAYS.values(), ids=STAYS.keys())
def test_inputs_through_fhir_equal_those_of_training_exactly(stay):
    ours = INPUTS.extract(record_of(stay), AS_OF).arrays
    for name, expected in arrays_of(stay).items():
        np.testing.assert_array_equal(ours[name], expected, err_msg=name)


def test_inputs_slots_cover_every_attribution_once():
    inputs = INPUTS.extract(record_of(STAY), AS_OF)
    owned = sorted(position for slot in inputs.slots for position in slot)
    assert owned == list(range(HOURS * len(VARIABLES) + 7))
    assert len(inputs.slots) == len(inputs.evidence) == len(VARIABLES) + 4


def test_inputs_evidence_names_value_unit_time_and_source():
    potassium = evidence(INPUTS.extract(record_of(STAY), AS_OF), "K")
    rows = np.flatnonzero(STAY.variable == INDEX["K"])
    assert potassium.value == STAY.values[rows[-1]]
    assert potassium.unit == "mmol/L"
    assert potassium.observed_at == ADMITTED + timedelta(minutes=int(STAY.minutes[rows[-1]]))
    assert potassium.source == f"Observation/challenge-132585-{rows[-1]}"
    assert f"{len(rows)} times in 48 h" in potassium.note


def test_inputs_say_what_was_never_measured():
    inputs = INPUTS.extract(record_of(STAY), AS_OF)
    absent = {item.name for item in inputs.evidence if item.value is None}
    assert absent == {v.name for i, v in enumerate(VARIABLES) if i not in set(STAY.variable.tolist())}
    assert all(evidence(inputs, name).absence == "missing" for name in absent)


def test_inputs_read_nothing_after_as_of():
    early = INPUTS.extract(record_of(STAY), ADMITTED + timedelta(hours=10)).arrays
    assert early["counts"].sum() == (STAY.minutes <= 600).sum()
    assert early["counts"][0, :38].sum() == 0
    assert early["elapsed"].tolist() == [[10.0]]


@pytest.mark.parametrize("hours", [6.0, 8.0, 24.0, 31.5])
@pytest.mark.parametrize("stay", STAYS.values(), ids=STAYS.keys())
def test_inputs_at_any_hour_equal_those_of_training(stay, hours):
    ours = INPUTS.extract(record_of(stay), ADMITTED + timedelta(hours=hours)).arrays
    for name, expected in arrays_of(stay, hours).items():
        np.testing.assert_array_equal(ours[name], expected, err_msg=name)


def test_inputs_say_in_how_many_hours_something_was_measured():
    heart_rate = evidence(INPUTS.extract(record_of(STAY), ADMITTED + timedelta(hours=8, minutes=50)), "HR")
    times = int(((STAY.variable == INDEX["HR"]) & (STAY.minutes <= 530)).sum())
    assert f"{times} times in 8 h" in heart_rate.note


def test_inputs_after_the_48th_hour_are_those_of_the_48th():
    late = INPUTS.extract(record_of(STAY), ADMITTED + timedelta(hours=70)).arrays
    for name, expected in arrays_of(STAY).items():
        np.testing.assert_array_equal(late[name], expected, err_msg=name)


def test_inputs_read_nothing_after_the_horizon():
    def postpone(bundle):
        at = (ADMITTED + timedelta(hours=48, minutes=1)).isoformat()
        observations(bundle, "8867-4")[0]["effectiveDateTime"] = at

    late = INPUTS.extract(record_of(STAY, postpone), AS_OF).arrays["counts"].sum()
    assert late == arrays_of(STAY)["counts"].sum() - 1


def test_inputs_convert_units_of_the_analyte():
    def in_mmol(bundle):
        for item in observations(bundle, "2345-7"):
            quantity = item["valueQuantity"]
            quantity |= {"value": quantity["value"] / 18.0156, "unit": "mmol/L", "code": "mmol/L"}

    ours = INPUTS.extract(record_of(STAY, in_mmol), AS_OF).arrays
    np.testing.assert_allclose(ours["values"], arrays_of(STAY)["values"], rtol=1e-5)


def test_inputs_set_a_foreign_unit_aside_and_say_so():
    def in_litres(bundle):
        for item in observations(bundle, "2823-3"):
            item["valueQuantity"] |= {"unit": "L", "code": "L"}

    inputs = INPUTS.extract(record_of(STAY, in_litres), AS_OF)
    assert evidence(inputs, "K").absence == "unit"
    assert any(text.startswith("potassium: ") for text in inputs.set_aside)


def test_inputs_pulse_oximetry_is_not_arterial_saturation():
    def as_pulse_oximetry(bundle):
        for item in observations(bundle, "2703-7"):
            item["code"]["coding"] = [{"system": LOINC, "code": code} for code in ("2708-6", "59408-5")]
            item["valueQuantity"] |= {"value": 97, "unit": "%", "code": "%"}

    counts = INPUTS.extract(record_of(STAY, as_pulse_oximetry), AS_OF).arrays["counts"]
    assert counts[0, :, INDEX["SaO2"]].sum() == arrays_of(STAY)["counts"][0, :, INDEX["SaO2"]].sum()


def test_inputs_ventilator_settings_say_ventilated():
    def as_peep(bundle):
        for item in observations(bundle, "20124-4"):
            item["code"]["coding"] = [{"system": LOINC, "code": "20077-4"}]
            del item["valueCodeableConcept"]
            item["valueQuantity"] = {"value": 5, "unit": "cm[H2O]"}

    ours = INPUTS.extract(record_of(STAY, as_peep), AS_OF).arrays
    np.testing.assert_array_equal(ours["values"], arrays_of(STAY)["values"])


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("1028-0", "", 1),
        ("1033-0", "", 3),
        ("1029-8", "Surgical ICU", 0),
        ("x", "MICU", 3),
        ("x", "CVICU", 2),
        ("x", "Medical-Surgical ICU", 0),
        ("x", "Coronary care unit", 1),
        ("x", "ICU", 0),
    ],
)
def test_inputs_unit_kind_by_code_then_by_words(code, text, kind):
    def rename(bundle):
        concept = bundle["entry"][1]["resource"]["type"][0]
        concept["coding"][0] |= {"code": code, "display": ""}
        concept["text"] = text

    assert unit_kind(record_of(STAY, rename).encounters[0]) == kind


def test_inputs_without_an_icu_stay_hold_nothing():
    def leave(bundle):
        bundle["entry"][1]["resource"]["status"] = "finished"

    record = record_of(STAY, leave)
    assert current_icu_stay(record, AS_OF) is None
    assert INPUTS.extract(record, AS_OF).arrays["counts"].sum() == 0


def test_inputs_queries_ask_for_every_code():
    asked = {code.code for query in INPUTS.queries() for code in query.codes}
    assert asked >= {code for variable in VARIABLES for code in variable.codes} | {"8302-2"}
