"""The vault for several hosts: in the schema of its log, where it is made with the log.

A subject's key is made by one insert, which the store's uniqueness decides; destroying keys and placing holds take turns by an
advisory lock of their own, so that no hold comes in between the look and the deed. What is deleted leaves copies behind until
`scrub`: see `postgresql_scrub`.

Vault and log share the database's backups: one that is restored brings destroyed keys back, and where it lacks the newest
entries the log refuses to open.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from audit.errors import HoldError, StorageError
from audit.storage.postgresql_schema import check_schema_name, check_version, lock_key
from audit.storage.postgresql_scrub import scrub_tables
from audit.storage.postgresql_session import LONG_LIMITS, Limits, Row, Session, SessionKeeper
from audit.storage.postgresql_url import DatabaseUrl
from audit.storage.postgresql_wire import Value, array
from audit.storage.vault_store import CustodyRequest, Hold, Rewrapped, WrappedKey

# Long enough for whoever administers a vault; the service waits only as long as its log does.
DEFAULT_WAIT_S = 10.0
_KEY = "SELECT key_ref, lookup, wrapped, wrapping_key, created FROM patient_keys"
_HOLD = "SELECT hold, lookup, placed, until, reason FROM holds"
# One statement is one snapshot: a request never comes without its subjects.
_REQUEST = """SELECT id, kind, body, state, created,
(SELECT string_agg(encode(lookup, 'hex'), ',' ORDER BY position) FROM request_subjects s WHERE s.id = requests.id)
FROM requests"""
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on"
_TABLES = ("patient_keys", "holds", "requests", "request_subjects")


@dataclass(slots=True)
class _Waiting:
    """A key on its way into the store; `kept` once it, or the one that was there before, is durable."""

    lookup: bytes
    wrapped: bytes
    wrapping_key: str
    created: str
    kept: WrappedKey | None = None


class PostgresqlVaultStore:
    """The vault open for serving: one session that writes, one that reads."""

    def __init__(self, database_url: Callable[[], DatabaseUrl], schema: str, *, wait_s: float = DEFAULT_WAIT_S) -> None:
        """Opens the vault of the log in `schema`; what can't be done within `wait_s` fails.

        Raises:
            StorageError: no such log, or no connection.
        """
        self._database_url = database_url
        self._schema = check_schema_name(schema)
        self._wait_s = wait_s
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._reader = SessionKeeper(self._connect)
        self._writer = SessionKeeper(self._connect)
        try:
            self._reader.ask(lambda session: check_version(session, schema))
        except BaseException:
            self._reader.drop()
            raise

    def key(self, lookup: bytes) -> WrappedKey | None:
        return _first_key(self._read(f"{_KEY} WHERE lookup = $1", lookup))

    def key_at(self, key_ref: int) -> WrappedKey | None:
        return _first_key(self._read(f"{_KEY} WHERE key_ref = $1", key_ref))

    def newest_key_ref(self) -> int:
        # What the sequence gave and nobody kept, as after a crash, counts as well: it is never given again.
        rows = self._read("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM patient_keys_key_ref_seq")
        return int(rows[0][0])

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
        batch = {own.lookup: own}
        every = [own]
        while self._waiting:
            other = self._waiting.popleft()
            batch.setdefault(other.lookup, other)
            every.append(other)
        # In one order everywhere, for two inserts that wait for one another would be a deadlock.
        wanted = sorted(batch.values(), key=lambda one: one.lookup)
        rows = self._writer.ask(lambda session: _insert_keys(session, wanted))
        kept = {row[1]: WrappedKey(*row) for row in rows}
        for one in every:
            one.kept = kept.get(one.lookup)

    def destroy_keys(self, key_refs: Sequence[int], now: str) -> tuple[int, ...]:
        wanted = array(key_refs)
        with self._writing(alone=True) as session:
            held = session.rows(
                "SELECT DISTINCT hold FROM holds JOIN patient_keys USING (lookup)"
                " WHERE key_ref = ANY ($1) AND (until IS NULL OR until > $2) ORDER BY hold",
                wanted,
                now,
            )
            if held:
                raise HoldError(tuple(row[0] for row in held))
            gone = session.rows("DELETE FROM patient_keys WHERE key_ref = ANY ($1) RETURNING key_ref", wanted)
        return tuple(sorted(row[0] for row in gone))

    def keys_not_under(self, wrapping_key: str, *, after: int = 0, limit: int = 1000) -> list[WrappedKey]:
        statement = f"{_KEY} WHERE key_ref > $1 AND wrapping_key <> $2 ORDER BY key_ref LIMIT $3"
        return [WrappedKey(*row) for row in self._read(statement, after, wrapping_key, limit)]

    def replace_wrapped(self, rewrapped: Sequence[Rewrapped], wrapping_key: str) -> int:
        with self._writing() as session:
            done = session.rows(
                "UPDATE patient_keys AS k SET wrapped = n.after, wrapping_key = $4"
                " FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS n (key_ref, before, after)"
                " WHERE k.key_ref = n.key_ref AND k.wrapped = n.before RETURNING k.key_ref",
                array(one.key_ref for one in rewrapped),
                array(one.before for one in rewrapped),
                array(one.after for one in rewrapped),
                wrapping_key,
            )
        return len(done)

    def place_hold(self, hold: Hold) -> None:
        row = (hold.hold, hold.lookup, hold.placed, hold.until, hold.reason)
        with self._writing(alone=True) as session:
            found = session.row(f"{_HOLD} WHERE hold = $1", hold.hold)
            if found is None:
                session.rows("INSERT INTO holds VALUES ($1, $2, $3, $4, $5)", *row)
            elif tuple(found) != row:
                message = f"hold {hold.hold}: the name is taken by another hold"
                raise StorageError(message)

    def release_hold(self, hold: str) -> Hold | None:
        with self._writing(alone=True) as session:
            found = session.row("DELETE FROM holds WHERE hold = $1 RETURNING hold, lookup, placed, until, reason", hold)
        return None if found is None else Hold(*found)

    def holds_on(self, lookup: bytes) -> list[Hold]:
        return [Hold(*row) for row in self._read(f"{_HOLD} WHERE lookup = $1 ORDER BY hold", lookup)]

    def holds(self) -> list[Hold]:
        return [Hold(*row) for row in self._read(f"{_HOLD} ORDER BY hold")]

    def put_request(self, request: CustodyRequest) -> None:
        row = (request.id, request.kind, request.body, request.state, request.created)
        subjects = list(dict.fromkeys(request.subjects))
        with self._writing() as session:
            made = session.row(
                "INSERT INTO requests VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING id", *row
            )
            if made is None:
                message = f"request {request.id}: exists already"
                raise StorageError(message)
            session.rows(
                "INSERT INTO request_subjects SELECT $1, position, lookup"
                " FROM unnest($2::bytea[]) WITH ORDINALITY AS given (lookup, position)",
                request.id,
                array(subjects),
            )

    def request(self, request_id: str) -> CustodyRequest | None:
        rows = self._read(f"{_REQUEST} WHERE id = $1", request_id)
        return _request(rows[0]) if rows else None

    def requests(self, state: str | None = None) -> list[CustodyRequest]:
        rows = self._read(f"{_REQUEST} WHERE state = $1 OR $1 IS NULL ORDER BY created, id", state)
        return [_request(row) for row in rows]

    def set_request_state(
        self, request_id: str, before: str, after: str, body: bytes | None = None, forget: Sequence[bytes] = ()
    ) -> bool:
        with self._writing() as session:
            done = session.row(
                "UPDATE requests SET state = $1, body = coalesce($2, body) WHERE id = $3 AND state = $4 RETURNING id",
                after,
                body,
                request_id,
                before,
            )
            if done is not None and forget:
                session.rows(
                    "DELETE FROM request_subjects WHERE id = $1 AND lookup = ANY ($2)", request_id, array(forget)
                )
        return done is not None

    def forget_subjects(self, request_id: str) -> None:
        with self._writing() as session:
            session.rows("DELETE FROM request_subjects WHERE id = $1", request_id)

    def scrub(self) -> None:
        """As `postgresql_scrub` says; no key can be made meanwhile: about a second for a million.

        Raises:
            StorageError: the role may not, or the server keeps copies.
        """
        with self._turn():
            session = Session(self._database_url(), self._schema, LONG_LIMITS)
            try:
                scrub_tables(session, _TABLES)
            finally:
                session.close()

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._writer.drop()
            self._reader.drop()

    def _connect(self) -> Session:
        wait_ms = max(1, int(1000 * self._wait_s))
        limits = Limits(connect_s=self._wait_s, lock_ms=wait_ms, statement_ms=wait_ms, socket_s=self._wait_s + 0.1)
        return Session(self._database_url(), self._schema, limits)

    def _read(self, statement: str, *values: Value) -> list[Row]:
        if not self._read_lock.acquire(timeout=self._wait_s):
            message = f"vault: can't be read within {self._wait_s} s"
            raise StorageError(message)
        try:
            return self._reader.ask(lambda session: session.rows(statement, *values))
        finally:
            self._read_lock.release()

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
    def _writing(self, *, alone: bool = False) -> Iterator[Session]:
        """A transaction, durable when left; `alone` among those that decide over holds and destruction."""
        lock = f"; SELECT pg_advisory_xact_lock({lock_key(self._schema, 'vault')})" if alone else ""

        def begin(session: Session) -> Session:
            session.script(_BEGIN + lock)
            return session

        with self._turn():
            try:
                session = self._writer.ask(begin)
                yield session
                session.commit([])
            except BaseException:
                self._writer.drop()
                raise


def _insert_keys(session: Session, wanted: Sequence[_Waiting]) -> list[Row]:
    """The rows of these subjects: those inserted, durably, and those that were there."""
    lookups = [one.lookup for one in wanted]
    session.warnings()
    rows = session.rows(
        "INSERT INTO patient_keys (lookup, wrapped, wrapping_key, created)"
        " SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[])"
        " ON CONFLICT (lookup) DO NOTHING RETURNING key_ref, lookup, wrapped, wrapping_key, created",
        array(lookups),
        array(one.wrapped for one in wanted),
        array(one.wrapping_key for one in wanted),
        array(one.created for one in wanted),
    )
    if session.warnings():
        raise StorageError("vault: the server says that the commit may not be durable everywhere")
    missing = set(lookups) - {row[1] for row in rows}
    if missing:
        rows += session.rows(f"{_KEY} WHERE lookup = ANY ($1)", array(missing))
    return rows


def _first_key(rows: Sequence[Row]) -> WrappedKey | None:
    return WrappedKey(*rows[0]) if rows else None


def _request(row: Row) -> CustodyRequest:
    subjects = row[5].split(",") if row[5] else ()
    return CustodyRequest(row[0], row[1], row[2], row[3], row[4], tuple(map(bytes.fromhex, subjects)))
