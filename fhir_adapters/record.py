"""The patient's record: what the EHR sent, indexed by code, everything unusable set aside with its reason.

`build_record` is pure. It decodes each document once, keeps what belongs to the patient and indexes Observations by
(system, code); values are built only for codes somebody asks for. Rules for what counts:

1. a resource of another patient, or of nobody, is set aside (`subjects.py`);
2. entered-in-error and cancelled Observations, refuted or erroneous Conditions, entered-in-error or cancelled medications and
   encounters are set aside, never used;
3. one resource sent twice (same type and id) counts once: the later version wins, and entered-in-error always wins;
4. of Observations with one code and one time, corrected stands over final and final over preliminary; equal values count once.

Must not import cds_service, model_artifacts or audit. To index one more resource: a reader in `mappings/`, its
type in `_OWNED` and a line in `build_record`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from fhir_adapters.codes import CodeKey, canonical_system
from fhir_adapters.documents import Located, read_documents
from fhir_adapters.mappings.condition import ConditionEntry, dropped_condition, read_condition
from fhir_adapters.mappings.elements import read_interval
from fhir_adapters.mappings.encounter import EncounterEntry, read_encounter
from fhir_adapters.mappings.medication import MedicationEntry, read_medication
from fhir_adapters.mappings.observation import ObservedValue, read_observation, settle
from fhir_adapters.mappings.patient import PatientEntry, read_patient
from fhir_adapters.reasons import Reason, SetAside
from fhir_adapters.resources import (
    AnyMedicationUse,
    CodeableConcept,
    Condition,
    Encounter,
    Location,
    Medication,
    MedicationAdministration,
    MedicationRequest,
    MedicationStatement,
    Observation,
    ObservationComponent,
    Patient,
    PatientId,
)
from fhir_adapters.subjects import Subjects

_DROPPED = {"entered-in-error": Reason.ENTERED_IN_ERROR, "cancelled": Reason.CANCELLED}

_Owned = Observation | Condition | Encounter | AnyMedicationUse
_OWNED: dict[type, str] = {
    Observation: "Observation",
    Condition: "Condition",
    Encounter: "Encounter",
    MedicationRequest: "MedicationRequest",
    MedicationStatement: "MedicationStatement",
    MedicationAdministration: "MedicationAdministration",
}
_Kept = list[tuple[_Owned, str | None]]
_Indexed = tuple[int, Observation, ObservationComponent | None, str | None]
_Index = dict[CodeKey, list[_Indexed]]


@dataclass(frozen=True, slots=True)
class ObservationReading:
    """Values, oldest first, and what was set aside among the same codes."""

    values: tuple[ObservedValue, ...]
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """What is known of one patient; `patient` is None if no Patient resource with this id was sent."""

    patient_id: PatientId
    patient: PatientEntry | None
    conditions: tuple[ConditionEntry, ...]
    medications: tuple[MedicationEntry, ...]
    encounters: tuple[EncounterEntry, ...]
    set_aside: tuple[SetAside, ...]
    observation_count: int
    _index: _Index = field(repr=False, compare=False)

    def observations(self, codes: frozenset[CodeKey]) -> tuple[ObservedValue, ...]:
        """The values under any of these codes, newest last, each counted once."""
        return self.read_observations(codes).values

    def read_observations(self, codes: frozenset[CodeKey]) -> ObservationReading:
        """The values under any of these codes, newest last, and what was set aside: repeated, superseded, undated.

        O(k log k) in the number k of Observations with these codes.
        """
        found: dict[int, ObservedValue] = {}
        for key in sorted(codes):
            for ordinal, observation, component, source in self._index.get(key, ()):
                if ordinal not in found:
                    found[ordinal] = read_observation(observation, component, key, source)
        values, set_aside = settle(found.values())
        return ObservationReading(values, set_aside)


def build_record(
    patient_id: PatientId, documents: Iterable[bytes | msgspec.Raw], *, base_url: str | None = None
) -> PatientRecord:
    """The record of this patient from FHIR documents; never raises for what they contain.

    `base_url` is the FHIR server's, if known: then an absolute subject reference must lie under it.
    """
    located, set_aside = read_documents(documents)
    patients = [(full_url, item.id) for item, full_url in located if type(item) is Patient]
    patient = _find_patient(patient_id, located, set_aside)
    kept = _keep(located, Subjects(patient_id, patients, base_url), set_aside)
    places = _places(located)
    drugs = _drugs(located)
    observations = [(item, source) for item, source in kept if type(item) is Observation]
    return PatientRecord(
        patient_id=patient_id,
        patient=patient,
        conditions=tuple(read_condition(item, source) for item, source in kept if isinstance(item, Condition)),
        medications=tuple(
            read_medication(item, source, drugs) for item, source in kept if isinstance(item, AnyMedicationUse)
        ),
        encounters=tuple(read_encounter(item, source, places) for item, source in kept if isinstance(item, Encounter)),
        set_aside=tuple(set_aside),
        observation_count=len(observations),
        _index=_index(observations),
    )


def _find_patient(patient_id: PatientId, located: list[Located], set_aside: list[SetAside]) -> PatientEntry | None:
    found: PatientEntry | None = None
    for item, _ in located:
        if type(item) is not Patient:
            continue
        if item.id != patient_id:
            set_aside.append(SetAside("Patient", None, Reason.OTHER_PATIENT))
        elif found is None:
            found = read_patient(item, patient_id)
    return found


def _keep(located: list[Located], subjects: Subjects, set_aside: list[SetAside]) -> _Kept:
    """The patient's own resources, each once, without the erroneous ones (rules 1 to 3)."""
    kept: dict[str, tuple[_Owned, str | None]] = {}
    for item, full_url in located:
        name = _OWNED.get(type(item))
        if name is None:
            continue
        owned: _Owned = item  # type: ignore[assignment]
        source = f"{name}/{owned.id}" if owned.id else full_url
        refusal = subjects.refusal(owned.subject)
        if refusal is not None:
            # The reference of another patient's resource is that patient's data.
            set_aside.append(SetAside(name, None, refusal))
            continue
        key = source or f"#{len(kept)}"  # (3)
        if key in kept:
            set_aside.append(SetAside(name, source, Reason.DUPLICATE))
            owned = _later(kept[key][0], owned)
        kept[key] = (owned, source)
    used: _Kept = []
    for pair in kept.values():
        reason = _dropped(pair[0])  # (2)
        if reason is None:
            used.append(pair)
        else:
            set_aside.append(SetAside(_OWNED[type(pair[0])], pair[1], reason))
    return used


