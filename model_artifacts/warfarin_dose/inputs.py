"""What warfarin_dose reads: the draft order, the person, drugs and diagnoses, and the two genotypes.

Owns the way from a record to `features` (1, 27) float32 (`columns.COLUMNS`). Silence means "no" for drugs and diagnoses, whose
searches are required ones, and "not known" for everything else. The drafted dose is evidence and no feature: the estimate
must not depend on what it is compared with.

To add a drug or a diagnosis: its column, its list in `history.toml` or a file, a column in `cohort.py`, then train.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from fhir_adapters.codes import LOINC, Code, keys
from fhir_adapters.features import FeatureSpec, extract
from fhir_adapters.mappings.condition import ConditionEntry
from fhir_adapters.mappings.draft_order import DraftOrder
from fhir_adapters.mappings.medication import MedicationEntry
from fhir_adapters.queries import Query
from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord
from model_artifacts.drug_list import make_drug_list, read_drug_list
from model_artifacts.inputs import Evidence, ModelInputs, evidence_of, set_aside_words
from model_artifacts.population import read_code_list
from model_artifacts.warfarin_dose import genotypes
from model_artifacts.warfarin_dose.columns import COLUMNS, CYP2C9, OLDEST_DECADE, RACES, SLOTS, VKORC1, genotype_columns
from model_artifacts.warfarin_dose.dosing import UnclearDoseError, tablet_mg, target_inr, weekly_mg

_FOLDER = Path(__file__).parent
_HISTORY = tomllib.loads((_FOLDER / "history.toml").read_text(encoding="utf-8"))
DRUGS = {name: make_drug_list(content) for name, content in _HISTORY["drugs"].items()}
_DRUG_LABELS = {
    "amiodarone": "Amiodarone",
    "inducer": "Enzyme inducer (carbamazepine, phenytoin or rifampicin)",
    "statin": "Statin",
    "aspirin": "Aspirin",
    "azole": "Azole antifungal",
    "sulfonamide": "Sulfonamide antibiotic",
}
_DIAGNOSES = {
    "heart_failure": "Heart failure or cardiomyopathy",
    "diabetes": "Diabetes",
    "valve": "Replaced heart valve",
}
_YEAR = timedelta(days=365.25)
_SMOKING = Code(LOINC, "72166-2", "Tobacco smoking status")
_SMOKING_MAX_AGE = 3 * _YEAR
_OMB = {"2106-3": "white", "2028-9": "asian", "2054-5": "black"}
_RACE_WORDS = {"white": "White", "asian": "Asian", "black": "Black or African American"}
UNCLEAR = "unclear"
"""Absence of a drafted dose that could not be worked out; the note says why."""


def _loinc(*codes: str) -> tuple[Code, ...]:
    return tuple(Code(LOINC, code) for code in codes)


SPECS = (
    FeatureSpec("height", "Body height", _loinc("8302-2", "3137-7"), "cm", None, 120, 215, 10 * _YEAR),
    FeatureSpec("weight", "Body weight", _loinc("29463-7", "3141-9"), "kg", None, 30, 240, 2 * _YEAR),
)
"""Every input that is a measurement, for the model card; the ranges are those of the training data, a little widened."""


@dataclass(frozen=True, slots=True)
class WarfarinInputs:
    """The `InputSpec` of this model: one tensor `features` (1, 27) float32."""

    specs: tuple[FeatureSpec, ...] = SPECS

    def queries(self) -> tuple[Query, ...]:
        """See `InputSpec.queries`."""
        height, weight = SPECS
        return (
            Query("patient", "Patient", required=True),
            Query("conditions", "Condition", required=True),
            Query("active_medications", "MedicationRequest", status=("active",), required=True),
            Query("body_height", "Observation", height.codes, lookback=height.max_age, count=5, widens=True),
            Query("body_weight", "Observation", weight.codes, lookback=weight.max_age, count=5),
            Query("smoking_status", "Observation", (_SMOKING,), lookback=_SMOKING_MAX_AGE, count=5),
            Query("genotypes", "Observation", genotypes.CODES, count=200, widens=True),
        )

    def extract(self, record: PatientRecord, as_of: datetime) -> ModelInputs:
        """See `InputSpec.extract`."""
        vector = extract(record, self.specs, as_of)
        height, weight = (evidence_of(value) for value in vector.values)
        drafts = warfarin_drafts(record)
        features: dict[str, Evidence] = {
            "age_decades": _age(record, as_of),
            "height": height,
            "weight": weight,
            "male": _sex(record),
            "race": _race(record),
            **{name: _drug(record, as_of, name) for name in DRUGS},
            "smoking": _smoking(record, as_of),
            **{name: _diagnosis(record, as_of, name) for name in _DIAGNOSES},
            "target_inr": _target(drafts),
            **{item.name: item for item in genotypes.read_genotypes(record, as_of)},
        }
        evidence = (*features.values(), _drafted(drafts), _tablet(drafts))
        slots = (*(SLOTS[name] for name in features), (), ())
        labels = {spec.name: spec.label for spec in self.specs}
        return ModelInputs({"features": _row(features)}, evidence, slots, set_aside_words(vector.set_aside, labels))


def warfarin_drafts(record: PatientRecord) -> tuple[DraftOrder, ...]:
    """The selected draft orders of warfarin."""
    listed = read_drug_list(_FOLDER / "warfarin.toml")
    return tuple(draft for draft in record.drafts if draft.selected and listed.has(draft))


def _row(features: Mapping[str, Evidence]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    values = {name: np.nan if item.value is None else item.value for name, item in features.items()}
    years = values.pop("age_decades")
    race, cyp2c9, vkorc1 = (features[name].value for name in ("race", "cyp2c9", "vkorc1"))
    values |= {name: float(race == place) for place, name in enumerate(RACES, start=1)}
    values |= genotype_columns(
        None if cyp2c9 is None else CYP2C9[int(cyp2c9)], None if vkorc1 is None else VKORC1[int(vkorc1)]
    )
    values["age_decades"] = min(years // 10, OLDEST_DECADE) if years == years else np.nan
    return np.array([[values[name] for name in COLUMNS]], dtype=np.float32)


def _age(record: PatientRecord, as_of: datetime) -> Evidence:
    years = None if record.patient is None else record.patient.age(as_of)
    note = None if years is None else "counted in whole decades, as in the training data"
    age = None if years is None else float(years)
    return Evidence("age_decades", "Age", age, "a", None, _person(record), _absence(age), note)


def _sex(record: PatientRecord) -> Evidence:
    sex = None if record.patient is None else record.patient.sex
    male = None if sex is None else float(sex == "male")
    return Evidence("male", "Sex", male, "", None, _person(record), _absence(male), display=sex)


def _race(record: PatientRecord) -> Evidence:
    """1 to 3 as in `columns.RACES`, 0 for what is recorded and is none or several of them."""
    recorded = None if record.patient is None else record.patient.race
    if recorded is None:
        return Evidence("race", "Race as recorded", None, "", None, _person(record), Reason.MISSING)
    known = [_OMB[code] for code in recorded if code in _OMB]
    single = known[0] if len(recorded) == len(known) == 1 else None
    value, words = (0.0, "another or several") if single is None else (RACES.index(single) + 1.0, _RACE_WORDS[single])
    note = "a rough stand-in for ancestry and much else"
    return Evidence("race", "Race as recorded", value, "", None, _person(record), None, note, words)


def _person(record: PatientRecord) -> str | None:
    return None if record.patient is None else f"Patient/{record.patient_id}"


def _absence(value: float | None) -> str | None:
    return Reason.MISSING if value is None else None


def _drug(record: PatientRecord, as_of: datetime, name: str) -> Evidence:
    found = [entry for entry in record.medications if _is_taken(entry, as_of) and DRUGS[name].has(entry)]
    if not found:
        note = "no such drug among the active medications sent"
        return Evidence(name, _DRUG_LABELS[name], 0.0, "", None, None, None, note, "none recorded")
    newest = max(
        found, key=lambda entry: ("" if entry.when is None else entry.when.start.isoformat(), entry.source or "")
    )
    at = None if newest.when is None else newest.when.start
    return Evidence(name, _DRUG_LABELS[name], 1.0, "", at, newest.source, display=_yes(newest.text), precision="day")


def _is_taken(entry: MedicationEntry, as_of: datetime) -> bool:
    """An active order, or a statement that is not of a finished course; doses given in hospital don't count."""
    if entry.resource_type == "MedicationAdministration" or entry.status == "completed":
        return False
    return entry.is_current and (entry.when is None or entry.when.start <= as_of)


