"""A copy of a log to tamper with: its beginning, put into an embedded store of its own, and signed with a key of its own.

The log's key must never sign a false history, not even in a drill: such a signature would convict its owner. So the copy's
checkpoints are signed by a key made for the drill under the log's name, and whoever verifies the copy is given that key. The
copy ends before anything that needs what comes later: the entry that introduces another signing key, or a payload
whose erasure is recorded beyond the end.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import apsw

from audit.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from audit.entry import read_header
from audit.errors import AuditError
from audit.head import HEAD_FILE
from audit.key_history import ROTATION_TYPE
from audit.keys import Ed25519Signer
from audit.merkle import EMPTY_ROOT, Frontier, TreeSize, extend, leaf_hash, root
from audit.note import parse_note
from audit.storage import Erasure, Scan, StoredCheckpoint, StoredEntry
from audit.storage.sqlite import SqliteStorage
from audit.storage.sqlite_schema import DATABASE_FILE, connect, create_database
from audit.storage.sqlite_seal import seal_path
from audit.verify import ERASURE_TYPE

MIN_ENTRIES = 4
_READ_WRITE = apsw.SQLITE_OPEN_READWRITE
_CHECKPOINTS = 20


class DrillError(AuditError):
    """The log can't be drilled on."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy: where it lies, how many entries it has, and the key that signs it."""

    directory: Path
    size: int
    signer: Ed25519Signer


def make_copy(scan: Scan, directory: Path, seed: bytes, limit: int) -> Copy:
    """A copy of the first entries in the new `directory`, at most `limit`; `seed` is 32 random bytes for its key.

    Raises:
        DrillError: fewer than four entries could be copied.
        StorageError, VerificationError: the log can't be read.
    """
    entries, erasures = _beginning(scan, limit)
    if len(entries) < MIN_ENTRIES:
        message = f"drill: expected a log of at least {MIN_ENTRIES} entries, got {len(entries)} that can be copied"
        raise DrillError(message)
    origin = _origin(scan.checkpoints())
    signer = Ed25519Signer(origin, seed)
    directory.mkdir(mode=0o700)
    note = sign_checkpoint(Checkpoint(origin, TreeSize(0), EMPTY_ROOT), [signer])
    create_database(directory, StoredCheckpoint(TreeSize(0), note))
    storage = SqliteStorage(directory)
    try:
        newest = _fill(storage, entries, signer)
    finally:
        storage.close()
    _add_erasures(directory, erasures)
    (directory / HEAD_FILE).write_bytes(newest)
    return Copy(directory, len(entries), signer)


def _fill(storage: SqliteStorage, entries: list[StoredEntry], signer: Ed25519Signer) -> bytes:
    """Appends them in some twenty batches; the newest checkpoint."""
    frontier, note = Frontier(), b""
    step = -(-len(entries) // _CHECKPOINTS)
    for start in range(0, len(entries), step):
        batch = entries[start : start + step]
        frontier, _ = extend(frontier, (leaf_hash(stored.entry) for stored in batch))
        checkpoint = Checkpoint(signer.verifier_key.name, frontier.size, root(frontier))
        note = sign_checkpoint(checkpoint, [signer])
        with storage.exclusive() as transaction:
            transaction.append(batch, StoredCheckpoint(frontier.size, note))
    return note


def _beginning(scan: Scan, limit: int) -> tuple[list[StoredEntry], list[Erasure]]:
    """The entries up to the limit that need nothing beyond, and the erasures among them."""
    entries: list[StoredEntry] = []
    for stored in scan.entries():
        if len(entries) == limit or stored.summary.type == ROTATION_TYPE:
            break
        entries.append(stored)
    while (end := _first_that_needs_more(entries)) is not None:
        del entries[end:]
    recorded = _recorded(entries)
    return entries, [erasure for erasure in scan.erasures() if erasure.id in recorded]


def _first_that_needs_more(entries: list[StoredEntry]) -> int | None:
    recorded = _recorded(entries)
    for stored in entries:
        payload = stored.payload
        if payload is not None and payload.sealed is None and payload.erasure not in recorded:
            return stored.summary.index
    return None


def _recorded(entries: Iterable[StoredEntry]) -> set[str]:
    return {read_header(stored.entry).id for stored in entries if stored.summary.type == ERASURE_TYPE}


def _origin(checkpoints: Iterable[StoredCheckpoint]) -> str:
    for stored in checkpoints:
        return parse_checkpoint(parse_note(stored.note).text).origin
    raise DrillError("drill: the log has no checkpoint")


def _add_erasures(directory: Path, erasures: list[Erasure]) -> None:
    """The salts of erasures, which no transaction but an erasure itself writes."""
    database = directory / DATABASE_FILE
    connection = connect(database, _READ_WRITE)
    with connection:
        connection.executemany("INSERT INTO erasures VALUES (?, ?)", [(one.id, one.salt) for one in erasures])
    connection.close()
    seal_path(database).unlink(missing_ok=True)
