"""Clock back one hour. Bar: order by index unaffected; alarm.

A log is written while its clock goes on, falls back by one hour, goes on from there, and is put right again. Every entry's
index must be one more than the last, whatever its time; every entry dated before its predecessors must say `stepped-back`;
the operations log must carry the alarm once for each fall; and the log must verify. Then the log is closed and opened with a
clock that is behind from the start, as on a machine whose battery is empty: the first entry must say so too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from audit.entry import format_time
from audit.log import AuditLog, LogConfig
from benchmarks.drills import Figures
from benchmarks.drills.workload import decision, new_log, now, verify

FALLS = 100
_HOUR = timedelta(hours=1)
_ALARM = "clock stepped back"


class _Clock:
    """The real clock, moved by what it is told."""

    def __init__(self) -> None:
        self.shift = timedelta()

    def __call__(self) -> datetime:
        return now() + self.shift


class _Alarms(logging.Handler):
    """Counts the alarms in the operations log."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += record.getMessage() == _ALARM


def run(workspace: Path, scale: float) -> Figures:
    """The figures of FALLS * scale falls."""
    falls = max(2, round(FALLS * scale))
    alarms, clock = _Alarms(), _Clock()
    logger = logging.getLogger("bedside.audit.clock")
    logger.addHandler(alarms)
    try:
        config = new_log(workspace / "log")
        figures = _fall(config, clock, falls)
        clock.shift = -_HOUR
        figures["statuses_wrong"] += _wrong_statuses(config, clock, ["stepped-back"])
    finally:
        logger.removeHandler(alarms)
    report = verify(config)
    return {
        **figures,
        "entries": report.entries,
        "alarms": alarms.count,
        "alarms_missing": falls + 1 - alarms.count + figures["statuses_wrong"],
    }


def _fall(config: LogConfig, clock: _Clock, falls: int) -> dict[str, int]:
    """Two entries in time, two an hour behind, again and again; the order, and what the entries say of the clock."""
    log = AuditLog.open(config, clock=clock)
    indices, wrong = [], 0
    for _ in range(falls):
        for shift, expected in ((timedelta(), False), (timedelta(), False), (-_HOUR, True), (-_HOUR, True)):
            clock.shift = shift
            index, status = _append(log, clock)
            indices.append(index)
            wrong += (status == "stepped-back") != expected
    log.close()
    return {
        "falls": falls,
        "out_of_order": sum(index != place for place, index in enumerate(indices)),
        "statuses_wrong": wrong,
    }


def _wrong_statuses(config: LogConfig, clock: _Clock, expected: list[str]) -> int:
    log = AuditLog.open(config, clock=clock)
    wrong = sum(_append(log, clock)[1] != status for status in expected)
    log.close()
    return wrong


def _append(log: AuditLog, clock: Callable[[], datetime]) -> tuple[int, str]:
    """The index of a new entry, and what it says of its clock."""
    moment = clock()
    status = log.clock_status(moment)
    entry, payload = decision(log, time=format_time(moment), clock=status)
    return log.record(entry, payload).index, status
