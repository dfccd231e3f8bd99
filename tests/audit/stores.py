"""The stores that a log can lie in, for tests that hold for each: `@both_stores`, or `pytestmark = both_stores`.

`make_log` then makes its log in the one or the other; `StoreFiles` copies, puts back and changes what it made, as an operator
who writes no code of ours would.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Protocol

import pytest

from audit.log import LogConfig
from audit.storage.opening import read_place
from benchmarks.drills.postgresql_server import PostgresqlServer

both_stores = pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)

_SQLITE_FILES = ("log.sqlite3", "log.sqlite3-wal", "log.sqlite3-shm")


class StoreFiles(Protocol):
    """What lies under a log, in whatever form."""

    def copy(self, config: LogConfig) -> dict[str, bytes]: ...

    def put_back(self, config: LogConfig, copy: dict[str, bytes]) -> None: ...

    def change(self, config: LogConfig, statement: str) -> None: ...


class SqliteFiles:
    def copy(self, config: LogConfig) -> dict[str, bytes]:
        paths = [config.directory / name for name in _SQLITE_FILES]
        return {path.name: path.read_bytes() for path in paths if path.exists()}

    def put_back(self, config: LogConfig, copy: dict[str, bytes]) -> None:
        for name in _SQLITE_FILES:
            (config.directory / name).unlink(missing_ok=True)
        for name, data in copy.items():
            (config.directory / name).write_bytes(data)

    def change(self, config: LogConfig, statement: str) -> None:
        with sqlite3.connect(config.directory / "log.sqlite3") as connection:
            connection.execute(statement)
        connection.close()


class PostgresqlFiles:
    def __init__(self, server: PostgresqlServer) -> None:
        self._server = server

    def copy(self, config: LogConfig) -> dict[str, bytes]:
        return {"dump": self._server.run("pg_dump", "--schema", _schema(config.directory))}

    def put_back(self, config: LogConfig, copy: dict[str, bytes]) -> None:
        self._psql(f"DROP SCHEMA {_schema(config.directory)} CASCADE")
        self._server.run("psql", "-qX", "-v", "ON_ERROR_STOP=1", given=copy["dump"])

    def change(self, config: LogConfig, statement: str) -> None:
        """The statement in SQLite's words, by the schema's owner, who takes the trigger away for it."""
        statement = re.sub(r"x'([0-9a-f]*)'", r"'\\x\1'", statement)
        tables = [table for table in ("entries", "facts", "checkpoints") if re.search(rf"\b{table}\b", statement)]
        ways = [
            [f"ALTER TABLE {table} {way} TRIGGER only_grows" for table in tables]
            for way in ("DISABLE", "ENABLE ALWAYS")
        ]
        self._psql(f"SET search_path = {_schema(config.directory)}", *ways[0], statement, *ways[1])

    def _psql(self, *statements: str) -> None:
        commands = [part for statement in statements for part in ("-c", statement)]
        self._server.run("psql", "-qX", "-v", "ON_ERROR_STOP=1", *commands)


def _schema(directory: Path) -> str:
    place = read_place(directory)
    assert place is not None
    return place.schema
