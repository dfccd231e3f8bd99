import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from audit import head_guard
from audit.entry import format_entry, parse_entry
from audit.entry_operations import EpochEntry, SwitchEntry
from audit.epochs import EpochReport, LinkReport, NewEpoch, begin_epoch, following_origin, verify_link
from audit.errors import (
    AppendError,
    EpochEndedError,
    ErasedError,
    ForkError,
    FormatError,
    RollbackError,
    StorageError,
    VerificationError,
)
from audit.keys import KeyRing, init_keys, load_keys, load_vkeys
from audit.log import AuditLog, LogConfig, create_log
from audit.merkle import LeafIndex
from audit.note import format_note, parse_note, sign_note
from audit.rewrapping import rewrap
from audit.storage.opening import open_scan, open_storage
from audit.vault import patient_subject
from audit.verify import Trust, verify_log
from tests.audit.key_maker import append
from tests.audit.stores import both_stores
from tests.audit.test_rewrapping import _opener
from tests.audit.writer import write_entry

NEXT_ORIGIN = "hospital.example/cds-audit/north/2"
PATIENTS = 3


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def old(make_log: Callable[..., tuple[LogConfig, KeyRing]]) -> LogConfig:
    """Of a log with a payload for each of three patients."""
    made, _ = make_log()
    with _opener(made)() as log:
        for patient in range(PATIENTS):
            append(log, log.vault.key_for(patient_subject(str(patient))), patient)
    return made


@pytest.fixture
def new(old: LogConfig) -> LogConfig:
    """Where the next epoch is to be."""
    return replace(old, directory=old.directory.with_name("log-2"), origin=NEXT_ORIGIN)


def _begin(old: LogConfig, new: LogConfig, **changes: object) -> EpochReport:
    epoch = NewEpoch(old.directory, new.directory, **changes)
    return begin_epoch(epoch, old, _now, os.urandom)


def _verify_link(old: LogConfig, new: LogConfig, first: bytes | None = None) -> LinkReport:
    if first is None:
        storage = open_storage(new.directory)
        first = storage.entry(LeafIndex(0))
        storage.close()
    scan = open_scan(old.directory)
    try:
        return verify_link(first, new.origin, scan, load_vkeys(old.directory / "log.vkey")[:1])
    finally:
        scan.close()


def _entries(config: LogConfig) -> list[object]:
    storage = open_storage(config.directory)
    try:
        size = storage.newest_checkpoint().size
        return [parse_entry(entry) for entry in storage.entries(LeafIndex(0), size)]
    finally:
        storage.close()


@pytest.mark.parametrize(
    ("origin", "expected"),
    [("hospital.example/north/1", "hospital.example/north/2"), ("a/99", "a/100")],
)
def test_epochs_are_numbered_in_the_last_part_of_the_origin(origin: str, expected: str) -> None:
    assert following_origin(origin) == expected


@pytest.mark.parametrize("origin", ["hospital.example/north", "7", "hospital.example/01", "hospital.example/"])
def test_epochs_need_a_number_in_the_origin(origin: str) -> None:
    with pytest.raises(FormatError):
        following_origin(origin)


@both_stores
def test_epochs_begin_from_the_last_checkpoint_of_the_one_before(old: LogConfig, new: LogConfig) -> None:
    schema = "epoch_2_of_this" if (old.directory / "store.json").exists() else None
    report = _begin(old, new, schema=schema)
    assert (report.origin, report.previous.size) == (NEXT_ORIGIN, PATIENTS + 1)
    closing, first = _entries(old)[-1], _entries(new)[0]
    assert isinstance(closing, SwitchEntry)
    assert (closing.scope, closing.name, closing.off, closing.reason) == ("log", "2", True, "key-compromise")
    storage = open_storage(old.directory)
    note = storage.newest_checkpoint().note.decode()
    storage.close()
    assert isinstance(first, EpochEntry)
    assert (first.origin, first.reason, first.previous) == (NEXT_ORIGIN, "key-compromise", note)
    link = _verify_link(old, new)
    assert (link.log.entries, link.later_entries) == (PATIENTS + 1, 0)
    with _opener(new)() as log:  # patients' keys moved along
        assert log.vault.find(patient_subject("0")) is not None
        write_entry(log)


