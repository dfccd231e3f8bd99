"""Reads Encounter (https://hl7.org/fhir/R4/encounter.html).

What tells an ICU stay apart differs by site (class, type, serviceType, location), so all of it is kept as read and the
model's population decides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fhir_adapters.codes import ACT_CODE, Code
from fhir_adapters.instants import Interval
from fhir_adapters.mappings.elements import read_codes, read_coding, read_interval, read_period, read_text
from fhir_adapters.resources import CodeableConcept, Coding, Encounter, EncounterLocation, Location


@dataclass(frozen=True, slots=True)
class LocationStay:
    """A place the patient was in, by the name the EHR gives it, and when."""

    name: str
    reference: str | None
    period: Interval | None


@dataclass(frozen=True, slots=True)
class Concept:
    """A coded concept and its words, as sites code admissions and discharges in lists of their own."""

    codes: tuple[Code, ...] = ()
    text: str = ""

    @property
    def words(self) -> str:
        """Everything it is called: its text, codes and displays."""
        return " | ".join(word for word in (self.text, *(f"{code.code} {code.display}" for code in self.codes)) if word)


@dataclass(frozen=True, slots=True)
class EncounterEntry:
    """A visit or stay; `end` is None while it lasts.

    `diagnoses` are the references of its Conditions with their rank, None where none is given.
    """

    id: str | None
    source: str | None
    status: str
    class_code: Code | None
    types: tuple[Code, ...]
    type_text: str
    service_type: tuple[Code, ...]
    service_text: str
    start: datetime | None
    end: datetime | None
    locations: tuple[LocationStay, ...]
    part_of: str | None
    priority: Concept = Concept()
    admit_source: Concept = Concept()
    discharge_disposition: Concept = Concept()
    diagnoses: tuple[tuple[str, int | None], ...] = ()

    def covers(self, moment: datetime) -> bool:
        """Whether the encounter had begun and not ended at this moment."""
        return self.start is not None and self.start <= moment and (self.end is None or moment <= self.end)

    @property
    def words(self) -> str:
        """Everything this encounter is called, for a model's population to look at."""
        codes = (*((self.class_code,) if self.class_code else ()), *self.types, *self.service_type)
        names = (*(code.display for code in codes), self.type_text, self.service_text)
        return " | ".join(name for name in (*names, *(stay.name for stay in self.locations)) if name)


def read_encounter(encounter: Encounter, source: str | None, places: Mapping[str, str]) -> EncounterEntry:
    """The Encounter as a record entry; `places` gives the names of Location resources by reference."""
    types = encounter.type or ()
    period = encounter.period
    start = read_interval(period.start) if period else None
    end = read_interval(period.end) if period else None
    hospital = encounter.hospitalization
    return EncounterEntry(
        id=encounter.id,
        source=source,
        status=encounter.status or "unknown",
        class_code=_read_class(encounter.class_),
        types=tuple(code for concept in types for code in read_codes(concept)),
        type_text=next((text for concept in types if (text := read_text(concept))), ""),
        service_type=read_codes(encounter.service_type),
        service_text=read_text(encounter.service_type),
        start=start.start if start else None,
        end=end.end if end else None,
        locations=tuple(_read_stay(stay, places) for stay in encounter.location or ()),
        part_of=encounter.part_of.reference if encounter.part_of else None,
        priority=_read_concept(encounter.priority),
        admit_source=_read_concept(hospital.admit_source if hospital else None),
        discharge_disposition=_read_concept(hospital.discharge_disposition if hospital else None),
        diagnoses=tuple(
            (item.condition.reference, item.rank)
            for item in encounter.diagnosis or ()
            if item.condition is not None and item.condition.reference
        ),
    )


def _read_concept(concept: CodeableConcept | None) -> Concept:
    return Concept(read_codes(concept), read_text(concept))


def _read_class(value: Coding | str | tuple[CodeableConcept, ...] | None) -> Code | None:
    match value:
        case Coding(system=None, code=str(code), display=display) | Coding(system="", code=str(code), display=display):
            return Code(ACT_CODE, code, display or "")  # R4 binds Encounter.class to v3-ActCode
        case Coding():
            return read_coding(value)
        case str():
            return Code(ACT_CODE, value)
        case tuple():
            return next((code for concept in value for code in read_codes(concept)), None)
        case None:
            return None


def _read_stay(stay: EncounterLocation, places: Mapping[str, str]) -> LocationStay:
    place = stay.location
    reference = place.reference if place else None
    name = (place.display if place else None) or places.get(reference or "", "")
    return LocationStay(name=name, reference=reference, period=read_period(stay.period))


def names_by_reference(locations: Iterable[tuple[Location, str | None]]) -> dict[str, str]:
    """The names of Location resources under every reference that may mean them."""
    return {
        reference: location.name
        for location, full_url in locations
        if location.name
        for reference in (full_url, f"Location/{location.id}")
        if reference
    }
