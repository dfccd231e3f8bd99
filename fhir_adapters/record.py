"""The patient's record: what the EHR sent, indexed by code, everything unusable set aside with its reason.

`build_record` is pure. It decodes each document once, keeps what belongs to the patient and indexes Observations by
(system, code); values are built only for codes somebody asks for. Rules for what counts:

1. a resource of another patient, or of nobody, is set aside (`subjects.py`);
2. entered-in-error and cancelled Observations, refuted or erroneous Conditions, entered-in-error or cancelled medications and
   encounters are set aside, never used;
3. one resource sent twice (same type and id) counts once: the later version wins, and entered-in-error always wins;
4. of Observations with one code and one time, corrected stands over final and final over preliminary; equal values count once;
5. the orders that a hook's context holds are `drafts` and nothing else: no drug that the patient takes.

Must not import cds_service, model_artifacts or audit. To index one more resource: a reader in `mappings/`, a
line in `build_record`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import eq, itemgetter

from fhir_adapters.codes import SYSTEM_ALIASES, CodeKey
from fhir_adapters.documents import Document, read_documents
from fhir_adapters.mappings.condition import ConditionEntry, dropped_condition, read_condition
from fhir_adapters.mappings.draft_order import DraftDocument, DraftOrder, read_drafts
from fhir_adapters.mappings.elements import read_interval
from fhir_adapters.mappings.encounter import EncounterEntry, names_by_reference, read_encounter
from fhir_adapters.mappings.medication import MedicationEntry, concepts_by_reference, read_medication
from fhir_adapters.mappings.observation import ObservedValue, observed_at, read_observation, settle, status_rank
from fhir_adapters.mappings.patient import PatientEntry, read_patient
from fhir_adapters.reasons import Reason, SetAside
from fhir_adapters.resources import (
    AnyMedicationUse,
    Condition,
    Encounter,
    KeyConcept,
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
from fhir_adapters.subjects import Subjects, own, source_of

_DROPPED = {"entered-in-error": Reason.ENTERED_IN_ERROR, "cancelled": Reason.CANCELLED}

_Indexed = tuple[int, Observation, ObservationComponent | None, str | None]
_Index = dict[tuple[str, str | None], list[_Indexed]]
_Unread = tuple[_Indexed, CodeKey]


@dataclass(frozen=True, slots=True)
class ObservationReading:
    """Values, oldest first, and what was set aside among the same codes."""

    values: tuple[ObservedValue, ...]
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The same values and set-asides as a reading of the same codes, but each value is read only when it is asked for.

    Of a long history a feature looks at the newest result or two, so this costs half. `moments` are the values' times.
    """

    moments: tuple[datetime, ...]
    set_aside: tuple[SetAside, ...]
    _values: tuple[_Unread | ObservedValue, ...] = field(repr=False)

    def __getitem__(self, position: int) -> ObservedValue:
        value = self._values[position]
        return value if isinstance(value, ObservedValue) else _read(*value)


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """What is known of one patient; `patient` is None if no Patient resource with this id was sent.

    `encounter_id` is the encounter that the hook is about, where the hook names one.
    """

    patient_id: PatientId
    patient: PatientEntry | None
    conditions: tuple[ConditionEntry, ...]
    medications: tuple[MedicationEntry, ...]
    encounters: tuple[EncounterEntry, ...]
    set_aside: tuple[SetAside, ...]
    observation_count: int
    _index: _Index = field(repr=False, compare=False)
    drafts: tuple[DraftOrder, ...] = ()
    encounter_id: str | None = None

    def observations(self, codes: frozenset[CodeKey]) -> tuple[ObservedValue, ...]:
        """The values under any of these codes, newest last, each counted once."""
        return self.read_observations(codes).values

    def read_observations(self, codes: frozenset[CodeKey]) -> ObservationReading:
        """The values under any of these codes, newest last, and what was set aside: repeated, superseded, undated.

        O(k log k) in the number k of Observations with these codes.
        """
        found: dict[int, ObservedValue] = {}
        for key in sorted(codes):
            for ordinal, observation, component, full_url in self._index.get(key, ()):
                if ordinal not in found:
                    found[ordinal] = read_observation(observation, component, key, source_of(observation, full_url))
        values, set_aside = settle(found.values())
        return ObservationReading(values, set_aside)

    def panels(self, codes: frozenset[CodeKey]) -> tuple[tuple[ObservedValue, ...], ...]:
        """Each Observation under any of these codes with its components' values behind its own, oldest first.

        For results that mean something only together, as a variant and its zygosity do; nothing is settled between them.
        """
        found: dict[int, tuple[ObservedValue, ...]] = {}
        for key in sorted(codes):
            for ordinal, observation, component, full_url in self._index.get(key, ()):
                if component is None and ordinal not in found:
                    source = source_of(observation, full_url)
                    own_value = read_observation(observation, None, key, source)
                    parts = (
                        read_observation(
                            observation, part, (_ALIASES(coding.system, coding.system), coding.code), source
                        )
                        for part in observation.component or ()
                        for coding in (part.code.coding or () if part.code else ())
                        if coding.code
                    )
                    found[ordinal] = (own_value, *parts)
        return tuple(sorted(found.values(), key=_panel_order))

    def timeline(self, codes: frozenset[CodeKey]) -> Timeline:
        """The values under any of these codes, oldest first, read late; O(k log k) in their number."""
        found: dict[int, _Unread] = {}
        for key in sorted(codes):
            for item in self._index.get(key, ()):
                found.setdefault(item[0], (item, key))
        return _timeline(tuple(found.values()))