def test_epochs_have_a_signing_key_of_their_own(old: LogConfig, new: LogConfig) -> None:
    before = load_keys(old.directory)
    report = _begin(old, new)
    after = load_keys(new.directory)
    assert report.key == after.signer.verifier_key
    assert report.key.name == NEXT_ORIGIN
    assert report.key.public_key != before.signer.verifier_key.public_key
    assert (after.index_key, after.wrapper.key_id) == (before.index_key, before.wrapper.key_id)


def test_epochs_close_the_old_log_for_appending_and_not_for_reading(old: LogConfig, new: LogConfig) -> None:
    with _opener(old)() as running:
        _begin(old, new)
        with pytest.raises(AppendError, match=r"the log is closed \(key-compromise\); it goes on in epoch 2"):
            write_entry(running)
    with pytest.raises(EpochEndedError, match="goes on in epoch 2"):
        AuditLog.open(old, clock=_now)
    log = AuditLog.open(old, clock=_now, reading=True)
    assert [log.payload(LeafIndex(index)) for index in range(PATIENTS)] == [b"about patient %d" % n for n in range(3)]
    with pytest.raises(AppendError):
        write_entry(log)
    log.close()
    scan = open_scan(old.directory)
    assert verify_log(scan, Trust(load_keys(old.directory).verifier_keys)).entries == PATIENTS + 1
    scan.close()


def test_epochs_share_the_vault_so_that_erasing_and_rewrapping_reach_both(old: LogConfig, new: LogConfig) -> None:
    _begin(old, new)
    with _opener(new)() as log:
        append(log, log.vault.key_for(patient_subject("0")), 0)
    rewrap(new.directory, _opener(new), _now(), os.urandom)
    reading = AuditLog.open(old, clock=_now, reading=True)
    assert reading.payload(LeafIndex(1)) == b"about patient 1"
    with _opener(new)() as log:
        key = log.vault.find(patient_subject("0"))
        log.vault.store.destroy_keys([key.ref], "2026-03-01T08:00:00.000000Z")
        log.vault.store.scrub()
        for one, index in ((log, 1), (reading, 0)):
            with pytest.raises(ErasedError):
                one.payload(LeafIndex(index))
    reading.close()