def _dropped(item: _Owned) -> Reason | None:
    if type(item) is Condition:
        return dropped_condition(item)
    return _DROPPED.get(item.status or "")  # type: ignore[union-attr]


def _later(first: _Owned, second: _Owned) -> _Owned:
    """Which of two versions of one resource stands: an erroneous one, else the one updated later, else the first."""
    for version in (first, second):
        if _dropped(version) is Reason.ENTERED_IN_ERROR:
            return version
    first_time = read_interval(first.meta.last_updated) if first.meta else None
    second_time = read_interval(second.meta.last_updated) if second.meta else None
    if first_time is not None and second_time is not None and second_time > first_time:
        return second
    return first


def _index(observations: list[tuple[Observation, str | None]]) -> _Index:
    """Observations and their components by (system, code); the ordinal tells values apart and keeps their order."""
    index: _Index = {}
    ordinal = 0
    for observation, source in observations:
        ordinal += 1
        _enter(index, observation.code, (ordinal, observation, None, source))
        for component in observation.component or ():
            ordinal += 1
            _enter(index, component.code, (ordinal, observation, component, source))
    return index


def _enter(index: _Index, concept: CodeableConcept | None, item: _Indexed) -> None:
    if concept is None or concept.coding is None:
        return
    for coding in concept.coding:
        system, code = coding.system, coding.code
        if system is not None and code is not None:
            index.setdefault((canonical_system(system), code), []).append(item)


def _places(located: list[Located]) -> dict[str, str]:
    """The names of Location resources under every reference that may mean them."""
    return {
        reference: item.name
        for item, full_url in located
        if type(item) is Location and item.name
        for reference in (full_url, f"Location/{item.id}")
        if reference
    }


def _drugs(located: list[Located]) -> dict[str, CodeableConcept]:
    """The concepts of Medication resources under every reference that may mean them."""
    return {
        reference: item.code
        for item, full_url in located
        if type(item) is Medication and item.code is not None
        for reference in (full_url, f"Medication/{item.id}")
        if reference
    }