def build_record(
    patient_id: PatientId,
    documents: Iterable[Document],
    *,
    base_url: str | None = None,
    drafts: Iterable[DraftDocument] = (),
    encounter_id: str | None = None,
) -> PatientRecord:
    """The record of this patient from FHIR documents; never raises for what they contain.

    `encounter_id` is the encounter that the hook names, if it names one.
    `drafts` are the resources of the hook's context, whose subject has been checked already. `base_url` is the
    FHIR server's, if known: then an absolute subject reference must lie under it.
    """
    located, set_aside = read_documents(documents)
    patients = located.of(Patient)
    subjects = Subjects(patient_id, ((full_url, patient.id) for patient, full_url in patients), base_url)
    places = names_by_reference(located.of(Location))
    drugs = concepts_by_reference(located.of(Medication))
    observations = own(located.of(Observation), subjects, _dropped, _observation_version, set_aside)
    conditions = own(located.of(Condition), subjects, dropped_condition, _version, set_aside)
    encounters = own(located.of(Encounter), subjects, _dropped, _version, set_aside)
    uses: list[tuple[AnyMedicationUse, str | None]] = [
        *own(located.of(MedicationRequest), subjects, _dropped, _version, set_aside),
        *own(located.of(MedicationStatement), subjects, _dropped, _version, set_aside),
        *own(located.of(MedicationAdministration), subjects, _dropped, _version, set_aside),
    ]
    return PatientRecord(
        patient_id=patient_id,
        patient=_find_patient(patient_id, patients, set_aside),
        conditions=tuple(read_condition(item, source_of(item, url)) for item, url in conditions),
        medications=tuple(read_medication(item, source_of(item, url), drugs) for item, url in uses),
        encounters=tuple(read_encounter(item, source_of(item, url), places) for item, url in encounters),
        set_aside=tuple(set_aside),
        observation_count=len(observations),
        _index=_index(observations),
        drafts=read_drafts(drafts),
        encounter_id=encounter_id,
    )


def _find_patient(
    patient_id: PatientId, patients: list[tuple[Patient, str | None]], set_aside: list[SetAside]
) -> PatientEntry | None:
    """The person; of copies that disagree, what they disagree on is unknown, and a death that one tells of counts."""
    copies: list[PatientEntry] = []
    for patient, _ in patients:
        if patient.id != patient_id:
            set_aside.append(SetAside("Patient", None, Reason.OTHER_PATIENT))
        else:
            copies.append(read_patient(patient, patient_id))
    if not copies:
        return None
    first, *others = copies
    if any(other != first for other in others):
        set_aside.append(SetAside("Patient", f"Patient/{patient_id}", Reason.CONTRADICTORY))
    return PatientEntry(
        id=patient_id,
        gender=first.gender if all(other.gender == first.gender for other in others) else None,
        birth=first.birth if all(other.birth == first.birth for other in others) else None,
        deceased=any(copy.deceased for copy in copies),
        race=first.race if all(other.race == first.race for other in others) else None,
        deceased_at=next((copy.deceased_at for copy in copies if copy.deceased_at), None),
    )


