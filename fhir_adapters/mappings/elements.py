"""The FHIR data types that several readers share: concepts, periods, references.

Imports `codes`, `instants` and `resources` only.
"""

from fhir_adapters.codes import Code, canonical_system
from fhir_adapters.errors import InstantError
from fhir_adapters.instants import Interval, parse_interval
from fhir_adapters.resources import CodeableConcept, Coding, Period


def read_coding(coding: Coding) -> Code | None:
    """The code, or None where system or code is missing: a code without a system is nobody's code."""
    if not coding.system or not coding.code:
        return None
    return Code(canonical_system(coding.system), coding.code, coding.display or "")


def read_codes(concept: CodeableConcept | None) -> tuple[Code, ...]:
    """The codes of a concept in the order sent."""
    if concept is None or not concept.coding:
        return ()
    return tuple(code for coding in concept.coding if (code := read_coding(coding)) is not None)


def read_text(concept: CodeableConcept | None) -> str:
    """A concept's words: its text, else the first display; empty when there are none."""
    if concept is None:
        return ""
    return concept.text or next((coding.display for coding in concept.coding or () if coding.display), "")


def first_code(concept: CodeableConcept | str | None) -> str:
    """The first bare code of a concept whose system FHIR fixes, such as clinicalStatus; empty when there is none."""
    if concept is None or isinstance(concept, str):
        return concept or ""
    return next((coding.code for coding in concept.coding or () if coding.code), "")


def read_interval(text: str | None) -> Interval | None:
    """The interval of a dateTime; None where it is missing or unreadable."""
    if not text:
        return None
    try:
        return parse_interval(text)
    except InstantError:
        return None


def read_period(period: Period | None) -> Interval | None:
    """From the first moment the start may mean to the last the end may mean; an open end ends where it starts."""
    if period is None:
        return None
    start, end = read_interval(period.start), read_interval(period.end)
    if start is None:
        return end
    if end is None or end.end < start.start:
        return start
    return Interval(start.start, end.end)
