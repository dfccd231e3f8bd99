"""init, prove, verify: the verbs that need a log and nothing else."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from audit.access import Look
from audit.checkpoint import parse_checkpoint
from audit.commands.anchors import describe_anchors
from audit.commands.epochs import verify_previous
from audit.commands.keys import token_uri
from audit.commands.opening import note_look, reading
from audit.commands.published import is_published, verify_published
from audit.commands.running import (
    USAGE,
    VALID,
    Configured,
    add_log,
    add_look,
    directory_argument,
    given_heads,
    guarded,
    index_argument,
    name_argument,
    refuse_unheeded,
    trusted_keys,
)
from audit.commands.stores import add_store_arguments, attach, given_place, grant
from audit.encoding import format_base64
from audit.entry import read_header
from audit.errors import VerificationError
from audit.heads import read_heads
from audit.keys import VKEY_FILE, init_keys
from audit.log import LogConfig, create_log, prove_entry
from audit.merkle import LeafIndex
from audit.note import VerifierKey, format_vkey, parse_note
from audit.pkcs11_uri import format_uri
from audit.proof import format_proof, parse_proof
from audit.storage.opening import open_scan, read_place, write_place
from audit.storage.sqlite_seal import is_sealed
from audit.timestamps import check_timestamp, load_roots
from audit.verify import Trust, verify_log, verify_receipt


def init(arguments: argparse.Namespace) -> int:
    """Makes the keys and the empty log, or joins another host's, and prints the key that verifiers need."""
    directory: Path = arguments.log
    place = given_place(arguments)
    if place is not None and arguments.attach:
        log = attach(directory, arguments.origin, place, lambda: datetime.now(UTC))
        print(format_vkey(log.keys.signer.verifier_key))
        log.close()
        return VALID
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    signing, wrapping = (
        None if uri is None else format_uri(uri) for uri in (arguments.signing_token_key, arguments.wrapping_token_key)
    )
    keys = init_keys(directory, arguments.origin, os.urandom, signing_uri=signing, wrapping_uri=wrapping)
    if place is not None:
        write_place(directory, place)
    configured = _configured(arguments, directory)
    head_path = None if configured is None else configured.head_path
    create_log(LogConfig(directory, arguments.origin, tenant="", head_path=head_path), keys)
    if place is not None:
        grant(arguments, place)
    print(format_vkey(keys.signer.verifier_key))
    return VALID


def prove(arguments: argparse.Namespace) -> int:
    """Writes a .tlog-proof that carries the whole entry, which makes it a look."""
    with reading(arguments.log) as storage:
        data = format_proof(prove_entry(storage, LeafIndex(arguments.index)))
        note_look(arguments, storage, lambda: Look("prove", 1, index=arguments.index))
    if arguments.output is None:
        sys.stdout.write(data.decode())
    else:
        arguments.output.write_bytes(data)
    return VALID


def verify(arguments: argparse.Namespace) -> int:
    """Verifies a log, a published folder, a bundle or a receipt; prints what holds or the first thing that doesn't."""
    path: Path | None = arguments.path or arguments.log
    if path is None:
        print("verify: expected a log directory, a published folder, a bundle or a receipt", file=sys.stderr)
        return USAGE
    if is_published(path):
        return verify_published(path, arguments)
    if path.is_dir():
        refuse_unheeded(arguments, "a log", "entry", "foreign")
        status = _verify_directory(path, _trust(arguments, path))
        verify_previous(path, arguments.previous)
        return status
    refuse_unheeded(
        arguments, "a receipt", "head", "heads", "head_file", "witness_key", "tsa_roots", "previous", "foreign"
    )
    beside = (arguments.log or path.parent) / VKEY_FILE
    size = parse_checkpoint(parse_note(parse_proof(path.read_bytes()).checkpoint).text).size
    return _verify_receipt(path, trusted_keys(arguments.key, beside, size), arguments.entry)


def _verify_directory(directory: Path, trust: Trust) -> int:
    scan = open_scan(directory)
    try:
        report = verify_log(scan, trust)
    finally:
        scan.close()
    newest = report.checkpoint
    print(f"valid: {report.entries} entries, {report.checkpoints} checkpoints, {report.payloads} payloads")
    if report.erased:
        print(f"erased: {report.erased} payloads, each by an erasure in the log")
    print(f"origin {newest.origin}\nsize {newest.size}\nroot {format_base64(newest.root)}")
    print(f"heads: {report.heads} kept elsewhere, all of this tree")
    for line in describe_anchors(report.anchors):
        print(line)
    if read_place(directory) is None and not is_sealed(directory):
        print("not sealed: in use, or not closed cleanly; bytes that belong to no entry were not compared")
    return VALID


