"""epoch begin: a log goes on under another origin and key; and what `verify --previous` checks of the epochs before."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from audit.checkpoint import parse_checkpoint
from audit.commands.keys import add_vault, token_uri
from audit.commands.opening import config_of, now, reading
from audit.commands.running import VALID, Configured, add_log, code_argument, guarded
from audit.entry import parse_entry
from audit.entry_custody import ErasureEntry
from audit.epochs import COMPROMISE, NewEpoch, begin_epoch, verify_link
from audit.keys import VKEY_FILE, load_vkeys
from audit.log import read_entry
from audit.merkle import LeafIndex
from audit.note import format_vkey, parse_note
from audit.pkcs11_uri import format_uri
from audit.storage import Erasure, Storage
from audit.storage.opening import open_scan


def fill(epoch: argparse.ArgumentParser, given: Configured) -> None:
    """Adds its verb."""
    parser = epoch.add_subparsers(dest="epoch_verb", required=True, metavar="VERB").add_parser(
        "begin", help="close the log and begin the next epoch"
    )
    add_log(parser, given.log)
    add_vault(parser, given.vault)
    parser.add_argument("--new", type=Path, required=True, metavar="DIR", help="directory of the new epoch")
    parser.add_argument(
        "--reason", type=code_argument, default=COMPROMISE, help=f"a code for the log entries (default {COMPROMISE})"
    )
    parser.add_argument("--token-key", type=token_uri, metavar="URI", help="the new signing key, made by `keys new`")
    parser.add_argument("--schema", help="of the new log, where the old one lies in PostgreSQL")
    parser.add_argument("--old-key-lost", action="store_true", help="the old log can't be signed any more")
    parser.set_defaults(run=guarded(begin))


def begin(arguments: argparse.Namespace) -> int:
    """Begins the epoch, and prints what to configure and whom to tell."""
    with reading(arguments.log) as storage:
        config = replace(config_of(arguments.log, storage), vault_directory=arguments.vault)
    uri = None if arguments.token_key is None else format_uri(arguments.token_key)
    epoch = NewEpoch(
        arguments.log,
        arguments.new,
        arguments.reason,
        vault_directory=arguments.vault,
        signing_uri=uri,
        schema=arguments.schema,
        old_key_lost=arguments.old_key_lost,
    )
    report = begin_epoch(epoch, config, now, os.urandom)
    print(f"{format_vkey(report.key)}\norigin {report.origin}")
    print(f"begins from {report.previous.origin} at size {report.previous.size}")
    return VALID


def verify_previous(directory: Path, previous: Sequence[Path]) -> None:
    """Prints that the epochs before the log hold and lead to it; the nearest is given first.

    Raises:
        VerificationError, ForkError, RollbackError: they don't.
    """
    erasures: list[Erasure] = []
    for before in previous:
        with reading(directory) as storage:
            origin = parse_checkpoint(parse_note(storage.newest_checkpoint().note).text).origin
            first = read_entry(storage, LeafIndex(0))
            erasures += _recorded_erasures(directory, storage)
        scan = open_scan(before)
        try:
            link = verify_link(first, origin, scan, load_vkeys(before / VKEY_FILE), erasures)
        finally:
            scan.close()
        print(f"valid: the epoch before, {link.previous.origin}, which ended at size {link.previous.size}")
        if link.later_entries:
            print(f"{link.later_entries} entries came after its end and don't belong to it")
        directory = before


def _recorded_erasures(directory: Path, storage: Storage) -> list[Erasure]:
    """The erasures whose entry is in the log, which was verified: their salts are what the entries say."""
    scan = open_scan(directory)
    try:
        return [one for one in scan.erasures() if _is_erasure(storage, storage.index_of(one.id))]
    finally:
        scan.close()


def _is_erasure(storage: Storage, index: LeafIndex | None) -> bool:
    return index is not None and isinstance(parse_entry(read_entry(storage, index)), ErasureEntry)
