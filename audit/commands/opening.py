"""A log opened by a verb of the command line, which knows its directory and nothing else."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from audit.access import Look, Visitor, record_access
from audit.checkpoint import parse_checkpoint
from audit.entry import parse_entry, read_header
from audit.entry_operations import EpochEntry
from audit.errors import AppendError, EntryError, EpochEndedError, StorageError
from audit.keys import KEY_DIRECTORY
from audit.log import FIRST, AuditLog, LogConfig, check_goes_on, read_entry
from audit.merkle import LeafIndex
from audit.note import parse_note
from audit.operators import operator_name
from audit.storage import Storage
from audit.storage.opening import open_storage

ROLE = "operator"
# A verb can wait longer than a clinician.
DEADLINE_S = 10.0


def now() -> datetime:
    """The present moment, aware UTC."""
    return datetime.now(UTC)


def config_of(directory: Path, storage: Storage) -> LogConfig:
    """The configuration of the log in `directory`: its origin as it signs, its tenant as its newest entry says.

    Raises:
        StorageError: an empty log has no tenant to speak for.
    """
    newest = storage.newest_checkpoint()
    if not newest.size:
        raise StorageError("log: empty; until the service's first entry nobody can tell whose it is")
    tenant = read_header(read_entry(storage, LeafIndex(newest.size - 1))).tenant
    return LogConfig(directory, origin_of(storage), tenant, deadline_s=DEADLINE_S)


@contextmanager
def reading(directory: Path) -> Iterator[Storage]:
    """The store of the log, for the length of a block."""
    storage = open_storage(directory)
    try:
        yield storage
    finally:
        storage.close()


@contextmanager
def appending(
    directory: Path, vault_directory: Path | None = None, *, with_vault: bool = True, head_path: Path | None = None
) -> Iterator[AuditLog]:
    """The log, open for appending, for the length of a block; vault and head file may lie elsewhere, the vault stay closed.

    Raises:
        AuditError: it can't be opened; an empty log has no tenant to speak for.
    """
    with reading(directory) as storage:
        config = replace(config_of(directory, storage), vault_directory=vault_directory, head_path=head_path)
    log = AuditLog.open(config, clock=now, with_vault=with_vault)
    try:
        yield log
    finally:
        log.close()


def note_look(
    arguments: argparse.Namespace, storage: Storage, look: Callable[[], Look], *, head_path: Path | None = None
) -> None:
    """Records a look at the log in `arguments.log` before anything is shown; `storage` is its store.

    A copy of a log without its keys, as an auditor may have it, can't be written to: then standard error says so.

    Raises:
        AuditError: it can't be recorded; show nothing.
    """
    directory: Path = arguments.log
    if storage.newest_checkpoint().size == 0:
        return
    if _record_in(arguments) is None and not (directory / KEY_DIRECTORY).is_dir():
        print("a copy without keys: this look was not recorded", file=sys.stderr)
        return
    with recording(arguments, storage, with_vault=False, head_path=head_path) as log:
        record_look(arguments, storage, log, look())


@contextmanager
def recording(
    arguments: argparse.Namespace,
    storage: Storage,
    vault_directory: Path | None = None,
    *,
    with_vault: bool = True,
    head_path: Path | None = None,
) -> Iterator[AuditLog]:
    """The log in which a look at `storage` is recorded: that log or, where it is closed, the later epoch of `--record-in`.

    Raises:
        AuditError: as `appending`; the log is closed, and `--record-in` names none that goes on from it.
    """
    directory: Path = arguments.log
    try:
        check_goes_on(directory, storage)
    except EpochEndedError as exc:
        directory, head_path = _later_epoch(_record_in(arguments), storage, exc), None
    with appending(directory, vault_directory, with_vault=with_vault, head_path=head_path) as log:
        yield log


def record_look(
    arguments: argparse.Namespace, storage: Storage, log: AuditLog, look: Look, entry_id: str | None = None
) -> None:
    """Records a look at `storage` in `log`, which `recording` gave; `entry_id` as in `record_access`.

    Raises:
        AppendError: not recorded; show nothing.
    """
    origin = origin_of(storage)
    if log.config.origin != origin:  # an index in it would be taken for one of the log that it stands in
        asked = {"log": origin, "index": look.index, "asked": look.asked}
        look = replace(look, index=None, asked=None if look.commitment else asked)
    visitor = Visitor(operator_name(os.getuid()), ROLE, arguments.reason)
    try:
        record_access(log, visitor, look, now(), entry_id)
    except EntryError as exc:  # what was given is out of form, and not what the log holds
        message = f"this look can't be recorded: {exc}"
        raise AppendError(message) from exc


def origin_of(storage: Storage) -> str:
    """The name that the log signs in."""
    return parse_checkpoint(parse_note(storage.newest_checkpoint().note).text).origin


def previous_epoch(storage: Storage) -> str | None:
    """The name of the log that this one goes on from, None where it is the first."""
    data = storage.entry(FIRST)
    first = None if data is None else parse_entry(data)
    if not isinstance(first, EpochEntry) or first.previous is None:
        return None
    return parse_checkpoint(parse_note(first.previous.encode()).text).origin


def _record_in(arguments: argparse.Namespace) -> Path | None:
    given: Path | None = getattr(arguments, "record_in", None)
    return given


def _later_epoch(given: Path | None, storage: Storage, ended: EpochEndedError) -> Path:
    """The directory given with `--record-in`, if the log there goes on from the closed one in `storage`."""
    if given is None:
        message = f"{ended}: give its directory with --record-in, since this look is recorded there"
        raise AppendError(message)
    with reading(given) as later:
        series, _, number = origin_of(storage).rpartition("/")
        later_series, _, later_number = origin_of(later).rpartition("/")
        goes_on = previous_epoch(later) is not None and later_series == series
        if not goes_on or int(later_number) <= int(number):
            message = f"--record-in: expected a later epoch of {origin_of(storage)}, got {origin_of(later)}"
            raise AppendError(message)
        try:
            check_goes_on(given, later)
        except EpochEndedError as exc:
            message = f"--record-in: {exc}: give that one"
            raise AppendError(message) from exc
    return given
