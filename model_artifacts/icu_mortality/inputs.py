"""What icu_mortality reads: 37 variables of the ICU stay up to now, at most its first 48 hours, age, sex, height and kind
of unit.

Owns the way from a record to the tensors of `events.stay_tensors`, the same function that training uses, and the
evidence for every variable: its last value with unit, time and source, how often it was measured, or why it is missing.

Hour 0 is the start of the ICU stay (`population.current_icu_stay`). Nothing after `as_of` or after hour 48 is read; how many
hours that makes is an input of its own.
To add a variable: a row in `variables.toml`, then train.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from fhir_adapters.codes import LOINC, Code, keys
from fhir_adapters.features import EventSequence, EventSpec, FeatureSpec, extract, extract_events
from fhir_adapters.mappings.encounter import EncounterEntry
from fhir_adapters.queries import Query
from fhir_adapters.reasons import Reason, SetAside
from fhir_adapters.record import PatientRecord
from model_artifacts.icu_mortality.events import (
    HOURS,
    INDEX,
    STATICS,
    UNIT_CODES,
    UNIT_SYSTEM,
    VARIABLES,
    Variable,
    stay_tensors,
)
from model_artifacts.inputs import Evidence, ModelInputs, evidence_of, set_aside_words
from model_artifacts.population import current_icu_stay

OLDEST_AGE = 90
"""The challenge records every age of 90 and over as 90."""

_HORIZON = timedelta(hours=HOURS)
_LOOKBACK = timedelta(hours=72)  # a stay is eligible until its 72nd hour, so that is how far back its start can lie
_HEIGHT_MAX_AGE = timedelta(days=3652)
_MOST_EVENTS = 2000  # the busiest of 8,000 stays has 1,497 measurements
_KINDS = {1: "coronary care", 2: "cardiac surgery recovery", 3: "medical", 4: "surgical"}
# Words for sites that code no HSLOC; tried in this order, a mixed unit has no kind.
_KIND_WORDS = (
    (0, re.compile(r"medical[-/ ]+surgical|mixed", re.IGNORECASE)),
    (2, re.compile(r"\b(CSRU|CVICU|CTICU)\b|cardiothoracic|cardiovascular surg|cardiac surg", re.IGNORECASE)),
    (1, re.compile(r"\bCCU\b|coronary|cardiac", re.IGNORECASE)),
    (4, re.compile(r"\b(SICU|TSICU)\b|surgical|trauma", re.IGNORECASE)),
    (3, re.compile(r"\bMICU\b|medical", re.IGNORECASE)),
)


def _codes(variable: Variable) -> tuple[Code, ...]:
    return tuple(Code(LOINC, code) for code in variable.codes)


def _event_spec(variable: Variable) -> EventSpec:
    low, high = (None, None) if variable.presence else (variable.low, variable.high)
    return EventSpec(variable.name, variable.label, _codes(variable), variable.unit, variable.analyte, low, high)


_EVENTS = tuple(_event_spec(variable) for variable in VARIABLES)
# What only has to be recorded is not read as a number; its place among the variables stays.
_MEASURED = tuple(replace(spec, codes=()) if v.presence else spec for spec, v in zip(_EVENTS, VARIABLES, strict=True))
_PRESENCE = tuple((index, keys(*_codes(v))) for index, v in enumerate(VARIABLES) if v.presence)
_NOT_WITH = tuple(
    (index, keys(*(Code(LOINC, code) for code in v.not_with))) for index, v in enumerate(VARIABLES) if v.not_with
)
_HEIGHT = next(
    FeatureSpec(s.name, s.label, _codes(s), s.unit, s.analyte, s.low, s.high, _HEIGHT_MAX_AGE)
    for s in STATICS
    if s.name == "Height"
)
_LABELS = {spec.variable: spec.label for spec in _EVENTS} | {_HEIGHT.name: _HEIGHT.label}
SPECS: tuple[EventSpec | FeatureSpec, ...] = (*_EVENTS, _HEIGHT)
"""Every input that is an Observation, for the model card."""

SLOTS: tuple[tuple[int, ...], ...] = tuple(
    tuple(hour * len(VARIABLES) + index for hour in range(HOURS)) for index in range(len(VARIABLES))
)


@dataclass(frozen=True, slots=True)
class Event:
    """One measurement that the graph sees: hours since admission, variable, value in the table's unit, and where from."""

    time_h: float
    variable: int
    value: float
    observed_at: datetime
    source: str | None


