"""The SQLite store read for verification: one read-only snapshot, front to back.

What SQLite itself can see is checked here: that the schema is ours to the letter, and `PRAGMA integrity_check`,
which walks every page, compares each index with its table and each value with its column's type.

SQLite reads a store in WAL mode by files that it makes beside it. Where that can't be, on a medium or by an account that only
reads, a store that was closed is read as one that doesn't change; one with a write-ahead log can't be read there.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any
from urllib.parse import quote

import apsw

from audit.errors import StorageError, VerificationError
from audit.merkle import TreeSize
from audit.storage import Anchor, EntrySummary, Erasure, StoredCheckpoint, StoredEntry, StoredPayload
from audit.storage.sqlite_schema import APPLICATION_ID, DATABASE_FILE, SCHEMA, SCHEMA_VERSION, connect
from audit.storage.sqlite_seal import check_seal

_PART = "store"


class SqliteScan:
    """A snapshot of the store in a directory."""

    def __init__(self, directory: Path) -> None:
        """Opens the snapshot.

        Raises:
            VerificationError: no store there, or none of SQLite's.
            StorageError: it can't be read here, so nothing can be said of it.
        """
        self._path = directory / DATABASE_FILE
        if not self._path.is_file():
            message = f"expected a file {DATABASE_FILE}"
            raise VerificationError(_PART, message)
        with _as_verification_error():
            self._connection = _open(self._path)
            self._connection.execute("BEGIN")

    def check_form(self) -> None:
        with _as_verification_error():
            found = tuple(self._connection.pragma(name) for name in ("application_id", "user_version"))
            schema = self._connection.execute("SELECT sql FROM sqlite_schema ORDER BY rowid").fetchall()
        if found != (APPLICATION_ID, SCHEMA_VERSION):
            message = f"expected application id and version {(APPLICATION_ID, SCHEMA_VERSION)}, got {found}"
            raise VerificationError(_PART, message)
        if tuple(row[0] for row in schema) != SCHEMA:
            raise VerificationError(_PART, "the schema isn't ours")

    def check_integrity(self) -> None:
        with _as_verification_error():
            findings = str(self._connection.execute("PRAGMA integrity_check(1)").get)
        if findings != "ok":
            raise VerificationError(_PART, "sqlite integrity check: " + " ".join(findings.split()))
        check_seal(self._path)

    def entries(self) -> Iterator[StoredEntry]:
        with _as_storage_error():
            rows = self._connection.execute(
                "SELECT idx, lower(hex(entry_id)), type, time, service, model, status, actor, hashes, entry, key_ref, sealed,"
                " erasure FROM entries LEFT JOIN facts USING (idx) LEFT JOIN payloads USING (idx) ORDER BY idx"
            )
            for row in rows:
                columns, nodes, entry, (key_ref, sealed, erasure) = row[:8], row[8], row[9], row[10:]
                _check_types((nodes, entry), bytes, bytes)
                payload = None if key_ref is None else _payload(key_ref, sealed, erasure)
                yield StoredEntry(EntrySummary(*columns), nodes, entry, payload)

    def checkpoints(self) -> Iterator[StoredCheckpoint]:
        with _as_storage_error():
            for size, note in self._connection.execute("SELECT size, note FROM checkpoints ORDER BY size"):
                _check_types((size, note), int, bytes)
                yield StoredCheckpoint(TreeSize(size), note)

    def anchors(self) -> Iterator[Anchor]:
        with _as_storage_error():
            rows = self._connection.execute(
                "SELECT size, kind, authority, evidence, time FROM anchors ORDER BY size, authority"
            )
            for row in rows:
                _check_types(row, int, str, str, bytes, str)
                yield Anchor(*row)

    def erasures(self) -> Iterator[Erasure]:
        with _as_storage_error():
            for row in self._connection.execute("SELECT id, salt FROM erasures ORDER BY id"):
                _check_types(row, str, bytes)
                yield Erasure(*row)

    def stray_index(self, size: TreeSize) -> int | None:
        with _as_storage_error():
            for table in ("facts", "payloads"):
                statement = f"SELECT idx FROM {table} WHERE idx < 0 OR idx >= ? LIMIT 1"  # noqa: S608 - fixed names
                for (index,) in self._connection.execute(statement, (size,)):
                    return int(index)
        return None

    def close(self) -> None:
        self._connection.close()


def _open(path: Path) -> apsw.Connection:
    may_write = os.access(path.parent, os.W_OK)
    has_wal = path.with_name(f"{path.name}-wal").exists()
    try:
        if may_write or has_wal:
            return connect(path, apsw.SQLITE_OPEN_READONLY)
        uri = f"file:{quote(str(path.absolute()))}?immutable=1"
        return connect(uri, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.BusyError, apsw.PermissionsError) as exc:
        why = _described(exc)
        if not os.access(path, os.R_OK):
            why = "this account may not read it"
        elif has_wal and not may_write:
            why = (
                "its write-ahead log (it is in use, or wasn't closed) needs a folder that can be written: verify a copy"
            )
        message = f"store {path.name}: {why}"
        raise StorageError(message) from exc


def _payload(*row: Any) -> StoredPayload:
    _check_types(row, int, bytes | None, str)
    return StoredPayload(*row)


def _check_types(values: Sequence[object], *types: type | UnionType) -> None:
    """Returns if each value is of the type that its column has in our schema: whoever writes to the file can change that."""
    if not all(isinstance(value, kind) for value, kind in zip(values, types, strict=True)):
        raise StorageError("a column holds another type than its own")


@contextmanager
def _as_storage_error() -> Iterator[None]:
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as exc:
        raise StorageError(_described(exc)) from exc


@contextmanager
def _as_verification_error() -> Iterator[None]:
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as exc:
        raise VerificationError(_PART, _described(exc)) from exc


def _described(exc: Exception) -> str:
    return f"sqlite: {type(exc).__name__}"
