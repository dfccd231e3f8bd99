from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from cds_service.jti_store import AuthenticationUnavailableError, JtiStore

ROOT = Path(__file__).parents[2]
ISSUER, JTI = "https://ehr.example.org", "canary-5b21"
NOW, LATER = 1_800_000_000, 1_800_000_300


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jti.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[JtiStore]:
    opened = JtiStore.open(path)
    yield opened
    opened.close()


def rows(path: Path) -> list[tuple[bytes, int]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found = list(connection.execute("SELECT token, expires_at FROM spent"))
    connection.close()
    return found


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs `code` with the store's module imported."""
    preamble = "import os, signal, sys, time\nfrom pathlib import Path\nfrom cds_service.jti_store import JtiStore\n"
    return subprocess.Popen(
        [sys.executable, "-c", preamble + code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_jti_store_token_is_fresh_once(store: JtiStore) -> None:
    assert store.spend(ISSUER, JTI, LATER, NOW)
    assert not store.spend(ISSUER, JTI, LATER, NOW)
    assert not store.spend(ISSUER, JTI, LATER + 60, NOW + 60)


def test_jti_store_knows_issuers_and_ids_apart(store: JtiStore) -> None:
    assert store.spend("ab", "c", LATER, NOW)
    assert store.spend("a", "bc", LATER, NOW)
    assert store.spend("abc", "", LATER, NOW)


def test_jti_store_takes_any_text(store: JtiStore) -> None:
    for text in ("\ud800", "\0", "é" * 256, "' OR 1 --"):
        assert store.spend(ISSUER, text, LATER, NOW)
        assert not store.spend(ISSUER, text, LATER, NOW)


def test_jti_store_remembers_after_reopening(path: Path, store: JtiStore) -> None:
    assert store.spend(ISSUER, JTI, LATER, NOW)
    second = JtiStore.open(path)
    assert not second.spend(ISSUER, JTI, LATER, NOW)
    second.close()


def test_jti_store_keeps_no_text_of_a_token(path: Path, store: JtiStore) -> None:
    store.spend(ISSUER, JTI, LATER, NOW)
    held = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert JTI.encode() not in held
    assert ISSUER.encode() not in held
    assert [(len(token), until) for token, until in rows(path)] == [(32, LATER)]


def test_jti_store_files_are_their_owners_alone(path: Path) -> None:
    path.touch(mode=0o644)
    store = JtiStore.open(path)
    store.spend(ISSUER, JTI, LATER, NOW)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    store.close()
    assert len(modes) == 4
    assert set(modes.values()) == {0o600}


def test_jti_store_is_durable_against_a_killed_process_only(store: JtiStore) -> None:
    assert store._connection.pragma("journal_mode") == "wal"
    assert store._connection.pragma("synchronous") == 1  # NORMAL
    assert store._connection.pragma("trusted_schema") == 0


def test_jti_store_clears_away_what_has_expired_and_nothing_else(path: Path, store: JtiStore) -> None:
    for number in range(300):
        store.spend(ISSUER, f"old-{number}", NOW - 1, NOW - 300)
    for number in range(300):
        store.spend(ISSUER, f"new-{number}", LATER, NOW)
    assert [until for _, until in rows(path)] == [LATER] * 300
    assert not any(store.spend(ISSUER, f"new-{number}", LATER, NOW) for number in range(300))


def test_jti_store_lets_one_of_many_threads_have_a_token(store: JtiStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        for round_ in range(20):
            fresh = pool.map(lambda _, jti=f"jti-{round_}": store.spend(ISSUER, jti, LATER, NOW), range(8))
            assert sum(fresh) == 1


def test_jti_store_lets_one_of_several_processes_have_each_token(path: Path) -> None:
    code = """
path, at = Path(sys.argv[1]), float(sys.argv[2])
while time.time() < at:
    pass
store = JtiStore.open(path)
print(*(number for number in range(200) if store.spend("i", str(number), 2_000_000_000, 1)))
"""
    at = str(time.time() + 1.0)
    workers = [started(code, str(path), at) for _ in range(3)]
    outputs = [worker.communicate(timeout=30)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(int(number) for output in outputs for number in output.split()) == list(range(200))


def test_jti_store_is_opened_by_one_worker_after_the_other(path: Path) -> None:
    with ThreadPoolExecutor(1) as pool, path.with_name("jti.sqlite3.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        opening = pool.submit(JtiStore.open, path)
        with pytest.raises(TimeoutError):
            opening.result(0.2)
        fcntl.flock(lock, fcntl.LOCK_UN)
        opening.result(10).close()


def test_jti_store_remembers_what_a_killed_process_spent(path: Path) -> None:
    code = f"""
store = JtiStore.open(Path(sys.argv[1]))
assert store.spend({ISSUER!r}, {JTI!r}, {LATER}, {NOW})
os.kill(os.getpid(), signal.SIGKILL)
"""
    worker = started(code, str(path))
    worker.communicate(timeout=30)
    assert worker.returncode == -signal.SIGKILL
    store = JtiStore.open(path)
    assert not store.spend(ISSUER, JTI, LATER, NOW)
    store.close()


def test_jti_store_that_is_no_database_cannot_be_opened(path: Path) -> None:
    path.write_bytes(b"not a database, and long enough to be read as one" * 100)
    with pytest.raises(AuthenticationUnavailableError, match="can't be opened"):
        JtiStore.open(path)


def test_jti_store_without_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationUnavailableError, match="can't be opened"):
        JtiStore.open(tmp_path / "missing" / "jti.sqlite3")


def test_jti_store_that_another_holds_is_unavailable(path: Path, store: JtiStore) -> None:
    store._connection.set_busy_timeout(50)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(AuthenticationUnavailableError) as failure:
        store.spend(ISSUER, JTI, LATER, NOW)
    assert (failure.value.issue, str(failure.value)) == ("transient", "store of used tokens: can't be written")
    other.execute("ROLLBACK")
    other.close()
    assert store.spend(ISSUER, JTI, LATER, NOW)


def test_jti_store_that_is_full_takes_no_token(path: Path, store: JtiStore) -> None:
    store._connection.pragma("max_page_count", store._connection.pragma("page_count"))
    with pytest.raises(AuthenticationUnavailableError):
        all(store.spend(ISSUER, str(number), LATER, NOW) for number in range(1_000))
    store._connection.pragma("max_page_count", 1_000_000)
    assert store.spend(ISSUER, str(len(rows(path))), LATER, NOW)
