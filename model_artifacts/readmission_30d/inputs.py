"""What readmission_30d reads: the stay that is ending, the person, diagnoses, drugs, two results, and earlier visits.

Owns the way from a record to `features` (1, 33) float32 (`columns.COLUMNS`) and `diagnoses` (1, 9) int64. Silence means "no"
for visits, drugs and diagnoses, whose searches are required ones, and "not known" for everything else. Counts of
laboratory tests and of procedures, which the training table has, are not read from a record and count as not known.

To add an input: its column, its reading in `stay.py`, a column in `cohort.py`, then train.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from fhir_adapters.codes import LOINC, Code
from fhir_adapters.features import FeatureSpec, extract
from fhir_adapters.mappings.encounter import Concept, EncounterEntry
from fhir_adapters.queries import Query
from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord
from model_artifacts.hospital_stay import current_stay
from model_artifacts.inputs import Evidence, ModelInputs, evidence_of, set_aside_words
from model_artifacts.readmission_30d.columns import CHOICES, COLUMNS, HISTORY_DAYS, LEVELS, POSITIONS, SLOTS
from model_artifacts.readmission_30d.stay import diagnoses, drugs, encounter_choice, visits

_LONGEST = timedelta(days=30)
_DAY = timedelta(days=1)
_OLDEST_DECADE = 9
_MEASURED = {
    "hba1c": ((7.0, "below 7 %"), (8.0, "7 % to 8 %"), (np.inf, "above 8 %")),
    "glucose": ((200.0, "up to 200 mg/dL"), (300.0, "201 to 300 mg/dL"), (np.inf, "above 300 mg/dL")),
}
"""Up to and including each bound, the training table's word for a result."""
_NOT_READ = {
    "lab_tests": "Laboratory tests in the stay",
    "procedures": "Procedures in the stay",
}


def _loinc(*codes: str) -> tuple[Code, ...]:
    return tuple(Code(LOINC, code) for code in codes)


SPECS = (
    FeatureSpec("hba1c", "HbA1c", _loinc("4548-4", "17856-6", "4549-2", "59261-8"), "%", "hba1c", 2, 25, _LONGEST),
    FeatureSpec(
        "glucose",
        "Highest glucose of the stay",
        _loinc("2345-7", "14749-6", "2339-0", "15074-8"),
        "mg/dL",
        "glucose",
        10,
        2000,
        _LONGEST,
        "max",
    ),
)
"""Every input that is a measurement, for the model card; of each only results since the admission count."""


@dataclass(frozen=True, slots=True)
class ReadmissionInputs:
    """The `InputSpec` of this model: tensors `features` (1, 33) float32 and `diagnoses` (1, 9) int64."""

    specs: tuple[FeatureSpec, ...] = SPECS

    def queries(self) -> tuple[Query, ...]:
        """See `InputSpec.queries`."""
        hba1c, glucose = SPECS
        return (
            Query("patient", "Patient", required=True),
            Query(
                "encounters", "Encounter", lookback=timedelta(days=HISTORY_DAYS) + _LONGEST, count=500, required=True
            ),
            Query("conditions", "Condition", required=True),
            Query("medication_orders", "MedicationRequest", lookback=timedelta(days=365), count=500, required=True),
            Query("stay_hba1c", "Observation", hba1c.codes, lookback=_LONGEST, count=20),
            Query("stay_glucose", "Observation", glucose.codes, lookback=_LONGEST, count=200),
        )

    def extract(self, record: PatientRecord, as_of: datetime) -> ModelInputs:
        """See `InputSpec.extract`."""
        stay = current_stay(record, as_of)
        read, levels, aside = _nothing(record, as_of) if stay is None else _read(record, stay, as_of, self.specs)
        row = np.array([[_value(read[name], name) for name in COLUMNS]], dtype=np.float32)
        numbers = np.array([[number for one in levels for number in one]], dtype=np.int64)
        return ModelInputs(
            {"features": row, "diagnoses": numbers}, tuple(read.values()), tuple(SLOTS[name] for name in read), aside
        )


