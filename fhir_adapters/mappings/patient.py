"""Reads Patient (https://hl7.org/fhir/R4/patient.html): only what models need; no name, no address, no identifiers.

Race is what US Core's extension says (https://hl7.org/fhir/us/core/StructureDefinition-us-core-race.html), in the categories of
the Office of Management and Budget; it is recorded in few countries, and absent elsewhere.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from fhir_adapters.documents import DECODE_ERRORS
from fhir_adapters.instants import Interval, age_bounds, age_years
from fhir_adapters.mappings.elements import read_interval
from fhir_adapters.resources import Patient, PatientId


@dataclass(frozen=True, slots=True)
class PatientEntry:
    """The patient; `gender` is FHIR's administrative gender, `birth` the interval a partial birthDate denotes.

    `race` are the OMB category codes recorded ("2054-5"), sorted; empty where race is recorded in words only, None where not.
    """

    id: PatientId
    gender: str | None
    birth: Interval | None
    deceased: bool
    deceased_at: Interval | None
    race: tuple[str, ...] | None = None

    @property
    def sex(self) -> str | None:
        """One of "female" and "male" where the record says so, else None."""
        return self.gender if self.gender in {"female", "male"} else None

    def age(self, as_of: datetime) -> int | None:
        """Age in whole years, None where unknown or where a partial birthDate leaves two answers."""
        return None if self.birth is None else age_years(self.birth, as_of)

    def age_bounds(self, as_of: datetime) -> tuple[int, int] | None:
        """The least and greatest age in whole years the birthDate allows."""
        return None if self.birth is None else age_bounds(self.birth, as_of)


def read_patient(patient: Patient, patient_id: PatientId) -> PatientEntry:
    """The patient of this record; a deceasedDateTime means deceased even where it can't be read as a time."""
    return PatientEntry(
        id=patient_id,
        gender=patient.gender,
        birth=read_interval(patient.birth_date),
        deceased=bool(patient.deceased_boolean) or patient.deceased_date_time is not None,
        deceased_at=read_interval(patient.deceased_date_time),
        race=_read_race(patient.extension),
    )


_RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
_UNANSWERED = frozenset({"UNK", "ASKU", "NASK"})  # http://terminology.hl7.org/CodeSystem/v3-NullFlavor


class _Part(msgspec.Struct):
    url: str | None = None
    valueCoding: dict[str, Any] | None = None  # noqa: N815 - the wire's name


class _Extension(msgspec.Struct):
    url: str | None = None
    extension: tuple[_Part, ...] = ()


_EXTENSIONS = msgspec.json.Decoder(tuple[_Extension, ...] | None)


def _read_race(extension: msgspec.Raw) -> tuple[str, ...] | None:
    if not bytes(extension):
        return None
    try:
        found = [item for item in _EXTENSIONS.decode(extension) or () if item.url == _RACE]
    except DECODE_ERRORS:
        return None
    parts = [part for item in found for part in item.extension]
    categories = [str((part.valueCoding or {}).get("code")) for part in parts if part.url == "ombCategory"]
    if not found or (categories and set(categories) <= _UNANSWERED):
        return None
    return tuple(sorted(set(categories) - _UNANSWERED))
