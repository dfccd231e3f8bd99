"""Erasure and retention where a patient's records lie in several epochs."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from audit import erasure, holds
from audit.commands.epochs import verify_previous
from audit.custody import Custody, approve, find
from audit.custody_epochs import kept_payloads
from audit.entry import parse_entry
from audit.entry_custody import ErasureEntry
from audit.epochs import NewEpoch, begin_epoch, following_origin
from audit.errors import CustodyError, HoldError, RetentionError, VerificationError
from audit.keys import VKEY_FILE, KeyRing, load_vkeys
from audit.log import AuditLog, LogConfig
from audit.storage import Query
from audit.storage.opening import open_scan, open_storage
from audit.verify import LogReport, Trust, verify_log
from tests.audit.custody_log import ADA, BEN, NOW, OFFICERS, OLD, ORIGIN, Room, make_room, write
from tests.audit.stores import both_stores

YESTERDAY = NOW - timedelta(days=1)
NEXT = following_origin(ORIGIN)


def _begin(room: Room, time: datetime = NOW) -> LogConfig:
    """The next epoch of the room's log, begun at that time."""
    new = replace(room.config, directory=room.directory.with_name("log-2"), origin=NEXT)
    begin_epoch(NewEpoch(room.directory, new.directory), room.config, lambda: time, os.urandom)
    return new


@contextmanager
def _custody(
    room: Room, config: LogConfig, *previous: Path, reached: Callable[[str], None] = lambda _step: None
) -> Iterator[Custody]:
    log = AuditLog.open(config, clock=lambda: room.now)
    storages = tuple(open_storage(directory) for directory in previous)
    try:
        yield Custody(
            log, log.vault, OFFICERS, room.rule, lambda: room.now, os.urandom, 0.0, reached, previous=storages
        )
    finally:
        for storage in storages:
            storage.close()
        log.close()


def _verify(config: LogConfig) -> LogReport:
    scan = open_scan(config.directory)
    try:
        return verify_log(scan, Trust(load_vkeys(config.directory / VKEY_FILE), config.origin))
    finally:
        scan.close()


def _sealed(directory: Path) -> list[bytes]:
    storage = open_storage(directory)
    try:
        found = [storage.payload(payload.index) for payload in storage.kept_payloads(0, -1, 100)]
        return [one.sealed for one in found if one is not None and one.sealed is not None]
    finally:
        storage.close()


def _alter(directory: Path, statement: str, file: str = "log.sqlite3") -> None:
    with sqlite3.connect(directory / file) as connection:
        connection.execute(statement)
    connection.close()
    for seal in directory.glob("*.seal"):
        seal.unlink()


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """A log of yesterday's entries, two each of p0 and p1."""
    return make_room(tmp_path / "log", patients=2, time=YESTERDAY)


@pytest.fixture
def old_room(tmp_path: Path) -> Room:
    """A log of entries that are due, two each of p0 and p1."""
    return make_room(tmp_path / "log", patients=2, time=OLD)


def test_epochs_a_new_epoch_does_not_switch_the_retention_duty_off(room: Room) -> None:
    new = _begin(room)
    with _custody(room, new) as custody, pytest.raises(CustodyError, match="--previous"):
        erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
    with _custody(room, new, room.directory) as custody:
        with pytest.raises(RetentionError, match="newest record is of 2036-02-29"):
            erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        assert erasure.request_retention(custody, ADA, "retention", 100) is None


def test_epochs_an_approved_erasure_is_refused_without_the_epoch_before(old_room: Room) -> None:
    new = _begin(old_room)
    with _custody(old_room, new, old_room.directory) as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
    with _custody(old_room, new) as custody:
        with pytest.raises(CustodyError, match="--previous"):
            erasure.carry_out(custody, row.id)
        assert find(custody, row.id).state == "approved"


def test_epochs_a_patient_whose_key_is_of_this_epoch_needs_no_other(old_room: Room) -> None:
    new = _begin(old_room, OLD)
    with _custody(replace(old_room, now=OLD), new) as custody:
        write(custody.log, "p9", 0, OLD)
    with _custody(old_room, new) as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p9"], ADA, "gdpr-17").id, BEN)
        erasure.carry_out(custody, row.id)
    assert _verify(new).erased == 1


def test_epochs_an_erasure_takes_the_payloads_of_every_epoch(old_room: Room) -> None:
    new = _begin(old_room, OLD)
    with _custody(replace(old_room, now=OLD), new) as custody:
        write(custody.log, "p0", 2, OLD)
    before = _sealed(old_room.directory)
    with _custody(old_room, new, old_room.directory) as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        entry = parse_entry(custody.log.entry(erasure.carry_out(custody, row.id)))
        assert isinstance(entry, ErasureEntry)
        assert (entry.subjects, entry.payloads) == (1, 1)
        assert [payload.epoch for payload in kept_payloads(custody)] == [1, 1]
    gone = set(before) - set(_sealed(old_room.directory))
    assert (len(before), len(gone)) == (4, 2)
    files = b"".join(path.read_bytes() for path in old_room.directory.iterdir() if path.is_file())
    assert not any(sealed[9:41] in files for sealed in gone)
    assert _verify(new).erased == 1


