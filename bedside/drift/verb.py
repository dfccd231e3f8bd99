"""`bedside model drift`: the command line. Its use is a look at the log, and recorded before anything is printed.

Exit code 0: no alarm. 1: an alarm was found or stands in the log. 2: it couldn't be done as asked. Meant for a timer: without
`--since` and `--until` it judges the configured period up to now, and records alarms that are new or over.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from audit.access import Look
from audit.commands.opening import DEADLINE_S, record_look
from audit.commands.running import code_argument
from audit.commitments import digest
from audit.entry import format_time
from audit.entry_monitoring import AlarmEntry
from audit.log import AuditLog
from bedside.config import Config, ConfigError
from bedside.drift.alarms import FROM_OUTCOMES, Judged, judged_sketches, record_alarms, standing_alarms
from bedside.drift.outcomes import Join, Joined, join_outcomes, place_outcomes, read_outcomes
from bedside.drift.sketches import Looked, Selection, look_at, standing_selection
from bedside.drift.versions import Versions
from bedside.drift.words import (
    alarm_lines,
    calibration_json,
    calibration_lines,
    looked_json,
    looked_lines,
    standing_line,
)
from bedside.environment import now, read_config
from bedside.logs import configure_logging
from bedside.tenants import tenant_log
from model_artifacts.calibration_drift import Calibration, calibration_alarms, measure_calibration
from model_artifacts.sketch_judgement import Alarm, Totals

REASON = "monitoring"
NO_ALARM, ALARM = 0, 1


@dataclass(frozen=True, slots=True)
class Calibrated:
    """One version's outcomes and what they say."""

    joined: Joined
    output: str
    found: Calibration
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one run found; `standing` are the alarms that the log has after it."""

    looked: tuple[Looked, ...]
    calibrated: tuple[Calibrated, ...]
    left_out: Counter[str]
    standing: tuple[AlarmEntry, ...]
    recorded: bool

    @property
    def is_alarm(self) -> bool:
        """Whether there is anything to be alarmed by."""
        found = any(one.alarms for one in self.looked) or any(one.alarms for one in self.calibrated)
        return found or bool(self.standing)


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.add_argument("model", nargs="?", metavar="ID", help="one model; default: all")
    parser.add_argument("--since", type=date.fromisoformat, metavar="DATE", help="counts written from this day on, UTC")
    parser.add_argument("--until", type=date.fromisoformat, metavar="DATE", help="counts written up to this day, UTC")
    parser.add_argument("--tenant", metavar="NAME", help="whose log (default: audit.tenant)")
    parser.add_argument("--json", action="store_true", help="print JSON, rates as fractions")
    parser.add_argument(
        "--outcomes",
        type=Path,
        metavar="FILE",
        help="CSV of decision,outcome: joins what happened to what was predicted; opens these decisions' payloads",
    )
    parser.add_argument(
        "--output", metavar="NAME", help="the output that the outcomes are of (default: the model's first)"
    )
    parser.add_argument(
        "--reason",
        type=code_argument,
        default=REASON,
        metavar="CODE",
        help=f"why you look, for the log (default {REASON})",
    )
    parser.set_defaults(run=run_drift)


def run_drift(options: argparse.Namespace) -> int:
    """Prints the report; exit code 1 where there is an alarm.

    Raises:
        ConfigError: no such tenant, or arguments that don't go together.
        AuditError: the log, a payload's key or the file of outcomes can't be read; or the look can't be recorded.
        ModelError: a version's reference was altered.
    """
    if options.output and options.outcomes is None:
        raise ConfigError("--output: expected --outcomes with it")
    configure_logging()
    config = read_config()
    place = replace(tenant_log(config, options.tenant), deadline_s=DEADLINE_S)
    with closing(AuditLog.open(place, clock=now, with_vault=options.outcomes is not None)) as log:
        report = _report(config, log, options)
    if options.json:
        sys.stdout.write(json.dumps(_as_json(report), indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _as_text(report))
    return ALARM if report.is_alarm else NO_ALARM


def _report(config: Config, log: AuditLog, options: argparse.Namespace) -> Report:
    chosen = options.since is not None or options.until is not None
    selection = _chosen(options) if chosen else standing_selection(config, now(), options.model)
    looked = look_at(log.storage, Versions(config), selection)
    _note(options, log, Look("report", sum(one.period.totals.sketches for one in looked), asked=_asked(selection)))
    left_out: Counter[str] = Counter()
    calibrated = _calibrated(config, log, options, left_out) if options.outcomes is not None else ()
    standing: list[AlarmEntry] = []
    for judged in _judged(looked, calibrated, with_sketches=not chosen):
        record_alarms(log, judged, now)
        standing += standing_alarms(log.storage, judged.model, judged.status)
    unique = {entry.id: entry for entry in standing}
    return Report(looked, calibrated, left_out, tuple(unique.values()), recorded=not chosen)


def _calibrated(
    config: Config, log: AuditLog, options: argparse.Namespace, left_out: Counter[str]
) -> tuple[Calibrated, ...]:
    outcomes = read_outcomes(options.outcomes)
    placed = place_outcomes(log, outcomes, options.model, left_out)
    named = digest(",".join(sorted(str(one.index) for one in placed)).encode())
    _note(options, log, Look("decrypt", len(placed), asked={"outcomes": named}))
    join: Join = join_outcomes(log, placed, config.model_archive, options.output, left_out)
    return tuple(map(_measured(options.output), join.versions))


def _measured(output: str | None) -> Any:
    def measure(joined: Joined) -> Calibrated:
        names = [one.name for one in joined.manifest.outputs]
        name = output if output in names else names[0]
        found = measure_calibration(joined.probability, joined.outcome, joined.patient, joined.month)
        return Calibrated(joined, name, found, calibration_alarms(found, name, joined.manifest.monitoring))

    return measure


def _judged(looked: tuple[Looked, ...], calibrated: tuple[Calibrated, ...], *, with_sketches: bool) -> Iterator[Judged]:
    """What is recorded: the standing period's alarms, and those of outcomes; a chosen period is looked at and no more."""
    if with_sketches:
        for one in looked:
            yield judged_sketches(one)
    for other in calibrated:
        found, monitoring = other.found, other.joined.manifest.monitoring
        enough = min(found.observed, found.n - found.observed) >= monitoring.minimum_events
        totals = Totals(decisions=found.n)
        yield Judged(other.joined.model, other.joined.status, FROM_OUTCOMES if enough else (), totals, other.alarms)


