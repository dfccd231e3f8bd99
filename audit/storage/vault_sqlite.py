"""The embedded vault: one SQLite file apart from the log's, in WAL mode, synchronous=FULL, written only under an flock.

What is deleted must not be found again in any file. SQLite's secure_delete overwrites a deleted row where it stands, yet a
page that was split may keep a stale copy of a row that moved; so `scrub` rewrites the whole file, and then cuts the
write-ahead log off. That takes about a second for a million keys, during which no new key can be made.

A vault that was replaced under us (a backup put in its place) isn't used on: its keys may have been erased, and ours would
go to a file that no longer has a name.
"""

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from audit.errors import HoldError, StorageError
from audit.storage.sqlite_schema import connect
from audit.storage.vault_store import LOOKUP_BYTES, CustodyRequest, Hold, Rewrapped, WrappedKey

VAULT_FILE = "vault.sqlite3"
VAULT_LOCK_FILE = "vault.lock"
APPLICATION_ID = 0x42445356  # "BDSV"
SCHEMA_VERSION = 1
# Long enough for whoever administers a vault; the service waits only as long as its log does.
DEFAULT_WAIT_S = 10.0
_POLL_S = 0.001

_SCHEMA = (
    f"""CREATE TABLE patient_keys (key_ref INTEGER PRIMARY KEY AUTOINCREMENT,
    lookup BLOB NOT NULL UNIQUE CHECK (length(lookup) = {LOOKUP_BYTES}), wrapped BLOB NOT NULL, wrapping_key TEXT NOT NULL,
    created TEXT NOT NULL) STRICT""",
    """CREATE TABLE holds (hold TEXT PRIMARY KEY, lookup BLOB NOT NULL, placed TEXT NOT NULL, until TEXT,
    reason TEXT NOT NULL) STRICT""",
    "CREATE INDEX holds_by_lookup ON holds (lookup)",
    """CREATE TABLE requests (id TEXT PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, state TEXT NOT NULL,
    created TEXT NOT NULL) STRICT""",
    "CREATE TABLE request_subjects (id TEXT NOT NULL, lookup BLOB NOT NULL, PRIMARY KEY (id, lookup)) STRICT",
)
_KEY = "SELECT key_ref, lookup, wrapped, wrapping_key, created FROM patient_keys"
_HOLD = "SELECT hold, lookup, placed, until, reason FROM holds"
_REQUEST = "SELECT id, kind, body, state, created FROM requests"


def create_vault(directory: Path) -> None:
    """Makes an empty vault, readable by its owner alone.

    Raises:
        StorageError: there is one already, or it can't be written.
    """
    path = directory / VAULT_FILE
    if path.exists():
        message = f"vault: {path.name} exists already"
        raise StorageError(message)
    fresh = path.with_suffix(".new")  # whoever dies halfway leaves no half-made vault
    with _as_storage_error("make"):
        for leftover in directory.glob(f"{fresh.name}*"):
            leftover.unlink()
        os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = connect(fresh, apsw.SQLITE_OPEN_READWRITE)
        connection.execute("PRAGMA journal_mode=WAL")
        with connection:
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}")
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.close()
        fresh.rename(path)
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass(slots=True)
class _Waiting:
    """A key on its way into the store; `kept` once it, or the one that was there before, is durable."""

    lookup: bytes
    wrapped: bytes
    wrapping_key: str
    created: str
    kept: WrappedKey | None = None


