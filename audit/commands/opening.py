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
from audit.entry import read_header
from audit.keys import KEY_DIRECTORY
from audit.log import AuditLog, LogConfig, read_entry
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
    """The configuration of the log in `directory`: its origin as it signs, its tenant as its newest entry says."""
    newest = storage.newest_checkpoint()
    origin = parse_checkpoint(parse_note(newest.note).text).origin
    tenant = read_header(read_entry(storage, LeafIndex(newest.size - 1))).tenant if newest.size else ""
    return LogConfig(directory, origin, tenant, deadline_s=DEADLINE_S)


@contextmanager
def reading(directory: Path) -> Iterator[Storage]:
    """The store of the log, for the length of a block."""
    storage = open_storage(directory)
    try:
        yield storage
    finally:
        storage.close()


@contextmanager
def appending(directory: Path, vault_directory: Path | None = None, *, with_vault: bool = True) -> Iterator[AuditLog]:
    """The log, open for appending, for the length of a block; its vault may lie elsewhere, or stay closed.

    Raises:
        AuditError: it can't be opened; an empty log has no tenant to speak for.
    """
    with reading(directory) as storage:
        config = replace(config_of(directory, storage), vault_directory=vault_directory)
    log = AuditLog.open(config, clock=now, with_vault=with_vault)
    try:
        yield log
    finally:
        log.close()


def note_look(arguments: argparse.Namespace, storage: Storage, look: Callable[[], Look]) -> None:
    """Records a look at the log before anything is shown.

    A copy of a log without its keys, as an auditor may have it, can't be written to: then standard error says so.
    """
    directory: Path = arguments.log
    if storage.newest_checkpoint().size == 0:
        return
    if not (directory / KEY_DIRECTORY).is_dir():
        print("a copy without keys: this look was not recorded", file=sys.stderr)
        return
    visitor = Visitor(operator_name(os.getuid()), ROLE, arguments.reason)
    with appending(directory, with_vault=False) as log:
        record_access(log, visitor, look(), now())
