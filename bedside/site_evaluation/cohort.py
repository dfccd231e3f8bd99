"""Asks the released model about each label: what it would have said then, of what was known then, and nothing else.

The way is the service's: the answers to the model's own queries, as they would have been at `as_of`, become a record, and
`ReleasedModel.assess` gets it. What a call would tell the model besides (a search of which something can't be read, a draft
order) it is told here too. What comes back is columns: no value of a patient stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bedside.site_evaluation.labels import Label
from cds_service.gather import SILENCE_IS_NO
from fhir_adapters.bulk import SHARED_KINDS, Export, Wanted
from fhir_adapters.documents import DECODE_ERRORS
from fhir_adapters.hindsight import Unknown, known_at
from fhir_adapters.local_search import LocalSearch
from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import (
    AnyMedicationUse,
    Bundle,
    BundleEntry,
    Encounter,
    MedicationRequest,
    Patient,
    PatientId,
)
from model_artifacts.assessment import Abstention, Prediction
from model_artifacts.errors import GraphOutputError
from model_artifacts.manifest import Output
from model_artifacts.runtime import ReleasedModel

_DRAFT_HOOKS = frozenset({"order-select", "order-sign"})
_AGE_BANDS = ((18, "under 18"), (45, "18–44"), (65, "45–64"), (80, "65–79"))
_RACES = {  # https://hl7.org/fhir/us/core/ValueSet-omb-race-category.html
    "1002-5": "American Indian or Alaska Native",
    "2028-9": "Asian",
    "2054-5": "Black or African American",
    "2076-8": "Native Hawaiian or Other Pacific Islander",
    "2106-3": "White",
}
NOT_RECORDED = "not recorded"
GROUPINGS = ("sex", "age", "race")
_MOST_LINES = 5
_ENTRIES: msgspec.json.Decoder[BundleEntry] = msgspec.json.Decoder(BundleEntry)

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Counts:
    """How the labels went that are no row, and what of the data could not be used.

    Attributes:
        abstained: labels the model didn't answer inside its population, by reason; `outside`: those outside, by reason.
        not_asked: labels of which the data hold nothing to ask about, by reason, and the first of their `lines`.
        unknown: resources that were not known at `as_of`, by kind and why; `set_aside`: unusable ones, by kind and reason.
        orders_ended: orders of before `as_of` that are not active today, so that they were not read.
    """

    labels: int = 0
    patients: int = 0
    abstained: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    not_asked: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=dict)
    unknown: Counter[tuple[str, Unknown]] = field(default_factory=Counter)
    set_aside: Counter[tuple[str, Reason]] = field(default_factory=Counter)
    orders_ended: int = 0

    def leave_out(self, label: Label, why: str) -> None:
        self.not_asked[why] += 1
        lines = self.lines.setdefault(why, [])
        if len(lines) < _MOST_LINES:
            lines.append(label.line)


@dataclass(frozen=True, slots=True)
class Cohort:
    """What the model answered, a row for each label.

    Attributes:
        value, outcome, low, high: (n,) float64; the interval is not-a-number without one.
        patient: (n,) numbers that tell patients apart.
        outcome_sets: the conformal set's name for each row, "" without one.
        groups: by "sex", "age" and "race", the group of each row.
        missing: (n, k) bool, over the inputs `inputs` (their clinical words).
    """

    value: Array
    outcome: Array
    low: Array
    high: Array
    patient: npt.NDArray[np.int64]
    outcome_sets: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    inputs: tuple[str, ...]
    missing: Flags
    counts: Counts


@dataclass(slots=True)
class _Rows:
    """What is gathered, row by row."""

    counts: Counts
    figures: list[tuple[float, float, float, float]] = field(default_factory=list)
    patient: list[int] = field(default_factory=list)
    outcome_sets: list[str] = field(default_factory=list)
    groups: list[tuple[str, str, str]] = field(default_factory=list)
    missing: list[bytes] = field(default_factory=list)
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Held:
    """One patient's resources decoded, the lines of drug orders by place, and the searches whose silence says nothing."""

    entries: list[BundleEntry]
    orders: dict[int, bytes]
    unsure: tuple[str, ...]


