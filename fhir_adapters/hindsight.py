"""What a record of today knew at an earlier moment: nothing later than `as_of` passes.

An export tells what is known now. To ask a model what it would have said then, everything that came later has to go, also where
it came to what was there already: an encounter of that time had no end yet, a person who died since was alive.

1. a resource counts from the last moment at which it may have been written: Observation by `issued` and effective time,
   Condition by `recordedDate`, else onset, orders by `authoredOn`, statements by `dateAsserted`, else effective time,
   Encounter by its start; a date without a time counts when its day is over;
2. Conditions and orders without any date count when their encounter had ended; without an encounter they don't count;
3. what came later is taken out of a resource: the end of an encounter with its disposition and diagnoses, that of a stay at a
   location or of a treatment, an abatement, a death;
4. a status is of today, as FHIR dates no status, save where what was taken out shows that it was another one then.

What is left out is counted by kind and why. Pure. Must not import cds_service or model_artifacts. To read one more kind: a rule
in `_RULES`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec.structs import replace

from fhir_adapters.instants import Interval, parse_instants
from fhir_adapters.mappings.elements import first_code, read_interval
from fhir_adapters.resources import (
    BundleEntry,
    Condition,
    Encounter,
    EncounterLocation,
    MedicationAdministration,
    MedicationRequest,
    MedicationStatement,
    Observation,
    Patient,
    Period,
)

_GOES_ON = "in-progress"
_OVER = frozenset({"finished", "completed", "discharged"})
_PAST_CONDITION = frozenset({"inactive", "remission", "resolved"})


class Unknown(StrEnum):
    """Why a resource does not count; the string is what a report says."""

    LATER = "later"
    COARSE = "date-too-coarse"
    UNDATED = "undated"


@dataclass(frozen=True, slots=True)
class Known:
    """What was known, and how much was not, by kind of resource and why."""

    entries: tuple[BundleEntry, ...]
    unknown: Mapping[tuple[str, Unknown], int]


def known_at(entries: Iterable[BundleEntry], as_of: datetime) -> Known:
    """The entries as they stood at `as_of` (aware UTC). O(n)."""
    entries = tuple(entries)
    ends = _encounter_ends(entries)
    early = _plainly_early(entries, as_of)
    kept: list[BundleEntry] = []
    unknown: Counter[tuple[str, Unknown]] = Counter()
    for position, entry in enumerate(entries):
        resource = entry.resource
        rule = None if position in early else _RULES.get(type(resource))
        found = resource if rule is None else rule(resource, as_of, ends)
        if isinstance(found, Unknown):
            unknown[type(resource).__name__, found] += 1
        elif found is resource:
            kept.append(entry)
        else:
            kept.append(replace(entry, resource=found))
    return Known(tuple(kept), unknown)


def _plainly_early(entries: Sequence[BundleEntry], as_of: datetime) -> frozenset[int]:
    """Observations with one exact time, not after `as_of`: nearly all there are, and read together at an eighth of the cost."""
    plain = [
        (position, entry.resource.effective_date_time)
        for position, entry in enumerate(entries)
        if type(entry.resource) is Observation
        and entry.resource.effective_date_time is not None
        and entry.resource.issued is None
    ]
    moments = parse_instants([text for _, text in plain])
    if moments is None:
        return frozenset()
    return frozenset(position for (position, _), moment in zip(plain, moments, strict=True) if moment <= as_of)


_Ends = Mapping[str, Interval | None]
_Rule = Callable[[Any, datetime, _Ends], Any]


def _when(interval: Interval | None, as_of: datetime) -> Unknown | None:
    """None if all that `interval` may mean is not after `as_of`."""
    if interval is None:
        return Unknown.UNDATED
    if interval.start > as_of:
        return Unknown.LATER
    return Unknown.COARSE if interval.end > as_of else None


def _encounter_ends(entries: Sequence[BundleEntry]) -> dict[str, Interval | None]:
    """When each encounter ended, by the references that may mean it; None where it goes on or that can't be read."""
    ends: dict[str, Interval | None] = {}
    for entry in entries:
        if isinstance(entry.resource, Encounter):
            end = read_interval(entry.resource.period.end) if entry.resource.period else None
            for reference in (entry.full_url, f"Encounter/{entry.resource.id}"):
                if reference:
                    ends[reference] = end
    return ends