class SqliteVaultStore:
    """The vault open for serving: one connection that writes under the lock, one that reads."""

    def __init__(self, directory: Path, *, wait_s: float = DEFAULT_WAIT_S, vfs: str | None = None) -> None:
        """Opens the vault in `directory`; a write that can't begin within `wait_s` fails. `vfs`: as for the log's store.

        Raises:
            StorageError: missing, not ours, not in WAL mode, or this SQLite is refused.
        """
        self._path = directory / VAULT_FILE
        self._wait_s = wait_s
        self._vfs = vfs
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._writer: apsw.Connection | None = None
        with _as_storage_error("open"):
            self._file = self._identity()
            self._reader = self._connect()
            self._lock_file = os.open(directory / VAULT_LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def key(self, lookup: bytes) -> WrappedKey | None:
        with self._reading() as connection:
            return _key(connection.execute(f"{_KEY} WHERE lookup = ?", (lookup,)).fetchone())

    def key_at(self, key_ref: int) -> WrappedKey | None:
        with self._reading() as connection:
            return _key(connection.execute(f"{_KEY} WHERE key_ref = ?", (key_ref,)).fetchone())

    def newest_key_ref(self) -> int:
        with self._reading() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'patient_keys'").fetchone()
            return 0 if row is None else int(row[0])

    def keep_key(self, lookup: bytes, wrapped: bytes, wrapping_key: str, created: str) -> WrappedKey:
        """As the protocol says; whoever gets to write first writes for all of this process's threads that wait."""
        waiting = _Waiting(lookup, wrapped, wrapping_key, created)
        self._waiting.append(waiting)
        with self._turn():
            if waiting.kept is None:
                self._keep(waiting)
        if waiting.kept is None:
            raise StorageError("vault: the key made isn't there")
        return waiting.kept

    def _keep(self, own: _Waiting) -> None:
        with self._transaction() as connection:
            batch = [own]
            while self._waiting:
                if (other := self._waiting.popleft()) is not own:
                    batch.append(other)
            connection.executemany(
                """INSERT INTO patient_keys (lookup, wrapped, wrapping_key, created) VALUES (?, ?, ?, ?)
                ON CONFLICT (lookup) DO NOTHING""",
                [(one.lookup, one.wrapped, one.wrapping_key, one.created) for one in batch],
            )
            kept = [_key(connection.execute(f"{_KEY} WHERE lookup = ?", (one.lookup,)).fetchone()) for one in batch]
        for one, key in zip(batch, kept, strict=True):
            one.kept = key

    def destroy_keys(self, key_refs: Sequence[int], now: str) -> tuple[int, ...]:
        destroyed = []
        with self._writing() as connection:
            held = {hold for key_ref in key_refs for hold in _holds_in_force(connection, key_ref, now)}
            if held:
                raise HoldError(tuple(sorted(held)))
            for key_ref in sorted(set(key_refs)):
                connection.execute("DELETE FROM patient_keys WHERE key_ref = ?", (key_ref,))
                if connection.changes():
                    destroyed.append(key_ref)
        return tuple(destroyed)

    def keys_not_under(self, wrapping_key: str, *, after: int = 0, limit: int = 1000) -> list[WrappedKey]:
        with self._reading() as connection:
            statement = f"{_KEY} WHERE key_ref > ? AND wrapping_key <> ? ORDER BY key_ref LIMIT ?"
            return [WrappedKey(*row) for row in connection.execute(statement, (after, wrapping_key, limit))]

    def replace_wrapped(self, rewrapped: Sequence[Rewrapped], wrapping_key: str) -> int:
        replaced = 0
        with self._writing() as connection:
            for one in rewrapped:
                connection.execute(
                    "UPDATE patient_keys SET wrapped = ?, wrapping_key = ? WHERE key_ref = ? AND wrapped = ?",
                    (one.after, wrapping_key, one.key_ref, one.before),
                )
                replaced += connection.changes()
        return replaced

    def place_hold(self, hold: Hold) -> None:
        row = (hold.hold, hold.lookup, hold.placed, hold.until, hold.reason)
        with self._writing() as connection:
            found = connection.execute(f"{_HOLD} WHERE hold = ?", (hold.hold,)).fetchone()
            if found is None:
                connection.execute("INSERT INTO holds VALUES (?, ?, ?, ?, ?)", row)
            elif found != row:
                message = f"hold {hold.hold}: the name is taken by another hold"
                raise StorageError(message)

    def release_hold(self, hold: str) -> Hold | None:
        with self._writing() as connection:
            found = connection.execute(f"{_HOLD} WHERE hold = ?", (hold,)).fetchone()
            connection.execute("DELETE FROM holds WHERE hold = ?", (hold,))
        return None if found is None else Hold(*found)

    def holds_on(self, lookup: bytes) -> list[Hold]:
        with self._reading() as connection:
            rows = connection.execute(f"{_HOLD} WHERE lookup = ? ORDER BY hold", (lookup,))
            return [Hold(*row) for row in rows]

    def holds(self) -> list[Hold]:
        with self._reading() as connection:
            return [Hold(*row) for row in connection.execute(f"{_HOLD} ORDER BY hold")]

    def put_request(self, request: CustodyRequest) -> None:
        row = (request.id, request.kind, request.body, request.state, request.created)
        with self._writing() as connection:
            connection.execute("INSERT INTO requests VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
            if not connection.changes():
                message = f"request {request.id}: exists already"
                raise StorageError(message)
            subjects = [(request.id, lookup) for lookup in dict.fromkeys(request.subjects)]
            connection.executemany("INSERT INTO request_subjects VALUES (?, ?)", subjects)

    def request(self, request_id: str) -> CustodyRequest | None:
        found = self._requests("WHERE id = ?", request_id)
        return found[0] if found else None

    def requests(self, state: str | None = None) -> list[CustodyRequest]:
        return self._requests("") if state is None else self._requests("WHERE state = ?", state)

    def _requests(self, where: str, *bindings: str) -> list[CustodyRequest]:
        with self._reading() as connection:
            connection.execute("BEGIN")  # both tables as of one moment
            try:
                rows: list[Any] = connection.execute(f"{_REQUEST} {where} ORDER BY created, id", bindings).fetchall()
                return [_request(connection, *row) for row in rows]
            finally:
                connection.execute("COMMIT")

    def set_request_state(
        self, request_id: str, before: str, after: str, body: bytes | None = None, forget: Sequence[bytes] = ()
    ) -> bool:
        with self._writing() as connection:
            connection.execute(
                "UPDATE requests SET state = ?, body = coalesce(?, body) WHERE id = ? AND state = ?",
                (after, body, request_id, before),
            )
            if not connection.changes():
                return False
            gone = [(request_id, lookup) for lookup in forget]
            connection.executemany("DELETE FROM request_subjects WHERE id = ? AND lookup = ?", gone)
            return True

    def forget_subjects(self, request_id: str) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM request_subjects WHERE id = ?", (request_id,))

    def scrub(self) -> None:
        """As the protocol says.

        Raises:
            StorageError: no room for a copy, or another process reads for seconds; nothing is lost, try again.
        """
        with self._turn(), self._flock(), _as_storage_error("scrub"):
            connection = self._connect()
            try:
                connection.execute("PRAGMA temp_store=MEMORY")  # no copy in a temporary file
                connection.execute("VACUUM")
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            finally:
                connection.close()

    def close(self) -> None:
        with self._write_lock, self._read_lock, _as_storage_error("close"):
            self._reader.close()
            if self._writer is not None:
                self._writer.close()
            os.close(self._lock_file)

    def _connect(self) -> apsw.Connection:
        connection = connect(self._path, apsw.SQLITE_OPEN_READWRITE, self._vfs)
        found = tuple(connection.pragma(name) for name in ("application_id", "user_version", "journal_mode"))
        if found != (APPLICATION_ID, SCHEMA_VERSION, "wal"):
            connection.close()
            message = f"vault: expected one of version {SCHEMA_VERSION} in WAL mode, got {found}"
            raise StorageError(message)
        return connection

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection]:
        with self._read_lock, _as_storage_error("read"):
            self._check_file()
            yield self._reader

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        with self._turn(), self._transaction() as connection:
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The turn among this process's threads."""
        if not self._write_lock.acquire(timeout=self._wait_s):
            message = f"vault: can't be written within {self._wait_s} s"
            raise StorageError(message)
        try:
            yield
        finally:
            self._write_lock.release()

    @contextmanager
    def _flock(self) -> Iterator[None]:
        """The turn among processes. Asked for again and again, for an flock that waits can't be given up."""
        until = time.monotonic() + self._wait_s
        with _as_storage_error("lock"):
            while True:
                try:
                    fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(_POLL_S)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    @contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        """Durable when left; nothing is written where it is left by an error."""
        with self._flock(), _as_storage_error("write"):
            self._check_file()
            try:
                if self._writer is None:
                    self._writer = self._connect()
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                self._drop_writer()
                raise

    def _drop_writer(self) -> None:
        """Closes the writing connection, which rolls back: after a fault its state is unknown."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(apsw.Error):
                writer.close(True)

    def _identity(self) -> tuple[int, int]:
        status = os.stat(self._path)
        return status.st_dev, status.st_ino

    def _check_file(self) -> None:
        if self._identity() != self._file:
            raise StorageError("vault: the file was replaced since it was opened")


def _key(row: Any) -> WrappedKey | None:
    return None if row is None else WrappedKey(*row)


def _holds_in_force(connection: apsw.Connection, key_ref: int, now: str) -> list[str]:
    rows: Any = connection.execute(
        """SELECT hold FROM holds JOIN patient_keys USING (lookup)
        WHERE key_ref = ? AND (until IS NULL OR until > ?)""",
        (key_ref, now),
    )
    return [row[0] for row in rows]


def _request(
    connection: apsw.Connection, request_id: str, kind: str, body: bytes, state: str, created: str
) -> CustodyRequest:
    rows: Any = connection.execute("SELECT lookup FROM request_subjects WHERE id = ? ORDER BY rowid", (request_id,))
    return CustodyRequest(request_id, kind, body, state, created, tuple(row[0] for row in rows))


@contextmanager
def _as_storage_error(action: str) -> Iterator[None]:
    try:
        yield
    except (apsw.Error, OSError) as exc:
        message = f"vault: can't {action}: {type(exc).__name__}"
        raise StorageError(message) from exc
