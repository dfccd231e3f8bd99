import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from audit.errors import AppendError, RollbackError, StorageError
from audit.storage.sqlite import SqliteStorage
from audit.storage.sqlite_scan import SqliteScan
from audit.storage.sqlite_schema import check_sqlite_version
from audit.verify import Trust, verify_log
from tests.programs import need

KEEP_TWO = """
import sys
from pathlib import Path
from audit.storage import Anchor
from audit.storage.sqlite import SqliteStorage
storage = SqliteStorage(Path(sys.argv[1]))
for authority in ("one", "other"):
    storage.keep_anchor(Anchor(0, "rfc3161", authority, b"stamp", "2026-03-01T09:00:00.000000Z"))
"""


@pytest.mark.parametrize("version", ["3.40.1", "3.44.5", "3.50.6", "3.51.2", "3.49.1", "2.99.99"])
def test_sqlite_that_can_lose_committed_rows_is_refused(version: str) -> None:
    with pytest.raises(StorageError, match="can lose committed entries"):
        check_sqlite_version(version)


@pytest.mark.parametrize("version", ["3.44.6", "3.50.7", "3.51.3", "3.54.1", "4.0.0"])
def test_sqlite_that_is_fixed_is_accepted(version: str) -> None:
    check_sqlite_version(version)


def test_sqlite_brought_along_is_fixed() -> None:
    check_sqlite_version(apsw.sqlitelibversion())


def test_sqlite_writes_with_full_synchronisation_in_wal_mode(make_log) -> None:
    config, _ = make_log()
    storage = SqliteStorage(config.directory)
    with storage.exclusive() as transaction:
        connection = transaction._connection
        assert (connection.pragma("synchronous"), connection.pragma("journal_mode")) == (2, "wal")
    storage.close()


def test_sqlite_store_is_for_its_owner_only(make_log) -> None:
    config, _ = make_log()
    assert (config.directory / "log.sqlite3").stat().st_mode & 0o077 == 0


def test_sqlite_refuses_a_file_that_is_no_log(make_log, tmp_path) -> None:
    config, _ = make_log()
    (config.directory / "log.sqlite3").unlink()
    with pytest.raises(StorageError):
        SqliteStorage(config.directory)
    connection = sqlite3.connect(config.directory / "log.sqlite3")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(StorageError, match="expected a log of version 2"):
        SqliteStorage(config.directory)


def test_sqlite_leaves_nothing_of_a_batch_that_was_not_appended(make_log) -> None:
    config, _ = make_log()
    storage = SqliteStorage(config.directory)
    before = storage.newest_checkpoint()
    with pytest.raises(ZeroDivisionError), storage.exclusive():
        raise ZeroDivisionError
    with storage.exclusive() as transaction:
        assert transaction.newest_checkpoint() == before
    storage.close()


def test_sqlite_store_is_sealed_when_closed_and_unsealed_by_the_next_append(make_log, open_log, make_entry) -> None:
    config, _ = make_log()
    seal = config.directory / "log.sqlite3.seal"
    log = open_log(config)
    log.append(*make_entry(log))
    assert not seal.exists()
    log.close()
    assert seal.read_text().startswith("sha256 ")
    log = open_log(config)
    assert seal.exists()
    log.append(*make_entry(log))
    assert not seal.exists()


def test_sqlite_store_in_use_elsewhere_is_not_left_with_a_seal_that_lies(make_log, open_log, make_entry) -> None:
    config, keys = make_log()
    first, second = open_log(config), open_log(config)
    first.append(*make_entry(first))
    second.append(*make_entry(second))
    first.close()
    second.append(*make_entry(second))
    verify_log(SqliteScan(config.directory), Trust((keys.signer.verifier_key,)))
    second.close()
    verify_log(SqliteScan(config.directory), Trust((keys.signer.verifier_key,)))


def _copy(config, path) -> None:
    """A backup as SQLite makes it: one file, whole. By the library that has the log open: another one's locks would collide."""
    source, target = (apsw.Connection(str(one)) for one in (config.directory / "log.sqlite3", path))
    with target.backup("main", source, "main") as backup:
        backup.step()
    source.close()
    target.close()


def test_sqlite_store_replaced_under_way_takes_no_more_entries(make_log, open_log, make_entry, tmp_path) -> None:
    config, _ = make_log()
    log = open_log(config)
    log.append(*make_entry(log))
    _copy(config, tmp_path / "backup")
    log.append(*make_entry(log))
    for name in ("log.sqlite3-wal", "log.sqlite3-shm"):
        (config.directory / name).unlink(missing_ok=True)
    (tmp_path / "backup").replace(config.directory / "log.sqlite3")
    with pytest.raises(AppendError, match="another file was put in the place of the open one"):
        log.append(*make_entry(log))
    for _ in range(2):
        with pytest.raises(AppendError, match="rolled back"):
            log.append(*make_entry(log))
    assert log.storage.newest_checkpoint().size == 1
    log.close()
    with pytest.raises(RollbackError):
        open_log(config)


def test_sqlite_store_moved_away_and_back_goes_on(make_log, open_log, make_entry, tmp_path) -> None:
    """The same log under the same name, in another file: after the batch that finds it out, appends go on in that file."""
    config, keys = make_log()
    log = open_log(config)
    log.append(*make_entry(log))
    _copy(config, tmp_path / "backup")
    for name in ("log.sqlite3-wal", "log.sqlite3-shm"):
        (config.directory / name).unlink(missing_ok=True)
    (tmp_path / "backup").replace(config.directory / "log.sqlite3")
    with pytest.raises(AppendError, match="another file was put in the place"):
        log.append(*make_entry(log))
    assert log.append(*make_entry(log)).index == 2  # after the gap
    log.close()
    assert verify_log(SqliteScan(config.directory), Trust((keys.signer.verifier_key,))).entries == 3


def test_sqlite_store_that_is_gone_takes_no_entries(make_log, open_log, make_entry, tmp_path) -> None:
    config, _ = make_log()
    log = open_log(config)
    log.append(*make_entry(log))
    (config.directory / "log.sqlite3").rename(tmp_path / "elsewhere")
    with pytest.raises(AppendError, match="can't write: FileNotFoundError"):
        log.append(*make_entry(log))
    (tmp_path / "elsewhere").rename(config.directory / "log.sqlite3")
    assert log.append(*make_entry(log)).index == 2


def test_sqlite_seal_is_durably_gone_before_the_commit_that_it_would_belie(make_log, open_log, tmp_path) -> None:
    """As the kernel sees it: or a power cut brought the seal back, and the log would look changed."""
    config, _ = make_log()
    open_log(config).close()
    assert (config.directory / "log.sqlite3.seal").exists()
    calls = tmp_path / "calls"
    command = [need("strace"), "-f", "-y", "-e", "trace=fsync,fdatasync,unlink,unlinkat,pwrite64", "-o", str(calls)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    script = [sys.executable, "-c", KEEP_TWO, str(config.directory)]
    subprocess.run([*command, *script], check=True, timeout=60, env=environment)
    lines = [line for line in calls.read_text().splitlines() if str(config.directory) in line]
    (gone,) = [number for number, line in enumerate(lines) if "log.sqlite3.seal" in line and line.endswith(" = 0")]
    synced = [number for number, line in enumerate(lines) if "fsync(" in line and f"<{config.directory}>" in line]
    assert [number for number in synced if number >= gone] == [gone + 1]
    assert any("pwrite64" in line and "-wal>" in line for line in lines[gone + 2 :])
