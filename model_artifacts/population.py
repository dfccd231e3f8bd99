"""Whether a patient belongs to the population a model was made for: the manifest's predicate over the record.

Each criterion that is not met yields a reason; any reason makes the model abstain. What cannot be decided (no birth date, a
partial one that leaves two answers) counts as not met: outside its population a model does not speak.

To add a kind of criterion: a function here, its name in `_CHECKS` and in `manifest.Criterion.kind`, a test.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fhir_adapters.codes import ICD9CM, ICD10, ICD10CM, SNOMED, Code, in_category
from fhir_adapters.instants import Interval
from fhir_adapters.mappings.condition import ConditionEntry
from fhir_adapters.mappings.draft_order import DraftOrder
from fhir_adapters.mappings.encounter import EncounterEntry
from fhir_adapters.record import PatientRecord
from model_artifacts.assessment import AbstentionReason
from model_artifacts.drug_list import read_drug_list
from model_artifacts.errors import ManifestError
from model_artifacts.hospital_stay import current_stay
from model_artifacts.manifest import Criterion, ModelManifest

# Names that hospitals give adult intensive care; codes differ by site, the words hardly do. Neonatal and paediatric units
# (NICU, PICU) are left out on purpose.
_ICU_WORDS = re.compile(
    r"\b(ICU|MICU|SICU|CCU|CSRU|CVICU|TSICU|intensive care|critical care|coronary care)\b", re.IGNORECASE
)
_NOT_ADULT = re.compile(r"\b(NICU|PICU|neonatal|pa?ediatric)\b", re.IGNORECASE)
_ICD = frozenset({ICD10CM, ICD9CM, ICD10})
_TRANSFER = timedelta(hours=1)  # a move between two units interrupts no stay
# v3-ActCode's encounter classes of people who are acutely ill or lie in hospital; EMER is the emergency department.
_HOSPITAL_CLASSES = frozenset({"IMP", "ACUTE", "NONAC", "EMER", "OBSENC", "SS"})
_OPEN_STATUSES = frozenset({"in-progress", "unknown", "onleave"})


class IcuStay(NamedTuple):
    """An intensive-care stay going on: when it began and the Encounter it was read from."""

    start: datetime
    encounter: EncounterEntry


def current_icu_stay(record: PatientRecord, as_of: datetime) -> IcuStay | None:
    """The ICU stay that covers `as_of`, or None; a stay in an ICU location begins when that location's period does.

    Of several, the one that began last.
    """
    stays = [stay for entry in record.encounters if (stay := _icu_stay(entry, as_of)) is not None]
    return max(stays, key=lambda stay: stay.start, default=None)


def unmet_criteria(
    manifest: ModelManifest, folder: Path, record: PatientRecord, as_of: datetime
) -> tuple[AbstentionReason, ...]:
    """The reasons why this patient is outside the model's population, none if inside.

    Where the drafts are none of the model's business, that is the one reason. Without the Patient resource there is one reason
    for everything it would tell: to call the patient deceased, or of the wrong age, because nobody sent the resource would be
    untrue.
    """
    if not concerned_by(manifest, folder, record.drafts):
        return tuple(
            AbstentionReason(f"outside-population:{criterion.kind}", criterion.text, silent=True)
            for criterion in _of_drafts(manifest)
            if not _drafted(criterion, folder, record.drafts)
        )
    if record.patient is None:
        text = "the data sent hold no Patient resource, so age, sex and whether the patient is alive are unknown"
        return (AbstentionReason("outside-population:patient-unknown", text),)
    return tuple(
        AbstentionReason(
            f"outside-population:{criterion.kind}", _text(criterion, record, as_of), silent=criterion.silent
        )
        for criterion in manifest.population.criteria
        if not _CHECKS[criterion.kind](criterion, folder, record, as_of)
    )


def concerned_by(manifest: ModelManifest, folder: Path, drafts: Sequence[DraftOrder]) -> bool:
    """Whether a model that speaks of one drug alone has any business here, by the draft orders; others always have.

    Where it has none, nothing of the patient needs to be read.
    """
    return all(_drafted(criterion, folder, drafts) for criterion in _of_drafts(manifest))


def _of_drafts(manifest: ModelManifest) -> list[Criterion]:
    return [item for item in manifest.population.criteria if item.kind == "drafted-drug" and item.silent]


def _text(criterion: Criterion, record: PatientRecord, as_of: datetime) -> str:
    """The criterion's words; of an age that is known, the age itself."""
    age = record.patient.age(as_of) if criterion.kind == "age" and record.patient is not None else None
    return criterion.text if age is None else f"the patient is {age} years old"


