"""The embedded store: one SQLite file in WAL mode, synchronous=FULL, written only under an flock.

SQLite's own busy handler starves writers under load, so processes queue at an flock, which is fair. The schema is in
`sqlite_schema`, the statements in `sqlite_rows`.

Whoever puts another file in the store's place, a backup say, while it is open leaves the open connections with one that has
no name any more, and what they commit is lost. So each batch compares the two first: it is refused, and the next one opens
the file that is there, where the log's heads tell whether it is the same log.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from audit.errors import StorageError
from audit.merkle import LeafIndex, Sha256, TreeSize
from audit.storage import (
    Anchor,
    EntrySummary,
    Foreseen,
    KeptPayload,
    Query,
    StoredCheckpoint,
    StoredPayload,
    nothing_foreseen,
)
from audit.storage.sqlite_rows import SqliteTransaction
from audit.storage.sqlite_schema import APPLICATION_ID, DATABASE_FILE, SCHEMA_VERSION, connect
from audit.storage.sqlite_seal import seal_path, write_seal

LOCK_FILE = "lock"
_REPLACED = "store: another file was put in the place of the open one"


class SqliteStorage:
    """The store open for serving: one connection that writes under the lock, one that reads."""

    def __init__(self, directory: Path, *, vfs: str | None = None) -> None:
        """Opens the store of the log in `directory`; `vfs` names a registered apsw VFS, to inject faults in tests.

        Raises:
            StorageError: missing, not ours, not in WAL mode, or this SQLite is refused.
        """
        self._path = directory / DATABASE_FILE
        self._seal = seal_path(self._path)
        self._vfs = vfs
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        with _as_storage_error("open"):
            self._lock_file = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._identity = self._look()
            self._reader: SqliteTransaction | None = SqliteTransaction(self._connect(), self._seal)
            self._writer: apsw.Connection | None = None

    def _look(self) -> tuple[int, int]:
        """Which file has the store's name."""
        status = os.stat(self._path)
        return status.st_dev, status.st_ino

    def _connect(self) -> apsw.Connection:
        """A connection to the file of `_identity`; StorageError where another has taken its place."""
        connection = connect(self._path, apsw.SQLITE_OPEN_READWRITE, self._vfs)
        if self._look() != self._identity:
            connection.close()
            raise StorageError(_REPLACED)
        found = tuple(connection.pragma(name) for name in ("application_id", "user_version", "journal_mode"))
        if found != (APPLICATION_ID, SCHEMA_VERSION, "wal"):
            connection.close()
            message = f"store: expected a log of version {SCHEMA_VERSION} in WAL mode, got {found}"
            raise StorageError(message)
        return connection

    @contextmanager
    def exclusive(self, turn: Callable[[], Foreseen] = nothing_foreseen) -> Iterator[SqliteTransaction]:
        with self._write_lock, self._flock(), _as_storage_error("write"):
            turn()  # what it foresees isn't far from here
            try:
                self._check_in_place()
                if self._writer is None:
                    self._writer = self._connect()
                self._writer.execute("BEGIN IMMEDIATE")
                yield SqliteTransaction(self._writer, self._seal)
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            except BaseException:
                self._drop_writer()
                raise

    def _check_in_place(self) -> None:
        """Returns if the file that is open has the store's name still; else lets it go, for the next batch to look anew."""
        found = self._look()
        if found == self._identity:
            return
        self._drop_writer()
        with self._read_lock:
            reader, self._reader, self._identity = self._reader, None, found
            if reader is not None:
                reader.close()
        raise StorageError(_REPLACED)

    @contextmanager
    def _flock(self) -> Iterator[None]:
        with _as_storage_error("lock"):
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _drop_writer(self) -> None:
        """Closes the writing connection, which rolls back: after a fault its state is unknown."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(apsw.Error):
                writer.close(True)

    def newest_checkpoint(self) -> StoredCheckpoint:
        with self._reading() as reader:
            return reader.newest_checkpoint()

    def node(self, level: int, position: int) -> Sha256:
        with self._reading() as reader:
            return reader.node(level, position)

    def entry(self, index: LeafIndex) -> bytes | None:
        with self._reading() as reader:
            return reader.entry(index)

    def index_of(self, entry_id: str) -> LeafIndex | None:
        with self._reading() as reader:
            return reader.index_of(entry_id)

    def checkpoint(self, size: TreeSize) -> bytes | None:
        with self._reading() as reader:
            return reader.checkpoint(size)

    def entries(self, start: LeafIndex, count: int) -> list[bytes]:
        with self._reading() as reader:
            return reader.entries(start, count)

    def nodes(self, level: int, start: int, count: int) -> bytes:
        with self._reading() as reader:
            return reader.nodes(level, start, count)

    def payload(self, index: LeafIndex) -> StoredPayload | None:
        with self._reading() as reader:
            return reader.payload(index)

    def payloads_under(self, key_ref: int) -> list[LeafIndex]:
        with self._reading() as reader:
            return reader.payloads_under(key_ref)

    def kept_payloads(self, key_ref: int, after: int, count: int) -> list[KeptPayload]:
        with self._reading() as reader:
            return reader.kept_payloads(key_ref, after, count)

    def anchors(self, kind: str | None = None, size: TreeSize | None = None) -> list[Anchor]:
        with self._reading() as reader:
            return reader.anchors(kind, size)

    def newest_anchors(self) -> list[Anchor]:
        with self._reading() as reader:
            return reader.newest_anchors()

    def newest_anchored(self, kind: str) -> TreeSize | None:
        with self._reading() as reader:
            return reader.newest_anchored(kind)

    def keep_anchor(self, anchor: Anchor) -> bool:
        with self.exclusive() as transaction:
            return transaction.keep_anchor(anchor)

    def scrub(self) -> None:
        """Moves the write-ahead log into the file, where secure_delete has overwritten what was erased, and cuts it off.

        Raises:
            StorageError: another process reads; try again.
        """
        with self._write_lock, self._flock(), _as_storage_error("scrub"):
            connection = self._connect()
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            finally:
                connection.close()

    def find(self, query: Query) -> list[EntrySummary]:
        with self._reading() as reader:
            return reader.find(query)

    def latest_time(self) -> str | None:
        with self._reading() as reader:
            return reader.latest_time()

    @contextmanager
    def _reading(self) -> Iterator[SqliteTransaction]:
        with self._read_lock, _as_storage_error("read"):
            if self._reader is None:
                self._reader = SqliteTransaction(self._connect(), self._seal)
            yield self._reader

    def close(self) -> None:
        """Closes the store, and seals it if this was the last connection to it."""
        with self._write_lock, self._read_lock, _as_storage_error("close"):
            if self._reader is not None:
                self._reader.close()
            if self._writer is not None:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX)
                # Others may still be reading, the disk be full, or the file be another: it stays as it is, unsealed.
                with suppress(apsw.Error, OSError):
                    if self._look() == self._identity:
                        self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                        write_seal(self._path)
                self._writer.close()
            os.close(self._lock_file)


@contextmanager
def _as_storage_error(action: str) -> Iterator[None]:
    try:
        yield
    except (apsw.Error, OSError) as exc:
        message = f"store: can't {action}: {type(exc).__name__}"
        raise StorageError(message) from exc
