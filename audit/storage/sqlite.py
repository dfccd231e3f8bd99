"""The embedded store: one SQLite file in WAL mode, synchronous=FULL, written only under an flock.

SQLite's own busy handler starves writers under load, so processes queue at an flock, which is fair. SQLite before
3.51.3 (fixed also in 3.50.7 and 3.44.6) can lose committed rows when several connections write and checkpoint
(the WAL-reset race), so such a library is refused; apsw brings its own.

    entries      idx, entry, and copies of its id, type, time and service id to find it by
    nodes        idx, hashes: the perfect nodes that leaf idx completes; (level, position) is the 32 bytes at
                 32 * level in row ((position + 1) << level) - 1
    checkpoints  size, note
    payloads     idx, sealed
"""

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from audit.errors import StorageError
from audit.merkle import HASH_BYTES, LeafIndex, Sha256, TreeSize
from audit.storage import EntrySummary, Query, StoredCheckpoint, StoredEntry
from audit.storage.sqlite_seal import remove_seal, seal_path, write_seal

DATABASE_FILE = "log.sqlite3"
LOCK_FILE = "lock"
APPLICATION_ID = 0x42445341  # "BDSA", so that file(1) can tell a log
SCHEMA_VERSION = 1
# The WAL-reset race: https://sqlite.org/wal.html#the_wal_reset_bug; series -> first fixed patch.
_FIRST_FIXED = (3, 51, 3)
_BACKPORTS = {(3, 50): 7, (3, 44): 6}
# Only a process that opens or closes the file can make us wait: writers queue at the flock.
_BUSY_TIMEOUT_MS = 2_000

SCHEMA = (
    """CREATE TABLE entries (idx INTEGER PRIMARY KEY, entry BLOB NOT NULL, entry_id TEXT NOT NULL,
    type TEXT NOT NULL, time TEXT NOT NULL, service TEXT NOT NULL) STRICT""",
    "CREATE TABLE nodes (idx INTEGER PRIMARY KEY, hashes BLOB NOT NULL) STRICT",
    "CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT",
    "CREATE TABLE payloads (idx INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT",
    "CREATE UNIQUE INDEX entries_by_id ON entries (entry_id)",
    "CREATE INDEX entries_by_time ON entries (time)",
    "CREATE INDEX entries_by_type ON entries (type)",
    "CREATE INDEX entries_by_service ON entries (service)",
)


def check_sqlite_version(version: str) -> None:
    """Returns if this SQLite release is free of the WAL-reset race.

    Raises:
        StorageError: it isn't.
    """
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    if (major, minor, patch) >= _FIRST_FIXED or patch >= _BACKPORTS.get((major, minor), patch + 1):
        return
    message = f"sqlite: expected 3.51.3 or later (or 3.50.7, 3.44.6), got {version}: it can lose committed entries"
    raise StorageError(message)


def connect(path: Path, flags: int, vfs: str | None = None) -> apsw.Connection:
    """A connection that trusts nothing in the file; apsw errors pass through."""
    check_sqlite_version(apsw.sqlitelibversion())
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
    connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
    connection.execute("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA secure_delete=ON")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def create_database(directory: Path, checkpoint: StoredCheckpoint, *, page_size: int = 4096) -> None:
    """Makes the store of a new log, with the checkpoint of the empty tree.

    Raises:
        StorageError: there is one already, or it can't be written.
    """
    path = directory / DATABASE_FILE
    if path.exists():
        message = f"store: {path.name} exists already"
        raise StorageError(message)
    try:
        connection = connect(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        connection.execute(f"PRAGMA page_size={page_size:d}; PRAGMA journal_mode=WAL")
        with connection:
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}")
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO checkpoints VALUES (?, ?)", (checkpoint.size, checkpoint.note))
        connection.close()
        path.chmod(0o600)
    except (apsw.Error, OSError) as exc:
        raise StorageError("store: can't be made") from exc


