"""Signing keys are replaced under a log that is written, verified from its first key alone, and killed at every step."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.entry_operations import KeyRotationEntry
from audit.errors import AppendError, KeyFileError, TokenError, VerificationError
from audit.keys import KeyRing, load_keys, load_vkeys
from audit.log import AuditLog, LogConfig
from audit.note import Signature, Signer, VerifierKey, format_note, format_vkey, parse_note, sign_note
from audit.pkcs11 import Pkcs11Signer, make_signing_key
from audit.pkcs11_uri import format_uri, parse_uri
from audit.rotation import retire, rotate, rotation_entries, signing_periods
from audit.storage.opening import open_scan, open_storage
from audit.verify import LogReport, Trust, verify_log
from tests.audit.rotating import killed_at_every_step
from tests.audit.stores import both_stores
from tests.audit.writer import write_entry
from tests.softhsm import make_token

HERE = Path(__file__).parent
NOW = datetime(2026, 3, 2, tzinfo=UTC)
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


@pytest.fixture
def config(make_log: Callable[..., tuple[LogConfig, KeyRing]]) -> LogConfig:
    """Of a log with two entries."""
    made, _ = make_log()
    with _opener(made)() as log:
        for _ in range(2):
            write_entry(log)
    return made


def _append(config: LogConfig, count: int = 1) -> None:
    with _opener(config)() as log:
        for _ in range(count):
            write_entry(log)


def _verify(config: LogConfig, *keys: VerifierKey) -> LogReport:
    """Of one who trusts the first key alone, unless others are given."""
    trusted = keys or load_vkeys(config.directory / "log.vkey")[:1]
    head = (config.directory / "head").read_bytes()
    scan = open_scan(config.directory)
    try:
        return verify_log(scan, Trust(trusted, config.origin, (head,)))
    finally:
        scan.close()


def _signers(config: LogConfig, size: int | None = None) -> list[str]:
    storage = open_storage(config.directory)
    try:
        note = storage.newest_checkpoint().note if size is None else storage.checkpoint(size)
        return [line.key_id.hex() for line in parse_note(note).signatures]
    finally:
        storage.close()


def _entries(config: LogConfig) -> list[tuple[int, KeyRotationEntry]]:
    storage = open_storage(config.directory)
    try:
        return rotation_entries(storage)
    finally:
        storage.close()


def _sign(config: LogConfig, signer: Signer, size: int) -> None:
    """Puts a checkpoint that only this key signed in the place of the log's own."""
    with sqlite3.connect(config.directory / "log.sqlite3") as connection:
        ((note,),) = connection.execute("SELECT note FROM checkpoints WHERE size = ?", (size,))
        forged = sign_note(parse_note(note).text, [signer])
        connection.execute("UPDATE checkpoints SET note = ? WHERE size = ?", (forged, size))
    connection.close()


def _id(key: VerifierKey) -> str:
    return key.key_id.hex()


@both_stores
def test_rotation_has_both_keys_sign_from_the_introduction_to_the_retirement(config: LogConfig) -> None:
    old = load_keys(config.directory).signer.verifier_key
    new = rotate(config.directory, _opener(config), NOW, os.urandom)
    _append(config)
    assert [_signers(config, size) for size in (2, 3, 4)] == [[_id(old)], [_id(old), _id(new)], [_id(old), _id(new)]]
    assert retire(config.directory, _opener(config), NOW) == new
    _append(config)
    assert [_signers(config, size) for size in (5, 6)] == [[_id(old), _id(new)], [_id(new)]]
    assert load_vkeys(config.directory / "log.vkey") == (old, new)


def test_rotation_is_followed_by_who_trusts_the_first_key_alone(config: LogConfig) -> None:
    for _ in range(2):
        rotate(config.directory, _opener(config), NOW, os.urandom)
        _append(config)
        retire(config.directory, _opener(config), NOW)
        _append(config)
    assert _verify(config).entries == 10
    assert _verify(config, *load_vkeys(config.directory / "log.vkey")).entries == 10
    with pytest.raises(VerificationError, match="no signature of a trusted key"):
        _verify(config, load_vkeys(config.directory / "log.vkey")[2])


def test_rotation_entries_say_what_happened_to_which_key(config: LogConfig) -> None:
    old = load_keys(config.directory).signer.verifier_key
    new = rotate(config.directory, _opener(config), NOW, os.urandom)
    retire(config.directory, _opener(config), NOW, reason="yearly")
    (first, introduced), (second, retired) = _entries(config)
    assert (first, introduced.purpose, introduced.action, introduced.vkey) == (
        2,
        "signing",
        "introduce",
        format_vkey(new),
    )
    assert (second, retired.action, retired.key_id, retired.reason) == (3, "retire", _id(old), "yearly")
    assert introduced.operator is not None


def test_rotation_periods_are_read_from_the_log(config: LogConfig) -> None:
    old = load_keys(config.directory).signer.verifier_key
    new = rotate(config.directory, _opener(config), NOW, os.urandom)
    _append(config)
    retire(config.directory, _opener(config), NOW)
    storage = open_storage(config.directory)
    periods = signing_periods(storage, config.directory / "log.vkey")
    storage.close()
    assert [(one.key, one.first, one.last) for one in periods] == [(old, 0, 4), (new, 3, None)]