@dataclass(frozen=True, slots=True)
class IcuInputs:
    """The `InputSpec` of this model: `values` and `counts` (1, 48, 37), `statics` (1, 4), `elapsed` (1, 1), float32."""

    def queries(self) -> tuple[Query, ...]:
        """See `InputSpec.queries`."""
        codes = tuple(dict.fromkeys(code for variable in VARIABLES for code in _codes(variable)))
        return (
            Query("patient", "Patient", required=True),
            Query("encounters", "Encounter", status=("in-progress",), required=True),
            Query("icu_measurements", "Observation", codes, lookback=_LOOKBACK, count=_MOST_EVENTS, required=True),
            Query("body_height", "Observation", _HEIGHT.codes, lookback=_HEIGHT_MAX_AGE, count=1, widens=True),
        )

    def extract(self, record: PatientRecord, as_of: datetime) -> ModelInputs:
        """See `InputSpec.extract`; without an ICU stay nothing is measured, and the population says so."""
        stay = current_icu_stay(record, as_of)
        events, set_aside = ((), ()) if stay is None else read_events(record, stay.start, as_of)
        elapsed_h = 0.0 if stay is None else min(as_of - stay.start, _HORIZON) / timedelta(hours=1)
        vector = extract(record, (_HEIGHT,), as_of)
        person = _person(record, as_of if stay is None else stay.start)
        unit = _unit_kind(None if stay is None else stay.encounter)
        statics = (*person, evidence_of(vector.values[0]), unit)
        arrays = stay_tensors(
            np.array([event.time_h for event in events]),
            np.array([event.variable for event in events], dtype=np.int64),
            np.array([event.value for event in events]),
            {item.name: item.value for item in statics},
            elapsed_h,
        )
        evidence = _variable_evidence(events, set_aside, elapsed_h) + statics
        return ModelInputs(arrays, evidence, _slots(), set_aside_words((*set_aside, *vector.set_aside), _LABELS))


def read_events(
    record: PatientRecord, start: datetime, as_of: datetime
) -> tuple[tuple[Event, ...], tuple[SetAside, ...]]:
    """The measurements from `start` to its 48th hour, none after `as_of`, by time; and what could not be used."""
    sequence = extract_events(record, _MEASURED, start, min(as_of, start + _HORIZON))
    excluded = _sources_measured_otherwise(record)
    events = [event for event in _events(sequence) if event.source not in excluded.get(event.variable, frozenset())]
    events += _presence_events(record, start, min(as_of, start + _HORIZON))
    # By value too: two results of one minute come in whatever order the bundle has, and the answer must not depend on it.
    events.sort(key=lambda event: (event.time_h, event.variable, event.value, event.source or ""))
    # What lies between the 48th hour and now isn't of the future: it is simply not read.
    unused = tuple(item for item in sequence.set_aside if item.reason is not Reason.FUTURE)
    return tuple(events), unused


def _events(sequence: EventSequence) -> list[Event]:
    columns = (sequence.times_h.tolist(), sequence.variable.tolist(), sequence.values.tolist())
    return [Event(*row) for row in zip(*columns, sequence.observed_at, sequence.sources, strict=True)]


def _sources_measured_otherwise(record: PatientRecord) -> dict[int, frozenset[str | None]]:
    """Observations that also carry a code of another measurement (pulse oximetry), by the variable they don't count for."""
    return {index: frozenset(value.source for value in record.observations(codes)) for index, codes in _NOT_WITH}


