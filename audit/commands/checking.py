"""fsck, drill: whether the log's files are in order, and whether tampering with them would be seen."""

import argparse
import os
import tempfile
from pathlib import Path

from audit.commands.opening import now
from audit.commands.running import INVALID, VALID, Configured, add_log, guarded, index_argument
from audit.drill import DEFAULT_LIMIT, WAYS, Alarm, run_drill
from audit.errors import StorageError
from audit.fsck import PROBLEM, Place, examine
from audit.keys import KEY_DIRECTORY, VKEY_FILE
from audit.storage.opening import STORE_FILE, open_scan
from audit.storage.sqlite_schema import DATABASE_FILE


def fill_fsck(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its arguments."""
    add_log(parser, given.log)
    parser.add_argument("--vault", type=Path, default=given.vault, metavar="DIR", help="where its vault lies")
    parser.add_argument("--head-file", type=Path, metavar="FILE", help="the head file, where it lies elsewhere")
    parser.add_argument(
        "--repair", action="store_true", help="put right what can be without losing anything: seal, head, leftovers"
    )
    parser.add_argument("--quick", action="store_true", help="don't go through the whole store")
    parser.set_defaults(run=guarded(fsck))


def fill_drill(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its arguments."""
    add_log(parser, given.log)
    parser.add_argument(
        "--entries", type=index_argument, default=DEFAULT_LIMIT, metavar="N", help="copy at most the first N entries"
    )
    parser.set_defaults(run=guarded(drill))


def fsck(arguments: argparse.Namespace) -> int:
    """Prints a line for each finding; INVALID where a problem is left."""
    _check_directory(arguments.log)
    place = Place(
        arguments.log,
        now(),
        vault_directory=arguments.vault,
        head_path=arguments.head_file,
        repair=arguments.repair,
        quick=arguments.quick,
    )
    problems = 0
    for finding in examine(place):
        problems += finding.level == PROBLEM
        print(f"{finding.level:<8} {finding.part}: {finding.text}")
    return INVALID if problems else VALID


def drill(arguments: argparse.Namespace) -> int:
    """Prints each alarm; VALID when all ten ways were detected."""
    _check_directory(arguments.log)
    detected = 0
    scan = open_scan(arguments.log)
    try:
        with tempfile.TemporaryDirectory(prefix="bedside-drill-") as folder:
            for alarm in run_drill(scan, Path(folder), os.urandom, arguments.entries):
                detected += alarm.is_detected
                print(_described(alarm))
    finally:
        scan.close()
    print(
        f"\n{detected} of {len(WAYS)} detected, on a copy signed with a key made for this drill; the log was only read"
    )
    return VALID if detected == len(WAYS) else INVALID


def _check_directory(directory: Path) -> None:
    """Returns if some part of a log lies there: a misspelt directory isn't a damaged log."""
    if not any((directory / name).exists() for name in (VKEY_FILE, KEY_DIRECTORY, DATABASE_FILE, STORE_FILE)):
        message = f"{directory}: expected a log directory"
        raise StorageError(message)


def _described(alarm: Alarm) -> str:
    if alarm.undone:
        return f"\n{alarm.way}\n    NOT DONE: {alarm.undone}"
    if not alarm.is_detected:
        return f"\n{alarm.way}\n    NOT DETECTED"
    lines = alarm.message.splitlines()
    return f"\n{alarm.way}\n" + "\n".join(f"    {line}" for line in (f"{alarm.kind}: {lines[0]}", *lines[1:]))