def _diagnosis(record: PatientRecord, as_of: datetime, name: str) -> Evidence:
    listed = read_code_list(_FOLDER / f"{name}.toml")
    found = [entry for entry in record.conditions if _stands(entry, as_of) and listed.names(entry)]
    if not found:
        note = "no such diagnosis among the conditions sent"
        return Evidence(name, _DIAGNOSES[name], 0.0, "", None, None, None, note, "none recorded")
    first = min(found, key=lambda entry: entry.source or "")
    began = first.onset or first.recorded
    at = None if began is None else began.start
    return Evidence(name, _DIAGNOSES[name], 1.0, "", at, first.source, display=_yes(first.text), precision="day")


def _stands(entry: ConditionEntry, as_of: datetime) -> bool:
    known = entry.onset or entry.recorded
    return entry.is_active and (known is None or known.start <= as_of)


def _yes(words: str) -> str:
    return f"yes ({words})" if words else "yes"


def _smoking(record: PatientRecord, as_of: datetime) -> Evidence:
    label, timeline = "Current smoking", record.timeline(keys(_SMOKING))
    past = bisect_right(timeline.moments, as_of)
    if not past:
        return Evidence("smoking", label, None, "", None, None, Reason.MISSING)
    newest = timeline[past - 1]
    answers, at, source = {code.code for code in newest.answers}, newest.observed_at, newest.source
    if at is not None and as_of - at > _SMOKING_MAX_AGE:
        return Evidence("smoking", label, None, "", at, source, Reason.STALE)
    for value, listed, words in ((1.0, "current", "yes"), (0.0, "not_current", "no")):
        if answers & set(_HISTORY["smoking"][listed]):
            return Evidence("smoking", label, value, "", at, source, display=words, precision=newest.precision)
    return Evidence("smoking", label, None, "", at, source, Reason.NO_VALUE)