def _presence_events(record: PatientRecord, start: datetime, end: datetime) -> list[Event]:
    """One event of value 1 for each time that something which only exists on a ventilator was recorded."""
    events: dict[tuple[int, datetime], Event] = {}
    for index, codes in _PRESENCE:
        for observed in record.observations(codes):
            at = observed.observed_at
            recorded = observed.value is not None or observed.text or observed.answers
            if at is not None and start <= at <= end and recorded and observed.absent_reason is None:
                hours = (at - start) / timedelta(hours=1)
                events.setdefault((index, at), Event(hours, index, 1.0, at, observed.source))
    return list(events.values())


def _variable_evidence(
    events: tuple[Event, ...], set_aside: tuple[SetAside, ...], elapsed_h: float
) -> tuple[Evidence, ...]:
    by_variable: defaultdict[int, list[Event]] = defaultdict(list)
    for event in events:
        by_variable[event.variable].append(event)
    reasons = {item.detail.split(":")[0]: item.reason for item in set_aside if item.reason is not Reason.DUPLICATE}
    return tuple(
        _measured(variable, by_variable[index], elapsed_h)
        if by_variable[index]
        else Evidence(
            *(variable.name, variable.label, None, _shown_unit(variable), None, None),
            absence=reasons.get(variable.name, Reason.MISSING),
        )
        for index, variable in enumerate(VARIABLES)
    )


def _measured(variable: Variable, events: list[Event], elapsed_h: float) -> Evidence:
    """The last value; `elapsed_h`, rounded down, is the time in which it was measured so often."""
    last = events[-1]
    values = [event.value for event in events]
    often = "once" if len(values) == 1 else f"{len(values)} times"
    span = "" if len(values) == 1 else f", {min(values):.4g} to {max(values):.4g}"
    if variable.presence:
        return Evidence(
            *(variable.name, variable.label, last.value, "", last.observed_at, last.source),
            note=f"recorded {often} in {int(elapsed_h)} h",
            display="yes",
        )
    return Evidence(
        *(variable.name, variable.label, last.value, _shown_unit(variable), last.observed_at, last.source),
        note=f"measured {often} in {int(elapsed_h)} h{span}",
    )


def _shown_unit(variable: Variable) -> str:
    return "" if variable.unit in {"1", "{score}", "[pH]"} else variable.unit


def _person(record: PatientRecord, admitted: datetime) -> tuple[Evidence, Evidence]:
    source = None if record.patient is None else f"Patient/{record.patient_id}"
    years = None if record.patient is None else record.patient.age(admitted)
    sex = None if record.patient is None else record.patient.sex
    age = None if years is None else float(min(years, OLDEST_AGE))
    male = None if sex is None else float(sex == "male")
    return (
        Evidence("Age", "age", age, "a", None, source, Reason.MISSING if age is None else None),
        Evidence("Gender", "sex", male, "", None, source, Reason.MISSING if sex is None else None, display=sex),
    )


def _unit_kind(encounter: EncounterEntry | None) -> Evidence:
    kind = 0 if encounter is None else unit_kind(encounter)
    source = None if encounter is None else encounter.source
    label = "kind of intensive care unit"
    if kind == 0:
        return Evidence("ICUType", label, None, "", None, source, Reason.MISSING)
    return Evidence("ICUType", label, float(kind), "", None, source, display=_KINDS[kind])


def unit_kind(encounter: EncounterEntry) -> int:
    """The challenge's ICUType, 1 to 4, by HSLOC code, else by words; 0 where neither says."""
    codes = {code.code for code in (*encounter.types, *encounter.service_type) if code.system == UNIT_SYSTEM}
    for kind, known in UNIT_CODES.items():
        if codes & set(known):
            return kind
    return next((kind for kind, words in _KIND_WORDS if words.search(encounter.words)), 0)


def _slots() -> tuple[tuple[int, ...], ...]:
    """Where each evidence item lies in the flattened attributions: (hour, variable), then the eight of `person`."""
    first = HOURS * len(VARIABLES)
    age, sex, height, kind = (first,), (first + 1,), (first + 2,), (first + 3, first + 4, first + 5, first + 6)
    return (*SLOTS, age, sex, height, kind)


INPUTS = IcuInputs()
assert INDEX["MechVent"] == _PRESENCE[0][0]
