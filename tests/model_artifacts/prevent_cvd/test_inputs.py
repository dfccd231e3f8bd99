import numpy as np
import pytest

from fhir_adapters.queries import search_url
from fhir_adapters.resources import PatientId
from model_artifacts.prevent_cvd.columns import COLUMNS
from model_artifacts.prevent_cvd.inputs import INPUTS

from .people import AS_OF, complete, observation, patient, record, smoking


def found(rec):
    inputs = INPUTS.extract(rec, AS_OF)
    return dict(zip(COLUMNS, inputs.evidence, strict=True)), inputs


def test_inputs_row_follows_the_columns():
    evidence, inputs = found(complete())
    row = inputs.arrays["features"]
    assert (row.shape, row.dtype) == ((1, 13), np.dtype("float32"))
    assert [item.name for item in inputs.evidence] == list(COLUMNS)
    expected = [56, 0, 200, 50, 128, 27, evidence["egfr"].value, 0, 0, 0, 0, np.nan, np.nan]
    np.testing.assert_allclose(row[0], np.float32(expected))


@pytest.mark.parametrize(
    ("code", "value", "unit", "name", "expected"),
    [
        ("14647-2", 5.0, "mmol/L", "total_cholesterol", 193.3),
        ("14646-4", 1.3, "mmol/L", "hdl_cholesterol", 50.3),
        ("59261-8", 53, "mmol/mol", "hba1c", 7.0),
        ("9318-7", 3.4, "mg/mmol", "uacr", 30.0),
        ("98979-8", 88, "mL/min/{1.73_m2}", "egfr", 88),
        ("8480-6", 17, "kPa", "sbp", 127.5),
    ],
)
def test_inputs_convert_units(code, value, unit, name, expected):
    evidence, _ = found(record(patient(), observation(code, value, unit)))
    assert evidence[name].value == pytest.approx(expected, rel=3e-3)


def test_inputs_compute_bmi_from_weight_and_height():
    rows = (observation("29463-7", 80, "kg"), observation("8302-2", 1.6, "m", at="2019-01-01T00:00:00Z"))
    evidence, _ = found(record(patient(), *rows))
    assert evidence["bmi"].value == pytest.approx(31.25)
    assert evidence["bmi"].note == "computed from weight 80 kg and height 160 cm"


@pytest.mark.parametrize(
    ("code", "value", "unit", "name"),
    [
        ("2093-3", 129, "mg/dL", "total_cholesterol"),
        ("2093-3", 321, "mg/dL", "total_cholesterol"),
        ("2085-9", 101, "mg/dL", "hdl_cholesterol"),
        ("8480-6", 201, "mm[Hg]", "sbp"),
        ("39156-5", 40, "kg/m2", "bmi"),
        ("98979-8", 14, "mL/min/{1.73_m2}", "egfr"),
        ("4548-4", 15.5, "%", "hba1c"),
        ("9318-7", 0, "mg/g", "uacr"),
    ],
)
def test_inputs_leave_out_values_outside_the_published_ranges(code, value, unit, name):
    evidence, inputs = found(record(patient(), observation(code, value, unit)))
    assert (evidence[name].value, evidence[name].absence) == (None, "out-of-range")
    assert "the equations hold for" in str(evidence[name].note)
    assert np.isnan(inputs.arrays["features"][0, COLUMNS.index(name)])


def test_inputs_keep_values_on_the_bounds():
    evidence, _ = found(record(patient(), observation("2093-3", 130, "mg/dL"), observation("39156-5", 39.9, "kg/m2")))
    assert (evidence["total_cholesterol"].value, evidence["bmi"].value) == (130, 39.9)


def test_inputs_old_lipids_are_stale_and_new_ones_are_of_no_future():
    rows = (observation("2093-3", 200, "mg/dL", "2021-01-01"), observation("2085-9", 50, "mg/dL", "2026-06-02"))
    evidence, _ = found(record(patient(), *rows))
    assert evidence["total_cholesterol"].absence == "stale"
    assert evidence["hdl_cholesterol"].value is None


def test_inputs_name_the_source_of_each_measured_value():
    evidence, _ = found(complete())
    for name in ("total_cholesterol", "hdl_cholesterol", "sbp", "bmi", "egfr", "smoking"):
        assert evidence[name].source is not None
        assert evidence[name].observed_at is not None


def test_inputs_of_an_empty_record_are_all_said_to_be_missing():
    evidence, _ = found(record())
    absent = [name for name, item in evidence.items() if item.value is None]
    assert absent == [name for name in COLUMNS if name not in ("diabetes", "bp_treatment", "statin")]
    assert all(evidence[name].absence for name in absent)


def test_inputs_queries_ask_for_every_code_that_is_read():
    urls = " ".join(search_url(query, PatientId("p"), AS_OF) for query in INPUTS.queries())
    for code in ("85354-9", "8480-6", "2093-3", "2085-9", "8302-2", "2160-0", "98979-8", "4548-4", "9318-7", "72166-2"):
        assert code in urls


def test_inputs_queries_require_what_silence_would_be_taken_for_no():
    required = {query.resource for query in INPUTS.queries() if query.required}
    assert required == {"Patient", "Condition", "MedicationRequest"}


def test_inputs_smoking_words_reach_the_evidence():
    evidence, _ = found(record(patient(), smoking("449868002")))
    assert evidence["smoking"].display == "yes"
