import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from audit import erasure, holds
from audit.custody import Custody, approve
from audit.entry import format_time
from audit.errors import HoldError
from audit.held import find_differences
from audit.vault import patient_subject
from tests.audit.custody_log import ADA, BEN, NOW, RECENT, Room, make_room


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return make_room(tmp_path / "log", patients=3, payloads=1)


def _hold(custody: Custody, patient: str, until: str | None = None) -> str:
    holds.carry_out(custody, holds.request_hold(custody, [patient], ADA, "litigation", until).id)
    return custody.store.holds()[0].hold


def _alter_vault(room: Room, statement: str) -> None:
    with sqlite3.connect(room.directory / "vault.sqlite3") as connection:
        connection.execute(statement)
    connection.close()


def test_held_a_hold_that_vanished_from_the_vault_still_refuses_the_erasure(room: Room) -> None:
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0", "p1"], ADA, "gdpr-17").id, BEN)
        name = _hold(custody, "p1")
    _alter_vault(room, "DELETE FROM holds")
    with room.custody() as custody:
        assert custody.store.holds() == []
        with pytest.raises(HoldError, match=name):
            erasure.carry_out(custody, row.id)
        with pytest.raises(HoldError, match=name):
            erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17")
        erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        assert custody.vault.find(patient_subject("p1")) is not None
    assert room.verify().erased == 0


def test_held_a_hold_that_vanished_refuses_retention_too(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_retention(custody, ADA, "retention", 100)
        assert row is not None
        approve(custody, row.id, BEN)
        name = _hold(custody, "p1")
    _alter_vault(room, "DELETE FROM holds")
    with room.custody() as custody, pytest.raises(HoldError, match=name):
        erasure.carry_out(custody, row.id)


def test_held_a_hold_that_was_placed_and_vanished_at_the_last_moment_refuses(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the lock the log is asked once more, for what came since."""
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17").id, BEN)

        def logged_then_placed(_custody: Custody) -> dict[str, object]:
            _hold(custody, "p1")
            _alter_vault(room, "DELETE FROM holds")
            return {}

        monkeypatch.setattr("audit.erasure.logged_holds", logged_then_placed)
        with pytest.raises(HoldError):
            erasure.carry_out(custody, row.id)


def test_held_a_hold_that_ended_or_was_released_refuses_nothing(room: Room) -> None:
    with replace(room, now=RECENT).custody() as custody:
        _hold(custody, "p0", format_time(RECENT + timedelta(days=1)))
    with room.custody() as custody:
        (ended,) = custody.store.holds()
        holds.carry_out(custody, holds.request_hold(custody, ["p0"], ADA, "litigation").id)
        (name,) = {hold.hold for hold in custody.store.holds()} - {ended.hold}
        release = holds.request_release(custody, [name], ADA, "settled")
        holds.carry_out(custody, approve(custody, release.id, BEN).id)
        assert find_differences(custody) == []
        row = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        erasure.carry_out(custody, approve(custody, row.id, BEN).id)
    assert room.verify().erased == 1


def test_held_a_hold_that_vanished_can_be_released_by_two_officers(room: Room) -> None:
    with room.custody() as custody:
        name = _hold(custody, "p1")
    _alter_vault(room, "DELETE FROM holds")
    with room.custody() as custody:
        release = holds.request_release(custody, [name], ADA, "settled")
        assert release.subjects == custody.lookups(["p1"])
        holds.carry_out(custody, approve(custody, release.id, BEN).id)
        row = erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17")
        erasure.carry_out(custody, approve(custody, row.id, BEN).id)


def test_held_differences_of_log_and_vault_are_found(room: Room) -> None:
    with room.custody() as custody:
        lost = _hold(custody, "p1")
        assert find_differences(custody) == []
    invented = "5a" * 16
    _alter_vault(room, "DELETE FROM holds")
    _alter_vault(
        room,
        f"INSERT INTO holds SELECT '{invented}', lookup, '{format_time(NOW)}', NULL, 'x' FROM patient_keys LIMIT 1",
    )
    with room.custody() as custody:
        found = {one.hold: one.text for one in find_differences(custody)}
    assert set(found) == {lost, invented}
    assert "missing in the vault" in found[lost]
    assert "not placed, or released" in found[invented]


def test_held_a_hold_that_is_being_placed_refuses_the_erasure(room: Room) -> None:
    """An approved request for a hold, cut short before the vault had it: the erasure must not come in between."""
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17").id, BEN)
        placing = holds.request_hold(custody, ["p1"], ADA, "litigation")
        with pytest.raises(HoldError, match=placing.id):
            erasure.carry_out(custody, row.id)