@dataclass(frozen=True, slots=True)
class CodeList:
    """A list of diagnoses: single codes, ICD categories with everything below them, and words for what has no code."""

    codes: frozenset[Code]
    categories: tuple[Code, ...]
    words: re.Pattern[str] | None = None

    def names(self, condition: ConditionEntry) -> bool:
        """Whether the diagnosis is on the list: by its codes, or by its words where it has none that could be looked up."""
        if is_coded(condition):
            return any(map(self.holds, condition.codes))
        return self.words is not None and self.words.search(condition_words(condition)) is not None

    def holds(self, code: Code) -> bool:
        """Whether `code` is on the list, or lies in one of its categories."""
        if code in self.codes:
            return True
        return code.system in _ICD and any(in_category(code, category) for category in self.categories)


@lru_cache(maxsize=64)
def read_code_list(path: Path) -> CodeList:
    """The list in a file: TOML with `[[codes]]` tables of system, code and display.

    Raises:
        ManifestError: the file is missing or not such a list.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        codes = [Code(item["system"], item["code"], item.get("display", "")) for item in content["codes"]]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as exc:
        raise ManifestError(f"code list {path.name}: {type(exc).__name__}") from exc
    listed = "|".join(re.escape(word) for word in content.get("words", ()))
    words = re.compile(rf"\b(?:{listed})\b", re.IGNORECASE) if listed else None
    return CodeList(frozenset(codes), tuple(code for code in codes if code.system in _ICD), words)


def is_coded(condition: ConditionEntry) -> bool:
    """Whether the diagnosis has a code of a system that lists of diagnoses are written in."""
    return any(code.system in _ICD or code.system == SNOMED for code in condition.codes)


def condition_words(condition: ConditionEntry) -> str:
    """Everything a diagnosis without a code is called."""
    return " / ".join((condition.text, *(f"{code.code} {code.display}" for code in condition.codes)))


def _icu_stay(entry: EncounterEntry, as_of: datetime) -> IcuStay | None:
    """By the periods of its ICU locations where it has them, for an encounter outlasts the unit; else by its words."""
    if entry.status not in _OPEN_STATUSES or not entry.covers(as_of):
        return None
    periods = [place.period for place in entry.locations if place.period is not None and _names_icu(place.name)]
    if periods:
        start = _unit_start(periods, as_of)
        return None if start is None else IcuStay(start, entry)
    if _names_icu(entry.words) and entry.start is not None:
        return IcuStay(entry.start, entry)
    return None


def _unit_start(periods: list[Interval], as_of: datetime) -> datetime | None:
    """When intensive care that goes on at `as_of` began: units that follow each other are one stay."""
    start = max((period.start for period in periods if _lies_in(as_of, period)), default=None)
    if start is None:
        return None
    for period in sorted(periods, key=lambda period: period.start, reverse=True):
        if period.start < start <= period.end + _TRANSFER:
            start = period.start
    return start


def _lies_in(moment: datetime, period: Interval) -> bool:
    """Whether the period covers the moment; one whose end is not given reads as ending where it starts."""
    return period.start <= moment and (moment <= period.end or period.end == period.start)


def _names_icu(words: str) -> bool:
    return _ICU_WORDS.search(words) is not None and _NOT_ADULT.search(words) is None


def _check_age(criterion: Criterion, _folder: Path, record: PatientRecord, as_of: datetime) -> bool:
    age = None if record.patient is None else record.patient.age(as_of)
    return age is not None and _within(age, criterion)


def _check_alive(_criterion: Criterion, _folder: Path, record: PatientRecord, _as_of: datetime) -> bool:
    return record.patient is not None and not record.patient.deceased


def _check_sex_recorded(_criterion: Criterion, _folder: Path, record: PatientRecord, _as_of: datetime) -> bool:
    return record.patient is not None and record.patient.sex is not None


def _check_no_condition(criterion: Criterion, folder: Path, record: PatientRecord, as_of: datetime) -> bool:
    """A suspected or resolved diagnosis counts too: where it may be there, the model rather abstains."""
    listed = read_code_list(folder / (criterion.codes or ""))
    return not any(listed.names(condition) for condition in record.conditions if _known_at(condition, as_of))


def _check_no_current_condition(criterion: Criterion, folder: Path, record: PatientRecord, as_of: datetime) -> bool:
    """One that has abated, or that began too long ago to go on, does not count; one without a date does."""
    listed = read_code_list(folder / (criterion.codes or ""))
    return not any(
        condition.is_active
        and _known_at(condition, as_of)
        and _days_since(condition, as_of) <= (criterion.at_most or float("inf"))
        and listed.names(condition)
        for condition in record.conditions
    )


def _days_since(condition: ConditionEntry, as_of: datetime) -> float:
    """Days since it began or was recorded, 0 where neither is known."""
    since = condition.onset or condition.recorded
    return 0.0 if since is None else (as_of - since.end) / timedelta(days=1)


def _known_at(condition: ConditionEntry, as_of: datetime) -> bool:
    since = condition.onset or condition.recorded
    return since is None or since.start <= as_of


def _check_icu_stay(criterion: Criterion, _folder: Path, record: PatientRecord, as_of: datetime) -> bool:
    stay = current_icu_stay(record, as_of)
    return stay is not None and _within((as_of - stay.start).total_seconds() / 3600, criterion)


def _check_no_hospital_stay(_criterion: Criterion, _folder: Path, record: PatientRecord, as_of: datetime) -> bool:
    return not any(
        entry.status in _OPEN_STATUSES
        and entry.covers(as_of)
        and entry.class_code is not None
        and entry.class_code.code in _HOSPITAL_CLASSES
        for entry in record.encounters
    )


def _check_drafted_drug(criterion: Criterion, folder: Path, record: PatientRecord, _as_of: datetime) -> bool:
    return _drafted(criterion, folder, record.drafts)


def _drafted(criterion: Criterion, folder: Path, drafts: Sequence[DraftOrder]) -> bool:
    listed = read_drug_list(folder / (criterion.codes or ""))
    return any(draft.selected and listed.has(draft) for draft in drafts)


def _check_leaving_hospital(_criterion: Criterion, _folder: Path, record: PatientRecord, as_of: datetime) -> bool:
    return current_stay(record, as_of) is not None


def _check_not_leaving_to(criterion: Criterion, folder: Path, record: PatientRecord, as_of: datetime) -> bool:
    """By the stay's discharge disposition, its codes or its words; one that isn't recorded yet leads nowhere."""
    stay = current_stay(record, as_of)
    if stay is None:
        return True
    listed, where = read_code_list(folder / (criterion.codes or "")), stay.discharge_disposition
    named = listed.words is not None and listed.words.search(where.words) is not None
    return not (named or any(map(listed.holds, where.codes)))


def _check_condition_or_drug(criterion: Criterion, folder: Path, record: PatientRecord, as_of: datetime) -> bool:
    """A diagnosis on the one list, whether or not it goes on, or an order of a drug on the other."""
    listed, drugs = read_code_list(folder / (criterion.codes or "")), read_drug_list(folder / (criterion.drugs or ""))
    return any(listed.names(item) for item in record.conditions if _known_at(item, as_of)) or any(
        drugs.has(item) for item in record.medications if item.when is None or item.when.start <= as_of
    )


def _within(value: float, criterion: Criterion) -> bool:
    low = criterion.at_least is None or value >= criterion.at_least
    return low and (criterion.at_most is None or value <= criterion.at_most)


_CHECKS: dict[str, Callable[[Criterion, Path, PatientRecord, datetime], bool]] = {
    "age": _check_age,
    "alive": _check_alive,
    "sex-recorded": _check_sex_recorded,
    "no-condition": _check_no_condition,
    "no-current-condition": _check_no_current_condition,
    "icu-stay": _check_icu_stay,
    "no-hospital-stay": _check_no_hospital_stay,
    "drafted-drug": _check_drafted_drug,
    "leaving-hospital": _check_leaving_hospital,
    "not-leaving-to": _check_not_leaving_to,
    "condition-or-drug": _check_condition_or_drug,
}