def _panel_order(panel: tuple[ObservedValue, ...]) -> tuple[str, str]:
    at = panel[0].observed_at
    return "" if at is None else at.isoformat(), panel[0].source or ""


def _dropped(item: Observation | Encounter | AnyMedicationUse) -> Reason | None:
    return _DROPPED.get(item.status or "")


def _version(item: Condition | Encounter | AnyMedicationUse) -> tuple[int, str]:
    updated = read_interval(item.meta.last_updated) if item.meta else None
    return 0, updated.start.isoformat() if updated else ""


def _observation_version(observation: Observation) -> tuple[int, str]:
    """By status and report time: meta of every Observation would cost more to read than it tells."""
    issued = read_interval(observation.issued)
    return status_rank(observation.status or ""), issued.start.isoformat() if issued else ""


def _read(item: _Indexed, key: CodeKey) -> ObservedValue:
    _, observation, component, full_url = item
    return read_observation(observation, component, key, source_of(observation, full_url))


def _timeline(found: Sequence[_Unread]) -> Timeline:
    """By time; only values of one moment are read here, as only they can repeat or supersede each other."""
    moments = observed_at([item[1] for item, _ in found])
    undated = [
        SetAside("Observation", source_of(item[1], item[3]), Reason.NO_TIME)
        for moment, (item, _) in zip(moments, found, strict=True)
        if moment is None
    ]
    dated = [(moment, unread) for moment, unread in zip(moments, found, strict=True) if moment is not None]
    dated.sort(key=itemgetter(0))
    times = [moment for moment, _ in dated]
    if any(map(eq, times, times[1:])):
        return _settled(dated, undated)
    return Timeline(tuple(times), tuple(undated), tuple([unread for _, unread in dated]))


def _settled(dated: Sequence[tuple[datetime, _Unread]], undated: Sequence[SetAside]) -> Timeline:
    """The timeline of values some of which share a moment."""
    set_aside = list(undated)
    moments: list[datetime] = []
    values: list[_Unread | ObservedValue] = []
    for moment, pairs in groupby(dated, itemgetter(0)):
        group: Sequence[_Unread | ObservedValue] = [unread for _, unread in pairs]
        if len(group) > 1:
            group, repeated = settle(_read(*unread) for unread in group)  # type: ignore[misc]
            set_aside.extend(repeated)
        values.extend(group)
        moments.extend([moment] * len(group))
    return Timeline(tuple(moments), tuple(set_aside), tuple(values))


def _index(observations: list[tuple[Observation, str | None]]) -> _Index:
    """Observations and their components by (system, code); the ordinal tells values apart and keeps their order."""
    index: _Index = defaultdict(list)
    ordinal = 0
    for observation, full_url in observations:
        ordinal += 1
        concept = observation.code
        if concept is not None and concept.coding:
            item = (ordinal, observation, None, full_url)
            for coding in concept.coding:  # not a function: it would be called for every Observation
                index[_ALIASES(coding.system, coding.system), coding.code].append(item)
        if observation.component:
            for component in observation.component:
                ordinal += 1
                if component.code is not None:
                    _enter(index, component.code, (ordinal, observation, component, full_url))
    return dict(index)


def _enter(index: _Index, concept: KeyConcept, item: _Indexed) -> None:
    for coding in concept.coding or ():
        index[_ALIASES(coding.system, coding.system), coding.code].append(item)


# Bound once: this runs for every code of every Observation. A coding without system or code makes a key nobody asks for.
_ALIASES: Callable[[str | None, str | None], str] = SYSTEM_ALIASES.get  # type: ignore[assignment]
