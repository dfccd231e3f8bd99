"""The statements of the embedded store: every read, and the two writes, on a connection that the caller guards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from audit.errors import StorageError
from audit.merkle import HASH_BYTES, LeafIndex, Sha256, TreeSize
from audit.storage import (
    Anchor,
    EntrySummary,
    Erasure,
    KeptPayload,
    Query,
    StoredCheckpoint,
    StoredEntry,
    StoredPayload,
)
from audit.storage.facts import facts_row, packed_id
from audit.storage.sqlite_seal import remove_seal


class SqliteTransaction:
    """Reads and writes; whoever writes holds the log's lock and an open transaction."""

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
        row = self._row("SELECT hashes FROM entries WHERE idx = ?", index)
        found = row[0][HASH_BYTES * level : HASH_BYTES * (level + 1)] if row else b""
        if len(found) != HASH_BYTES:
            message = f"store: no node at level {level}, position {position}"
            raise StorageError(message)
        return Sha256(found)

    def nodes(self, level: int, start: int, count: int) -> bytes:
        first, step = ((start + 1) << level) - 1, 1 << level
        if level == 0:
            statement = "SELECT substr(hashes, 1, 32) FROM entries WHERE idx >= ? AND idx < ? ORDER BY idx"
            rows = self._connection.execute(statement, (first, first + count))
            return b"".join(row[0] for row in rows)
        found = []
        for index in range(first, first + step * count, step):
            row = self._row("SELECT substr(hashes, ?, 32) FROM entries WHERE idx = ?", HASH_BYTES * level + 1, index)
            if row is None or len(row[0]) != HASH_BYTES:
                break
            found.append(row[0])
        return b"".join(found)

    def entry(self, index: LeafIndex) -> bytes | None:
        return self._value("SELECT entry FROM entries WHERE idx = ?", index)

    def entries(self, start: LeafIndex, count: int) -> list[bytes]:
        statement = "SELECT entry FROM entries WHERE idx >= ? ORDER BY idx LIMIT ?"
        return [row[0] for row in self._connection.execute(statement, (start, count))]

    def index_of(self, entry_id: str) -> LeafIndex | None:
        row = self._row("SELECT idx FROM facts WHERE entry_id = ?", packed_id(entry_id))
        return None if row is None else LeafIndex(row[0])

    def places(self, entry_ids: Sequence[str]) -> Mapping[str, tuple[LeafIndex, bytes]]:
        found = {}
        for entry_id in entry_ids:
            if (index := self.index_of(entry_id)) is not None:
                found[entry_id] = (index, self.entry(index) or b"")
        return found

    def entries_of(self, types: Sequence[str], start: int, last: LeafIndex) -> list[bytes]:
        places = ", ".join("?" * len(types))
        statement = (
            "SELECT entry FROM entries WHERE idx IN"  # noqa: S608 - fixed texts
            f" (SELECT idx FROM facts WHERE idx >= ? AND type IN ({places}) UNION SELECT ?) ORDER BY idx"
        )
        return [row[0] for row in self._connection.execute(statement, (start, *types, last))]

    def payload(self, index: LeafIndex) -> StoredPayload | None:
        row = self._row("SELECT key_ref, sealed, erasure FROM payloads WHERE idx = ?", index)
        return None if row is None else StoredPayload(*row)

    def payloads_under(self, key_ref: int) -> list[LeafIndex]:
        rows = self._connection.execute("SELECT idx FROM payloads WHERE key_ref = ? ORDER BY idx", (key_ref,))
        return [LeafIndex(row[0]) for row in rows]

    def kept_payloads(self, key_ref: int, after: int, count: int) -> list[KeptPayload]:
        statement = (
            "SELECT key_ref, idx, time FROM payloads JOIN facts USING (idx)"
            " WHERE (key_ref, idx) > (?, ?) AND sealed IS NOT NULL ORDER BY key_ref, idx LIMIT ?"
        )
        return [KeptPayload(*row) for row in self._connection.execute(statement, (key_ref, after, count))]

    def find(self, query: Query) -> list[EntrySummary]:
        asked = _conditions(query)
        where = "WHERE " + " AND ".join(asked) if asked else ""
        statement = (
            "SELECT idx, lower(hex(entry_id)), type, time, service, model, status, actor FROM facts"  # noqa: S608 - fixed texts
            f" {where} ORDER BY idx DESC LIMIT ?"
        )
        values = [value for values in asked.values() for value in values]
        return [EntrySummary(*row) for row in self._connection.execute(statement, (*values, query.limit))]

    def latest_time(self) -> str | None:
        return self._row("SELECT max(time) FROM facts")[0]  # type: ignore[no-any-return]

    def anchors(self, kind: str | None = None, size: TreeSize | None = None) -> list[Anchor]:
        asked: dict[str, str | int] = {} if kind is None else {"kind = ?": kind}
        if size is not None:
            asked["size = ?"] = size
        where = f" WHERE {' AND '.join(asked)}" if asked else ""
        statement = f"SELECT size, kind, authority, evidence, time FROM anchors{where} ORDER BY size, authority"  # noqa: S608 - fixed texts
        return [Anchor(*row) for row in self._connection.execute(statement, tuple(asked.values()))]

    def newest_anchors(self) -> list[Anchor]:
        statement = (
            "SELECT size, kind, authority, evidence, time FROM anchors JOIN (SELECT kind, authority, max(size) AS size"
            " FROM anchors GROUP BY kind, authority) AS newest USING (size, kind, authority) ORDER BY kind, authority"
        )
        return [Anchor(*row) for row in self._connection.execute(statement)]

    def newest_anchored(self, kind: str) -> TreeSize | None:
        row = self._row("SELECT size FROM anchors WHERE kind = ? ORDER BY size DESC LIMIT 1", kind)
        return None if row is None else TreeSize(row[0])

    def append(self, entries: Sequence[StoredEntry], checkpoint: StoredCheckpoint) -> None:
        execute, executemany = self._connection.execute, self._connection.executemany
        rows = [(row.summary.index, row.nodes, row.entry) for row in entries]
        executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
        executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [facts_row(row.summary) for row in entries])
        payloads = [
            (row.summary.index, row.payload.key_ref, row.payload.erasure, row.payload.sealed)
            for row in entries
            if row.payload is not None
        ]
        if payloads:
            executemany("INSERT INTO payloads (idx, key_ref, erasure, sealed) VALUES (?, ?, ?, ?)", payloads)
        execute("INSERT INTO checkpoints VALUES (?, ?)", (checkpoint.size, checkpoint.note))
        self._commit()

    def erase(
        self, erasure: Erasure, *, key_refs: Sequence[int] = (), indices: Sequence[LeafIndex] = ()
    ) -> tuple[LeafIndex, ...]:
        execute, executemany = self._connection.execute, self._connection.executemany
        execute("INSERT INTO erasures VALUES (?, ?) ON CONFLICT DO NOTHING", (erasure.id, erasure.salt))
        if self._value("SELECT salt FROM erasures WHERE id = ?", erasure.id) != erasure.salt:
            message = f"erasure {erasure.id}: begun with another salt"
            raise StorageError(message)
        change = "UPDATE payloads SET sealed = NULL, erasure = ? WHERE sealed IS NOT NULL AND "
        executemany(change + "key_ref = ?", [(erasure.id, key_ref) for key_ref in key_refs])
        executemany(change + "idx = ?", [(erasure.id, index) for index in indices])
        # The second condition is the index's own, which SQLite wants to see before it uses it.
        found_by = "SELECT idx FROM payloads WHERE erasure = ? AND erasure <> '' ORDER BY idx"
        taken = self._connection.execute(found_by, (erasure.id,))
        found = tuple(LeafIndex(row[0]) for row in taken)
        self._commit()
        return found

    def keep_anchor(self, anchor: Anchor) -> bool:
        """Stores it in a transaction of its own, unless it is there already."""
        place = (anchor.size, anchor.kind, anchor.authority)
        found = self._row("SELECT 1 FROM anchors WHERE size = ? AND kind = ? AND authority = ?", *place)
        if found is not None:
            return False
        self._connection.execute("INSERT INTO anchors VALUES (?, ?, ?, ?, ?)", (*place, anchor.evidence, anchor.time))
        self._commit()
        return True

    def close(self) -> None:
        self._connection.close()

    def _commit(self) -> None:
        remove_seal(self._seal)
        self._connection.execute("COMMIT")

    def _row(self, statement: str, *bindings: Any) -> Any:
        return self._connection.execute(statement, bindings).fetchone()

    def _value(self, statement: str, *bindings: Any) -> bytes | None:
        row = self._row(statement, *bindings)
        return None if row is None else bytes(row[0])


def _conditions(query: Query) -> dict[str, tuple[str | int, ...]]:
    """The conditions that a query asks for, with their values."""
    equal = {name: getattr(query, name) for name in ("type", "service", "status", "actor")}
    asked: dict[str, tuple[str | int, ...]] = {
        f"{name} = ?": (value,) for name, value in equal.items() if value is not None
    }
    if query.since is not None:
        asked["time >= ?"] = (query.since,)
    if query.until is not None:
        asked["time <= ?"] = (query.until,)
    if query.before is not None:
        asked["idx < ?"] = (query.before,)
    if query.model is not None and "@" in query.model:
        asked["model = ?"] = (query.model,)
    elif query.model is not None:
        asked["substr(model, 1, ?) = ?"] = (len(query.model) + 1, f"{query.model}@")
    return asked