def test_epochs_what_an_erasure_took_of_an_earlier_epoch_verifies_with_the_later_one(
    old_room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    new = _begin(old_room, OLD)
    with _custody(old_room, new, old_room.directory) as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        erasure.carry_out(custody, row.id)
    assert _verify(new).erased == 0
    verify_previous(new.directory, [old_room.directory])
    assert "valid: the epoch before" in capsys.readouterr().out
    with pytest.raises(VerificationError, match=f"erasure {row.id} isn't in the log"):
        old_room.verify()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE payloads SET sealed = NULL, erasure = (SELECT id FROM erasures) WHERE idx = 1",
        "UPDATE payloads SET sealed = NULL WHERE idx = 1",
        "UPDATE erasures SET salt = zeroblob(32)",
    ],
)
def test_epochs_an_erasure_of_an_earlier_epoch_hides_no_other_loss(old_room: Room, statement: str) -> None:
    new = _begin(old_room, OLD)
    with _custody(old_room, new, old_room.directory) as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        erasure.carry_out(custody, row.id)
    _alter(old_room.directory, statement)
    with pytest.raises(VerificationError, match="missing"):
        verify_previous(new.directory, [old_room.directory])


def test_epochs_an_erasure_that_nobody_logged_hides_no_loss_in_an_earlier_epoch(old_room: Room) -> None:
    """Salts beside the rows count only where an erasure's entry is over them, and not any other entry."""
    new = _begin(old_room, OLD)
    with _custody(replace(old_room, now=OLD), new, old_room.directory) as custody:
        index = write(custody.log, "p0", 2, OLD)
        (decision,) = (one.entry_id for one in custody.log.find(Query()) if one.index == index)
        row = approve(custody, erasure.request_erasure(replace(custody, clock=lambda: NOW), ["p0"], ADA, "x").id, BEN)
        erasure.carry_out(replace(custody, clock=lambda: NOW), row.id)
    for directory in (new.directory, old_room.directory):
        _alter(directory, f"INSERT INTO erasures SELECT '{decision}', salt FROM erasures WHERE id = '{row.id}'")
    _alter(old_room.directory, f"UPDATE payloads SET erasure = '{decision}' WHERE erasure = '{row.id}'")
    with pytest.raises(VerificationError, match="missing"):
        verify_previous(new.directory, [old_room.directory])


def test_epochs_killed_between_two_epochs_is_carried_on(old_room: Room) -> None:
    class CutShortError(Exception):
        pass

    def reached(step: str) -> None:
        if step == "earlier":
            raise CutShortError

    new = _begin(old_room, OLD)
    with _custody(old_room, new, old_room.directory, reached=reached) as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        with pytest.raises(CutShortError):
            erasure.carry_out(custody, row.id)
    with _custody(old_room, new) as custody, pytest.raises(CustodyError, match=f"expected the epochs {ORIGIN}"):
        erasure.carry_out(custody, row.id)
    with _custody(old_room, new, old_room.directory) as custody:
        erasure.carry_out(custody, row.id)
    verify_previous(new.directory, [old_room.directory])


def test_epochs_a_directory_that_is_not_the_epoch_before_is_refused(old_room: Room, tmp_path: Path) -> None:
    new = _begin(old_room, OLD)
    stranger = make_room(tmp_path / "stranger")
    for wrong in ((stranger.directory,), (old_room.directory, old_room.directory)):
        with _custody(old_room, new, *wrong) as custody, pytest.raises(CustodyError, match="expected the epoch that"):
            erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")


def test_epochs_a_hold_that_the_log_before_tells_of_still_holds(old_room: Room) -> None:
    with old_room.custody() as custody:
        holds.carry_out(custody, holds.request_hold(custody, ["p0"], ADA, "litigation").id)
    new = _begin(old_room)
    _alter(old_room.directory, "DELETE FROM holds", file="vault.sqlite3")
    with _custody(old_room, new, old_room.directory) as custody, pytest.raises(HoldError):
        erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")


def test_epochs_retention_lets_single_payloads_of_an_earlier_epoch_go(old_room: Room) -> None:
    """p0 came back in the new epoch, so its key stays."""
    new = _begin(old_room)
    with _custody(old_room, new, old_room.directory) as custody:
        write(custody.log, "p0", 2, NOW)
        row = erasure.request_retention(custody, ADA, "retention", 100)
        assert row is not None
        erasure.carry_out(custody, approve(custody, row.id, BEN).id)
        assert [(payload.epoch, payload.key_ref) for payload in kept_payloads(custody)] == [(2, 1)]
    assert _sealed(old_room.directory) == []
    verify_previous(new.directory, [old_room.directory])


@both_stores
def test_epochs_an_erasure_reaches_every_epoch_in_either_store(
    make_log: Callable[..., tuple[LogConfig, KeyRing]], store: str
) -> None:
    made, _ = make_log()
    room = Room(made.directory)
    made = replace(made, origin=ORIGIN, deadline_s=10.0)
    with _custody(replace(room, now=OLD), made) as custody:
        write(custody.log, "p0", 0, OLD)
        write(custody.log, "p1", 0, OLD)
    new = replace(made, directory=made.directory.with_name("log-2"), origin=NEXT)
    schema = "epoch_2_custody" if store == "postgresql" else None
    begin_epoch(NewEpoch(made.directory, new.directory, schema=schema), made, lambda: OLD, os.urandom)
    with _custody(room, new, made.directory) as custody:
        lookup = custody.lookups(["p0"])
        both = erasure.request_erasure(custody, ["p1", "p0"], ADA, "gdpr-17")
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        erasure.carry_out(custody, row.id)
        assert [payload.epoch for payload in kept_payloads(custody)] == [1]
        assert find(custody, both.id).subjects == custody.lookups(["p1"]) != lookup
        erasure.carry_out(custody, approve(custody, both.id, BEN).id)
    assert _sealed(made.directory) == []
    assert _verify(new).erased == 0
    verify_previous(new.directory, [made.directory])