def test_rotation_leaves_nothing_of_the_old_key(config: LogConfig) -> None:
    old = (config.directory / "keys" / "signing.key").read_text()
    rotate(config.directory, _opener(config), NOW, os.urandom)
    new = (config.directory / "keys" / "signing.next.key").read_text()
    retire(config.directory, _opener(config), NOW)
    names = {path.name: path.read_text() for path in (config.directory / "keys").iterdir()}
    assert set(names) == {"signing.key", "index.key", "wrapping.key"}
    assert names["signing.key"] == new != old


def test_rotation_verbs_out_of_turn_are_refused(config: LogConfig) -> None:
    with pytest.raises(KeyFileError, match="none is under way"):
        retire(config.directory, _opener(config), NOW)
    rotate(config.directory, _opener(config), NOW, os.urandom)
    again = rotate(config.directory, _opener(config), NOW, os.urandom)
    assert load_keys(config.directory).verifier_keys[1] == again
    assert len(_entries(config)) == 1
    with pytest.raises(KeyFileError, match="one with another key is under way"):
        rotate(config.directory, _opener(config), NOW, os.urandom, uri="pkcs11:another")
    retire(config.directory, _opener(config), NOW)
    with pytest.raises(KeyFileError, match="none is under way"):
        retire(config.directory, _opener(config), NOW)


def test_rotation_is_noticed_by_a_log_that_is_open(config: LogConfig) -> None:
    with _opener(config)() as running:
        new = rotate(config.directory, _opener(config), NOW, os.urandom)
        write_entry(running)
        assert _signers(config)[-1] == _id(new)
        retire(config.directory, _opener(config), NOW)
        write_entry(running)
        assert _signers(config) == [_id(new)]
    _verify(config)


def test_rotation_stops_a_host_that_was_not_given_the_new_key(config: LogConfig, tmp_path: Path) -> None:
    # its key files are its own; the log is the same
    keys = load_keys(config.directory)
    other = AuditLog.open(config, clock=lambda: datetime.now(UTC), keys=keys)
    rotate(config.directory, _opener(config), NOW, os.urandom)
    write_entry(other)  # the old key is still in force
    retire(config.directory, _opener(config), NOW)
    with pytest.raises(AppendError, match="retired, and its successor isn't among the key files here"):
        write_entry(other)
    other.close()
    _append(config)
    assert _verify(config).entries == 7  # with the gap that the refusal left


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
def test_rotation_goes_over_two_hosts_that_share_a_database(config: LogConfig, tmp_path: Path) -> None:
    second = replace(config, directory=tmp_path / "second-host")
    shutil.copytree(config.directory, second.directory)
    with _opener(config)() as here, _opener(second)() as there:
        rotate(config.directory, _opener(config), NOW, os.urandom)
        for log in (here, there, here):  # one with both keys, one with the old key alone
            write_entry(log)
        for name in ("keys/signing.next.key", "log.vkey"):
            shutil.copy(config.directory / name, second.directory / name)
        write_entry(there)
        new = retire(config.directory, _opener(config), NOW)
        for log in (there, here, there):
            write_entry(log)
        assert retire(second.directory, _opener(second), NOW) == new
        for log in (here, there):
            write_entry(log)
            assert _signers(config) == [_id(new)]
    assert _verify(config).entries == 2 + 4 + 2 + 3 + 2
    assert [entry.action for _, entry in _entries(config)] == ["introduce", "retire"]


def test_rotation_of_a_host_that_lags_behind_can_be_finished_there(config: LogConfig, tmp_path: Path) -> None:
    rotate(config.directory, _opener(config), NOW, os.urandom)
    kept = tmp_path / "keys"
    shutil.copytree(config.directory / "keys", kept)
    retire(config.directory, _opener(config), NOW)
    shutil.rmtree(config.directory / "keys")
    kept.rename(config.directory / "keys")
    _append(config)
    new = retire(config.directory, _opener(config), NOW)
    _append(config)
    assert _signers(config) == [_id(new)]
    assert len(_entries(config)) == 2
    _verify(config)


def test_rotation_refuses_checkpoints_of_a_retired_key_with_the_index(config: LogConfig) -> None:
    stolen = load_keys(config.directory).signer
    rotate(config.directory, _opener(config), NOW, os.urandom)
    retire(config.directory, _opener(config), NOW)
    _append(config)
    _sign(config, stolen, size=5)
    with pytest.raises(VerificationError, match="signed only by keys that aren't in force") as caught:
        _verify(config)
    assert caught.value.index == 4
    with pytest.raises(VerificationError, match="signed only by keys that aren't in force"):
        _verify(config, *load_vkeys(config.directory / "log.vkey"))


