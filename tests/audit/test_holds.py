from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from audit import holds
from audit.custody import DONE, Custody, approve, find
from audit.custody_body import parse_body
from audit.entry import format_time, parse_entry
from audit.entry_custody import HoldEntry
from audit.errors import ApprovalError, CustodyError, StorageError
from audit.held import held_key_refs
from audit.merkle import LeafIndex
from audit.vault import patient_subject
from tests.audit.custody_log import ADA, BEN, CLEO, NOW, Room, make_room


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return make_room(tmp_path / "log", patients=3, payloads=1)


def _place(custody: Custody, *patients: str, until: str | None = None) -> tuple[LeafIndex, ...]:
    return holds.carry_out(custody, holds.request_hold(custody, list(patients), ADA, "litigation", until).id)


def _entry(custody: Custody, index: LeafIndex) -> HoldEntry:
    entry = parse_entry(custody.log.entry(index))
    assert isinstance(entry, HoldEntry)
    return entry


def test_hold_is_placed_by_one_officer_and_logged(room: Room) -> None:
    with room.custody() as custody:
        (index,) = _place(custody, "p1")
        (hold,) = custody.store.holds()
        entry = _entry(custody, index)
        assert (entry.id, entry.hold, entry.action, entry.reason) == (hold.hold, hold.hold, "place", "litigation")
        assert (entry.requested_by, entry.approved_by) == (custody.person("ada"), None)
        assert hold.lookup == custody.lookups(["p1"])[0]
        assert entry.patient == custody.vault.key_for(patient_subject("p1")).commitment(entry.id)


def test_hold_on_several_patients_is_one_each(room: Room) -> None:
    with room.custody() as custody:
        indices = _place(custody, "p0", "p1", "p0")
        assert len(indices) == 2
        by_hold = {hold.hold: hold.lookup for hold in custody.store.holds()}
        lookups = custody.lookups(["p0", "p1"])
        for index, patient, lookup in zip(indices, ("p0", "p1"), lookups, strict=True):
            entry = _entry(custody, index)
            assert by_hold[entry.hold] == lookup
            assert entry.patient == custody.vault.key_for(patient_subject(patient)).commitment(entry.id)


def test_hold_can_come_before_the_first_decision(room: Room) -> None:
    with room.custody() as custody:
        (index,) = _place(custody, "stranger")
        key = custody.vault.find(patient_subject("stranger"))
        assert key is not None
        assert _entry(custody, index).patient == key.commitment(_entry(custody, index).id)


def test_hold_by_others_than_privacy_officers_is_refused(room: Room) -> None:
    with room.custody() as custody, pytest.raises(ApprovalError, match="expected a privacy-officer"):
        holds.request_hold(custody, ["p1"], CLEO, "litigation")


def test_hold_that_has_ended_already_is_refused(room: Room) -> None:
    with room.custody() as custody, pytest.raises(CustodyError, match="expected an end to come"):
        holds.request_hold(custody, ["p1"], ADA, "litigation", format_time(NOW))


def test_hold_on_nobody_is_refused(room: Room) -> None:
    with room.custody() as custody, pytest.raises(CustodyError, match="got none"):
        holds.request_hold(custody, [], ADA, "litigation")


def test_hold_ends_by_itself(room: Room) -> None:
    until = format_time(NOW + timedelta(days=1))
    with room.custody() as custody:
        (index,) = _place(custody, "p1", until=until)
        assert _entry(custody, index).until == until
    for days, held in ((0, True), (1, False)):
        with replace(room, now=NOW + timedelta(days=days)).custody() as custody:
            assert bool(held_key_refs(custody)) is held