class SqliteTransaction:
    """Reads and the one write, on a connection that the caller guards."""

    def __init__(self, connection: apsw.Connection, seal: Path) -> None:
        self._connection = connection
        self._seal = seal

    def newest_checkpoint(self) -> StoredCheckpoint:
        row = self._row("SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1")
        if row is None:
            raise StorageError("store: no checkpoint")
        return StoredCheckpoint(TreeSize(row[0]), row[1])

    def checkpoint(self, size: TreeSize) -> bytes | None:
        return self._value("SELECT note FROM checkpoints WHERE size = ?", size)

    def node(self, level: int, position: int) -> Sha256:
        index = ((position + 1) << level) - 1
        row = self._row("SELECT hashes FROM nodes WHERE idx = ?", index)
        found = row[0][HASH_BYTES * level : HASH_BYTES * (level + 1)] if row else b""
        if len(found) != HASH_BYTES:
            message = f"store: no node at level {level}, position {position}"
            raise StorageError(message)
        return Sha256(found)

    def entry(self, index: LeafIndex) -> bytes | None:
        return self._value("SELECT entry FROM entries WHERE idx = ?", index)

    def index_of(self, entry_id: str) -> LeafIndex | None:
        row = self._row("SELECT idx FROM entries WHERE entry_id = ?", entry_id)
        return None if row is None else LeafIndex(row[0])

    def sealed_payload(self, index: LeafIndex) -> bytes | None:
        return self._value("SELECT sealed FROM payloads WHERE idx = ?", index)

    def find(self, query: Query) -> list[EntrySummary]:
        conditions = {
            "time >= ?": query.since,
            "time <= ?": query.until,
            "type = ?": query.type,
            "service = ?": query.service,
        }
        asked = {condition: value for condition, value in conditions.items() if value is not None}
        where = "WHERE " + " AND ".join(asked) if asked else ""
        statement = f"SELECT idx, entry_id, type, time, service FROM entries {where} ORDER BY idx DESC LIMIT ?"  # noqa: S608 - fixed texts
        rows = self._connection.execute(statement, (*asked.values(), query.limit))
        return [EntrySummary(*row) for row in rows]

    def append(self, entries: Sequence[StoredEntry], checkpoint: StoredCheckpoint) -> None:
        execute, executemany = self._connection.execute, self._connection.executemany
        executemany(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    row.summary.index,
                    row.entry,
                    row.summary.entry_id,
                    row.summary.type,
                    row.summary.time,
                    row.summary.service,
                )
                for row in entries
            ],
        )
        executemany("INSERT INTO nodes VALUES (?, ?)", [(row.summary.index, row.nodes) for row in entries])
        sealed = [(row.summary.index, row.sealed) for row in entries if row.sealed is not None]
        if sealed:
            executemany("INSERT INTO payloads VALUES (?, ?)", sealed)
        execute("INSERT INTO checkpoints VALUES (?, ?)", (checkpoint.size, checkpoint.note))
        remove_seal(self._seal)
        execute("COMMIT")

    def close(self) -> None:
        self._connection.close()

    def _row(self, statement: str, *bindings: Any) -> Any:
        return self._connection.execute(statement, bindings).fetchone()

    def _value(self, statement: str, *bindings: Any) -> bytes | None:
        row = self._row(statement, *bindings)
        return None if row is None else bytes(row[0])


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
            self._reader = SqliteTransaction(self._connect(), self._seal)
            self._writer: apsw.Connection | None = None

    def _connect(self) -> apsw.Connection:
        connection = connect(self._path, apsw.SQLITE_OPEN_READWRITE, self._vfs)
        found = tuple(connection.pragma(name) for name in ("application_id", "user_version", "journal_mode"))
        if found != (APPLICATION_ID, SCHEMA_VERSION, "wal"):
            connection.close()
            message = f"store: expected a log of version {SCHEMA_VERSION} in WAL mode, got {found}"
            raise StorageError(message)
        return connection

    @contextmanager
    def exclusive(self) -> Iterator[SqliteTransaction]:
        with self._write_lock, _as_storage_error("write"):
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
            try:
                if self._writer is None:
                    self._writer = self._connect()
                self._writer.execute("BEGIN IMMEDIATE")
                yield SqliteTransaction(self._writer, self._seal)
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            except BaseException:
                self._drop_writer()
                raise
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

    def sealed_payload(self, index: LeafIndex) -> bytes | None:
        with self._reading() as reader:
            return reader.sealed_payload(index)

    def find(self, query: Query) -> list[EntrySummary]:
        with self._reading() as reader:
            return reader.find(query)

    @contextmanager
    def _reading(self) -> Iterator[SqliteTransaction]:
        with self._read_lock, _as_storage_error("read"):
            yield self._reader

    def close(self) -> None:
        """Closes the store, and seals it if this was the last connection to it."""
        with self._write_lock, self._read_lock, _as_storage_error("close"):
            self._reader.close()
            if self._writer is not None:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX)
                # Others may still be reading, or the disk be full: then the store stays as it is, unsealed.
                with suppress(apsw.Error, OSError):
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
