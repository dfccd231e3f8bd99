"""Inputs of a tabular model: a tensor in the order of the specs, and the evidence behind every number."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from fhir_adapters.codes import LOINC, Code
from fhir_adapters.features import FeatureSpec, FeatureValue
from fhir_adapters.queries import Query
from fhir_adapters.reasons import Reason, SetAside
from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId
from model_artifacts.inputs import Evidence, FeatureVectorInputs, evidence_of, set_aside_words

AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
GLUCOSE = FeatureSpec("glucose", "Glucose", (Code(LOINC, "2345-7"),), "mg/dL", "glucose", 10, 2000, timedelta(days=30))
SODIUM = FeatureSpec("sodium", "Sodium", (Code(LOINC, "2951-2"),), "mmol/L", "sodium", 80, 200)


def _observation(
    code: str, value: float, unit: str, when: str = "2026-05-20T08:00:00Z", **changes: Any
) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o-{code}",
        "status": "final",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "effectiveDateTime": when,
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        **changes,
    }


def _record(*resources: dict[str, Any]) -> PatientRecord:
    return build_record(PatientId("p"), [json.dumps(item).encode() for item in resources])


def _derived(_record: PatientRecord, as_of: datetime) -> tuple[Evidence, ...]:
    return (Evidence("month", "Month", float(as_of.month), "", None, None, note="from the clock"),)


INPUTS = FeatureVectorInputs(
    (GLUCOSE, SODIUM), (Query("labs", "Observation", GLUCOSE.codes + SODIUM.codes),), "x", _derived
)


def test_inputs_make_one_row_in_the_order_of_the_specs() -> None:
    found = INPUTS.extract(_record(_observation("2951-2", 140, "mmol/L"), _observation("2345-7", 5.5, "mmol/L")), AS_OF)
    assert found.arrays["x"].dtype == np.float32
    assert found.arrays["x"].shape == (1, 3)
    assert found.arrays["x"][0].tolist() == pytest.approx([99.09, 140, 6], abs=0.05)
    assert found.slots == ((0,), (1,), (2,))
    assert [item.name for item in found.evidence] == ["glucose", "sodium", "month"]


def test_inputs_keep_unit_time_and_source_as_evidence() -> None:
    found = INPUTS.extract(_record(_observation("2951-2", 140, "mmol/L")), AS_OF)
    assert found.evidence[1] == Evidence(
        "sodium", "Sodium", 140.0, "mmol/L", datetime(2026, 5, 20, 8, tzinfo=UTC), "Observation/o-2951-2"
    )


def test_inputs_that_are_missing_are_not_a_number_with_their_reason() -> None:
    found = INPUTS.extract(_record(_observation("2345-7", 100, "mg/dL", "2026-01-01T08:00:00Z")), AS_OF)
    assert np.isnan(found.arrays["x"][0, :2]).all()
    assert [item.absence for item in found.evidence] == ["stale", "missing", None]


def test_inputs_never_read_what_was_observed_later() -> None:
    found = INPUTS.extract(_record(_observation("2951-2", 140, "mmol/L", "2026-06-01T12:00:01Z")), AS_OF)
    assert np.isnan(found.arrays["x"][0, 1])
    assert found.set_aside


def test_inputs_without_a_derivation_are_the_specs_alone() -> None:
    plain = FeatureVectorInputs((SODIUM,), ())
    assert plain.queries() == ()
    assert plain.extract(_record(), AS_OF).arrays["features"].shape == (1, 1)


def test_inputs_evidence_of_a_feature_keeps_everything() -> None:
    value = FeatureValue("k", "Potassium", None, "mmol/L", AS_OF, "Observation/1", "unit", "preliminary result")
    assert evidence_of(value) == Evidence(
        "k", "Potassium", None, "mmol/L", AS_OF, "Observation/1", "unit", "preliminary result"
    )


def test_inputs_set_aside_is_worded_without_values_and_without_mere_repetitions() -> None:
    items = (
        SetAside("Observation", "Observation/1", Reason.UNIT, "glucose"),
        SetAside("Observation", "Observation/2", Reason.DUPLICATE, "glucose"),
        SetAside("Observation", "Observation/3", Reason.SUPERSEDED, "glucose"),
        SetAside("Condition", None, Reason.UNREADABLE),
    )
    words = set_aside_words(items)
    assert len(words) == 2
    assert words[1] == "Condition: the resource does not have the form FHIR R4 asks for"