def test_hold_is_released_by_two_officers_and_logged(room: Room) -> None:
    with room.custody() as custody:
        _place(custody, "p0", "p1")
        names = [hold.hold for hold in custody.store.holds()]
        row = holds.request_release(custody, names[:1], ADA, "settled")
        with pytest.raises(CustodyError, match="expected an approved one"):
            holds.carry_out(custody, row.id)
        assert len(custody.store.holds()) == 2
        with pytest.raises(ApprovalError, match="signed already"):
            approve(custody, row.id, ADA)
        lookup = custody.store.holds()[0].lookup
        (index,) = holds.carry_out(custody, approve(custody, row.id, BEN).id)
        assert [hold.hold for hold in custody.store.holds()] == names[1:]
        entry = _entry(custody, index)
        assert (entry.hold, entry.action, entry.reason) == (names[0], "release", "settled")
        assert (entry.requested_by, entry.approved_by) == (custody.person("ada"), custody.person("ben"))
        key = custody.store.key(lookup)
        assert key is not None
        assert entry.patient == custody.vault.key_at(key.key_ref).commitment(entry.id)
        assert (find(custody, row.id).state, find(custody, row.id).subjects) == (DONE, ())


def test_hold_that_is_not_there_cannot_be_released(room: Room) -> None:
    with room.custody() as custody:
        with pytest.raises(CustodyError, match=f"hold {'5a' * 16}: there is none"):
            holds.request_release(custody, ["5a" * 16], ADA, "settled")
        with pytest.raises(CustodyError, match="expected a hold, got none"):
            holds.request_release(custody, [], ADA, "settled")


@pytest.mark.parametrize(
    "changes", [{"until": "2036-04-01T00:00:00.000000Z"}, {"until": None}, {"holds": ("5a" * 16,)}]
)
def test_hold_that_was_changed_after_it_was_signed_is_refused(room: Room, changes: dict[str, object]) -> None:
    with room.custody() as custody:
        row = holds.request_hold(custody, ["p1"], ADA, "litigation", "2040-01-01T00:00:00.000000Z")
        body = msgspec.structs.replace(parse_body(row), **changes)
        assert custody.store.set_request_state(row.id, row.state, row.state, msgspec.json.encode(body))
        with pytest.raises(ApprovalError, match="another request"):
            holds.carry_out(custody, row.id)
        assert custody.store.holds() == []


def test_hold_release_declared_approved_by_hand_is_refused(room: Room) -> None:
    with room.custody() as custody:
        _place(custody, "p1")
        row = holds.request_release(custody, [custody.store.holds()[0].hold], ADA, "settled")
        assert custody.store.set_request_state(row.id, row.state, "approved")
        with pytest.raises(ApprovalError, match="expected 2 privacy officers, got 1"):
            holds.carry_out(custody, row.id)
        assert len(custody.store.holds()) == 1


def test_hold_protects_before_it_is_logged(room: Room) -> None:
    """A log that fails must not let evidence go."""
    steps: list[str] = []
    with room.custody(steps.append) as custody:
        _place(custody, "p1")
    assert steps.index("placed") < steps.index("logged")


def test_hold_is_released_only_once_that_is_logged(room: Room) -> None:
    steps: list[str] = []
    with room.custody(steps.append) as custody:
        _place(custody, "p1")
        row = holds.request_release(custody, [custody.store.holds()[0].hold], ADA, "settled")
        approve(custody, row.id, BEN)
        steps.clear()
        holds.carry_out(custody, row.id)
    assert steps.index("logged") < steps.index("released")


def test_hold_whose_log_fails_is_in_force_and_is_logged_later(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    with room.custody() as custody:
        row = holds.request_hold(custody, ["p1"], ADA, "litigation")

        def fail(*_arguments: object) -> None:
            raise StorageError("store: can't write")

        with monkeypatch.context() as patch:
            patch.setattr(custody.log, "record", fail)
            with pytest.raises(StorageError):
                holds.carry_out(custody, row.id)
        assert len(custody.store.holds()) == 1
        (index,) = holds.carry_out(custody, row.id)
        assert _entry(custody, index).action == "place"
        assert len(custody.store.holds()) == 1