def _trust(arguments: argparse.Namespace, directory: Path) -> Trust:
    """What the log in `directory` is verified with.

    The heads are read before the snapshot is taken: a log in use may grow in between, and must not look rolled back.
    """
    keys = trusted_keys(arguments.key, directory / VKEY_FILE)
    head_file, heads_directory = _head_places(arguments, directory)
    if not head_file.is_file():
        raise VerificationError("head", f"expected a file {head_file.name}: without it a rollback can't be told")
    kept = (note for _, note in read_heads(heads_directory))
    heads = (head_file.read_bytes(), *given_heads(arguments), *kept)
    witnesses = tuple(key for given in arguments.witness_key for key in trusted_keys(given, Path(given)))
    roots = tuple(root for path in arguments.tsa_roots for root in load_roots(path))
    check = (lambda evidence, note: check_timestamp(evidence, note, roots)) if roots else None
    return Trust(keys, keys[0].name, heads, witnesses, check)


def _head_places(arguments: argparse.Namespace, directory: Path) -> tuple[Path, Path]:
    """Where the log's head file lies and its directory of heads: as given, else as configured, else in the directory."""
    configured = _configured(arguments, directory) or LogConfig(directory, origin="", tenant="")
    return arguments.head_file or configured.head_file, configured.heads_directory


def _configured(arguments: argparse.Namespace, directory: Path) -> LogConfig | None:
    """The configuration of the log in `directory`, None where it is no configured one's."""
    logs: Sequence[LogConfig] = arguments.configured_logs()
    return next((config for config in logs if config.directory.resolve() == directory.resolve()), None)


def _verify_receipt(path: Path, keys: tuple[VerifierKey, ...], entry: Path | None) -> int:
    report = verify_receipt(path.read_bytes(), Trust(keys), None if entry is None else entry.read_bytes())
    print(f"valid: index {report.index} of {report.checkpoint.size} in {report.checkpoint.origin}")
    print(f"leaf {format_base64(report.leaf_hash)}\nroot {format_base64(report.checkpoint.root)}")
    if report.entry is not None:
        header = read_header(report.entry)
        print(f"entry {header.id}, {header.type}, {header.time}")
    return VALID


def fill_init(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its arguments."""
    add_log(parser, given.log)
    parser.add_argument(
        "--origin",
        type=name_argument,
        required=True,
        help="name of the log, e.g. hospital.example/cds-audit/north/1",
    )
    add_store_arguments(parser)
    for purpose in ("signing", "wrapping"):
        parser.add_argument(
            f"--{purpose}-token-key",
            type=token_uri,
            metavar="URI",
            help=f"a {purpose} key that `keys new` made in a token",
        )
    parser.set_defaults(run=guarded(init), configured_logs=given.logs)


def fill_prove(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its arguments."""
    add_log(parser, given.log)
    add_look(parser, "verification")
    parser.add_argument("index", type=index_argument)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="a .tlog-proof file (default: print)")
    parser.set_defaults(run=guarded(prove))


def fill_verify(parser: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its arguments."""
    parser.add_argument(
        "path",
        nargs="?",
        type=Path,
        help="log directory, folder of tiles, bundle or .tlog-proof file (default: the log)",
    )
    parser.add_argument("--log", type=Path, default=given.log, metavar="DIR", help="log directory")
    parser.add_argument("--key", help="the log's verifier key, or a file of them (default: log.vkey beside)")
    parser.add_argument("--head", type=Path, action="append", default=[], help="a checkpoint kept elsewhere")
    parser.add_argument(
        "--heads",
        type=directory_argument,
        action="append",
        default=[],
        metavar="DIR",
        help="a directory of them; heads/, or where it is configured, is always taken",
    )
    parser.add_argument(
        "--head-file", type=Path, metavar="FILE", help="the log's head file (default: as configured, else in the log)"
    )
    parser.add_argument(
        "--witness-key", action="append", default=[], metavar="VKEY", help="a witness's verifier key, or a file of them"
    )
    parser.add_argument(
        "--tsa-roots", type=Path, action="append", default=[], metavar="PEM", help="roots that time stamps must lead to"
    )
    parser.add_argument(
        "--previous",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="the log of the epoch before, verified too; given again: the one before that",
    )
    parser.add_argument("--entry", type=Path, help="the entry a receipt is about, where it doesn't carry it")
    parser.add_argument("--foreign", action="store_true", help="a published log of another application's entries")
    parser.set_defaults(run=guarded(verify), configured_logs=given.logs)
