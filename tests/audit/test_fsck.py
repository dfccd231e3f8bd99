import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from audit import fsck
from audit.checkpoint import sign_checkpoint
from audit.fsck import NOTE, OK, PROBLEM, REPAIRED, Place, examine
from audit.keys import load_keys
from audit.log import AuditLog
from audit.rotation import retire, rotate
from audit.storage.vault_store import CustodyRequest
from audit.vault import patient_subject
from tests.audit.test_head_guard import _inject
from tests.audit.test_rotation import _opener


def _place(log_or_directory: AuditLog | Path, **changes: object) -> Place:
    directory = log_or_directory if isinstance(log_or_directory, Path) else log_or_directory.config.directory
    return replace(Place(directory, datetime.now(UTC)), **changes)  # type: ignore[arg-type]


def _levels(place: Place) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in examine(place):
        found.setdefault(finding.part, []).append(finding.level)
    return found


def _text(place: Place, part: str) -> str:
    return "\n".join(finding.text for finding in examine(place) if finding.part == part)


@pytest.fixture
def directory(make_log: Callable, open_log: Callable, make_entry: Callable) -> Path:
    """A closed log of three entries with payloads."""
    config, _ = make_log()
    log: AuditLog = open_log(config)
    for _ in range(3):
        log.append(*make_entry(log, b"payload"))
    log.close()
    return config.directory


def test_fsck_of_a_log_in_order_finds_nothing(directory: Path) -> None:
    levels = _levels(_place(directory))
    assert set(levels) == set(fsck.CHECKS)
    assert {level for found in levels.values() for level in found} == {OK}


def test_fsck_without_repair_changes_nothing(directory: Path) -> None:
    (directory / "log.sqlite3.seal").unlink()
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    list(examine(_place(directory)))
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_fsck_beside_a_writer_finds_nothing_but_a_missing_seal(log: AuditLog, make_entry: Callable) -> None:
    log.append(*make_entry(log, b"payload"))
    levels = _levels(_place(log))
    assert levels.pop("seal") == [NOTE]
    assert {level for found in levels.values() for level in found} == {OK}


def test_fsck_seals_what_was_not_closed_cleanly(directory: Path) -> None:
    seal = directory / "log.sqlite3.seal"
    seal.unlink()
    assert _levels(_place(directory))["seal"] == [NOTE]
    assert _levels(_place(directory, repair=True))["seal"] == [REPAIRED]
    assert seal.exists()
    assert _levels(_place(directory))["seal"] == [OK]


def test_fsck_brings_up_a_head_that_lags_behind(directory: Path, open_log: Callable, make_entry: Callable) -> None:
    head = directory / "head"
    connection = apsw.Connection(str(directory / "log.sqlite3"))
    newest, older = (connection.execute("SELECT note FROM checkpoints WHERE size = ?", (size,)).get for size in (3, 2))
    connection.close()
    head.write_bytes(older)
    assert _levels(_place(directory))["head"] == [NOTE]
    assert head.read_bytes() == older
    assert _levels(_place(directory, repair=True))["head"] == [REPAIRED]
    assert head.read_bytes() == newest


def test_fsck_never_repairs_a_head_that_is_ahead(directory: Path) -> None:
    connection = apsw.Connection(str(directory / "log.sqlite3"))
    connection.execute("DELETE FROM checkpoints WHERE size = 3")
    connection.close()
    head = (directory / "head").read_bytes()
    place = _place(directory, repair=True)
    assert _levels(place)["head"] == [PROBLEM]
    assert "ahead of the store: the log was rolled back\nknown head:" in _text(place, "head")
    assert (directory / "head").read_bytes() == head


@pytest.mark.parametrize("content", [b"", bytes(200), b"text\n"])
def test_fsck_names_a_head_that_is_none(directory: Path, content: bytes) -> None:
    (directory / "head").write_bytes(content)
    assert _levels(_place(directory, repair=True))["head"] == [PROBLEM]
    assert (directory / "head").read_bytes() == content


def test_fsck_names_files_that_others_may_read(directory: Path) -> None:
    (directory / "keys").chmod(0o755)
    assert "keys: expected mode 0700, got 0755" in _text(_place(directory), "private files")
    (directory / "keys").chmod(0o700)
    (directory / "keys" / "index.key").chmod(0o640)
    assert "index.key: expected mode 0600" in _text(_place(directory), "private files")