class Evaluation:
    """One model and one output of it, asked about labels."""

    def __init__(self, model: ReleasedModel, output: Output) -> None:
        self.model = model
        self.output = output
        self.search = LocalSearch(model.queries())
        self.takes_drafts = bool(_DRAFT_HOOKS & set(model.manifest.hooks))

    def wanted(self, labels: Sequence[Label]) -> Wanted:
        """What of an export the labels and the model ask for."""
        patients = {name: place for place, name in enumerate(dict.fromkeys(label.patient for label in labels))}
        kinds = self.search.kinds | SHARED_KINDS | {"Patient"}
        if self.takes_drafts:
            kinds |= {"MedicationRequest"}
        if any(label.encounter for label in labels):
            kinds |= {"Encounter"}
        if SILENCE_IS_NO & kinds:
            kinds |= {"Encounter"}  # an undated diagnosis counts from the end of its encounter on
        return Wanted(patients, kinds, self.search.observation_codes)

    def run(self, labels: Sequence[Label], export: Export, wanted: Wanted, tell: Callable[[int], None]) -> Cohort:
        """Every label asked, patient by patient, so that memory holds one patient's record at a time."""
        done = 0
        by_patient: dict[int, list[Label]] = {}
        for label in labels:
            by_patient.setdefault(wanted.patients[label.patient], []).append(label)
        rows = _Rows(Counts(len(labels), len(by_patient)))
        for place, own in by_patient.items():
            if place in export.contents.known:
                held = self._held(export, place, rows)
                for label in own:
                    self._ask(label, place, held, rows)
            else:
                for label in own:
                    rows.counts.leave_out(label, "patient-not-in-the-data")
            done += len(own)
            tell(done)
        return _cohort(rows)

    def _held(self, export: Export, place: int, rows: _Rows) -> _Held:
        """What the export holds of one patient.

        Required searches for kinds of which the export holds nothing at all, or something unreadable, are unsure: nobody may
        take their silence for "no".
        """
        entries: list[BundleEntry] = []
        orders: dict[int, bytes] = {}
        unreadable: set[str] = set()
        for line in export.lines_of(place):
            entry = _decoded(line)
            if entry is None:
                unreadable.add(_kind(line))
                rows.counts.set_aside[_kind(line), Reason.UNREADABLE] += 1
                continue
            if self.takes_drafts and isinstance(entry.resource, MedicationRequest):
                orders[len(entries)] = line
            entries.append(entry)
        shared = (_decoded(line) for line in export.shared(_references(entries)))
        entries += [entry for entry in shared if entry is not None]
        unsure = tuple(
            query.name
            for query in self.search.queries
            if query.required
            and query.resource in SILENCE_IS_NO
            and (query.resource in unreadable or not export.contents.seen[query.resource])
        )
        return _Held(entries, orders, unsure)

    def _ask(self, label: Label, place: int, held: _Held, rows: _Rows) -> None:
        drafts, drafted = self._drafts(label, held)
        if label.order is not None and not drafts:
            rows.counts.leave_out(label, "order-not-in-the-data")
            return
        if label.encounter is not None and not _holds_encounter(held.entries, label.encounter):
            rows.counts.leave_out(label, "encounter-not-in-the-data")
            return
        others = (entry for position, entry in enumerate(held.entries) if position not in drafted)
        record = self._record(label, others, drafts, rows)
        try:
            assessed = self.model.assess(record, label.as_of, held.unsure)
        except GraphOutputError:
            rows.counts.abstained["answer-refused"] += 1
            return
        match assessed.assessment:
            case Abstention() as abstention:
                counted = rows.counts.outside if abstention.outside_population else rows.counts.abstained
                counted[abstention.reasons[0].code] += 1
            case Prediction() as prediction if self.output.name not in prediction.outputs:
                rows.counts.abstained["output-not-defined"] += 1
            case Prediction() as prediction:
                self._add(label, place, record, prediction, rows)

    def _record(self, label: Label, entries: Iterable[BundleEntry], drafts: list[bytes], rows: _Rows) -> PatientRecord:
        """What a call at `as_of` would have been given."""
        known = known_at(entries, label.as_of)
        found = self.search.found(known.entries, label.as_of)
        rows.counts.unknown.update(known.unknown)
        rows.counts.orders_ended += self._ended(known.entries)
        patient_id = PatientId(label.patient)
        bundle = Bundle(entry=tuple(_with_id(entry, patient_id) for entry in found))
        drafted = [(draft, True) for draft in drafts]
        record = build_record(patient_id, [bundle], drafts=drafted, encounter_id=label.encounter)
        rows.counts.set_aside.update((item.resource_type, item.reason) for item in record.set_aside)
        return record

    def _ended(self, entries: Sequence[BundleEntry]) -> int:
        asked = [query for query in self.search.queries if query.resource == "MedicationRequest" and query.status]
        if not asked:
            return 0
        return sum(
            isinstance(entry.resource, MedicationRequest) and entry.resource.status in ("completed", "stopped")
            for entry in entries
        )

    def _drafts(self, label: Label, held: _Held) -> tuple[list[bytes], set[int]]:
        """The orders that the call is about, as drafts, and where they stand, for they are no drugs that are taken."""
        drafts, drafted = [], set()
        for place, line in held.orders.items():
            entry = held.entries[place]
            assert isinstance(entry.resource, MedicationRequest)
            if entry.resource.id == label.order if label.order is not None else _is_draft(entry, label.as_of):
                content: dict[str, Any] = msgspec.json.decode(line)["resource"]
                drafts.append(msgspec.json.encode(content | {"status": "draft"}))
                drafted.add(place)
        return drafts, drafted

    def _add(self, label: Label, place: int, record: PatientRecord, prediction: Prediction, rows: _Rows) -> None:
        low, high = prediction.interval.get(self.output.name, (np.nan, np.nan))
        rows.figures.append((prediction.outputs[self.output.name], label.outcome, low, high))
        rows.patient.append(place)
        first = self.output.name == self.model.manifest.outputs[0].name
        rows.outcome_sets.append(prediction.outcome_set or "" if first else "")
        rows.groups.append(_groups(record, label.as_of))
        rows.missing.append(bytes(item.value is None for item in prediction.evidence))
        rows.inputs = rows.inputs or tuple(item.label for item in prediction.evidence)


