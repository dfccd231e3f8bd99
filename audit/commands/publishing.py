"""publish, and of export the bundle and CSV: the log as files and over HTTP for those who check it, and that check."""

import argparse
import sys
from pathlib import Path

from audit.access import Look
from audit.commands.opening import note_look, reading
from audit.commands.running import (
    USAGE,
    VALID,
    Subparsers,
    add_log,
    add_look,
    given_heads,
    guarded,
    head_paths,
    index_argument,
    refuse_unheeded,
    trusted_keys,
)
from audit.directory_scan import is_published_log, verify_folder
from audit.encoding import format_base64
from audit.export import verifier
from audit.export.bundle import SUMS_FILE, write_bundle
from audit.export.csv_export import write_csv
from audit.keys import VKEY_FILE, load_vkeys
from audit.merkle import LeafIndex
from audit.publish import Publisher
from audit.storage.opening import STORE_FILE
from audit.storage.sqlite_schema import DATABASE_FILE
from audit.tiles_app.serving import serve_tiles
from audit.verify import Trust

DEFAULT_REASON = "audit"
_BUNDLE_HINT = "; its verify.py asks for witnesses by --policy, and its README.txt says how OpenSSL checks time stamps"


def add(subparsers: Subparsers, default_log: Path | None = None) -> None:
    """Adds `publish`; `default_log` is the configured log directory."""
    parser = subparsers.add_parser("publish", help="write the log as plain tiles, or serve them over HTTP")
    add_log(parser, default_log)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="bring this folder up to the newest entry")
    parser.add_argument("--cosigned", action="store_true", help="stay at the newest size that a witness signed")
    parser.add_argument("--rewrite", action="store_true", help="write files again that are there already")
    parser.add_argument(
        "--serve", type=_address, metavar="HOST:PORT", help="serve the folder, or without one the log as it grows"
    )
    parser.set_defaults(run=guarded(publish))


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


def publish(arguments: argparse.Namespace) -> int:
    """Brings a folder up to date, serves it or the log, or both."""
    if arguments.output is None and arguments.serve is None:
        print("publish: expected --output FOLDER, --serve HOST:PORT, or both", file=sys.stderr)
        return USAGE
    if arguments.output is not None:
        publisher = Publisher(arguments.output, load_vkeys(arguments.log / VKEY_FILE))
        with reading(arguments.log) as storage:
            done = publisher.publish(storage, cosigned=arguments.cosigned, rewrite=arguments.rewrite)
        print(
            f"published {done.checkpoint.size} entries: {done.files_written} files, {done.bytes_written} bytes written"
        )
    if arguments.serve is not None:
        host, port = arguments.serve
        serve_tiles(arguments.log, arguments.output, host, port)
    return VALID


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


def is_published(path: Path) -> bool:
    """Whether `verify_published` is for this folder: a published log or a bundle, and no log's own directory."""
    return is_published_log(path) and not any((path / name).exists() for name in (DATABASE_FILE, STORE_FILE))


def verify_published(path: Path, arguments: argparse.Namespace) -> int:
    """Verifies a bundle as its own verifier does, or a published folder; and prints what holds."""
    if (path / SUMS_FILE).is_file():
        refuse_unheeded(
            arguments, "a bundle", "head_file", "witness_key", "tsa_roots", "entry", "previous", hint=_BUNDLE_HINT
        )
        key = [] if arguments.key is None else ["--key", arguments.key]
        return verifier.main([str(path), *key, *(f"--head={head}" for head in head_paths(arguments))])
    refuse_unheeded(arguments, "a published folder", "head_file", "tsa_roots", "entry", "previous")
    keys = trusted_keys(arguments.key, path / VKEY_FILE)
    heads = given_heads(arguments)
    origin = None if arguments.foreign else keys[0].name
    witnesses = tuple(key for given in arguments.witness_key for key in trusted_keys(given, Path(given)))
    report = verify_folder(path, Trust(keys, origin, heads, witnesses), ours=not arguments.foreign)
    newest = report.checkpoint
    print(f"valid: {report.entries} entries, {report.files} files, {report.heads} heads kept elsewhere")
    print(f"origin {newest.origin}\nsize {newest.size}\nroot {format_base64(newest.root)}")
    if report.unchecked_signatures:
        print(f"{report.unchecked_signatures} signatures are by keys that were not given: not checked")
    return VALID


def _add_part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", type=index_argument, default=0, metavar="N", help="begin at index N")
    parser.add_argument("--to", dest="last", type=index_argument, metavar="M", help="end with index M")
    add_look(parser, DEFAULT_REASON)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        message = "expected HOST:PORT"
        raise argparse.ArgumentTypeError(message)
    return host.removeprefix("[").removesuffix("]"), int(port)