def test_fsck_names_a_key_that_nobody_could_verify(directory: Path) -> None:
    vkey = directory / "log.vkey"
    vkey.write_text("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n")
    levels = _levels(_place(directory))
    assert levels["private files"] == [PROBLEM, OK]


def test_fsck_finds_damage_in_the_store(directory: Path) -> None:
    database = directory / "log.sqlite3"
    data = bytearray(database.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
    database.write_bytes(data)
    assert _levels(_place(directory))["store"] == [PROBLEM]
    connection = apsw.Connection(str(database))
    connection.close()
    assert _levels(_place(directory, quick=True))["store"] == [OK]


def test_fsck_finds_payloads_whose_key_is_gone(directory: Path, tmp_path: Path) -> None:
    connection = apsw.Connection(str(directory / "vault.sqlite3"))
    connection.execute("DELETE FROM patient_keys")
    connection.close()
    place = _place(directory)
    assert _levels(place)["vault"] == [PROBLEM, OK]
    assert "keys of payloads are missing, first key 1 of entry 0" in _text(place, "vault")


def test_fsck_notes_keys_without_payload(log: AuditLog) -> None:
    log.vault.key_for(patient_subject("nobody"))
    assert _levels(_place(log))["vault"] == [OK, NOTE]


def test_fsck_finds_an_erasure_that_is_half_done(log: AuditLog) -> None:
    request = CustodyRequest("ab" * 16, "erasure", b"{}", "taken", "2026-03-01T08:00:00.000000Z", ())
    log.vault.store.put_request(request)
    place = _place(log)
    assert _levels(place)["requests"] == [PROBLEM]
    assert f"erasure {'ab' * 16} is taken since" in _text(place, "requests")


def test_fsck_notes_refusals_that_died_with_their_process(directory: Path) -> None:
    gap = {"reason": "storage", "since": "2026-03-01T08:00:00.000000Z", "unacknowledged": 7}
    (directory / "gaps" / "dead.gap").write_bytes(json.dumps(gap).encode().ljust(256))
    place = _place(directory)
    assert _levels(place)["gaps"] == [NOTE]
    assert "7 refusals by 1 processes" in _text(place, "gaps")
    assert (directory / "gaps" / "dead.gap").exists()


@pytest.mark.parametrize("name", ["keys/.signing.key.draft-77", "head.tmp", "log.sqlite3.new"])
def test_fsck_removes_what_a_killed_process_left_half_written(directory: Path, name: str) -> None:
    path = directory / name
    path.write_bytes(b"half")
    assert _levels(_place(directory, repair=True))["leftovers"] == [NOTE]
    assert path.exists()
    old = time.time() - timedelta(hours=1).total_seconds()
    os.utime(path, (old, old))
    assert _levels(_place(directory))["leftovers"] == [PROBLEM]
    assert path.exists()
    assert _levels(_place(directory, repair=True))["leftovers"] == [REPAIRED]
    assert not path.exists()


def test_fsck_looks_where_it_is_told(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    for path in directory.glob("vault.*"):
        shutil.move(path, tmp_path / "vault")
    shutil.move(directory / "head", tmp_path / "head")
    levels = _levels(_place(directory))
    assert (levels["head"], levels["vault"]) == ([PROBLEM], [PROBLEM])
    levels = _levels(_place(directory, vault_directory=tmp_path / "vault", head_path=tmp_path / "head"))
    assert {level for found in levels.values() for level in found} == {OK}


def test_fsck_tells_when_the_disk_or_the_write_ahead_log_is_full(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsck, "MIN_FREE_BYTES", 1 << 62)
    assert _levels(_place(directory))["space"] == [PROBLEM]
    wal = directory / "log.sqlite3-wal"
    with wal.open("wb") as file:
        file.truncate(fsck.MAX_WAL_BYTES + 1)
    assert "keeps it from being moved" in _text(_place(directory), "write-ahead log")


def test_fsck_never_takes_a_head_that_only_a_retired_key_signed(make_log: Callable) -> None:
    config, _ = make_log()
    directory, now = config.directory, datetime.now(UTC)
    stolen = load_keys(directory).signers
    rotate(directory, _opener(config), now, os.urandom)
    retire(directory, _opener(config), now)
    head = (directory / "head").read_bytes()
    _inject(config, lambda checkpoint: sign_checkpoint(checkpoint, stolen))
    place = _place(directory, repair=True)
    assert _levels(place)["head"] == [PROBLEM]
    assert "is signed by retired keys only" in _text(place, "head")
    assert (directory / "head").read_bytes() == head
