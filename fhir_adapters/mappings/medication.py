"""Reads MedicationRequest, MedicationStatement and MedicationAdministration (https://hl7.org/fhir/R4/medications-module.html).

The drug is a concept, or a reference to a Medication in the same Bundle or contained in the resource itself. A reference
that leads nowhere leaves the entry without codes, with the reference's display as its words.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from fhir_adapters.codes import Code
from fhir_adapters.documents import DECODE_ERRORS
from fhir_adapters.instants import Interval
from fhir_adapters.mappings.elements import read_codes, read_interval, read_period, read_text
from fhir_adapters.resources import (
    AnyMedicationUse,
    CodeableConcept,
    Medication,
    MedicationRequest,
    MedicationStatement,
)

_CURRENT = frozenset({"active", "intended", "in-progress", "completed"})
_CURRENT_REQUEST = frozenset({"active"})
_ORDERS = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order", ""})

_contained = msgspec.json.Decoder(tuple[msgspec.Raw, ...])
_medication = msgspec.json.Decoder(Medication)


@dataclass(frozen=True, slots=True)
class MedicationEntry:
    """A drug ordered, stated or given; `when` is authoredOn, the effective time, or dateAsserted."""

    resource_type: str
    source: str | None
    codes: tuple[Code, ...]
    text: str
    status: str
    intent: str
    when: Interval | None
    encounter: str | None
    do_not_perform: bool

    @property
    def is_current(self) -> bool:
        """Whether the entry says that the patient is on the drug: an active order, a statement or a dose not refused."""
        if self.do_not_perform:
            return False
        if self.resource_type == "MedicationRequest":
            return self.status in _CURRENT_REQUEST and self.intent in _ORDERS
        return self.status in _CURRENT

    def has_any(self, codes: tuple[Code, ...]) -> bool:
        """Whether one of its codes is one of these."""
        return any(code in codes for code in self.codes)


def read_medication(
    use: AnyMedicationUse, source: str | None, medications: Mapping[str, CodeableConcept]
) -> MedicationEntry:
    """The entry; `medications` gives the concepts of Medication resources by reference."""
    concept = use.medication_codeable_concept
    words = ""
    if concept is None and use.medication_reference is not None:
        reference = use.medication_reference.reference or ""
        words = use.medication_reference.display or ""
        concept = _contained_concept(use, reference[1:]) if reference.startswith("#") else medications.get(reference)
    encounter = use.encounter if isinstance(use, MedicationRequest) else use.context
    codes = read_codes(concept)
    return MedicationEntry(
        resource_type=type(use).__name__,
        source=source,
        codes=codes,
        text=read_text(concept) or words or next((code.code for code in codes), ""),
        status=use.status or "unknown",
        intent=(use.intent or "") if isinstance(use, MedicationRequest) else "",
        when=_read_when(use),
        encounter=encounter.reference if encounter else None,
        do_not_perform=isinstance(use, MedicationRequest) and bool(use.do_not_perform),
    )


def _read_when(use: AnyMedicationUse) -> Interval | None:
    if isinstance(use, MedicationRequest):
        return read_interval(use.authored_on)
    effective = read_interval(use.effective_date_time) or read_period(use.effective_period)
    if effective is None and isinstance(use, MedicationStatement):
        return read_interval(use.date_asserted)
    return effective


def _contained_concept(use: AnyMedicationUse, fragment: str) -> CodeableConcept | None:
    if not bytes(use.contained):
        return None
    try:
        for raw in _contained.decode(use.contained):
            medication = _read_contained(raw)
            if medication is not None and medication.id == fragment:
                return medication.code
    except DECODE_ERRORS:
        return None
    return None


def _read_contained(raw: msgspec.Raw) -> Medication | None:
    try:
        return _medication.decode(raw)
    except DECODE_ERRORS:
        return None


def concepts_by_reference(medications: Iterable[tuple[Medication, str | None]]) -> dict[str, CodeableConcept]:
    """The concepts of Medication resources under every reference that may mean them."""
    return {
        reference: medication.code
        for medication, full_url in medications
        if medication.code is not None
        for reference in (full_url, f"Medication/{medication.id}")
        if reference
    }
