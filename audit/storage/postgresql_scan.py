"""The PostgreSQL store read for verification: one snapshot, front to back, in constant memory.

The snapshot is a REPEATABLE READ READ ONLY transaction, and the server hands the rows out a few hundred at a time. What the
server itself can see is checked here: that the schema is ours to the letter, and that each index leads to the very rows of its
table. With the extension amcheck installed and allowed, every page of the indexes is walked too; page checksums are the
cluster's matter (`initdb --data-checksums`).
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from audit.errors import StorageError, VerificationError
from audit.merkle import TreeSize
from audit.storage import Anchor, EntrySummary, Erasure, StoredCheckpoint, StoredEntry, StoredPayload
from audit.storage.postgresql_form import FORM_LINES, read_form
from audit.storage.postgresql_schema import check_schema_name
from audit.storage.postgresql_session import LONG_LIMITS, Row, Session
from audit.storage.postgresql_url import DatabaseUrl

_PART = "store"
# 500 rows of some 5 KB are in memory at a time.
_FETCHED_ROWS = 500
# Each index of the log's own tables, with a column that every row has a value for.
_INDEXED = (
    ("entries", "idx"),
    ("facts", "idx"),
    ("facts", "entry_id"),
    ("facts", "time"),
    ("checkpoints", "size"),
    ("payloads", "idx"),
    ("payloads", "key_ref"),
    ("erasures", "id"),
    ("anchors", "size"),
)


class PostgresqlScan:
    """A snapshot of the log in a schema."""

    def __init__(self, database_url: DatabaseUrl, schema: str) -> None:
        """Opens the snapshot.

        Raises:
            StorageError: the database can't be reached.
        """
        self._schema = check_schema_name(schema)
        self._session = Session(database_url, schema, LONG_LIMITS)
        self._cursors = itertools.count()
        # The snapshot is the first query's.
        self._session.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT")

    def check_form(self) -> None:
        with _as_verification_error():
            found = read_form(self._session, self._schema)
        wrong = sorted(found ^ FORM_LINES)
        if wrong:
            state = "not ours" if wrong[0] in found else "missing"
            message = f"the schema isn't the log's: {state}: {wrong[0]}"
            raise VerificationError(_PART, message)

    def check_integrity(self) -> None:
        with _as_verification_error():
            for table, column in _INDEXED:
                if self._digest(table, column, by_index=False) != self._digest(table, column, by_index=True):
                    message = f"an index of {table} on {column} doesn't lead to the rows of its table"
                    raise VerificationError(_PART, message)
            self._check_pages()

    def entries(self) -> Iterator[StoredEntry]:
        rows = self._walk(
            "SELECT idx, encode(entry_id, 'hex'), type, time, service, model, status, actor, hashes, entry, key_ref, sealed,"
            " erasure FROM entries LEFT JOIN facts USING (idx) LEFT JOIN payloads USING (idx) ORDER BY idx"
        )
        for row in rows:
            columns, nodes, entry, (key_ref, sealed, erasure) = row[:8], row[8], row[9], row[10:]
            payload = None if key_ref is None else StoredPayload(key_ref, sealed, erasure)
            yield StoredEntry(EntrySummary(*columns), nodes, entry, payload)

    def checkpoints(self) -> Iterator[StoredCheckpoint]:
        for size, note in self._walk("SELECT size, note FROM checkpoints ORDER BY size"):
            yield StoredCheckpoint(TreeSize(size), note)

    def anchors(self) -> Iterator[Anchor]:
        rows = self._walk("SELECT size, kind, authority, evidence, time FROM anchors ORDER BY size, authority")
        yield from (Anchor(*row) for row in rows)

    def erasures(self) -> Iterator[Erasure]:
        yield from (Erasure(*row) for row in self._walk("SELECT id, salt FROM erasures ORDER BY id"))

    def stray_index(self, size: TreeSize) -> int | None:
        for table in ("facts", "payloads"):
            row = self._session.row(f"SELECT idx FROM {table} WHERE idx < 0 OR idx >= $1 LIMIT 1", size)  # noqa: S608 - fixed names
            if row is not None:
                return int(row[0])
        return None

    def close(self) -> None:
        self._session.close()

    def _walk(self, statement: str) -> Iterator[Row]:
        """The rows of a statement, by a cursor of their own."""
        cursor = f"walk_{next(self._cursors)}"
        self._session.script(f"DECLARE {cursor} NO SCROLL CURSOR FOR {statement}")
        while rows := self._session.script(f"FETCH {_FETCHED_ROWS} FROM {cursor}"):
            yield from rows
        self._session.script(f"CLOSE {cursor}")

    def _digest(self, table: str, column: str, *, by_index: bool) -> Row:
        """How many rows there are, and a sum over the column: through the index, or through the table alone."""
        ways = {
            "seqscan": not by_index,
            "indexscan": by_index,
            "indexonlyscan": False,
            "bitmapscan": False,
            "sort": False,
        }
        settings = "".join(f"SET LOCAL enable_{way} = {'on' if on else 'off'}; " for way, on in ways.items())
        order = f" ORDER BY {column}" if by_index else ""  # which this index alone gives without a sort
        rows = f"SELECT {column} AS value FROM {table}{order}"  # noqa: S608 - fixed names
        digest = "count(value), sum(hashtext(value::text)::bigint)::text"
        return self._session.script(f"{settings}SELECT {digest} FROM ({rows}) AS ordered")[0]  # noqa: S608

    def _check_pages(self) -> None:
        """Walks the pages of every index, where amcheck is there and this role may call it.

        The function is the extension's own: anyone may make one of that name, and would have it run as the log's owner.
        """
        allowed = self._session.row(
            "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_proc p"
            " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
            " JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'"
            " JOIN pg_catalog.pg_extension x ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = x.oid"
            " WHERE x.extname = 'amcheck' AND p.proname = 'bt_index_check' AND p.pronargs = 2"
            " AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')"
        )
        if allowed is None:
            return
        self._session.script(
            f"SELECT {allowed[0]}.bt_index_check(indexrelid::regclass, true) FROM pg_index JOIN pg_class c"  # noqa: S608 - catalogue
            f" ON c.oid = indrelid WHERE c.relnamespace = '\"{self._schema}\"'::regnamespace AND c.relkind = 'r'"
        )


@contextmanager
def _as_verification_error() -> Iterator[None]:
    try:
        yield
    except StorageError as exc:
        raise VerificationError(_PART, str(exc)) from exc