def test_rotation_refuses_checkpoints_of_a_key_before_its_introduction_with_the_index(config: LogConfig) -> None:
    first = load_keys(config.directory).signer.verifier_key
    rotate(config.directory, _opener(config), NOW, os.urandom)
    _sign(config, load_keys(config.directory).signers[1], size=2)
    with pytest.raises(VerificationError, match="no signature of a trusted key") as caught:
        _verify(config, first)
    assert caught.value.index == 1
    with pytest.raises(
        VerificationError, match="checkpoint of size 2: signed only by a key introduced later"
    ) as caught:
        _verify(config, *load_vkeys(config.directory / "log.vkey"))
    assert caught.value.index == 1


def test_rotation_room_for_signature_types_to_come_beside_ours(config: LogConfig) -> None:
    # type 06 of C2SP's signed-note: ML-DSA-44, with signatures of 2,420 bytes
    with sqlite3.connect(config.directory / "log.sqlite3") as connection:
        ((note,),) = connection.execute("SELECT note FROM checkpoints WHERE size = 2")
        parsed = parse_note(note)
        line = Signature(config.origin, bytes.fromhex("06060606"), bytes(2420))
        both = format_note(replace(parsed, signatures=(line, *parsed.signatures)))
        connection.execute("UPDATE checkpoints SET note = ? WHERE size = 2", (both,))
    connection.close()
    (config.directory / "head").write_bytes(both)
    _append(config)
    rotate(config.directory, _opener(config), NOW, os.urandom)
    assert _verify(config).entries == 4


def test_rotation_moves_the_key_into_a_token(config: LogConfig, tmp_path: Path) -> None:
    with make_token(tmp_path, uuid.uuid4().hex) as token:
        old = parse_uri(token.uri("signing"))
        uri = format_uri(make_signing_key(old, os.urandom))
        new = rotate(config.directory, _opener(config), NOW, os.urandom, uri=uri)
        retire(config.directory, _opener(config), NOW)
        _append(config)
        assert _signers(config) == [_id(new)]
        assert (config.directory / "keys" / "signing.key").read_text().strip() == uri
        after = format_uri(make_signing_key(parse_uri(token.uri("second")), os.urandom))
        rotate(config.directory, _opener(config), NOW, os.urandom, uri=after)
        retire(config.directory, _opener(config), NOW, destroy_in_token=True)
        with pytest.raises(TokenError, match="expected one private_key, got 0"):
            Pkcs11Signer(old, config.origin)
        _append(config)
        assert _verify(config).entries == 8


@pytest.mark.parametrize("verb", ["rotate", "retire"])
def test_rotation_killed_at_any_step_leaves_a_log_that_goes_on_and_can_be_finished(
    config: LogConfig, verb: str
) -> None:
    if verb == "retire":
        rotate(config.directory, _opener(config), NOW, os.urandom)
    with killed_at_every_step(verb, config.directory, at_least=12) as tries:
        for name in tries:
            _check_goes_on(replace(config, directory=name), verb)


def _check_goes_on(config: LogConfig, verb: str) -> None:
    _append(config)
    if verb == "rotate" or not _is_finished(config):
        new = rotate(config.directory, _opener(config), NOW, os.urandom) if verb == "rotate" else None
        retired = retire(config.directory, _opener(config), NOW)
        assert new in (None, retired)
    _append(config)
    _verify(config)
    assert [entry.action for _, entry in _entries(config)] == ["introduce", "retire"]
    keys = load_keys(config.directory)
    assert _signers(config) == [_id(keys.signer.verifier_key)]
    assert {path.name for path in (config.directory / "keys").iterdir()} == {"signing.key", "index.key", "wrapping.key"}


def _is_finished(config: LogConfig) -> bool:
    keys = config.directory / "keys"
    return not ((keys / "signing.next.key").exists() or (keys / "signing.old.key").exists())


def test_rotation_loses_no_append_of_processes_that_write_meanwhile(config: LogConfig, tmp_path: Path) -> None:
    outputs = [tmp_path / "first", tmp_path / "second"]
    environment = {"PYTHONPATH": str(HERE.parent.parent), "PATH": os.environ["PATH"]}
    command = [sys.executable, str(HERE / "writer.py"), str(config.directory), "2"]
    with outputs[0].open("ab") as one, outputs[1].open("ab") as two:
        writers = [
            subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, env=environment) for file in (one, two)
        ]
    try:
        for _ in range(3):
            _wait_for_more(outputs)
            rotate(config.directory, _opener(config), NOW, os.urandom)
            _wait_for_more(outputs)
            retire(config.directory, _opener(config), NOW)
        _wait_for_more(outputs)
        assert [writer.poll() for writer in writers] == [None, None], [writer.stderr.read() for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    acknowledged = sum(len(output.read_text().splitlines()) for output in outputs)
    assert _verify(config).entries >= acknowledged + 2 + 6
    assert [entry.action for _, entry in _entries(config)] == ["introduce", "retire"] * 3


def _wait_for_more(outputs: list[Path]) -> None:
    sizes = [output.stat().st_size for output in outputs]
    until = time.monotonic() + 20
    while any(output.stat().st_size < size + 400 for output, size in zip(outputs, sizes, strict=True)):
        assert time.monotonic() < until, "a writer wrote nothing"
        time.sleep(0.005)
