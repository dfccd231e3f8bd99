"""show, search, timeline, report: the verbs that look into a log. Each look is an entry, durable before anything is printed."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, time
from pathlib import Path

from audit.access import Look, query_bytes
from audit.commands.keys import add_vault
from audit.commands.opening import note_look, previous_epoch, reading, record_look, recording
from audit.commands.running import USAGE, VALID, Configured, add_log, add_look, guarded, index_argument
from audit.committer import summarise
from audit.encoding import format_base64
from audit.entry import format_time
from audit.log import read_entries, read_entry
from audit.merkle import LeafIndex, leaf_hash
from audit.patients import entries_about
from audit.storage import EntrySummary, Query
from audit.summary import LogSummary, summarise_log
from audit.vault import SubjectKey, patient_subject

DEFAULT_REASON = "operations"
_COLUMNS = ("index", "time", "type", "status", "service", "model", "id")


def show(arguments: argparse.Namespace) -> int:
    """Prints one entry, or a line for each of the last ones."""
    with reading(arguments.log) as storage:
        if arguments.index is None:
            found = storage.find(Query(type=arguments.type, limit=arguments.last))
            note_look(arguments, storage, lambda: Look("search", len(found), asked={"type": arguments.type}))
            _print_table(reversed(found))
            return VALID
        entry = read_entry(storage, LeafIndex(arguments.index))
        note_look(arguments, storage, lambda: Look("read", 1, index=arguments.index))
    print(f"index {arguments.index}\nleaf {format_base64(leaf_hash(entry))}")
    print(json.dumps(json.loads(entry), indent=2, ensure_ascii=False))
    return VALID


def search(arguments: argparse.Namespace) -> int:
    """Prints the newest entries that match, newest first."""
    query = Query(
        since=_first_moment(arguments.since),
        until=_last_moment(arguments.until),
        type=arguments.type,
        service=arguments.service,
        model=arguments.model,
        status=arguments.status,
        actor=arguments.actor,
        before=arguments.before,
        limit=arguments.limit,
    )
    with reading(arguments.log) as storage:
        found = storage.find(query)
        note_look(arguments, storage, lambda: Look("search", len(found), asked=asdict(query)))
    if arguments.json:
        sys.stdout.writelines(json.dumps(asdict(one)) + "\n" for one in found)
    else:
        _print_table(found)
    if found and len(found) == query.limit:
        print(f"{query.limit} entries; more with --before {found[-1].index}", file=sys.stderr)
    return VALID


def timeline(arguments: argparse.Namespace) -> int:
    """Prints every entry about one patient, in order, and which log holds those before it; needs the log's keys."""
    patient_id = _read_patient(arguments.patient_file)
    if patient_id is None:
        print("timeline: expected one patient id in the file, in UTF-8", file=sys.stderr)
        return USAGE
    with reading(arguments.log) as storage:
        if storage.newest_checkpoint().size == 0:
            return VALID
        with recording(arguments, storage, arguments.vault) as log:
            key = log.vault.find(patient_subject(patient_id))
            found = [] if key is None else list(entries_about(read_entries(storage), key))
            entry_id = log.new_entry_id()
            record_look(arguments, storage, log, _look_at(patient_id, key, entry_id, len(found)), entry_id)
        earlier = previous_epoch(storage)
    _print_table(summarise(one.index, one.header) for one in found)
    if key is None:
        print("no such patient: never seen here, or erased", file=sys.stderr)
    if earlier is not None:
        print(f"earlier entries are in {earlier}: ask there too, with --record-in {arguments.log}", file=sys.stderr)
    return VALID


def _read_patient(path: Path) -> str | None:
    """The patient id in the file, None where there is none, or several; raises OSError."""
    try:
        text = path.read_bytes().decode("utf-8-sig").strip()  # some editors write a mark of byte order
    except UnicodeDecodeError:
        return None
    return text if text and "\n" not in text else None


def _look_at(patient_id: str, key: SubjectKey | None, entry_id: str, results: int) -> Look:
    """The look at a patient's entries; that it was this one can be told while the patient's key is there, and not without."""
    asked = query_bytes({"patient": patient_id})
    return Look("search", results, commitment=None if key is None else key.commit(entry_id, "query", asked))


