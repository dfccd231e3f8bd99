"""The store for several hosts: one schema of a PostgreSQL database, written under one advisory lock for each batch.

The schema is in `postgresql_schema`, the statements and why they come in that order in `postgresql_rows`, what a connection
holds to in `postgresql_session`. Processes of one host queue at an flock first, since they share a head file; hosts queue at
the lock in the database.

Where a session is lost in the middle of a batch nothing is acknowledged, whatever became of the commit; the entries' ids tell
when they are appended again. The next batch connects anew. A server that hangs gives the committing thread back within
CONNECT_TIMEOUT_S + SOCKET_TIMEOUT_S. A standby that was promoted without the newest commits is a log rolled back. It is refused
as one by hosts that know a newer head, their own or an outsider's, and by no others: a host whose own head is no newer than the
standby goes on from it. `synchronous_standby_names` prevents it, and every commit here waits for such a standby; a heads
directory that hosts share, or a witness, shows it at a start.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

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
from audit.storage.postgresql_rows import NO_SIZE, PREPARE, PostgresqlTransaction
from audit.storage.postgresql_schema import check_durable, check_schema_name, check_version
from audit.storage.postgresql_scrub import scrub_tables
from audit.storage.postgresql_session import DEFAULT_LIMITS, LONG_LIMITS, Limits, Session, SessionKeeper
from audit.storage.postgresql_url import DatabaseUrl

_T = TypeVar("_T")


class PostgresqlStorage:
    """The store open for serving: one session that writes under the lock, one that reads."""

    def __init__(
        self,
        database_url: Callable[[], DatabaseUrl],
        schema: str,
        *,
        lock_file: Path | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Opens the log in `schema`; `database_url` is asked at each connecting, so a password may change meanwhile.

        `lock_file` is where the processes that share a head file queue, `limits` how long the server may take.

        Raises:
            StorageError: no such log, no connection, or a server whose commits may not last.
        """
        self._database_url = database_url
        self._schema = check_schema_name(schema)
        self._limits = limits
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._seen_size = NO_SIZE
        self._reader = SessionKeeper(self._connect)
        self._writer = SessionKeeper(self._connect_writer)
        try:
            self._reader.ask(self._check)
            self._lock_file = None if lock_file is None else _open_lock(lock_file)
        except BaseException:
            self._reader.drop()
            raise

    @contextmanager
    def exclusive(self, turn: Callable[[], Foreseen] = nothing_foreseen) -> Iterator[PostgresqlTransaction]:
        with self._write_lock, self._flock():
            foreseen = turn()
            try:
                transaction = self._writer.ask(lambda session: self._begin(session, foreseen))
                yield transaction
                if transaction.is_open:
                    transaction.roll_back()
            except BaseException:
                self._writer.drop()  # after a fault its state is unknown; the server rolls back
                raise
            self._seen_size = transaction.newest_checkpoint().size

    def _begin(self, session: Session, foreseen: Foreseen) -> PostgresqlTransaction:
        return PostgresqlTransaction.begin(session, self._schema, self._seen_size, foreseen)

    @contextmanager
    def _flock(self) -> Iterator[None]:
        if self._lock_file is None:
            yield
            return
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _connect(self) -> Session:
        return Session(self._database_url(), self._schema, self._limits)

    def _connect_writer(self) -> Session:
        session = self._connect()
        session.script(PREPARE)
        return session

    def _check(self, session: Session) -> None:
        check_durable(session)
        check_version(session, self._schema)

    def newest_checkpoint(self) -> StoredCheckpoint:
        return self._read(lambda rows: rows.newest_checkpoint())

    def node(self, level: int, position: int) -> Sha256:
        return self._read(lambda rows: rows.node(level, position))

    def entry(self, index: LeafIndex) -> bytes | None:
        return self._read(lambda rows: rows.entry(index))

    def index_of(self, entry_id: str) -> LeafIndex | None:
        return self._read(lambda rows: rows.index_of(entry_id))

    def checkpoint(self, size: TreeSize) -> bytes | None:
        return self._read(lambda rows: rows.checkpoint(size))

    def entries(self, start: LeafIndex, count: int) -> list[bytes]:
        return self._read(lambda rows: rows.entries(start, count))

    def nodes(self, level: int, start: int, count: int) -> bytes:
        return self._read(lambda rows: rows.nodes(level, start, count))

    def payload(self, index: LeafIndex) -> StoredPayload | None:
        return self._read(lambda rows: rows.payload(index))

    def payloads_under(self, key_ref: int) -> list[LeafIndex]:
        return self._read(lambda rows: rows.payloads_under(key_ref))

    def kept_payloads(self, key_ref: int, after: int, count: int) -> list[KeptPayload]:
        return self._read(lambda rows: rows.kept_payloads(key_ref, after, count))

    def find(self, query: Query) -> list[EntrySummary]:
        return self._read(lambda rows: rows.find(query))

    def latest_time(self) -> str | None:
        return self._read(lambda rows: rows.latest_time())

    def anchors(self, kind: str | None = None, size: TreeSize | None = None) -> list[Anchor]:
        return self._read(lambda rows: rows.anchors(kind, size))

    def newest_anchors(self) -> list[Anchor]:
        return self._read(lambda rows: rows.newest_anchors())

    def newest_anchored(self, kind: str) -> TreeSize | None:
        return self._read(lambda rows: rows.newest_anchored(kind))

    def keep_anchor(self, anchor: Anchor) -> bool:
        with self.exclusive() as transaction:
            return transaction.keep_anchor(anchor)

    def scrub(self) -> None:
        """As `postgresql_scrub` says, for the payloads; appends wait meanwhile, and fail closed where it takes seconds.

        Raises:
            StorageError: the role may not, or the server keeps copies.
        """
        session = Session(self._database_url(), self._schema, LONG_LIMITS)
        try:
            scrub_tables(session, ("payloads",))
        finally:
            session.close()

    def _read(self, ask: Callable[[PostgresqlTransaction], _T]) -> _T:
        with self._read_lock:
            return self._reader.ask(lambda session: ask(PostgresqlTransaction(session)))

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._writer.drop()
            self._reader.drop()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        message = f"store: can't open the lock: {type(exc).__name__}"
        raise StorageError(message) from exc
