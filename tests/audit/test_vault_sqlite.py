import fcntl
import os
import random
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from audit.errors import StorageError
from audit.storage.sqlite_schema import connect
from audit.storage.vault_sqlite import VAULT_FILE, SqliteVaultStore, create_vault
from audit.storage.vault_store import Rewrapped

NOW = "2026-03-01T08:00:00.000000Z"
WRAPPING = "wrap:00000001"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteVaultStore]:
    create_vault(tmp_path)
    opened = SqliteVaultStore(tmp_path)
    yield opened
    opened.close()


def _content(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def _pieces_left(content: bytes, secrets: list[bytes]) -> int:
    """Of how many secrets any 8 bytes are in `content`."""
    windows = {content[start : start + 8] for start in range(len(content) - 7)}
    return sum(any(secret[at : at + 8] in windows for at in range(len(secret) - 7)) for secret in secrets)


def test_vault_sqlite_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    create_vault(tmp_path)
    assert stat.S_IMODE((tmp_path / VAULT_FILE).stat().st_mode) == 0o600
    with pytest.raises(StorageError, match="exists already"):
        create_vault(tmp_path)


def test_vault_sqlite_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "vault.new").write_bytes(b"SQLite format 3\0")
    (tmp_path / "vault.new-wal").write_bytes(b"rest")
    create_vault(tmp_path)
    SqliteVaultStore(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vault.lock", VAULT_FILE]


def test_vault_sqlite_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can't open"):
        SqliteVaultStore(tmp_path)
    assert not (tmp_path / VAULT_FILE).exists()


def test_vault_sqlite_another_file_is_refused(tmp_path: Path) -> None:
    connection = connect(tmp_path / VAULT_FILE, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
    connection.execute("CREATE TABLE patient_keys (x)")
    connection.close()
    with pytest.raises(StorageError, match="expected one of version 1"):
        SqliteVaultStore(tmp_path)


def test_vault_sqlite_commits_durably(store: SqliteVaultStore, tmp_path: Path) -> None:
    """synchronous=FULL and WAL: what a power cut leaves is what was committed."""
    with store._transaction() as connection:
        assert connection.pragma("synchronous") == 2
        assert connection.pragma("journal_mode") == "wal"
        assert connection.pragma("secure_delete") == 1


def test_vault_sqlite_scrubbed_leaves_nothing_of_what_was_destroyed_or_rewrapped(
    store: SqliteVaultStore, tmp_path: Path
) -> None:
    """Also no stale copy of a row that moved when a page was split: with this seed one is left unless the file is rewritten."""
    order = random.Random(2)
    keys = [store.keep_key(order.randbytes(32), order.randbytes(61), WRAPPING, NOW) for _ in range(1_000)]
    destroyed = order.sample(keys, 300)
    rest = [key for key in keys if key not in destroyed]
    rewrapped = [Rewrapped(key.key_ref, key.wrapped, order.randbytes(61)) for key in rest[:300]]
    store.destroy_keys([key.key_ref for key in destroyed], NOW)
    store.replace_wrapped(rewrapped, "wrap:00000002")
    assert _pieces_left(_content(tmp_path), [key.wrapped for key in destroyed]) > 0
    store.scrub()
    content = _content(tmp_path)
    assert _pieces_left(content, [key.wrapped for key in destroyed]) == 0
    assert _pieces_left(content, [key.lookup for key in destroyed]) == 0
    assert _pieces_left(content, [key.before for key in rewrapped]) == 0
    assert _pieces_left(content, [key.lookup for key in rest]) == len(rest)
    assert store.key(rest[-1].lookup) == rest[-1]


def test_vault_sqlite_a_write_that_cannot_begin_fails_in_time(tmp_path: Path) -> None:
    create_vault(tmp_path)
    store = SqliteVaultStore(tmp_path, wait_s=0.05)
    known = store.keep_key(b"\x01" * 32, b"wrapped", WRAPPING, NOW)
    with (tmp_path / "vault.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        began = time.monotonic()
        with pytest.raises(StorageError, match="can't lock"):
            store.keep_key(b"\x02" * 32, b"wrapped", WRAPPING, NOW)
        assert time.monotonic() - began < 5
        assert store.key(b"\x01" * 32) == known
    assert store.keep_key(b"\x02" * 32, b"again", WRAPPING, NOW).wrapped == b"again"
    store.close()


def test_vault_sqlite_one_thread_writes_for_all_that_wait(store: SqliteVaultStore, tmp_path: Path) -> None:
    """New keys that come together cost one commit."""
    store.keep_key(b"\xff" * 32, b"wrapped", WRAPPING, NOW)
    commits: list[int] = []
    assert store._writer is not None
    store._writer.set_commit_hook(lambda: bool(commits.append(1)))
    with (tmp_path / "vault.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        makers = [
            threading.Thread(target=store.keep_key, args=(bytes([number]) * 32, b"wrapped", WRAPPING, NOW))
            for number in range(8)
        ]
        for maker in makers:
            maker.start()
        until = time.monotonic() + 10
        while len(store._waiting) < 8:
            assert time.monotonic() < until
            time.sleep(0.001)
    for maker in makers:
        maker.join()
    assert len(commits) == 1
    assert all(store.key(bytes([number]) * 32) for number in range(8))


def test_vault_sqlite_replaced_under_us_is_not_used_on(store: SqliteVaultStore, tmp_path: Path) -> None:
    kept = store.keep_key(b"\x01" * 32, b"wrapped", WRAPPING, NOW)
    store.scrub()
    shutil.copy(tmp_path / VAULT_FILE, tmp_path / "backup")
    os.replace(tmp_path / "backup", tmp_path / VAULT_FILE)
    with pytest.raises(StorageError, match="replaced"):
        store.key_at(kept.key_ref)
    with pytest.raises(StorageError, match="replaced"):
        store.keep_key(b"\x02" * 32, b"wrapped", WRAPPING, NOW)


def test_vault_sqlite_after_a_failed_write_it_writes_again(store: SqliteVaultStore) -> None:
    with pytest.raises(StorageError, match="can't write: ConstraintError"):
        store.keep_key(b"too short", b"wrapped", WRAPPING, NOW)
    assert store.newest_key_ref() == 0
    assert store.keep_key(b"\x01" * 32, b"wrapped", WRAPPING, NOW).key_ref == 1