def _cohort(rows: _Rows) -> Cohort:
    figures = np.array(rows.figures, dtype=np.float64).reshape(-1, 4)
    missing = np.frombuffer(b"".join(rows.missing), dtype=np.bool_).reshape(len(rows.missing), len(rows.inputs))
    groups = {name: tuple(row[place] for row in rows.groups) for place, name in enumerate(GROUPINGS)}
    patient = np.array(rows.patient, dtype=np.int64)
    value, outcome, low, high = figures.T
    return Cohort(
        value, outcome, low, high, patient, tuple(rows.outcome_sets), groups, rows.inputs, missing, rows.counts
    )


def _decoded(line: bytes) -> BundleEntry | None:
    try:
        return _ENTRIES.decode(line)
    except DECODE_ERRORS:
        return None


def _kind(line: bytes) -> str:
    try:
        return str(msgspec.json.decode(line)["resource"]["resourceType"])
    except (*DECODE_ERRORS, KeyError, TypeError):
        return "unknown"


def _references(entries: Sequence[BundleEntry]) -> set[str]:
    """The places and drugs that these resources refer to."""
    found: set[str | None] = set()
    for entry in entries:
        resource = entry.resource
        if isinstance(resource, Encounter):
            found |= {stay.location.reference for stay in resource.location or () if stay.location}
        elif isinstance(resource, AnyMedicationUse) and resource.medication_reference is not None:
            found.add(resource.medication_reference.reference)
    return {reference for reference in found if reference}


def _holds_encounter(entries: Iterable[BundleEntry], encounter_id: str) -> bool:
    return any(isinstance(entry.resource, Encounter) and entry.resource.id == encounter_id for entry in entries)


def _is_draft(entry: BundleEntry, as_of: datetime) -> bool:
    resource = entry.resource
    if not isinstance(resource, MedicationRequest) or resource.status != "draft":
        return False
    return bool(known_at((entry,), as_of).entries)


def _with_id(entry: BundleEntry, patient_id: PatientId) -> BundleEntry:
    """A Patient whose id the server was to give gets the one that the labels call it by."""
    if isinstance(entry.resource, Patient) and entry.resource.id is None:
        return msgspec.structs.replace(entry, resource=msgspec.structs.replace(entry.resource, id=patient_id))
    return entry


def _groups(record: PatientRecord, as_of: datetime) -> tuple[str, str, str]:
    person = record.patient
    if person is None:
        return NOT_RECORDED, NOT_RECORDED, NOT_RECORDED
    age = person.age(as_of)
    band = NOT_RECORDED if age is None else next((name for end, name in _AGE_BANDS if age < end), "80 and over")
    return person.sex or NOT_RECORDED, band, _race(person.race)


def _race(codes: tuple[str, ...] | None) -> str:
    if not codes:
        return NOT_RECORDED
    return _RACES.get(codes[0], "other") if len(codes) == 1 else "several"