Reading = tuple[dict[str, Evidence], tuple[tuple[int, int, int], ...], tuple[str, ...]]


def _read(record: PatientRecord, stay: EncounterEntry, as_of: datetime, specs: tuple[FeatureSpec, ...]) -> Reading:
    assert stay.start is not None
    until = stay.end if stay.end is not None and stay.end < as_of else as_of
    since = as_of - stay.start + _DAY
    vector = extract(record, tuple(replace(spec, max_age=min(since, _LONGEST)) for spec in specs), as_of)
    three, levels, counted = diagnoses(record, stay, as_of)
    service = Concept(stay.service_type, stay.service_text)
    days = float(max(1, (until.date() - stay.start.date()).days))
    read = {
        **_person(record, as_of),
        "days": Evidence("days", "Days in hospital", days, "d", stay.start, stay.source, precision="day"),
        **{
            name: Evidence(name, label, None, "", None, None, Reason.MISSING, "not counted in a record")
            for name, label in _NOT_READ.items()
        },
        "diagnosis_count": counted,
        **visits(record, stay),
        **drugs(record, stay, as_of),
        "admission_type": encounter_choice("admission_type", stay, stay.priority),
        "admission_source": encounter_choice("admission_source", stay, stay.admit_source),
        "disposition": encounter_choice("disposition", stay, stay.discharge_disposition),
        "specialty": encounter_choice("specialty", stay, service),
        **{value.name: _measured(evidence_of(value)) for value in vector.values},
        **{item.name: item for item in three},
    }
    return read, levels, set_aside_words(vector.set_aside, {spec.name: spec.label for spec in specs})


def _nothing(record: PatientRecord, as_of: datetime) -> Reading:
    """The inputs of somebody who isn't in hospital: the model has no business there, and says nothing."""
    labels = {spec.name: spec.label for spec in SPECS} | {
        f"diagnosis_{place + 1}": "Diagnosis" for place in range(POSITIONS)
    }
    empty = {
        name: Evidence(name, labels.get(name, name.replace("_", " ")), None, "", None, None, Reason.MISSING)
        for name in SLOTS
    }
    return empty | _person(record, as_of), ((0,) * LEVELS,) * POSITIONS, ()  # type: ignore[return-value]


def _person(record: PatientRecord, as_of: datetime) -> dict[str, Evidence]:
    source = None if record.patient is None else f"Patient/{record.patient_id}"
    years = None if record.patient is None else record.patient.age(as_of)
    sex = None if record.patient is None else record.patient.sex
    age = None if years is None else float(years)
    female = None if sex is None else float(sex == "female")
    return {
        "age_decade": Evidence(
            "age_decade",
            "Age",
            age,
            "a",
            None,
            source,
            None if age is not None else Reason.MISSING,
            "counted in whole decades, as in the training data",
        ),
        "female": Evidence(
            "female", "Sex", female, "", None, source, Reason.MISSING if sex is None else None, display=sex
        ),
    }


def _measured(item: Evidence) -> Evidence:
    """A result of the stay; without one the reason why its absence counts too."""
    return (
        item
        if item.value is not None
        else replace(item, note=item.note or "not measured in this stay, which counts too")
    )


def _value(item: Evidence, name: str) -> float:
    """What the column gets: a number or not-a-number, of a choice its position."""
    if name in _MEASURED:
        return 0.0 if item.value is None else float(_place(name, item.value))
    if item.value is None:
        return 0.0 if name in CHOICES else np.nan
    return min(item.value // 10, _OLDEST_DECADE) if name == "age_decade" else item.value


def _place(name: str, value: float) -> int:
    word = next(word for bound, word in _MEASURED[name] if value <= bound)
    return CHOICES[name].index(word)


INPUTS = ReadmissionInputs()
