"""What the resources of a hospital stay say in the training table's terms: words, drugs, diagnoses and visits.

Owns the readings that are more than one number of one Observation. Every function gives `Evidence`, whose `value` is what the
column gets: a number, or a choice's position. What isn't recorded has no value; choices then get 0. Words are looked up in
`encounter_words.toml`, drugs in `drugs.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from fhir_adapters.mappings.condition import ConditionEntry
from fhir_adapters.mappings.encounter import Concept, EncounterEntry
from fhir_adapters.mappings.medication import MedicationEntry
from fhir_adapters.reasons import Reason
from fhir_adapters.record import PatientRecord
from model_artifacts.drug_list import make_drug_list
from model_artifacts.hospital_stay import INPATIENT, visits_before
from model_artifacts.inputs import Evidence
from model_artifacts.readmission_30d.columns import CHOICES, DRUGS, HISTORY_DAYS, POSITIONS, TAKEN
from model_artifacts.readmission_30d.diagnoses import CHAPTER_LABELS, CHAPTERS, icd9_of, levels_of

_FOLDER = Path(__file__).parent
_WORDS: Mapping[str, Mapping[str, Mapping[str, str]]] = tomllib.loads(
    (_FOLDER / "encounter_words.toml").read_text(encoding="utf-8")
)
_LISTS = {
    name: make_drug_list(content)
    for name, content in tomllib.loads((_FOLDER / "drugs.toml").read_text(encoding="utf-8")).items()
}
_LABELS = {
    "admission_type": "Kind of admission",
    "admission_source": "Admitted from",
    "disposition": "Discharged to",
    "specialty": "Specialty",
}
_PLACES = ("Principal diagnosis", "Second diagnosis", "Third diagnosis")
MOST_DIAGNOSES = 9  # as the training data count them
_YEAR = timedelta(days=365)
_HISTORY = timedelta(days=HISTORY_DAYS)
_RETURN = timedelta(days=30)
_NO_ORDERS = frozenset({"cancelled", "entered-in-error", "draft"})


def encounter_choice(name: str, stay: EncounterEntry, concept: Concept) -> Evidence:
    """What the stay says of admission, discharge or specialty, as a choice of this column."""
    if not concept.words:
        return Evidence(name, _LABELS[name], None, "", None, stay.source, Reason.MISSING)
    word = _word(name, concept)
    if word is None:
        return Evidence(
            name, _LABELS[name], None, "", None, stay.source, Reason.NO_VALUE, "recorded in words not known here"
        )
    return Evidence(name, _LABELS[name], float(CHOICES[name].index(word)), "", None, stay.source, display=word)


def _word(name: str, concept: Concept) -> str | None:
    table = _WORDS[name]
    for code in concept.codes:
        if code.code in table["codes"]:
            return table["codes"][code.code]
    words = concept.words.lower()
    found = next((word for pattern, word in table["words"].items() if re.search(pattern, words)), None)
    return "other" if found is None and name == "specialty" else found


def visits(record: PatientRecord, stay: EncounterEntry) -> dict[str, Evidence]:
    """Counts of the year before, and what the stays of two years before tell."""
    labels = {
        "outpatient_visits": ("outpatient", "Outpatient visits in the year before"),
        "emergency_visits": ("emergency", "Emergency visits in the year before"),
        "inpatient_stays": (INPATIENT, "Hospital stays in the year before"),
    }
    note = "counted from the encounters sent"
    counts = {
        name: Evidence(name, label, float(len(visits_before(record, stay, kind, _YEAR))), "", None, None, None, note)
        for name, (kind, label) in labels.items()
    }
    return counts | _earlier(stay, visits_before(record, stay, INPATIENT, _HISTORY))


def _earlier(stay: EncounterEntry, past: tuple[EncounterEntry, ...]) -> dict[str, Evidence]:
    """A stay without an end ended, for all that is known, when it began."""
    assert stay.start is not None
    ends = [entry.end or entry.start for entry in past]
    begins = [*(entry.start for entry in past[1:]), stay.start][: len(past)]
    returns = [
        begin - end <= _RETURN for end, begin in zip(ends, begins, strict=True) if end is not None and begin is not None
    ]
    note, source = "from the periods of the encounters sent", past[-1].source if past else None
    days = float(HISTORY_DAYS) if not past or ends[-1] is None else (stay.start - ends[-1]) / timedelta(days=1)
    since = "no stay in the two years before" if not past else f"{days:.0f} days"
    came = bool(returns and returns[-1])
    return {
        "earlier_stays": _told("earlier_stays", "Hospital stays in the two years before", float(len(past)), note),
        "earlier_returns": _told("earlier_returns", "Earlier returns within 30 days", float(sum(returns)), note),
        "returned": Evidence(
            "returned",
            "This stay began within 30 days of the last discharge",
            float(came),
            "",
            None,
            source,
            None,
            note,
            "yes" if came else "no",
        ),
        "days_since_stay": Evidence(
            "days_since_stay", "Time since the last discharge", days, "d", None, source, None, note, since
        ),
    }


def _told(name: str, label: str, value: float, note: str) -> Evidence:
    return Evidence(name, label, value, "", None, None, None, note)


def stay_orders(record: PatientRecord, stay: EncounterEntry, as_of: datetime) -> tuple[MedicationEntry, ...]:
    """The drug orders of the stay: linked to it, written during it, or active now."""
    return tuple(
        entry
        for entry in record.medications
        if entry.resource_type == "MedicationRequest"
        and not entry.do_not_perform
        and entry.status not in _NO_ORDERS
        and (entry.when is None or entry.when.start <= as_of)
        and (entry.is_current or entry.encounter == f"Encounter/{stay.id}" or _during(entry, stay))
    )


def _during(entry: MedicationEntry, stay: EncounterEntry) -> bool:
    return entry.when is not None and stay.start is not None and entry.when.end >= stay.start


def drugs(record: PatientRecord, stay: EncounterEntry, as_of: datetime) -> dict[str, Evidence]:
    """Each drug for diabetes, any of them, whether they changed, and how many different drugs were ordered."""
    orders = stay_orders(record, stay, as_of)
    before = [
        entry
        for entry in record.medications
        if entry.when and stay.start and entry.when.end < stay.start and _counts(entry)
    ]
    now, earlier = _named(orders), _named(before)
    note = "from the drug orders sent"
    different = {entry.codes[0].key if entry.codes else entry.text.lower() for entry in orders}
    count = float(len(different)) or None
    changed = 1.0 if before and now != earlier else None
    return {
        **{name: _drug(name, orders) for name in DRUGS},
        "diabetes_drug": Evidence(
            "diabetes_drug",
            "Any drug for diabetes",
            float(bool(now)),
            "",
            None,
            None,
            None,
            note,
            "yes" if now else "no",
        ),
        "changed": Evidence(
            "changed",
            "Change of a drug for diabetes",
            changed,
            "",
            None,
            None,
            Reason.MISSING if changed is None else None,
            "the drugs ordered differ from those before the stay; a change of dose alone is not read",
            "yes" if changed else None,
        ),
        "medications": Evidence(
            "medications",
            "Different drugs ordered in the stay",
            count,
            "",
            None,
            None,
            None if count else Reason.MISSING,
            note,
        ),
    }


def _counts(entry: MedicationEntry) -> bool:
    return entry.resource_type == "MedicationRequest" and not entry.do_not_perform and entry.status not in _NO_ORDERS


def _named(orders: Iterable[MedicationEntry]) -> frozenset[str]:
    return frozenset(name for entry in orders for name, listed in _LISTS.items() if listed.has(entry))


def _drug(name: str, orders: Iterable[MedicationEntry]) -> Evidence:
    """Taken or not: whether the dose went up or down, the orders' references alone don't tell."""
    label = name.replace("_", " with ").capitalize()
    found = [entry for entry in orders if _LISTS[name].has(entry)]
    if not found:
        return Evidence(name, label, 0.0, "", None, None, None, "no order of it among those sent", "not ordered")
    newest = max(
        found, key=lambda entry: ("" if entry.when is None else entry.when.start.isoformat(), entry.source or "")
    )
    at = None if newest.when is None else newest.when.start
    return Evidence(
        name, label, float(CHOICES[name].index(TAKEN)), "", at, newest.source, None, None, "ordered", precision="day"
    )


def diagnoses(
    record: PatientRecord, stay: EncounterEntry, as_of: datetime
) -> tuple[tuple[Evidence, ...], tuple[tuple[int, int, int], ...], Evidence]:
    """The first three diagnoses that can be read, their levels, and how many different ones there are, at most nine."""
    linked = _linked(record, stay, as_of)
    readable = list({icd9_of(entry.codes): entry for entry in reversed(linked)}.items())[::-1]
    first = [(code, entry) for code, entry in readable if code and levels_of(entry.codes)[0]][:POSITIONS]
    shown = [_diagnosis(place, entry, code) for place, (code, entry) in enumerate(first, start=1)]
    shown += [_diagnosis(place, None, "") for place in range(len(first) + 1, POSITIONS + 1)]
    found = [levels_of(entry.codes) for _, entry in first] + [(0, 0, 0)] * (POSITIONS - len(first))
    count = float(min(len({entry.codes[:1] or entry.text for entry in linked}), MOST_DIAGNOSES)) or None
    counted = Evidence(
        "diagnosis_count",
        "Number of diagnoses of the stay, at most nine",
        count,
        "",
        None,
        None,
        None if count else Reason.MISSING,
        "counted from the conditions sent",
    )
    return tuple(shown), tuple(found), counted


def _linked(record: PatientRecord, stay: EncounterEntry, as_of: datetime) -> list[ConditionEntry]:
    """The stay's own diagnoses, the principal one first; without any, the diagnoses that go on."""
    ranks = dict(stay.diagnoses)
    known = [entry for entry in record.conditions if _since(entry) is None or _since(entry) <= as_of]  # type: ignore[operator]
    own = [entry for entry in known if entry.encounter == f"Encounter/{stay.id}" or entry.source in ranks]
    listed = own or [entry for entry in known if entry.is_active]

    def order(entry: ConditionEntry) -> tuple[int, str, str]:
        since = _since(entry)
        return ranks.get(entry.source or "") or 99, "" if since is None else since.isoformat(), entry.source or ""

    return sorted(listed, key=order)


def _since(entry: ConditionEntry) -> datetime | None:
    moment = entry.onset or entry.recorded
    return None if moment is None else moment.start


def _diagnosis(place: int, entry: ConditionEntry | None, code: str) -> Evidence:
    name, label = f"diagnosis_{place}", _PLACES[place - 1]
    if entry is None:
        return Evidence(name, label, None, "", None, None, Reason.MISSING, "no further diagnosis that can be read")
    chapter = levels_of(entry.codes)[0]
    read = f"read as {code if code not in CHAPTERS else CHAPTER_LABELS.get(code, code)}"
    return Evidence(
        name, label, float(chapter), "", _since(entry), entry.source, None, read, entry.text or read, precision="day"
    )
