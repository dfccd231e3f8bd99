"""export bundle, export csv: the log as files for those who check it."""

import argparse
import sys
from pathlib import Path

from audit.access import Look
from audit.commands.opening import note_look, reading
from audit.commands.running import VALID, Subparsers, add_log, add_look, guarded, index_argument
from audit.export.bundle import write_bundle
from audit.export.csv_export import write_csv
from audit.keys import VKEY_FILE, load_vkeys
from audit.merkle import LeafIndex

DEFAULT_REASON = "audit"


def add_bundle(formats: Subparsers, default_log: Path | None = None) -> None:
    """Adds `export bundle`."""
    parser = formats.add_parser("bundle", help="a folder for an auditor: tiles, heads, keys, and their verifier")
    add_log(parser, default_log)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="an empty folder, or a new one"
    )
    parser.add_argument("--policy", type=Path, metavar="FILE", help="which witnesses have to have signed (tlog-policy)")
    _add_part(parser)
    parser.set_defaults(run=guarded(export_bundle))


def add_csv(formats: Subparsers, default_log: Path | None = None) -> None:
    """Adds `export csv`."""
    parser = formats.add_parser("csv", help="the facts of entries as CSV, with the checkpoint in the last lines")
    add_log(parser, default_log)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to a file (default: print)")
    _add_part(parser)
    parser.set_defaults(run=guarded(export_csv))


def export_bundle(arguments: argparse.Namespace) -> int:
    """Writes an auditor's bundle, and says what is in it."""
    policy = None if arguments.policy is None else arguments.policy.read_bytes()
    keys = load_vkeys(arguments.log / VKEY_FILE)
    first, last = LeafIndex(arguments.first), arguments.last
    with reading(arguments.log) as storage:
        size = int(storage.newest_checkpoint().size)
        asked = {"format": "bundle", "from": first, "to": last}
        note_look(arguments, storage, lambda: Look("export", max(size - first, 0), asked=asked))
        done = write_bundle(arguments.output, storage, keys, policy=policy, first=first, last=last)
    print(
        f"entries {done.first} to {done.last} of {done.checkpoint.size}, {done.heads} heads, {done.time_stamps} time stamps"
    )
    print(f"check it with: python3 -I -S {arguments.output / 'verify.py'}")
    return VALID


def export_csv(arguments: argparse.Namespace) -> int:
    """Writes the facts of entries."""
    first, last = LeafIndex(arguments.first), arguments.last
    with reading(arguments.log) as storage:
        size = int(storage.newest_checkpoint().size)
        asked = {"format": "csv", "from": first, "to": last}
        note_look(arguments, storage, lambda: Look("export", max(size - first, 0), asked=asked))
        if arguments.output is None:
            write_csv(sys.stdout, storage, first, last)
            return VALID
        with arguments.output.open("w", encoding="utf-8", newline="") as file:
            rows = write_csv(file, storage, first, last)
    print(f"{rows} entries written", file=sys.stderr)
    return VALID


def _add_part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", type=index_argument, default=0, metavar="N", help="begin at index N")
    parser.add_argument("--to", dest="last", type=index_argument, metavar="M", help="end with index M")
    add_look(parser, DEFAULT_REASON)
