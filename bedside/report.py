"""`bedside report`: what the log tells of the service's use. Needs the log and no running service; the look is recorded.

A further report is one `_add_` and one `run_`; its figures are made in the package that knows them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from audit.access import Look
from audit.commands.opening import note_look, reading
from audit.commands.running import add_look, guarded
from audit.entry import format_time
from audit.log import read_entries
from bedside.environment import read_config
from bedside.tenants import tenant_log
from cds_service.feedback_report import Answers, FeedbackReport, Reason, Selection, Share, feedback_report

REASON = "operations"


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds the reports."""
    _add_feedback(parser.add_subparsers(dest="report_verb", required=True, metavar="VERB"))


def _add_feedback(verbs: Any) -> None:
    parser = verbs.add_parser("feedback", help="cards accepted, overridden, unanswered; by kind, model and reason")
    parser.add_argument("--since", type=date.fromisoformat, metavar="DATE", help="cards shown from this day on, UTC")
    parser.add_argument("--until", type=date.fromisoformat, metavar="DATE", help="cards shown up to this day, UTC")
    parser.add_argument("--service", metavar="ID", help="only this service's cards")
    parser.add_argument("--tenant", metavar="NAME", help="whose log (default: audit.tenant)")
    parser.add_argument("--json", action="store_true", help="print JSON, rates as fractions")
    add_look(parser, REASON)
    parser.set_defaults(run=guarded(run_feedback))


def run_feedback(options: argparse.Namespace) -> int:
    """Prints the report; exit code 0."""
    config = read_config()
    selection = _selection(options)
    place = tenant_log(config, options.tenant)
    with reading(place.directory) as storage:
        report = feedback_report(lambda: read_entries(storage), selection)
        shown = sum(row.shown for row in report.kinds)
        look = Look("report", shown, asked={"report": "feedback"} | asdict(selection))
        asking = argparse.Namespace(**vars(options) | {"log": place.directory})
        note_look(asking, storage, lambda: look, head_path=place.head_path)
    if options.json:
        sys.stdout.write(json.dumps(_as_json(report), indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _as_text(report))
    return 0


def _selection(options: argparse.Namespace) -> Selection:
    last = options.until
    before = None if last in (None, date.max) else last + timedelta(days=1)
    return Selection(_day(options.since), _day(before), options.service)


def _day(day: date | None) -> str | None:
    """Its first moment, as entries write it."""
    return None if day is None else format_time(datetime.combine(day, time(), UTC))


def _as_json(report: FeedbackReport) -> dict[str, Any]:
    return {
        "kinds": [_answers_json(row, ("service", "decision")) for row in report.kinds],
        "models": [_answers_json(row, ("model", "version")) for row in report.models],
        "reasons": [
            {"service": row.service, "reason": row.code, "overrides": _share_json(row.overrides)}
            for row in report.reasons
        ],
    }


def _answers_json(row: Answers, names: tuple[str, str]) -> dict[str, Any]:
    shares = {name: _share_json(getattr(row, name)) for name in ("accepted", "overridden", "unanswered")}
    return dict(zip(names, row.name, strict=True)) | {"shown": row.shown} | shares


def _share_json(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {"count": share.count, "of": share.of, "rate": round(share.rate, 6), "ci95": [round(low, 6), round(high, 6)]}


def _as_text(report: FeedbackReport) -> Iterator[str]:
    if not report.kinds:
        yield "no card was shown"
        return
    heads = ("shown", "accepted", "overridden", "no answer")
    yield from _table(("service", "decision", *heads), map(_answers_cells, report.kinds))
    yield ""
    yield from _table(("model", "version", *heads), map(_answers_cells, report.models))
    if report.reasons:
        yield ""
        yield from _table(("service", "override reason", "of its overrides"), map(_reason_cells, report.reasons))
    yield ""
    yield "In brackets: the interval of 95 % (Wilson). The latest feedback of each card counts."


def _answers_cells(row: Answers) -> tuple[str, ...]:
    return (*row.name, str(row.shown), _words(row.accepted), _words(row.overridden), _words(row.unanswered))


def _reason_cells(row: Reason) -> tuple[str, ...]:
    return row.service, row.code, _words(row.overrides)


def _words(share: Share) -> str:
    """`3/8 = 37.5 % (13.7–69.4)`."""
    low, high = share.interval
    return f"{share.count}/{share.of} = {100 * share.rate:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    lines = [tuple(head), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
