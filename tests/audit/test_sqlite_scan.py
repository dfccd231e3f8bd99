from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from audit.errors import StorageError, VerificationError
from audit.keys import KeyRing
from audit.log import AuditLog, LogConfig
from audit.storage import Anchor
from audit.storage.opening import open_storage
from audit.storage.sqlite_scan import SqliteScan
from audit.verify import LogReport, Trust, verify_log

MakeLog = Callable[..., tuple[LogConfig, KeyRing]]
_NOBODY = 65_534
TIME = "2026-03-01T09:00:00.000000Z"


@pytest.fixture
def closed(make_log: MakeLog, open_log: Callable[[LogConfig], AuditLog], make_entry: Callable) -> tuple[Path, Trust]:
    """A closed log of three entries with a payload each, a time stamp kept for its head; and what to trust."""
    config, keys = make_log()
    log = open_log(config)
    log.append_all([make_entry(log, b"payload") for _ in range(3)])
    log.close()
    storage = open_storage(config.directory)
    storage.keep_anchor(Anchor(storage.newest_checkpoint().size, "rfc3161", "stamps", b"stamp", TIME))
    storage.close()
    (config.directory / "log.sqlite3.seal").unlink(missing_ok=True)
    return config.directory, Trust(keys.verifier_keys)


def _verify(directory: Path, trust: Trust) -> LogReport:
    scan = SqliteScan(directory)
    try:
        return verify_log(scan, trust)
    finally:
        scan.close()


def _change_beyond_its_types(path: Path, table: str, statement: str) -> None:
    """Runs the statement while the table has no types; its schema is ours again afterwards."""
    connection = apsw.Connection(str(path))
    ours = str(connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).get)
    loose = ours.replace(" NOT NULL", "").replace(" STRICT", "").replace(",  WITHOUT", " WITHOUT")
    loose = loose.replace(", WITHOUT", " WITHOUT").replace("(size INTEGER,", "(size ANY,")
    for number, sql in enumerate((loose, ours)):
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, table))
        connection.execute(f"PRAGMA schema_version={1000 + number}")
        connection.close()
        connection = apsw.Connection(str(path))
        if sql == loose:
            connection.execute(statement)
            assert connection.changes() > 0
    connection.close()


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("entries", "UPDATE entries SET hashes = NULL WHERE idx = 1"),
        ("entries", "UPDATE entries SET hashes = 'text' WHERE idx = 1"),
        ("entries", "UPDATE entries SET entry = NULL WHERE idx = 1"),
        ("facts", "UPDATE facts SET time = x'ff' WHERE idx = 1"),
        ("facts", "UPDATE facts SET time = 7 WHERE idx = 1"),
        ("checkpoints", "UPDATE checkpoints SET note = NULL WHERE size = 3"),
        ("payloads", "UPDATE payloads SET key_ref = 'text' WHERE idx = 1"),
        ("payloads", "UPDATE payloads SET key_ref = NULL WHERE idx = 1"),
        ("payloads", "UPDATE payloads SET erasure = NULL, sealed = NULL WHERE idx = 1"),
        ("payloads", "UPDATE payloads SET sealed = 'text' WHERE idx = 1"),
        ("erasures", "INSERT INTO erasures VALUES ('a', 'text')"),
        ("erasures", "INSERT INTO erasures VALUES (x'00', x'01')"),
        ("anchors", "UPDATE anchors SET size = 'text'"),
        ("anchors", "UPDATE anchors SET evidence = 'text'"),
        ("anchors", "UPDATE anchors SET evidence = 'text', kind = 'cosignature'"),
        ("anchors", "UPDATE anchors SET time = x'00'"),
        ("anchors", "UPDATE anchors SET time = 7"),
        ("anchors", "UPDATE anchors SET time = '0001-01-01T00:00:00+23:59'"),
        ("anchors", "UPDATE anchors SET time = '9999-12-31T23:59:59-23:59'"),
    ],
)
def test_sqlite_scan_of_a_value_of_another_type_or_range_is_a_verdict(
    closed: tuple[Path, Trust], table: str, statement: str
) -> None:
    assert _verify(*closed).anchors.timestamps.count == 1
    _change_beyond_its_types(closed[0] / "log.sqlite3", table, statement)
    with pytest.raises(VerificationError):
        _verify(*closed)


@pytest.fixture
def archived(closed: tuple[Path, Trust]) -> Iterator[tuple[Path, Trust]]:
    """A copy of the store that everyone may read and nobody change, in a folder that everyone may enter."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "50% off? #1")
        folder.mkdir()
        shutil.copy(closed[0] / "log.sqlite3", folder)
        Path(place).chmod(0o755)
        (folder / "log.sqlite3").chmod(0o444)
        folder.chmod(0o555)
        yield folder, closed[1]
        folder.chmod(0o755)


def _said(directory: Path, trust: Trust) -> str:
    try:
        return f"{_verify(directory, trust).entries} entries"
    except (VerificationError, StorageError) as exc:
        return f"{type(exc).__name__}: {exc}"


def _said_to_another_account(directory: Path, trust: Trust) -> str:
    """What verifying comes to for an account that isn't root, which nothing is forbidden to."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)
            os.write(writer, _said(directory, trust).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    return said


def test_sqlite_scan_reads_a_closed_store_that_nobody_may_change(archived: tuple[Path, Trust]) -> None:
    assert _said_to_another_account(*archived) == "3 entries"
    assert [path.name for path in archived[0].iterdir()] == ["log.sqlite3"]


def test_sqlite_scan_gives_no_verdict_on_a_store_that_cannot_be_read_here(archived: tuple[Path, Trust]) -> None:
    folder, trust = archived
    folder.chmod(0o755)
    (folder / "log.sqlite3-wal").touch()
    folder.chmod(0o555)
    assert "StorageError: store log.sqlite3: its write-ahead log" in _said_to_another_account(folder, trust)
    folder.chmod(0o755)
    (folder / "log.sqlite3-wal").unlink()
    (folder / "log.sqlite3").chmod(0o000)
    folder.chmod(0o555)
    assert "StorageError: store log.sqlite3: this account may not" in _said_to_another_account(folder, trust)


def test_sqlite_scan_of_a_damaged_archived_store_is_a_verdict(archived: tuple[Path, Trust]) -> None:
    folder, trust = archived
    for data in (b"", b"x" * 4096, (folder / "log.sqlite3").read_bytes()[:5000]):
        (folder / "log.sqlite3").chmod(0o644)
        (folder / "log.sqlite3").write_bytes(data)
        assert _said_to_another_account(folder, trust).startswith("VerificationError: ")
