"""The statements of the PostgreSQL store: every read, and the writes, in a session that the caller guards.

A batch takes two round trips:

(1) BEGIN, the log's lock, and only then, in statements of their own, the head and what is foreseen. At READ COMMITTED each
    statement sees what was committed before it began; one that took the lock and read the head would read it as of before
    the wait;
(2) one insert for each table, and COMMIT.

The newest checkpoint comes with the peaks of its tree and with the checkpoint of the size this process saw last, its own batch
included; with it come the places of the batch's ids, and, where another process wrote the head, what was logged since that says
who may append.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from audit.errors import StorageError
from audit.merkle import HASH_BYTES, LeafIndex, Sha256, TreeSize, perfect_nodes
from audit.storage import (
    Anchor,
    EntrySummary,
    Erasure,
    Foreseen,
    KeptPayload,
    Query,
    StoredCheckpoint,
    StoredEntry,
    StoredPayload,
)
from audit.storage.facts import facts_row, packed_id
from audit.storage.postgresql_schema import lock_key, refuse_undurable
from audit.storage.postgresql_session import Row, Session
from audit.storage.postgresql_wire import Value, array

NO_SIZE = -1
# Whatever role or database say, each batch waits for its own sync; also READ COMMITTED, which (1) depends on.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_LOCK = "SELECT set_config('synchronous_commit', 'on', true), pg_advisory_xact_lock({})"
# The row that holds the node of a peak at `level` is the last row below it.
_PREPARE_HEAD = f"""
PREPARE head (bigint) AS
SELECT newest.size, newest.note, seen.note, current_setting('fsync'), current_setting('full_page_writes'),
  CASE WHEN newest.size <> $1 THEN (
    SELECT string_agg(substring(hashes FROM {HASH_BYTES} * level + 1 FOR {HASH_BYTES}), '' ORDER BY level DESC)
    FROM generate_series(0, 62) AS level JOIN entries ON idx = ((newest.size >> level) << level) - 1
    WHERE (newest.size >> level) & 1 = 1
  ) END