def _note(options: argparse.Namespace, log: AuditLog, look: Look) -> None:
    record_look(options, log.storage, log, look)


def _asked(selection: Selection) -> dict[str, Any]:
    return {"report": "drift"} | asdict(selection)


def _chosen(options: argparse.Namespace) -> Selection:
    until = None if options.until in (None, date.max) else options.until + timedelta(days=1)
    return Selection(_day(options.since), _before(until), options.model)


def _day(day: date | None) -> str | None:
    """Its first moment, as entries write it."""
    return None if day is None else format_time(datetime.combine(day, time(), UTC))


def _before(day: date | None) -> str | None:
    """The last moment before that day: a query's times are inclusive."""
    return None if day is None else format_time(datetime.combine(day, time(), UTC) - timedelta(microseconds=1))


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "alarm": report.is_alarm,
        "models": [looked_json(one) for one in report.looked],
        "outcomes": [calibration_json(one.joined, one.found, one.output, one.alarms) for one in report.calibrated],
        "left_out": dict(report.left_out),
        "standing": [
            {"model": entry.model.id, "version": entry.model.version, "measure": entry.measure, "of": entry.of}
            | {"since": entry.time, "entry": entry.id}
            for entry in report.standing
        ],
    }


def _as_text(report: Report) -> Iterator[str]:
    if not report.looked:
        yield "no counts in this period; a worker writes them after so many decisions or so long ([monitoring])"
    for one in report.looked:
        yield from looked_lines(one)
        yield from alarm_lines(one.alarms)
        yield ""
    for other in report.calibrated:
        yield from calibration_lines(other.joined, other.found, other.output)
        yield from alarm_lines(other.alarms)
        yield ""
    for reason, count in sorted(report.left_out.items()):
        yield f"outcomes left out, {reason}: {count}"
    yield from map(standing_line, report.standing)
    if not report.recorded:
        yield "A chosen period is looked at only: no alarm is recorded or cleared."
