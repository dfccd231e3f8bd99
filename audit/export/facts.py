"""What monitoring wants to know of an entry at a glance: what happened, how grave it is, who did it, to what.

One table for CEF and OTLP alike, so that an alert rule means the same in both. Severities are CEF's, 0 to 10. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from audit.entry import DecisionEntry, Entry, FeedbackEntry
from audit.entry_custody import AccessEntry, ErasureEntry, HoldEntry
from audit.entry_monitoring import AlarmEntry, SketchEntry
from audit.entry_operations import (
    AnchorEntry,
    ConfigEntry,
    EpochEntry,
    GapEntry,
    KeyRotationEntry,
    ModelEntry,
    SwitchEntry,
    VerifyEntry,
)
from audit.export.errors import ExportError
from audit.export.fhir_codes import CODES, EVENTS
from audit.export.records import LogRecord

ORDINARY, NOTABLE, CHANGE, GRAVE, ALARM = 2, 4, 6, 8, 10

_DECISIONS: Mapping[str, int] = {"failed": CHANGE, "missing-data": NOTABLE}


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one entry; "" where its kind has none.

    Attributes:
        event: our code for what happened; `name` says it in words.
        person: the keyed digest of whoever acted.
    """

    event: str
    severity: int
    action: str = ""
    outcome: str = ""
    person: str = ""
    role: str = ""
    reason: str = ""

    @property
    def name(self) -> str:
        return CODES[EVENTS][self.event]


def facts(record: LogRecord) -> Facts:
    """The facts of the record's entry."""
    return Facts("other", NOTABLE) if record.entry is None else _facts(record.entry)


def epoch_nanoseconds(time: str) -> int:
    """An entry's time as nanoseconds since 1970, exactly; raises ExportError where the calendar has no such time."""
    try:
        moment = datetime.fromisoformat(time)
    except ValueError as exc:
        raise ExportError("entry time: expected a time of the calendar") from exc
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1000


def _facts(entry: Entry) -> Facts:
    match entry:
        case DecisionEntry():
            severity = _DECISIONS.get(entry.status, ORDINARY)
            who, action = entry.requester, entry.request.hook
            reason = " ".join(entry.abstention)
            return Facts("decision", severity, action, entry.status, who.practitioner or "", who.role or "", reason)
        case FeedbackEntry():
            who, reason = entry.requester, entry.override_reason or ""
            return Facts(
                "feedback", ORDINARY, "feedback", entry.outcome, who.practitioner or "", who.role or "", reason
            )
        case AccessEntry() | ErasureEntry() | HoldEntry():
            return _custody_facts(entry)
        case SketchEntry():
            return Facts("sketch", ORDINARY, "count", entry.status)
        case AlarmEntry():
            return _alarm_facts(entry)
        case _:
            return _operation_facts(entry)


def _custody_facts(entry: AccessEntry | ErasureEntry | HoldEntry) -> Facts:
    match entry:
        case AccessEntry():
            severity = NOTABLE if entry.action in ("decrypt", "export") else ORDINARY
            return Facts("access", severity, entry.action, person=entry.actor, role=entry.role, reason=entry.reason)
        case ErasureEntry():
            return Facts("erasure", CHANGE, "erase", person=entry.requested_by, reason=entry.reason)
        case HoldEntry():
            return Facts("hold", CHANGE, entry.action, person=entry.requested_by, reason=entry.reason)


def _alarm_facts(entry: AlarmEntry) -> Facts:
    reason = f"{entry.measure}:{entry.of}"
    if entry.action == "raise":
        return Facts("alarm", GRAVE, entry.action, "failed", reason=reason)
    return Facts("alarm-over", CHANGE, entry.action, reason=reason)


def _operation_facts(
    entry: SwitchEntry
    | GapEntry
    | ConfigEntry
    | ModelEntry
    | EpochEntry
    | KeyRotationEntry
    | AnchorEntry
    | VerifyEntry,
) -> Facts:
    match entry:
        case SwitchEntry():
            event, severity = ("switch-off", GRAVE) if entry.off else ("switch-on", CHANGE)
            return Facts(
                event, severity, "off" if entry.off else "on", person=entry.operator or "", reason=entry.reason
            )
        case GapEntry():
            return Facts("gap", GRAVE, "record", "failed", reason=entry.reason)
        case ConfigEntry():
            return Facts("config", ORDINARY, "start")
        case ModelEntry():
            outcome = "failed" if entry.action == "refuse" else ""
            return Facts("model", CHANGE, entry.action, outcome, person=entry.operator or "", reason=entry.reason)
        case EpochEntry():
            return Facts("epoch", GRAVE, "begin", reason=entry.reason)
        case KeyRotationEntry():
            action = f"{entry.action}-{entry.purpose}"
            return Facts("key-rotation", CHANGE, action, person=entry.operator or "", reason=entry.reason)
        case AnchorEntry():
            return Facts("anchor", ORDINARY, entry.kind)
        case VerifyEntry():
            severity = ORDINARY if entry.outcome == "valid" else ALARM
            return Facts("verification", severity, "verify", entry.outcome)