def test_epochs_take_a_vault_that_lies_elsewhere_along(make_log, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    old, _ = make_log(vault_directory=vault)
    new = replace(old, directory=tmp_path / "log-2", origin=NEXT_ORIGIN)
    with _opener(old)() as log:
        append(log, log.vault.key_for(patient_subject("0")), 0)
    _begin(old, new, vault_directory=vault)
    assert not (new.directory / "vault.sqlite3").exists()
    with _opener(new)() as log:
        assert log.vault.find(patient_subject("0")) is not None


def test_epochs_follow_one_another(old: LogConfig, new: LogConfig) -> None:
    _begin(old, new)
    third = replace(new, directory=new.directory.with_name("log-3"), origin="hospital.example/cds-audit/north/3")
    with _opener(new)() as log:
        write_entry(log)
    begin_epoch(NewEpoch(new.directory, third.directory), new, _now, os.urandom)
    assert _verify_link(new, third).log.entries == 3
    assert _verify_link(old, new).log.entries == PATIENTS + 1
    with _opener(third)() as log:
        assert log.vault.find(patient_subject("2")) is not None


def test_epochs_begun_twice_are_begun_once(old: LogConfig, new: LogConfig) -> None:
    assert _begin(old, new) == _begin(old, new)
    assert len(_entries(new)) == 1
    assert len(_entries(old)) == PATIENTS + 1


def test_epochs_go_on_after_a_crash_that_left_no_first_entry(old: LogConfig, new: LogConfig) -> None:
    _begin(old, new)
    for name in ("log.sqlite3", "head"):
        (new.directory / name).unlink()
    shutil.rmtree(new.directory / "heads", ignore_errors=True)
    with pytest.raises(StorageError, match="remove it and begin again"):
        _begin(old, new)


def test_epochs_do_not_begin_in_another_log(old: LogConfig, new: LogConfig) -> None:
    new.directory.mkdir()
    create_log(new, init_keys(new.directory, NEXT_ORIGIN, os.urandom))
    with _opener(new)() as log:
        write_entry(log)
    with pytest.raises(StorageError, match="the new directory holds another log"):
        _begin(old, new)
    with _opener(old)() as log:  # which goes on
        write_entry(log)


def test_epochs_of_a_log_whose_key_is_lost_mark_its_directory(old: LogConfig, new: LogConfig) -> None:
    keys = load_keys(old.directory)
    (old.directory / "keys" / "signing.key").unlink()
    report = _begin(old, new, old_key_lost=True, reason="key-lost")
    assert report.previous.size == PATIENTS
    assert _verify_link(old, new).log.entries == PATIENTS
    with pytest.raises(EpochEndedError, match="goes on in epoch 2"):
        AuditLog.open(old, clock=_now, keys=keys)


def test_epochs_are_not_touched_by_what_the_old_key_signs_later(
    old: LogConfig, new: LogConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _begin(old, new)
    # whoever stole the key appends with a program that doesn't look for the closing entry
    monkeypatch.setattr(head_guard, "check_open", lambda _: None)
    log = AuditLog.open(old, clock=_now, reading=True)
    write_entry(log)
    log.close()
    link = _verify_link(old, new)
    assert (link.later_entries, link.previous.size) == (1, PATIENTS + 1)


@both_stores
def test_epochs_stay_closed_for_a_start_after_what_the_old_key_signs_later(
    old: LogConfig, new: LogConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = "epoch_2_kept_closed" if (old.directory / "store.json").exists() else None
    _begin(old, new, schema=schema)
    with monkeypatch.context() as patched:
        patched.setattr(head_guard, "check_open", lambda _: None)  # the thief's program, on this very host
        log = AuditLog.open(old, clock=_now, reading=True)
        write_entry(log)
        log.close()
    with pytest.raises(EpochEndedError, match="goes on in epoch 2"):
        AuditLog.open(old, clock=_now)


def test_epochs_whose_begin_was_killed_before_the_mark_get_it_by_the_next(old: LogConfig, new: LogConfig) -> None:
    _begin(old, new)
    (old.directory / "closed").unlink()
    _begin(old, new)
    assert (old.directory / "closed").read_text().strip() == "2"
    assert len(_entries(old)) == PATIENTS + 1


def test_epochs_refuse_an_old_log_written_anew_with_its_key(old: LogConfig, new: LogConfig, tmp_path: Path) -> None:
    before = tmp_path / "before"
    shutil.copytree(old.directory, before)
    _begin(old, new)
    anew = replace(old, directory=before)
    with _opener(anew)() as log:
        write_entry(log)
    with pytest.raises(ForkError):
        _verify_link(anew, new)
    for path in (before / "head", *before.glob("log.sqlite3*")):
        path.unlink()
    create_log(anew, load_keys(before))
    with pytest.raises(RollbackError):
        _verify_link(anew, new)


def test_epochs_that_name_another_checkpoint_than_the_old_logs_are_refused(old: LogConfig, new: LogConfig) -> None:
    _begin(old, new)
    first = _entries(new)[0]
    assert isinstance(first, EpochEntry)
    # the same head, signed again: not the checkpoint that the log holds
    note = parse_note(first.previous.encode())
    again = format_note(replace(note, signatures=note.signatures * 2)).decode()
    with pytest.raises(VerificationError, match="the log before has another checkpoint of size 4"):
        _verify_link(old, new, first=format_entry(structs.replace(first, previous=again)))
    # a head that the old key signed, of another tree
    forged = sign_note(note.text.replace("/1\n4\n", "/1\n3\n"), [load_keys(old.directory).signer]).decode()
    with pytest.raises(ForkError):
        _verify_link(old, new, first=format_entry(structs.replace(first, previous=forged)))
    # a head that somebody else signed
    forged = sign_note(note.text, [load_keys(new.directory).signer]).decode()
    with pytest.raises(VerificationError, match="head: no signature of a trusted key"):
        _verify_link(old, new, first=format_entry(structs.replace(first, previous=forged)))


@pytest.mark.parametrize("origin", ["hospital.example/cds-audit/north/3", "hospital.example/cds-audit/south/2"])
def test_epochs_of_another_origin_are_refused(old: LogConfig, new: LogConfig, origin: str) -> None:
    _begin(old, new)
    with pytest.raises(VerificationError, match="first bad index 0, epoch: expected hospital"):
        _verify_link(old, replace(new, origin=origin))


def test_epochs_without_an_epoch_entry_first_are_refused(old: LogConfig, new: LogConfig) -> None:
    with pytest.raises(VerificationError, match="the first entry names no epoch before"):
        _verify_link(old, replace(old, origin=NEXT_ORIGIN))