FROM (SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1) AS newest
LEFT JOIN checkpoints AS seen ON seen.size = $1
"""  # noqa: S608 - a number
# What is foreseen comes back with the head; rows of places have three columns, rows of entries one.
_PLACES = "SELECT encode(entry_id, 'hex'), idx, entry FROM facts JOIN entries USING (idx) WHERE entry_id = ANY ($1)"
_ENTRIES_OF = (
    "SELECT entry FROM entries WHERE idx = ANY"
    " (ARRAY(SELECT idx FROM facts WHERE idx >= $1 AND type = ANY ($2)) || {}::bigint) ORDER BY idx"
)
# The last entry too, but none at all where the log hasn't grown beyond $1.
_SINCE = _ENTRIES_OF.format("(SELECT nullif(greatest(max(size), $1), $1) - 1 FROM checkpoints)")
PREPARE = "; ".join(
    (_PREPARE_HEAD, f"PREPARE places (bytea[]) AS {_PLACES}", f"PREPARE since (bigint, text[]) AS {_SINCE}")
)
_SUMMARY = "idx, encode(entry_id, 'hex'), type, time, service, model, status, actor"
_INSERTS = (
    ("entries", "bigint[]", "bytea[]", "bytea[]"),
    ("facts", "bigint[]", "bytea[]", *["text[]"] * 6),
    ("payloads", "bigint[]", "bigint[]", "bytea[]", "text[]"),
)
_INSERT_ENTRIES, _INSERT_FACTS, _INSERT_PAYLOADS = (
    f"INSERT INTO {table} SELECT * FROM unnest({', '.join(f'${n}::{kind}' for n, kind in enumerate(kinds, start=1))})"  # noqa: S608 - fixed names
    for table, *kinds in _INSERTS
)


class PostgresqlTransaction:
    """Reads and writes; whoever writes holds the log's lock and an open transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._newest: StoredCheckpoint | None = None
        self._seen: tuple[int, bytes | None] | None = None
        self._peaks: dict[tuple[int, int], Sha256] = {}
        self._places: dict[str, tuple[LeafIndex, bytes] | None] = {}
        self._since: tuple[Foreseen, list[bytes]] | None = None
        self.is_open = False

    @classmethod
    def begin(cls, session: Session, schema: str, seen_size: int, foreseen: Foreseen) -> "PostgresqlTransaction":
        """Waits for the log's lock and reads the head; `seen_size` is that of the head seen last, `NO_SIZE` of none.

        Raises:
            StorageError: not in time; or a commit of this server wouldn't last.
        """
        key = lock_key(schema, "log")
        questions = [_BEGIN, _LOCK.format(key), f"EXECUTE head({seen_size:d})", *_asked(foreseen)]
        rows = session.script("; ".join(questions))
        if len(rows) < 2 or len(rows[1]) != 6:
            raise StorageError("store: no checkpoint")
        size, note, seen, fsync, full_page_writes, peaks = rows[1]
        refuse_undurable(fsync, full_page_writes)
        transaction = cls(session)
        transaction.is_open = True
        transaction._newest = StoredCheckpoint(TreeSize(size), note)
        transaction._seen = (seen_size, seen)
        found = peaks or b""
        places = perfect_nodes(0, TreeSize(size))
        if len(found) == HASH_BYTES * len(places):
            transaction._peaks = {
                place: Sha256(found[start : start + HASH_BYTES])
                for place, start in zip(places, range(0, len(found), HASH_BYTES), strict=True)
            }
        transaction._take(foreseen, rows[2:])
        return transaction

    def _take(self, foreseen: Foreseen, rows: Sequence[Row]) -> None:
        """Keeps what was foreseen for when it is asked."""
        self._places = dict.fromkeys(foreseen.entry_ids)
        self._places |= {row[0]: (LeafIndex(row[1]), row[2]) for row in rows if len(row) == 3}
        if foreseen.types:
            self._since = foreseen, [row[0] for row in rows if len(row) == 1]

    def newest_checkpoint(self) -> StoredCheckpoint:
        if self._newest is not None:
            return self._newest
        row = self._session.row("SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1")
        if row is None:
            raise StorageError("store: no checkpoint")
        return StoredCheckpoint(TreeSize(row[0]), row[1])

    def checkpoint(self, size: TreeSize) -> bytes | None:
        if self._seen is not None and self._seen[0] == size:
            return self._seen[1]
        return self._value("SELECT note FROM checkpoints WHERE size = $1", size)

    def node(self, level: int, position: int) -> Sha256:
        if (level, position) in self._peaks:
            return self._peaks[level, position]
        found = self.nodes(level, position, 1)
        if len(found) != HASH_BYTES:
            message = f"store: no node at level {level}, position {position}"
            raise StorageError(message)
        return Sha256(found)

    def nodes(self, level: int, start: int, count: int) -> bytes:
        first, step = ((start + 1) << level) - 1, 1 << level
        rows = self._session.rows(
            f"SELECT substring(hashes FROM $4 FOR {HASH_BYTES}) FROM generate_series($1::bigint, $2::bigint, $3::bigint)"  # noqa: S608 - a number
            " AS wanted JOIN entries ON idx = wanted ORDER BY idx",
            first,
            first + step * (count - 1),
            step,
            HASH_BYTES * level + 1,
        )
        # A row that is missing ends it, as would a node that isn't whole.
        found = []
        for (node,) in rows:
            if len(node) != HASH_BYTES:
                break
            found.append(node)
        return b"".join(found)

    def entry(self, index: LeafIndex) -> bytes | None:
        return self._value("SELECT entry FROM entries WHERE idx = $1", index)

    def entries(self, start: LeafIndex, count: int) -> list[bytes]:
        statement = "SELECT entry FROM entries WHERE idx >= $1 ORDER BY idx LIMIT $2"
        return [row[0] for row in self._session.rows(statement, start, count)]

    def index_of(self, entry_id: str) -> LeafIndex | None:
        row = self._session.row("SELECT idx FROM facts WHERE entry_id = $1", packed_id(entry_id))
        return None if row is None else LeafIndex(row[0])

    def places(self, entry_ids: Sequence[str]) -> Mapping[str, tuple[LeafIndex, bytes]]:
        if all(entry_id in self._places for entry_id in entry_ids):
            known = {entry_id: self._places[entry_id] for entry_id in entry_ids}
            return {entry_id: place for entry_id, place in known.items() if place is not None}
        rows = self._session.rows(_PLACES, array(map(packed_id, entry_ids)))
        return {entry_id: (LeafIndex(index), entry) for entry_id, index, entry in rows}

    def entries_of(self, types: Sequence[str], start: int, last: LeafIndex) -> list[bytes]:
        if self._since is not None and self._newest is not None:
            foreseen, found = self._since
            if (tuple(foreseen.types), foreseen.since, last) == (tuple(types), start, self._newest.size - 1) and found:
                return found
        return [row[0] for row in self._session.rows(_ENTRIES_OF.format("$3"), start, array(types), last)]

    def payload(self, index: LeafIndex) -> StoredPayload | None:
        row = self._session.row("SELECT key_ref, sealed, erasure FROM payloads WHERE idx = $1", index)
        return None if row is None else StoredPayload(*row)

    def payloads_under(self, key_ref: int) -> list[LeafIndex]:
        rows = self._session.rows("SELECT idx FROM payloads WHERE key_ref = $1 ORDER BY idx", key_ref)
        return [LeafIndex(row[0]) for row in rows]

    def kept_payloads(self, key_ref: int, after: int, count: int) -> list[KeptPayload]:
        statement = (
            "SELECT key_ref, idx, time FROM payloads JOIN facts USING (idx)"
            " WHERE (key_ref, idx) > ($1, $2) AND sealed IS NOT NULL ORDER BY key_ref, idx LIMIT $3"
        )
        return [KeptPayload(*row) for row in self._session.rows(statement, key_ref, after, count)]

    def find(self, query: Query) -> list[EntrySummary]:
        asked = _conditions(query)
        values: list[Value] = [value for _, value in asked]
        conditions = [condition.format(f"${number}") for number, (condition, _) in enumerate(asked, start=1)]
        where = "WHERE " + " AND ".join(conditions) if conditions else ""
        statement = f"SELECT {_SUMMARY} FROM facts {where} ORDER BY idx DESC LIMIT ${len(values) + 1}"  # noqa: S608 - fixed texts
        return [EntrySummary(*row) for row in self._session.rows(statement, *values, query.limit)]

    def latest_time(self) -> str | None:
        row = self._session.row("SELECT max(time) FROM facts")
        return None if row is None else row[0]

    def anchors(self, kind: str | None = None, size: TreeSize | None = None) -> list[Anchor]:
        at = () if size is None else (size,)
        statement = (
            "SELECT size, kind, authority, evidence, time FROM anchors"  # noqa: S608 - fixed texts
            f" WHERE (kind = $1 OR $1 IS NULL){' AND size = $2' if at else ''} ORDER BY size, authority, kind"
        )
        return [Anchor(*row) for row in self._session.rows(statement, kind, *at)]

    def newest_anchors(self) -> list[Anchor]:
        statement = (
            "SELECT size, kind, authority, evidence, time FROM anchors JOIN (SELECT kind, authority, max(size) AS size"
            " FROM anchors GROUP BY kind, authority) AS newest USING (size, kind, authority) ORDER BY kind, authority"
        )
        return [Anchor(*row) for row in self._session.rows(statement)]

    def newest_anchored(self, kind: str) -> TreeSize | None:
        row = self._session.row("SELECT size FROM anchors WHERE kind = $1 ORDER BY size DESC LIMIT 1", kind)
        return None if row is None else TreeSize(row[0])

    def append(self, entries: Sequence[StoredEntry], checkpoint: StoredCheckpoint) -> None:
        statements: list[tuple[str, Sequence[Value]]] = [
            (_INSERT_ENTRIES, _columns((row.summary.index, row.nodes, row.entry) for row in entries)),
            (_INSERT_FACTS, _columns(facts_row(row.summary) for row in entries)),
        ]
        payloads = [
            (row.summary.index, row.payload.key_ref, row.payload.sealed, row.payload.erasure)
            for row in entries
            if row.payload is not None
        ]
        if payloads:
            statements.append((_INSERT_PAYLOADS, _columns(payloads)))
        statements.append(("INSERT INTO checkpoints VALUES ($1, $2)", (checkpoint.size, checkpoint.note)))
        self._commit(statements)
        self._newest = checkpoint

    def erase(
        self, erasure: Erasure, *, key_refs: Sequence[int] = (), indices: Sequence[LeafIndex] = ()
    ) -> tuple[LeafIndex, ...]:
        rows = self._session.rows
        rows("INSERT INTO erasures VALUES ($1, $2) ON CONFLICT DO NOTHING", erasure.id, erasure.salt)
        if self._value("SELECT salt FROM erasures WHERE id = $1", erasure.id) != erasure.salt:
            message = f"erasure {erasure.id}: begun with another salt"
            raise StorageError(message)
        rows(
            "UPDATE payloads SET sealed = NULL, erasure = $1"
            " WHERE sealed IS NOT NULL AND (key_ref = ANY ($2) OR idx = ANY ($3))",
            erasure.id,
            array(key_refs),
            array(indices),
        )
        taken = rows("SELECT idx FROM payloads WHERE erasure = $1 ORDER BY idx", erasure.id)
        self._commit([])
        return tuple(LeafIndex(row[0]) for row in taken)

    def keep_anchor(self, anchor: Anchor) -> bool:
        """Stores it in a transaction of its own, unless it is there already."""
        place = (anchor.size, anchor.kind, anchor.authority)
        found = "SELECT 1 FROM anchors WHERE size = $1 AND kind = $2 AND authority = $3"
        if self._session.row(found, *place) is not None:
            return False
        row = (*place, anchor.evidence, anchor.time)
        self._commit([("INSERT INTO anchors VALUES ($1, $2, $3, $4, $5)", row)])
        return True

    def roll_back(self) -> None:
        """Ends the transaction without a trace."""
        self.is_open = False
        self._session.script("ROLLBACK")

    def _commit(self, statements: Iterable[tuple[str, Sequence[Value]]]) -> None:
        self.is_open = False
        self._session.commit(statements)

    def _value(self, statement: str, *values: Value) -> bytes | None:
        row = self._session.row(statement, *values)
        return None if row is None else bytes(row[0])


