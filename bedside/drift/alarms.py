"""Alarms in the log: each is an entry when it is raised and when it is over, once, however many processes look.

An alarm stands from its `raise` to its `clear`. It is raised by a figure out of its bound, and cleared by a later look that
judged the same figures and found it within. What is compared with outcomes is cleared by outcomes alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from audit.commitments import keyed_digest
from audit.entry import format_time, parse_entry
from audit.entry_monitoring import AlarmEntry, SketchedModel
from audit.errors import EntryConflictError
from audit.log import AuditLog
from audit.storage import Query, Storage
from bedside.drift.sketches import Looked
from model_artifacts.sketch_judgement import Alarm, Totals

log = logging.getLogger("bedside.monitor")

ALARM = "alarm/v1"
FROM_SKETCHES = ("psi", "missing", "abstention", "novelty")
FROM_OUTCOMES = ("observed-to-expected", "calibration-slope")
_AT_ONCE = 200
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Judged:
    """What was judged of one version: the measures, over which decisions, and the alarms found."""

    model: SketchedModel
    status: str
    measures: tuple[str, ...]
    totals: Totals
    alarms: tuple[Alarm, ...]


def judged_sketches(looked: Looked) -> Judged:
    """One version's sketches as they are recorded: what was not judged clears nothing."""
    measures = FROM_SKETCHES if looked.period.judged else ()
    return Judged(looked.model, looked.status, measures, looked.period.totals, looked.alarms)


def standing_alarms(storage: Storage, model: SketchedModel, status: str) -> tuple[AlarmEntry, ...]:
    """The alarms of this version that were raised and not cleared, newest first."""
    newest = _newest(storage, model, status)
    return tuple(entry for entry in newest.values() if entry.action == "raise")


def record_alarms(audit_log: AuditLog, judged: Judged, clock: Callable[[], datetime]) -> tuple[AlarmEntry, ...]:
    """The entries that this look added: alarms that are new, and those that are over. Each is also an event of the
    operations log.

    Raises:
        AppendError: not recorded.
    """
    newest = _newest(audit_log.storage, judged.model, judged.status)
    added = []
    for action, alarm in _changes(judged, newest):
        before = newest.get((alarm.measure, alarm.of))
        entry = _entry(audit_log, judged, action, alarm, "" if before is None else before.id, clock())
        try:
            audit_log.record(entry)
        except EntryConflictError:  # another process found the same
            continue
        added.append(entry)
        _tell(entry, alarm)
    return tuple(added)


def _changes(judged: Judged, newest: dict[tuple[str, str], AlarmEntry]) -> Iterator[tuple[str, Alarm]]:
    found = {(alarm.measure, alarm.of): alarm for alarm in judged.alarms}
    for key, alarm in found.items():
        if key not in newest or newest[key].action != "raise":
            yield "raise", alarm
    for (measure, of), entry in newest.items():
        if entry.action == "raise" and measure in judged.measures and (measure, of) not in found:
            value, limit = entry.value_e6 / _MILLION, entry.limit_e6 / _MILLION
            yield "clear", Alarm(measure, of, value, limit, f"{measure} of {of} is within its bound again")


def _newest(storage: Storage, model: SketchedModel, status: str) -> dict[tuple[str, str], AlarmEntry]:
    """The newest entry about each measure of this version."""
    newest: dict[tuple[str, str], AlarmEntry] = {}
    query = Query(type=ALARM, model=f"{model.id}@{model.version}", limit=_AT_ONCE)
    while page := storage.find(query):
        for summary in page:
            data = storage.entry(summary.index)
            entry = None if data is None else parse_entry(data)
            if isinstance(entry, AlarmEntry) and (entry.model.manifest, entry.use) == (model.manifest, status):
                newest.setdefault((entry.measure, entry.of), entry)
        query = replace(query, before=page[-1].index)
    return newest


def _entry(audit_log: AuditLog, judged: Judged, action: str, alarm: Alarm, after: str, moment: datetime) -> AlarmEntry:
    """The id is made of what it says and of the entry it follows, so that of several processes one is the first."""
    model = judged.model
    what = f"{action} {model.manifest} {judged.status} {alarm.measure} {alarm.of} after {after or 'nothing'}"
    return AlarmEntry(
        id=keyed_digest(audit_log.keys.index_key, "alarm", what.encode())[:32],
        time=format_time(moment),
        clock=audit_log.clock_status(moment),
        tenant=audit_log.config.tenant,
        action=action,
        model=model,
        use=judged.status,
        measure=alarm.measure,
        of=alarm.of,
        since=judged.totals.since or format_time(moment),
        until=judged.totals.until or format_time(moment),
        decisions=judged.totals.decisions,
        value_e6=round(alarm.value * _MILLION),
        limit_e6=round(alarm.limit * _MILLION),
    )


def _tell(entry: AlarmEntry, alarm: Alarm) -> None:
    about = {
        "tenant": entry.tenant,
        "model": entry.model.id,
        "version": entry.model.version,
        "use": entry.use,
        "measure": entry.measure,
        "of": entry.of,
        "entry": entry.id,
        "why": alarm.words,
    }
    if entry.action == "raise":
        log.error("model alarm", extra=about)
    else:
        log.warning("model alarm over", extra=about)