def _patient(patient: Patient, as_of: datetime, _ends: _Ends) -> Patient:
    death = read_interval(patient.deceased_date_time)
    return patient if death is None or death.end <= as_of else replace(patient, deceased_date_time=None)


def _observation(observation: Observation, as_of: datetime, _ends: _Ends) -> Observation | Unknown:
    period = observation.effective_period
    times = (
        observation.effective_date_time or observation.effective_instant,
        observation.issued,
        (period.end or period.start) if period else None,
    )
    for text in times:
        if text:
            why = _when(read_interval(text), as_of)
            if why is not None:
                return why
    return observation if any(times) else Unknown.UNDATED


def _condition(condition: Condition, as_of: datetime, ends: _Ends) -> Condition | Unknown:
    onset = condition.onset_date_time or (condition.onset_period.start if condition.onset_period else None)
    why = _by_date_or_encounter(condition.recorded_date or onset, condition.encounter, as_of, ends)
    if why is not None:
        return why
    over = condition.abatement_period
    abated = read_interval(condition.abatement_date_time or ((over.end or over.start) if over else None))
    if abated is None or abated.end <= as_of:
        return condition
    status = condition.clinical_status
    return replace(
        condition,
        abatement_date_time=None,
        abatement_period=None,
        clinical_status=None if first_code(status) in _PAST_CONDITION else status,
    )


def _request(request: MedicationRequest, as_of: datetime, ends: _Ends) -> MedicationRequest | Unknown:
    if request.status == "draft" and not request.authored_on:
        return request
    return _by_date_or_encounter(request.authored_on, request.encounter, as_of, ends) or request


def _by_date_or_encounter(text: str | None, encounter: Any, as_of: datetime, ends: _Ends) -> Unknown | None:
    if text:
        return _when(read_interval(text), as_of)
    reference = encounter.reference if encounter is not None else None
    return _when(ends.get(reference or ""), as_of)


def _use(
    use: MedicationStatement | MedicationAdministration, as_of: datetime, ends: _Ends
) -> MedicationStatement | MedicationAdministration | Unknown:
    period = use.effective_period
    asserted = use.date_asserted if isinstance(use, MedicationStatement) else None
    why = _by_date_or_encounter(
        asserted or use.effective_date_time or (period.start if period else None), use.context, as_of, ends
    )
    if why is not None:
        return why
    return replace(use, effective_period=_without_end(period)) if _ends_later(period, as_of) else use


def _encounter(encounter: Encounter, as_of: datetime, _ends: _Ends) -> Encounter | Unknown:
    """At the moment of its end an encounter still goes on: that is when its last question is asked, with its disposition known.

    Earlier neither the disposition nor the diagnoses are, which are ranked when it is over and have no date.
    """
    period = encounter.period
    why = _when(read_interval(period.start) if period else None, as_of)
    if why is not None:
        return why
    stays = [_place(place, as_of) for place in encounter.location or ()]
    places = tuple(place for place in stays if place is not None)
    if places != (encounter.location or ()):
        encounter = replace(encounter, location=places)
    if not _ends_later(period, as_of, or_now=True):
        return encounter
    if _ends_later(period, as_of):
        hospital = encounter.hospitalization
        encounter = replace(
            encounter, diagnosis=None, hospitalization=hospital and replace(hospital, discharge_disposition=None)
        )
    status = _GOES_ON if encounter.status in _OVER else encounter.status
    return replace(encounter, period=_without_end(period), status=status)


def _place(place: EncounterLocation, as_of: datetime) -> EncounterLocation | None:
    if place.period is None:
        return place
    if place.period.start and _when(read_interval(place.period.start), as_of) is not None:
        return None
    return replace(place, period=_without_end(place.period)) if _ends_later(place.period, as_of) else place


def _ends_later(period: Period | None, as_of: datetime, *, or_now: bool = False) -> bool:
    end = read_interval(period.end) if period else None
    return end is not None and (end.end > as_of or (or_now and end.end == as_of))


def _without_end(period: Period | None) -> Period | None:
    return period and replace(period, end=None)


_RULES: Mapping[type, _Rule] = {
    Patient: _patient,
    Observation: _observation,
    Condition: _condition,
    Encounter: _encounter,
    MedicationRequest: _request,
    MedicationStatement: _use,
    MedicationAdministration: _use,
}
