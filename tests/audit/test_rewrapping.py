"""The wrapping key is replaced under a log that is written, and killed at every step; every payload opens as before."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.entry import read_header
from audit.errors import PayloadError, TokenError
from audit.keys import KeyRing, load_keys, make_wrapper
from audit.log import AuditLog, LogConfig
from audit.merkle import LeafIndex
from audit.pkcs11 import Pkcs11Wrapper, make_wrapping_key
from audit.pkcs11_uri import format_uri, parse_uri
from audit.rewrapping import rewrap
from audit.rotation import rotation_entries
from audit.storage.opening import open_scan
from audit.storage.vault_sqlite import SqliteVaultStore, create_vault
from audit.vault import Vault, patient_subject
from audit.verify import Trust, verify_log
from audit.wrapping import FileWrapper
from tests.audit.key_maker import append
from tests.audit.rotating import killed_at_every_step
from tests.audit.stores import both_stores
from tests.softhsm import make_token

HERE = Path(__file__).parent
NOW = datetime(2026, 3, 2, tzinfo=UTC)
PATIENTS = 5
Open = Callable[[], AbstractContextManager[AuditLog]]


def _opener(config: LogConfig) -> Open:
    @contextmanager
    def open_one() -> Iterator[AuditLog]:
        log = AuditLog.open(config, clock=lambda: datetime.now(UTC))
        try:
            yield log
        finally:
            log.close()

    return open_one


def _fill(log: AuditLog, first: int = 0) -> None:
    for patient in range(first, first + PATIENTS):
        append(log, log.vault.key_for(patient_subject(str(patient))), patient)


def _check(config: LogConfig, patients: int = PATIENTS) -> list[str]:
    """Every payload opens; gives the actions of the rotation entries."""
    with _opener(config)() as log:
        actions = [f"{entry.purpose} {entry.action}" for _, entry in rotation_entries(log.storage)]
        decisions = [index for index in range(patients + len(actions)) if _has_payload(log, index)]
        assert len(decisions) == patients
        for patient, index in enumerate(decisions):
            assert log.payload(LeafIndex(index)) == b"about patient %d" % patient
    scan = open_scan(config.directory)
    verify_log(scan, Trust(load_keys(config.directory).verifier_keys, config.origin))
    scan.close()
    return actions


def _has_payload(log: AuditLog, index: int) -> bool:
    return read_header(log.entry(LeafIndex(index))).payload is not None


@pytest.fixture
def config(make_log: Callable[..., tuple[LogConfig, KeyRing]]) -> LogConfig:
    """Of a log with a payload for each of five patients."""
    made, _ = make_log()
    with _opener(made)() as log:
        _fill(log)
    return made


def test_rewrapping_opens_every_payload_and_the_old_key_opens_nothing(config: LogConfig) -> None:
    old = (config.directory / "keys" / "wrapping.key").read_text().strip()
    before = load_keys(config.directory).wrapper.key_id
    report = rewrap(config.directory, _opener(config), NOW, os.urandom)
    assert report.keys == PATIENTS
    assert report.key_id == load_keys(config.directory).wrapper.key_id != before
    assert _check(config) == ["wrapping introduce", "wrapping destroy"]
    with _opener(config)() as log:
        stored = log.vault.store.keys_not_under("")
        assert {one.wrapping_key for one in stored} == {report.key_id}
        for one in stored:
            with pytest.raises(PayloadError):
                make_wrapper(old, os.urandom).unwrap(one.wrapped, f"north\n{one.lookup.hex()}".encode())


def test_rewrapping_leaves_the_old_key_in_no_file(config: LogConfig) -> None:
    old = (config.directory / "keys" / "wrapping.key").read_text().strip()
    rewrap(config.directory, _opener(config), NOW, os.urandom)
    assert {path.name for path in (config.directory / "keys").iterdir()} == {"signing.key", "index.key", "wrapping.key"}
    files = [path.read_bytes() for path in config.directory.rglob("*") if path.is_file()]
    assert not any(old.encode() in data or bytes.fromhex(old) in data for data in files)


def test_rewrapping_entries_name_the_keys_and_entries_keep_the_key_of_their_time(config: LogConfig) -> None:
    before = load_keys(config.directory).wrapper.key_id
    report = rewrap(config.directory, _opener(config), NOW, os.urandom)
    with _opener(config)() as log:
        entries = [entry for _, entry in rotation_entries(log.storage)]
        _fill(log, PATIENTS)
        named = [read_header(log.entry(LeafIndex(index))).payload.key_id for index in (0, PATIENTS + 2)]
    assert [entry.key_id for entry in entries] == [report.key_id, before]
    assert [entry.vkey for entry in entries] == [None, None]
    assert named == [before, report.key_id]
    _check(config, 2 * PATIENTS)


@both_stores
def test_rewrapping_again_takes_another_key(config: LogConfig) -> None:
    ids = [rewrap(config.directory, _opener(config), NOW, os.urandom).key_id for _ in range(2)]
    assert ids[0] != ids[1]
    assert len(_check(config)) == 4


def test_rewrapping_is_noticed_by_a_log_that_is_open(config: LogConfig) -> None:
    with _opener(config)() as running:
        report = rewrap(config.directory, _opener(config), NOW, os.urandom)
        assert running.payload(LeafIndex(0)) == b"about patient 0"
        _fill(running, PATIENTS)
        assert {one.wrapping_key for one in running.vault.store.keys_not_under("")} == {report.key_id}
    _check(config, 2 * PATIENTS)


def test_rewrapping_moves_keys_into_a_token_and_on(config: LogConfig, tmp_path: Path) -> None:
    with make_token(tmp_path, uuid.uuid4().hex) as token:
        first = make_wrapping_key(parse_uri(token.uri("first")), os.urandom)
        rewrap(config.directory, _opener(config), NOW, os.urandom, uri=format_uri(first))
        _check(config)
        second = make_wrapping_key(parse_uri(token.uri("second")), os.urandom)
        rewrap(config.directory, _opener(config), NOW, os.urandom, uri=format_uri(second))
        with pytest.raises(TokenError, match="expected one secret_key, got 0"):
            Pkcs11Wrapper(first, os.urandom)
        assert _check(config) == ["wrapping introduce", "wrapping destroy"] * 2


def test_rewrapping_keeps_the_old_key_while_the_vault_holds_a_key_that_it_does_not_open(config: LogConfig) -> None:
    with _opener(config)() as log:
        log.vault.store.keep_key(b"\x01" * 32, b"\x01" + bytes(60), "wrap:00000000", "2026-03-01T08:00:00.000000Z")
    with pytest.raises(PayloadError, match="1 keys: not under"):
        rewrap(config.directory, _opener(config), NOW, os.urandom)
    assert (config.directory / "keys" / "wrapping.old.key").exists()
    assert _check(config) == ["wrapping introduce"]


def test_rewrapping_reaches_a_key_that_is_made_meanwhile(tmp_path: Path) -> None:
    # the writer looks at its keys before the new wrapping key is there, and stores what it made after the rewrap has passed
    create_vault(tmp_path)
    old, new = (FileWrapper(bytes([number]) * 32, os.urandom) for number in range(2))
    ring = KeyRing((), bytes(32), old)
    rings = iter([ring, ring])
    vault = Vault(
        SqliteVaultStore(tmp_path),
        lambda: next(rings, KeyRing((), bytes(32), new)),
        "north",
        lambda: NOW,
        os.urandom,
    )
    made = vault.key_for("patient:1")
    assert vault.rewrap(old, new) == 0
    assert vault.find("patient:1").key == made.key
    vault.close()


def test_rewrapping_killed_at_any_step_loses_no_key_and_can_be_finished(config: LogConfig) -> None:
    with killed_at_every_step("rewrap", config.directory, at_least=25) as tries:
        for name in tries:
            tried = replace(config, directory=name)
            keys = tried.directory / "keys"
            begun = any((keys / f"wrapping.{part}.key").exists() for part in ("next", "old"))
            actions = _check(tried)
            if begun or not actions:
                rewrap(tried.directory, _opener(tried), NOW, os.urandom)
                actions = _check(tried)
            assert actions == ["wrapping introduce", "wrapping destroy"]
            assert {path.name for path in keys.iterdir()} == {"signing.key", "index.key", "wrapping.key"}
