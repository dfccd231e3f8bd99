"""The hospital stay that a record is about, and the visits before it, from Encounters alone.

Owns which Encounter is "the stay": the one the hook names, else the inpatient one that goes on. Classes are v3-ActCode's
(https://terminology.hl7.org/CodeSystem-v3-ActCode.html), to which FHIR R4 binds Encounter.class; observation and short stays
are no inpatient stays. To count another kind of visit: its classes in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from fhir_adapters.mappings.encounter import EncounterEntry
from fhir_adapters.record import PatientRecord

INPATIENT = "inpatient"
KINDS: Mapping[str, frozenset[str]] = {
    INPATIENT: frozenset({"IMP", "ACUTE", "NONAC"}),
    "emergency": frozenset({"EMER"}),
    "outpatient": frozenset({"AMB"}),
}
_OPEN = frozenset({"in-progress", "onleave", "unknown", "discharged"})
_NEVER_HAPPENED = frozenset({"planned", "cancelled", "entered-in-error", "arrived", "triaged"})
# The hook may come when the encounter has just been closed.
_JUST_ENDED = timedelta(hours=24)
# Who came through the emergency department did not come home in between.
SAME_STAY = timedelta(hours=24)


def kind_of(entry: EncounterEntry) -> str | None:
    """One of `KINDS`, or None for a visit of another class or of none."""
    code = None if entry.class_code is None else entry.class_code.code
    return next((kind for kind, codes in KINDS.items() if code in codes), None)


def current_stay(record: PatientRecord, as_of: datetime) -> EncounterEntry | None:
    """The inpatient stay that is ending at `as_of`: the hook's encounter, else the newest that goes on or has just ended.

    None where the hook names an encounter that isn't in the record or is no inpatient stay.
    """
    named = record.encounter_id
    stays = [
        entry
        for entry in record.encounters
        if kind_of(entry) == INPATIENT and _is_ending(entry, as_of) and named in (None, entry.id)
    ]
    return max(stays, key=lambda entry: (entry.start or as_of, entry.source or ""), default=None)


def visits_before(
    record: PatientRecord, stay: EncounterEntry, kind: str, within: timedelta
) -> tuple[EncounterEntry, ...]:
    """The visits of one kind that began within this time before the stay, oldest first.

    Left out is what belongs to the stay itself: parts of another encounter, what had not ended when it began, and an
    emergency visit of the day before.
    """
    assert stay.start is not None
    begin = stay.start
    found = [
        (entry.start, entry)
        for entry in record.encounters
        if kind_of(entry) == kind
        and entry.id != stay.id
        and entry.part_of is None
        and entry.status not in _NEVER_HAPPENED
        and entry.start is not None
        and begin - within <= entry.start < begin
        and (entry.end or entry.start) <= begin - (SAME_STAY if kind == "emergency" else timedelta())
    ]
    return tuple(entry for _, entry in sorted(found, key=lambda pair: (pair[0], pair[1].source or "")))


def _is_ending(entry: EncounterEntry, as_of: datetime) -> bool:
    if entry.start is None or entry.start > as_of:
        return False
    if entry.status in _OPEN:
        return entry.end is None or as_of - _JUST_ENDED <= entry.end
    return entry.status == "finished" and entry.end is not None and as_of - _JUST_ENDED <= entry.end <= as_of
