"""A small SQLite file that all worker processes share and that outlives them: `open_shared`.

WAL with synchronous=NORMAL: a killed process loses nothing; a power cut may lose the last moments. What must outlive that too
is written with synchronous=FULL by whoever writes it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from audit.storage.sqlite_schema import check_sqlite_version

_BUSY_TIMEOUT_MS = 2_000


def open_shared(path: Path, schema: Sequence[str]) -> apsw.Connection:
    """A connection to the file at `path`, made with `schema` if it isn't there, readable by its owner alone.

    Raises:
        apsw.Error, OSError: it can't be opened, or is no database.
    """
    check_sqlite_version(apsw.sqlitelibversion())
    with _alone(path.with_name(f"{path.name}.lock")):
        path.touch(mode=0o600)
        path.chmod(0o600)  # also one that was made before; SQLite gives its side files the same rights
        return _connect(path, schema)


def file_identity(path: Path) -> tuple[int, int]:
    """Which file `path` leads to: another one after it was deleted or replaced, which an open connection doesn't notice.

    Raises:
        OSError: it leads nowhere.
    """
    status = path.stat()
    return status.st_dev, status.st_ino


@contextmanager
def _alone(lock_file: Path) -> Iterator[None]:
    """Workers start together, and SQLite gives up at once when two set WAL mode: they queue here."""
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _connect(path: Path, schema: Sequence[str]) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
        connection.pragma("journal_mode", "WAL")  # one by one: apsw runs a text of several only as far as the first row
        connection.pragma("synchronous", "NORMAL")
        connection.pragma("trusted_schema", False)
        for statement in schema:
            connection.execute(statement)
    except apsw.Error:
        connection.close()
        raise
    return connection
