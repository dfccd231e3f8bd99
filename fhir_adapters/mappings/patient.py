"""Reads Patient (https://hl7.org/fhir/R4/patient.html): only what models need; no name, no address, no identifiers."""

from dataclasses import dataclass
from datetime import datetime

from fhir_adapters.instants import Interval, age_bounds, age_years
from fhir_adapters.mappings.elements import read_interval
from fhir_adapters.resources import Patient, PatientId


@dataclass(frozen=True, slots=True)
class PatientEntry:
    """The patient; `gender` is FHIR's administrative gender, `birth` the interval a partial birthDate denotes."""

    id: PatientId
    gender: str | None
    birth: Interval | None
    deceased: bool
    deceased_at: Interval | None

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
    )
