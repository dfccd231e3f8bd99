"""Reads Condition (https://hl7.org/fhir/R4/condition.html).

`dropped_condition` says why a Condition doesn't count at all (refuted, entered in error). A Condition without clinicalStatus is
active unless it has abated: encounter diagnoses usually have none. Resolved ones stay in the record, for history matters.
"""

from dataclasses import dataclass

from fhir_adapters.codes import Code, in_category
from fhir_adapters.instants import Interval
from fhir_adapters.mappings.elements import first_code, read_codes, read_interval, read_period, read_text
from fhir_adapters.reasons import Reason
from fhir_adapters.resources import Condition

_ACTIVE = frozenset({"active", "recurrence", "relapse"})
_DROPPED = {"refuted": Reason.REFUTED, "entered-in-error": Reason.ENTERED_IN_ERROR}


@dataclass(frozen=True, slots=True)
class ConditionEntry:
    """A diagnosis with its codes, its two statuses and its times."""

    source: str | None
    codes: tuple[Code, ...]
    text: str
    clinical_status: str
    verification_status: str
    onset: Interval | None
    abatement: Interval | None
    recorded: Interval | None
    encounter: str | None

    @property
    def is_active(self) -> bool:
        if self.clinical_status:
            return self.clinical_status in _ACTIVE
        return self.abatement is None

    def has_any(self, codes: tuple[Code, ...]) -> bool:
        """Whether one of its codes is one of these, or lies in one of these ICD categories."""
        return any(in_category(own, asked) for own in self.codes for asked in codes)


def dropped_condition(condition: Condition) -> Reason | None:
    """Why the Condition must not be used, or None."""
    return _DROPPED.get(first_code(condition.verification_status))


def read_condition(condition: Condition, source: str | None) -> ConditionEntry:
    """The Condition as a record entry; onset given as an age or in words is left out."""
    return ConditionEntry(
        source=source,
        codes=read_codes(condition.code),
        text=read_text(condition.code),
        clinical_status=first_code(condition.clinical_status),
        verification_status=first_code(condition.verification_status),
        onset=read_interval(condition.onset_date_time) or read_period(condition.onset_period),
        abatement=read_interval(condition.abatement_date_time) or read_period(condition.abatement_period),
        recorded=read_interval(condition.recorded_date),
        encounter=condition.encounter.reference if condition.encounter else None,
    )
