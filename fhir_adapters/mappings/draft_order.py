"""Reads a draft MedicationRequest, as a hook's context holds it: the drug, and how much of it in which time.

https://hl7.org/fhir/R4/medicationrequest.html, https://hl7.org/fhir/R4/dosage.html. Drafts lack much, so nothing here is
required and nothing raises. Apart from the record's MedicationRequests on purpose: what nobody has signed is no drug that
the patient takes. Dosages stay as they were sent, amount and rhythm; what they come to is the asking model's arithmetic.

To read one more member of a Dosage: its member in `WireDosage`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import msgspec

from fhir_adapters.codes import Code
from fhir_adapters.documents import DECODE_ERRORS
from fhir_adapters.mappings.elements import read_codes, read_text
from fhir_adapters.resources import CodeableConcept, Medication, Reference, WireQuantity


class WireRange(msgspec.Struct, frozen=True):
    """A Range: a dose that may be chosen."""

    low: WireQuantity | None = None
    high: WireQuantity | None = None


class WireRepeat(msgspec.Struct, frozen=True, rename="camel"):
    """Timing.repeat."""

    frequency: int | None = None
    frequency_max: int | None = None
    period: float | None = None
    period_max: float | None = None
    period_unit: str | None = None
    day_of_week: tuple[str, ...] | None = None
    time_of_day: tuple[str, ...] | None = None


class WireTiming(msgspec.Struct, frozen=True):
    """A Timing: when the dose is taken."""

    repeat: WireRepeat | None = None
    code: CodeableConcept | None = None


class WireDoseAndRate(msgspec.Struct, frozen=True, rename="camel"):
    """Dosage.doseAndRate."""

    dose_quantity: WireQuantity | None = None
    dose_range: WireRange | None = None


class WireDosage(msgspec.Struct, frozen=True, rename="camel"):
    """One dosageInstruction."""

    text: str | None = None
    timing: WireTiming | None = None
    as_needed_boolean: bool | None = None
    dose_and_rate: tuple[WireDoseAndRate, ...] | None = None
    dose_quantity: WireQuantity | None = None  # STU3's place


class _WireNote(msgspec.Struct, frozen=True):
    """An Annotation."""

    text: str | None = None


class _WireDraft(msgspec.Struct, frozen=True, rename="camel"):
    resource_type: str | None = None
    id: str | None = None
    status: str | None = None
    do_not_perform: bool | None = None
    contained: tuple[msgspec.Raw, ...] | None = None
    medication_codeable_concept: CodeableConcept | None = None
    medication_reference: Reference | None = None
    dosage_instruction: tuple[WireDosage, ...] | None = None
    reason_code: tuple[CodeableConcept, ...] | None = None
    note: tuple[_WireNote, ...] | None = None


class _WireHead(msgspec.Struct, frozen=True, rename="camel"):
    """What can be read of a draft whose dosage has a form of its own."""

    resource_type: str | None = None
    id: str | None = None
    status: str | None = None
    do_not_perform: bool | None = None
    medication_codeable_concept: CodeableConcept | None = None


_DRAFTS = msgspec.json.Decoder(_WireDraft)
_HEADS = msgspec.json.Decoder(_WireHead)
_MEDICATIONS = msgspec.json.Decoder(Medication)
_WITHDRAWN = frozenset({"cancelled", "entered-in-error", "stopped"})

DraftDocument: TypeAlias = tuple[bytes, bool]
"""A resource of the context as sent, and whether advice is wanted on it."""


@dataclass(frozen=True, slots=True)
class DraftOrder:
    """A drug order that nobody has signed yet; `dosages` is None where they cannot be read, empty where there are none.

    `remarks` are the words of dosages, reasons and notes, for what only words say.
    """

    reference: str | None
    selected: bool
    codes: tuple[Code, ...]
    text: str
    dosages: tuple[WireDosage, ...] | None = field(repr=False)
    remarks: tuple[str, ...] = field(default=(), repr=False)


def read_draft(document: bytes, *, selected: bool) -> DraftOrder | None:
    """The draft in a resource of the context; None for what is no drug order, is withdrawn, or orders that none be given."""
    wire: _WireDraft | _WireHead
    dosages: tuple[WireDosage, ...] | None = None
    remarks: tuple[str, ...] = ()
    concept: CodeableConcept | None
    try:
        wire = full = _DRAFTS.decode(document)
        dosages = full.dosage_instruction or ()
        concept, words = _drug(full)
        remarks = _remarks(full)
    except DECODE_ERRORS:
        try:
            wire = _HEADS.decode(document)
        except DECODE_ERRORS:
            return None
        concept, words = wire.medication_codeable_concept, ""
    if wire.resource_type != "MedicationRequest" or wire.status in _WITHDRAWN or wire.do_not_perform:
        return None
    reference = None if wire.id is None else f"MedicationRequest/{wire.id}"
    return DraftOrder(reference, selected, read_codes(concept), read_text(concept) or words, dosages, remarks)


def read_drafts(documents: Iterable[DraftDocument]) -> tuple[DraftOrder, ...]:
    """The drafts, one sent twice once: its dosage counts once, and not at all where the copies disagree on it."""
    found: dict[object, DraftOrder] = {}
    for place, (document, selected) in enumerate(documents):
        draft = read_draft(document, selected=selected)
        if draft is None:
            continue
        key = draft.reference or place
        known = found.setdefault(key, draft)
        if known.dosages != draft.dosages:
            found[key] = replace(known, dosages=None)
    return tuple(found.values())


def _remarks(wire: _WireDraft) -> tuple[str, ...]:
    texts = [dosage.text for dosage in wire.dosage_instruction or ()]
    texts += [note.text for note in wire.note or ()]
    texts += [read_text(concept) for concept in wire.reason_code or ()]
    return tuple(text for text in texts if text)


def _drug(wire: _WireDraft) -> tuple[CodeableConcept | None, str]:
    """The drug's concept, from a contained Medication too, and the reference's words."""
    if wire.medication_codeable_concept is not None or wire.medication_reference is None:
        return wire.medication_codeable_concept, ""
    words, reference = wire.medication_reference.display or "", wire.medication_reference.reference or ""
    for raw in wire.contained or ():
        try:
            medication = _MEDICATIONS.decode(raw)
        except DECODE_ERRORS:
            continue
        if reference == f"#{medication.id}":
            return medication.code, words
    return None, words
