"""The card's account of the inputs is found out from the input spec, so it can't be forgotten."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from fhir_adapters.codes import LOINC, Code
from fhir_adapters.features import FeatureSpec
from fhir_adapters.queries import Query
from fhir_adapters.record import PatientRecord
from model_artifacts.input_description import (
    SENSITIVE_VARIABLES,
    age_words,
    describe_inputs,
    describe_query,
    sensitive_inputs,
)
from model_artifacts.inputs import Evidence, FeatureVectorInputs, ModelInputs
from model_artifacts.prevent_cvd.inputs import INPUTS as PREVENT


def _inputs(*codes: str, derive: Any = None) -> FeatureVectorInputs:
    loinc = tuple(Code(LOINC, code) for code in codes)
    specs = tuple(FeatureSpec(f"f{code.code}", "A value", (code,), "mg/dL") for code in loinc)
    return FeatureVectorInputs(specs, (Query("labs", "Observation", loinc),) if loinc else (), derive=derive)


def _used(inputs: Any) -> set[str]:
    return {name for name, used in sensitive_inputs(inputs).items() if used}


def test_input_description_flags_are_the_regulations_nine_in_its_order() -> None:
    assert tuple(sensitive_inputs(_inputs())) == SENSITIVE_VARIABLES
    assert len(SENSITIVE_VARIABLES) == 9


def test_input_description_of_laboratory_values_alone_flags_nothing() -> None:
    assert _used(_inputs("2345-7", "2951-2")) == set()


@pytest.mark.parametrize(
    ("code", "variable"),
    [
        ("32624-9", "race"),
        ("69490-1", "ethnicity"),
        ("54899-0", "language"),
        ("76690-7", "sexual orientation"),
        ("76691-5", "gender identity"),
        ("93025-5", "social determinants of health"),
        ("72166-2", "health status assessments"),
    ],
)
def test_input_description_flags_a_sensitive_variable_by_the_code_asked_for(code: str, variable: str) -> None:
    assert _used(_inputs(code)) == {variable}


def _age(record: PatientRecord, as_of: datetime) -> tuple[Evidence, ...]:
    age = None if record.patient is None else record.patient.age(as_of)
    return (Evidence("years", "Years", age, "a", None, None),)


def _sex(record: PatientRecord, _as_of: datetime) -> tuple[Evidence, ...]:
    return (Evidence("m", "M", float(record.patient is not None and record.patient.sex == "male"), "", None, None),)


def test_input_description_finds_out_what_the_patient_resource_is_read_for() -> None:
    assert _used(_inputs(derive=_age)) == {"date of birth"}
    assert _used(_inputs(derive=_sex)) == {"sex"}


@dataclass(frozen=True)
class _Hidden:
    """Reads sex into the tensor and tells the evidence nothing of it."""

    def queries(self) -> tuple[Query, ...]:
        return ()

    def extract(self, record: PatientRecord, _as_of: datetime) -> ModelInputs:
        hidden = record.patient is not None and record.patient.gender == "male"
        return ModelInputs({"x": np.array([[float(hidden)]])}, (), ())


def test_input_description_finds_what_only_the_tensor_holds() -> None:
    assert _used(_Hidden()) == {"sex"}


def test_input_description_of_prevent_names_sex_birth_date_and_smoking_status() -> None:
    assert _used(PREVENT) == {"sex", "date of birth", "health status assessments"}


def test_input_description_takes_codes_unit_range_and_age_limit_from_the_specs() -> None:
    described = {item.name: item for item in describe_inputs(PREVENT)}
    sbp = described["sbp"]
    assert (sbp.label, sbp.unit, sbp.codes, sbp.plausible) == (
        "Systolic blood pressure",
        "mm[Hg]",
        "8480-6, 8459-0",
        "40 to 320",
    )
    assert sbp.oldest is not None
    assert age_words(sbp.oldest) == "2 years"
    assert described["age"].codes == ""


@pytest.mark.parametrize(
    ("age", "shown"),
    [
        (timedelta(days=365.25), "1 year"),
        (timedelta(days=3 * 365), "3 years"),
        (timedelta(days=90), "90 days"),
        (timedelta(hours=72), "72 hours"),
        (timedelta(hours=1), "1 hour"),
    ],
)
def test_input_description_words_lengths_of_time(age: timedelta, shown: str) -> None:
    assert age_words(age) == shown


def test_input_description_words_a_search() -> None:
    query = Query("some_labs", "Observation", (Code(LOINC, "1-8"),), timedelta(days=30), ("final",), required=True)
    assert describe_query(query) == "some labs: Observation, 1 code, status final, of the last 30 days (required)"
    assert describe_query(Query("who", "Patient")) == "who: Patient"