def _asked(foreseen: Foreseen) -> Iterator[str]:
    """The statements that ask for what is foreseen."""
    if foreseen.entry_ids:
        ids = ",".join(f'"\\\\x{packed_id(entry_id).hex()}"' for entry_id in foreseen.entry_ids)
        yield f"EXECUTE places('{{{ids}}}')"
    if foreseen.types:
        yield f"EXECUTE since({foreseen.since:d}, '{array(foreseen.types)!s}')"


def _columns(rows: Iterable[Sequence[Any]]) -> tuple[str | bytes, ...]:
    """Rows as one array for each column."""
    return tuple(array(column) for column in zip(*rows, strict=True))


def _conditions(query: Query) -> list[tuple[str, str | int]]:
    """The conditions that a query asks for, with their values; {} is the value's place."""
    equal = {name: getattr(query, name) for name in ("type", "service", "status", "actor")}
    asked: list[tuple[str, str | int]] = [
        (f"{name} = {{}}", value) for name, value in equal.items() if value is not None
    ]
    if query.since is not None:
        asked.append(("time >= {}", query.since))
    if query.until is not None:
        asked.append(("time <= {}", query.until))
    if query.before is not None:
        asked.append(("idx < {}", query.before))
    if query.model is not None:
        asked.append(("model = {}" if "@" in query.model else "split_part(model, '@', 1) = {}", query.model))
    return asked
