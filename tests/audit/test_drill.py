import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from audit import drill
from audit.drill import WAYS, Alarm, run_drill
from audit.drill_copy import DrillError, make_copy
from audit.entry import format_entry
from audit.entry_operations import KeyRotationEntry
from audit.keys import load_vkeys
from audit.log import AuditLog
from audit.storage.sqlite_scan import SqliteScan
from audit.verify import Trust, verify_log

SEED = bytes(range(32))
DETECTED = {
    "flip one bit of an entry": "invalid: first bad index 4, entry",
    "drop the last two entries": "invalid: first bad index 7, entry: missing",
    "change a column": "invalid: first bad index 4, columns",
    "swap two entries": "invalid: first bad index 4",
    "sign the checkpoint with another key": "invalid: first bad index 8, checkpoint of size 9: no signature of a trusted",
    "edit the checkpoint": "invalid: first bad index 8, checkpoint of size 9: ed25519 signature doesn't verify",
    "roll back to an earlier checkpoint": "rollback: the log was rolled back",
    "fork: another last entry, signed with the log's key": "fork: the log forked",
    "remove a payload": "invalid: first bad index 8, payload: missing",
    "change a payload": "invalid: first bad index 8, payload: not the one",
}


@pytest.fixture
def fill(make_log: Callable, open_log: Callable, make_entry: Callable) -> Callable[..., Path]:
    """Makes a closed log: fill(entries, plaintext)."""

    def fill_one(count: int, plaintext: bytes | None = b"payload") -> Path:
        config, _ = make_log()
        log: AuditLog = open_log(config)
        for _ in range(count):
            log.append(*make_entry(log, plaintext))
        log.close()
        return config.directory

    return fill_one


def _drill(directory: Path, workspace: Path) -> list[Alarm]:
    scan = SqliteScan(directory)
    try:
        return list(run_drill(scan, workspace, os.urandom, limit=100))
    finally:
        scan.close()


def test_drill_detects_every_way_of_tampering(fill: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "drill").mkdir()
    alarms = _drill(fill(9), tmp_path / "drill")
    assert [alarm.way for alarm in alarms] == list(WAYS) == list(DETECTED)
    for alarm in alarms:
        assert alarm.is_detected
        assert f"{alarm.kind}: {alarm.message}".startswith(DETECTED[alarm.way])
    shown = {alarm.kind: alarm.message for alarm in alarms}
    assert "known head:\nhospital.example" in shown["fork"]
    assert "found head:\nhospital.example" in shown["rollback"]


def test_drill_leaves_the_log_as_it_was(fill: Callable[..., Path], tmp_path: Path) -> None:
    directory = fill(9)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    (tmp_path / "drill").mkdir()
    _drill(directory, tmp_path / "drill")
    assert {path: path.read_bytes() for path in before} == before


def test_drill_never_signs_with_the_logs_key(fill: Callable[..., Path], tmp_path: Path) -> None:
    directory = fill(9)
    scan = SqliteScan(directory)
    copy = make_copy(scan, tmp_path / "copy", SEED, limit=100)
    scan.close()
    (real,) = load_vkeys(directory / "log.vkey")
    assert copy.signer.verifier_key.name == real.name
    assert copy.signer.verifier_key.public_key != real.public_key
    scan = SqliteScan(copy.directory)
    assert verify_log(scan, Trust((copy.signer.verifier_key,), real.name)).entries == 9
    scan.close()


def test_drill_sees_what_a_blind_verification_lets_pass(
    fill: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill, "verify_log", lambda *_: None)
    (tmp_path / "drill").mkdir()
    assert not any(alarm.is_detected for alarm in _drill(fill(6), tmp_path / "drill"))


def test_drill_refuses_a_log_that_is_bad_already(fill: Callable[..., Path], tmp_path: Path) -> None:
    directory = fill(6)
    database = directory / "log.sqlite3"
    data = database.read_bytes()
    database.write_bytes(data.replace(b'"band":"high"', b'"band":"lowr"', 1))
    (tmp_path / "drill").mkdir()
    with pytest.raises(DrillError, match="doesn't verify as it is: first bad index"):
        _drill(directory, tmp_path / "drill")


def test_drill_says_what_it_could_not_do(fill: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "drill").mkdir()
    alarms = {alarm.way: alarm for alarm in _drill(fill(6, None), tmp_path / "drill")}
    assert alarms["remove a payload"].undone == "nothing in the log to do it to"
    assert sum(alarm.is_detected for alarm in alarms.values()) == 8


def test_drill_needs_some_entries(fill: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "drill").mkdir()
    with pytest.raises(DrillError, match="at least 4 entries, got 3"):
        _drill(fill(3), tmp_path / "drill")


def test_drill_copies_what_comes_before_another_key(log: AuditLog, make_entry: Callable, tmp_path: Path) -> None:
    for _ in range(5):
        log.append(*make_entry(log))
    fields = {"time": "2026-03-01T08:00:00.000000Z", "clock": "ok", "tenant": "north", "purpose": "signing"}
    rotated = KeyRotationEntry(
        id=log.new_entry_id(), action="introduce", key_id="k", vkey="x+y+z", reason="r", operator=None, **fields
    )
    log.append(format_entry(rotated))
    scan = SqliteScan(log.config.directory)
    assert make_copy(scan, tmp_path / "copy", SEED, limit=100).size == 5
    scan.close()
    shutil.rmtree(tmp_path / "copy")