def report(arguments: argparse.Namespace) -> int:
    """Prints what is in the log: how much of what, what is missing, and the head it stands under."""
    with reading(arguments.log) as storage:
        summary = summarise_log(read_entries(storage), storage.newest_checkpoint(), storage.anchors())
        note_look(arguments, storage, lambda: Look("report", summary.size))
    if arguments.json:
        print(json.dumps(asdict(summary), indent=2))
    else:
        sys.stdout.writelines(f"{line}\n" for line in _report_lines(summary))
    return VALID


def _report_lines(summary: LogSummary) -> Iterator[str]:
    yield f"{summary.size} entries from {summary.first_time or '-'} to {summary.last_time or '-'}"
    for title, counts in (
        ("by type", summary.types),
        ("decisions by status", summary.decisions),
        ("decisions by model", summary.models),
        ("feedback", summary.feedback),
        ("looks by action", summary.looks),
        ("by clock", summary.clocks),
    ):
        if counts:
            yield f"{title}: " + ", ".join(f"{name} {count}" for name, count in counts.items())
    yield f"calls refused while the log could not be written: {summary.unacknowledged}"
    yield f"patients erased: {summary.subjects_erased}, payloads erased: {summary.payloads_erased}"
    for anchor in summary.anchors:
        yield f"outside: {anchor}"
    if not summary.anchors:
        yield "outside: nobody else keeps a head of this log; its operator could rewrite it unseen"
    yield "head:"
    yield from summary.head.rstrip("\n").split("\n")


def _print_table(found: Iterable[EntrySummary]) -> None:
    rows: list[tuple[str, ...]] = [
        _COLUMNS,
        *((str(one.index), one.time, one.type, one.status, one.service, one.model, one.entry_id) for one in found),
    ]
    rows = [tuple(cell or "-" for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _first_moment(day: date | None) -> str | None:
    return None if day is None else format_time(datetime.combine(day, time(), UTC))


def _last_moment(day: date | None) -> str | None:
    if day is None:
        return None
    return format_time(datetime.combine(day, time.max, UTC))


def fill_show(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its arguments."""
    _fill(parser, given, show)
    parser.add_argument("index", nargs="?", type=index_argument, help="print this entry whole")
    parser.add_argument(
        "--last", type=index_argument, default=10, metavar="N", help="list the last N entries (default 10)"
    )
    parser.add_argument("--type", help="list only entries of this type, e.g. decision/v1")


def fill_search(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its arguments."""
    _fill(parser, given, search)
    parser.add_argument("--since", type=date.fromisoformat, metavar="DATE", help="from this day on, UTC")
    parser.add_argument("--until", type=date.fromisoformat, metavar="DATE", help="up to this day, UTC")
    parser.add_argument("--type", help="e.g. decision/v1, feedback/v1, access/v1")
    parser.add_argument("--service", metavar="ID")
    parser.add_argument("--model", metavar="ID[@VERSION]")
    parser.add_argument("--status", help="a decision's status, feedback's outcome, or what was done, e.g. overridden")
    parser.add_argument(
        "--actor", metavar="DIGEST", help="keyed digest of a practitioner or operator, as entries show it"
    )
    parser.add_argument("--before", type=index_argument, metavar="INDEX", help="only entries of lower index")
    parser.add_argument(
        "--limit", type=index_argument, default=100, metavar="N", help="at most N entries (default 100)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def fill_timeline(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its arguments."""
    _fill(parser, given, timeline)
    add_vault(parser, given.vault)
    parser.add_argument(
        "--patient-file", type=Path, required=True, metavar="FILE", help="holds the patient's id; never an argument"
    )


def fill_report(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its arguments."""
    _fill(parser, given, report)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _fill(parser: argparse.ArgumentParser, given: Configured, run: Callable[[argparse.Namespace], int]) -> None:
    add_log(parser, given.log)
    add_look(parser, DEFAULT_REASON)
    parser.set_defaults(run=guarded(run))
