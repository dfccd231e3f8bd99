"""Yes/no inputs from the record: diabetes, smoking, blood pressure treatment, statin.

What counts as no: a record in which the diagnosis or the drug is not found. The searches for Condition and
MedicationRequest are required ones, so an unanswered search never passes for "none"; a list that nobody keeps does, and the
note says it. Smoking is different: without an answer it is missing, for nobody writes down that a question wasn't asked.

The codes and drug names are in `codes.toml` and `diabetes.toml`, with their sources.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from fhir_adapters.codes import ATC, LOINC, Code, keys
from fhir_adapters.instants import Interval, precision_of
from fhir_adapters.mappings.condition import ConditionEntry
from fhir_adapters.mappings.medication import MedicationEntry
from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord
from model_artifacts.inputs import Evidence
from model_artifacts.population import is_coded, read_code_list

_FOLDER = Path(__file__).parent
_CODES = tomllib.loads((_FOLDER / "codes.toml").read_text(encoding="utf-8"))
SMOKING_STATUS = Code(LOINC, "72166-2", "Tobacco smoking status")
SMOKING_MAX_AGE = timedelta(days=3 * 365)  # US Core and the CMS tobacco measures ask for it at least every two years
_OLD_ORDER = timedelta(days=2 * 365)
_UNCERTAIN = frozenset({"unconfirmed", "provisional", "differential"})


class DrugClass:
    """Recognises a drug of one class by ATC code or by name; `note` is what a reader of its contribution must know."""

    def __init__(
        self, atc: Iterable[str], names: Iterable[str], not_if_named: Iterable[str] = (), note: str | None = None
    ) -> None:
        self.note = note
        self._atc = tuple(atc)
        self._names = _whole_words(names)
        self._not = _whole_words(not_if_named)

    def has(self, entry: MedicationEntry) -> bool:
        """Whether the entry names a drug of this class."""
        words = _words(entry)
        if self._not is not None and self._not.search(words):
            return False
        by_code = any(code.system == ATC and code.code.startswith(self._atc) for code in entry.codes)
        return by_code or (self._names is not None and self._names.search(words) is not None)


def _words(entry: MedicationEntry) -> str:
    return " / ".join((entry.text, *(code.display for code in entry.codes))).lower()


def _whole_words(words: Iterable[str]) -> re.Pattern[str] | None:
    listed = "|".join(re.escape(word) for word in words)
    return re.compile(rf"\b(?:{listed})\b") if listed else None


STATINS = DrugClass(**_CODES["statin"])
BP_TREATMENTS = DrugClass(**_CODES["bp_treatment"])


def read_diabetes(record: PatientRecord, as_of: datetime) -> Evidence:
    """Whether a diagnosis of diabetes stands."""
    listed = read_code_list(_FOLDER / "diabetes.toml")
    for entry in record.conditions:
        if _stands(entry, as_of) and listed.names(entry):
            began = entry.onset or entry.recorded
            return _yes("diabetes", "Diabetes", entry.source, began, entry.text)
    note = "no such diagnosis among the conditions sent"
    uncoded = sum(not is_coded(entry) for entry in record.conditions)
    if uncoded:
        note += f"; {uncoded} of the diagnoses could not be looked up, as no code was sent"
    return _no("diabetes", "Diabetes", note)


def read_treatment(record: PatientRecord, as_of: datetime, name: str, label: str, drugs: DrugClass) -> Evidence:
    """Whether an active order or statement names a drug of the class; the newest one is the source."""
    current = [entry for entry in record.medications if _taken(entry, as_of)]
    found = [entry for entry in current if drugs.has(entry)]
    if found:
        newest = max(found, key=lambda entry: "" if entry.when is None else entry.when.start.isoformat())
        old = newest.when is not None and as_of - newest.when.start > _OLD_ORDER
        notes = (drugs.note, "ordered more than two years ago" if old else None)
        return _yes(name, label, newest.source, newest.when, newest.text, "; ".join(filter(None, notes)) or None)
    nameless = sum(not any(letter.isalpha() for letter in _words(entry)) for entry in current)
    note = "no such drug among the active medications sent"
    if nameless:
        note += f"; {nameless} of the medications could not be recognised, as no name was sent"
    return _no(name, label, note)


def read_smoking(record: PatientRecord, as_of: datetime) -> Evidence:
    """The newest answer on smoking; missing if there is none, or only one too old or not to be understood."""
    label = "Current smoking"
    timeline = record.timeline(keys(SMOKING_STATUS))
    past = bisect_right(timeline.moments, as_of)
    if not past:
        return Evidence("smoking", label, None, "", None, None, Reason.MISSING)
    newest = timeline[past - 1]
    answers = {code.code for code in newest.answers}
    words = newest.text or next((code.display for code in newest.answers if code.display), "")
    at, source = newest.observed_at, newest.source
    if at is not None and as_of - at > SMOKING_MAX_AGE:
        return Evidence("smoking", label, None, "", at, source, Reason.STALE)
    if answers & set(_CODES["smoking"]["current"]):
        return Evidence("smoking", label, 1.0, "", at, source, display=f"yes ({words})" if words else "yes")
    if answers & set(_CODES["smoking"]["not_current"]):
        return Evidence("smoking", label, 0.0, "", at, source, display=f"no ({words})" if words else "no")
    return Evidence("smoking", label, None, "", at, source, Reason.NO_VALUE, "an answer that says neither yes nor no")


def _stands(entry: ConditionEntry, as_of: datetime) -> bool:
    known = entry.onset or entry.recorded
    began = known is None or known.start <= as_of
    return entry.is_active and entry.verification_status not in _UNCERTAIN and began


def _taken(entry: MedicationEntry, as_of: datetime) -> bool:
    """An active order, or a statement that is not of a finished course; doses given in hospital don't count."""
    if entry.resource_type == "MedicationAdministration" or entry.status == "completed":
        return False
    return entry.is_current and (entry.when is None or entry.when.start <= as_of)


def _yes(
    name: str, label: str, source: str | None, when: Interval | None, words: str, note: str | None = None
) -> Evidence:
    display = f"yes ({words})" if words else "yes"
    if when is None:
        return Evidence(name, label, 1.0, "", None, source, None, note, display)
    precision = precision_of(when.start, when.end)
    return Evidence(name, label, 1.0, "", when.start, source, None, note, display, precision)


def _no(name: str, label: str, note: str) -> Evidence:
    return Evidence(name, label, 0.0, "", None, None, note=note, display="none recorded")