def _target(drafts: tuple[DraftOrder, ...]) -> Evidence:
    target, source = target_inr(drafts), drafts[0].reference if drafts else None
    label = "Target INR (middle of the range in the draft)"
    if target is None:
        return Evidence("target_inr", label, None, "1", None, None, Reason.MISSING)
    return Evidence("target_inr", label, target, "1", None, source, note="from the words of the draft order")


def _drafted(drafts: tuple[DraftOrder, ...]) -> Evidence:
    """What is drafted, mg/week; the source is the one draft there is, for only one can be changed."""
    source = drafts[0].reference if len(drafts) == 1 else None
    label = "Drafted dose"
    if not drafts:
        return Evidence("drafted_dose", label, None, "mg/wk", None, None, Reason.MISSING)
    try:
        dose = weekly_mg(drafts)
    except UnclearDoseError as exc:
        return Evidence("drafted_dose", label, None, "mg/wk", None, source, UNCLEAR, str(exc))
    note = (
        "computed from the dosage of the draft order" if len(drafts) == 1 else f"the sum of {len(drafts)} draft orders"
    )
    return Evidence("drafted_dose", label, dose, "mg/wk", None, source, None, note)


def _tablet(drafts: tuple[DraftOrder, ...]) -> Evidence:
    """The strength of the one draft's tablets: what else is proposed must be made of them."""
    strength = tablet_mg(drafts[0]) if len(drafts) == 1 else None
    source, label = drafts[0].reference if drafts else None, "Strength of the drafted tablets"
    return Evidence("drafted_tablet", label, strength, "mg", None, source, _absence(strength))


INPUTS = WarfarinInputs()
