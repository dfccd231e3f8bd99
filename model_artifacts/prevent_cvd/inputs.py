"""What PREVENT reads from a record: thirteen values with unit, date and source, and the searches that bring them.

The oldest result that may speak: blood pressure, BMI, kidney function, HbA1c and urine albumin two years, lipids five (the
guideline's interval for reassessing risk is four to six years), smoking three. These limits are ours, not the
publication's; the card shows each date. The newest result decides; see `fhir_adapters.features`, rule 3.

A value outside the published range is not clamped: an essential one makes the model abstain, HbA1c or urine albumin
outside theirs are left out and another equation applies; both are said.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from fhir_adapters.codes import LOINC, Code
from fhir_adapters.features import FeatureSpec, FeatureValue, extract
from fhir_adapters.queries import Query
from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord
from model_artifacts.inputs import Evidence, ModelInputs, evidence_of, set_aside_words
from model_artifacts.prevent_cvd.columns import COLUMNS, SLOTS, VALID
from model_artifacts.prevent_cvd.history import (
    BP_TREATMENTS,
    SMOKING_MAX_AGE,
    SMOKING_STATUS,
    STATINS,
    read_diabetes,
    read_smoking,
    read_treatment,
)
from model_artifacts.prevent_cvd.kidney import choose_egfr

_YEAR = timedelta(days=365.25)
OUT_OF_RANGE = "out-of-range"


def _loinc(*codes: str) -> tuple[Code, ...]:
    return tuple(Code(LOINC, code) for code in codes)


def _spec(
    name: str, label: str, unit: str, analyte: str | None, low: float, high: float, years: int, *loinc: str
) -> FeatureSpec:
    """The newest result under these LOINC codes, if it is not older than `years`; `low` and `high` keep typing errors out."""
    return FeatureSpec(name, label, _loinc(*loinc), unit, analyte, low, high, years * _YEAR)


# LOINC 2.78. The equations' own, narrower ranges are `columns.VALID`.
_UACR = ("9318-7", "14959-1", "32294-1", "30000-4", "13705-9", "14958-3")
_OLDER_EGFR = ("62238-1", "33914-3", "48642-3", "88294-4", "77147-7", "69405-9")
_CREATININE = ("2160-0", "38483-4", "14682-9", "59826-8")
_GFR = "mL/min/{1.73_m2}"
SPECS: dict[str, FeatureSpec] = {
    spec.name: spec
    for spec in (
        _spec("total_cholesterol", "Total cholesterol", "mg/dL", "cholesterol", 30, 1000, 5, "2093-3", "14647-2"),
        _spec("hdl_cholesterol", "HDL cholesterol", "mg/dL", "cholesterol", 3, 250, 5, "2085-9", "14646-4"),
        _spec("sbp", "Systolic blood pressure", "mm[Hg]", None, 40, 320, 2, "8480-6", "8459-0"),
        _spec("bmi", "Body mass index", "kg/m2", None, 8, 150, 2, "39156-5"),
        _spec("weight", "Body weight", "kg", None, 20, 500, 2, "29463-7", "3141-9"),
        _spec("height", "Body height", "cm", None, 100, 250, 10, "8302-2", "3137-7"),
        _spec("egfr", "Estimated GFR", _GFR, "egfr", 1, 250, 2, "98979-8", "98980-6"),
        _spec("egfr_older", "Estimated GFR", _GFR, "egfr", 1, 250, 2, *_OLDER_EGFR),
        _spec("creatinine", "Creatinine", "mg/dL", "creatinine", 0.1, 30, 2, *_CREATININE),
        _spec("hba1c", "HbA1c", "%", "hba1c", 2, 25, 2, "4548-4", "17856-6", "4549-2", "59261-8"),
        _spec("uacr", "Urine albumin–creatinine ratio", "mg/g", "uacr", 0, 50_000, 2, *_UACR),
    )
}
_LABELS = {spec.name: spec.label for spec in SPECS.values()}
_LIPIDS = ("total_cholesterol", "hdl_cholesterol")
_KIDNEY = ("egfr", "egfr_older", "creatinine")
_PANELS = _loinc("85354-9", "55284-4")  # blood pressure panels: servers search by the panel's code, not the component's


def _codes(names: tuple[str, ...]) -> tuple[Code, ...]:
    return tuple(code for name in names for code in SPECS[name].codes)


@dataclass(frozen=True, slots=True)
class PreventInputs:
    """The `InputSpec` of this model: one tensor `features` (1, 13) float32, the columns of `columns.COLUMNS`."""

    def queries(self) -> tuple[Query, ...]:
        """See `InputSpec.queries`. What is measured often must not crowd out what is not, so each has a search of its own."""
        return (
            Query("patient", "Patient", required=True),
            Query("conditions", "Condition", required=True),
            Query("current_encounters", "Encounter", status=("in-progress",)),
            Query("active_medications", "MedicationRequest", status=("active",), required=True),
            Query("blood_pressure", "Observation", _PANELS + _codes(("sbp",)), lookback=2 * _YEAR, count=10),
            Query("body_mass_index", "Observation", _codes(("bmi",)), lookback=2 * _YEAR, count=5),
            Query("body_weight", "Observation", _codes(("weight",)), lookback=2 * _YEAR, count=5),
            Query("body_height", "Observation", _codes(("height",)), lookback=10 * _YEAR, count=5),
            Query("cholesterol", "Observation", _codes(_LIPIDS), lookback=5 * _YEAR, count=10),
            Query("kidney_function", "Observation", _codes(_KIDNEY), lookback=2 * _YEAR, count=20),
            Query("hba1c", "Observation", _codes(("hba1c",)), lookback=2 * _YEAR, count=5, widens=True),
            Query("urine_albumin", "Observation", _codes(("uacr",)), lookback=2 * _YEAR, count=5, widens=True),
            Query("smoking_status", "Observation", (SMOKING_STATUS,), lookback=SMOKING_MAX_AGE, count=5),
        )

    def extract(self, record: PatientRecord, as_of: datetime) -> ModelInputs:
        """See `InputSpec.extract`."""
        vector = extract(record, SPECS.values(), as_of)
        measured = dict(zip(SPECS, vector.values, strict=True))
        age = None if record.patient is None else record.patient.age(as_of)
        sex = None if record.patient is None else record.patient.sex
        values = {
            **{name: evidence_of(measured[name]) for name in (*_LIPIDS, "sbp", "hba1c", "uacr")},
            **{item.name: item for item in _person(record, age, sex)},
            "bmi": _bmi(measured),
            "egfr": choose_egfr(measured["egfr"], measured["creatinine"], measured["egfr_older"], age, sex),
            "diabetes": read_diabetes(record, as_of),
            "smoking": read_smoking(record, as_of),
            "bp_treatment": read_treatment(record, as_of, "bp_treatment", "Blood pressure treatment", BP_TREATMENTS),
            "statin": read_treatment(record, as_of, "statin", "Statin", STATINS),
        }
        evidence = tuple(_within_range(values[name]) for name in COLUMNS)
        row = np.array([[np.nan if item.value is None else item.value for item in evidence]], dtype=np.float32)
        slots = tuple(SLOTS[name] for name in COLUMNS)
        return ModelInputs({"features": row}, evidence, slots, set_aside_words(vector.set_aside, _LABELS))


def _person(record: PatientRecord, age: int | None, sex: str | None) -> tuple[Evidence, Evidence]:
    source = None if record.patient is None else f"Patient/{record.patient_id}"
    male = None if sex is None else float(sex == "male")
    return (
        Evidence("age", "Age", age, "a", None, source, Reason.MISSING if age is None else None),
        Evidence("male", "Sex", male, "", None, source, Reason.MISSING if sex is None else None, display=sex),
    )


def _bmi(measured: dict[str, FeatureValue]) -> Evidence:
    """The reported index, or weight by height squared where none is reported or the weight is newer."""
    reported, weight, height = measured["bmi"], measured["weight"], measured["height"]
    if weight.value is None or height.value is None:
        return evidence_of(reported)
    if reported.observed_at and weight.observed_at and reported.observed_at >= weight.observed_at:
        return evidence_of(reported)
    value = weight.value / (height.value / 100) ** 2
    note = f"computed from weight {weight.value:.4g} kg and height {height.value:.4g} cm"
    at, source = weight.observed_at, weight.source
    return replace(evidence_of(reported), value=value, observed_at=at, source=source, absence=None, note=note)


def _within_range(item: Evidence) -> Evidence:
    """The evidence, absent where the equations don't hold for its value."""
    valid = VALID.get(item.name)
    if valid is None or item.value is None or valid.low <= round(item.value, 6) <= valid.high:
        return item
    note = f"found {item.value:.4g}; the equations hold for {valid.low:g} to {valid.high:g}"
    return replace(item, value=None, absence=OUT_OF_RANGE, note=note)


INPUTS = PreventInputs()
