"""Why something in the record was not used: one vocabulary for cards, the audit entry and the log.

A reason never holds a patient's value. To add one: a member, and its words for the card in `WORDS`.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """The named reasons; the string is what is logged."""

    NOT_JSON = "not-json"
    UNREADABLE = "unreadable"
    OPERATION_OUTCOME = "operation-outcome"
    OTHER_PATIENT = "other-patient"
    NO_SUBJECT = "no-subject"
    ENTERED_IN_ERROR = "entered-in-error"
    CANCELLED = "cancelled"
    REFUTED = "refuted"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    NO_TIME = "no-time"
    FUTURE = "future"
    NO_VALUE = "no-value"
    NOT_A_NUMBER = "not-a-number"
    COMPARATOR = "comparator"
    UNIT = "unit"
    IMPLAUSIBLE = "implausible"
    MISSING = "missing"
    STALE = "stale"
    CONTRADICTORY = "contradictory"


WORDS: dict[Reason, str] = {
    Reason.NOT_JSON: "the data sent is not JSON",
    Reason.UNREADABLE: "the resource does not have the form FHIR R4 asks for",
    Reason.OPERATION_OUTCOME: "the FHIR server reported an error",
    Reason.OTHER_PATIENT: "the resource belongs to another patient",
    Reason.NO_SUBJECT: "the resource does not say whose it is",
    Reason.ENTERED_IN_ERROR: "marked as entered in error",
    Reason.CANCELLED: "cancelled",
    Reason.REFUTED: "the diagnosis was refuted",
    Reason.DUPLICATE: "sent more than once",
    Reason.SUPERSEDED: "replaced by a final or corrected result",
    Reason.NO_TIME: "no readable time of observation",
    Reason.FUTURE: "dated after the time of this assessment",
    Reason.NO_VALUE: "no value was recorded",
    Reason.NOT_A_NUMBER: "the value is not a number",
    Reason.COMPARATOR: "only a bound (< or >) was reported",
    Reason.UNIT: "the unit is missing, unknown or of another quantity",
    Reason.IMPLAUSIBLE: "outside the plausible range",
    Reason.MISSING: "not in the data received",
    Reason.STALE: "too old",
    Reason.CONTRADICTORY: "sent more than once, and the copies disagree",
}


@dataclass(frozen=True, slots=True)
class SetAside:
    """One resource or value that was not used: what it is, where it is, why; `detail` adds words without values."""

    resource_type: str
    reference: str | None
    reason: Reason
    detail: str = ""
