import sqlite3
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from audit import erasure, holds
from audit.approvals import Officer
from audit.custody import APPROVED, DONE, REQUESTED, WITHDRAWN, Custody, advance, approve, find, signers_of, withdraw
from audit.custody_body import format_body, parse_body
from audit.errors import ApprovalError, CustodyError, FormatError, HoldError, RetentionError
from audit.keys import Ed25519Signer
from audit.note import parse_note
from audit.vault import patient_subject
from tests.audit.custody_log import ADA, BEN, CLEO, LAW, OLD, RECENT, Room, make_room, write


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return make_room(tmp_path / "log", patients=3, payloads=1)


def _keys(custody: Custody) -> int:
    return sum(custody.store.key_at(ref) is not None for ref in range(1, custody.store.newest_key_ref() + 1))


def test_custody_a_request_waits_for_a_second_officer(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        assert row.state == REQUESTED
        with pytest.raises(CustodyError, match="expected an approved one, got one that is requested"):
            erasure.carry_out(custody, row.id)
        assert _keys(custody) == 3


def test_custody_the_same_officer_twice_is_refused(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        with pytest.raises(ApprovalError, match="ada signed already"):
            approve(custody, row.id, ADA)
        assert find(custody, row.id).state == REQUESTED


@pytest.mark.parametrize("signer", [CLEO, Ed25519Signer("ben", b"x" * 32), Ed25519Signer("dan", b"d" * 32)])
def test_custody_others_than_privacy_officers_are_refused(room: Room, signer: Ed25519Signer) -> None:
    with room.custody() as custody:
        with pytest.raises(ApprovalError):
            erasure.request_erasure(custody, ["p0"], signer, "gdpr-17")
        row = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        with pytest.raises(ApprovalError):
            approve(custody, row.id, signer)


def test_custody_a_request_says_nothing_of_whom_it_is_about(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p0", "p1"], ADA, "gdpr-17")
    assert b"p0" not in row.body
    assert all(lookup.hex().encode() not in row.body for lookup in row.subjects)
    stored = b"".join(path.read_bytes() for path in room.directory.iterdir() if path.is_file())
    assert b"patient:p0" not in stored


def test_custody_an_approver_can_hold_a_request_against_a_list(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p0", "p1"], ADA, "gdpr-17")
        for others in (["p0"], ["p0", "p2"], ["p0", "p1", "p2"]):
            with pytest.raises(ApprovalError, match="isn't about the patients given"):
                approve(custody, row.id, BEN, custody.lookups(others))
        assert approve(custody, row.id, BEN, custody.lookups(["p1", "p0"])).state == APPROVED


def _tamper(custody: Custody, request_id: str, **changes: object) -> None:
    """Changes the body of a request as someone could who writes in the vault."""
    row = find(custody, request_id)
    body = msgspec.structs.replace(parse_body(row), **changes)
    assert custody.store.set_request_state(row.id, row.state, row.state, msgspec.json.encode(body))


@pytest.mark.parametrize(
    "changes", [{"keys": (3,)}, {"payloads": ((3, 2, 1),)}, {"holds": ("5a" * 16,)}, {"salt": "00" * 32}]
)
def test_custody_a_request_that_was_changed_after_it_was_signed_is_refused(
    room: Room, changes: dict[str, object]
) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        _tamper(custody, row.id, **changes)
        with pytest.raises(ApprovalError, match="another request"):
            approve(custody, row.id, BEN)
        _tamper(custody, row.id, **{name: getattr(parse_body(row), name) for name in changes})
        approve(custody, row.id, BEN)
        _tamper(custody, row.id, **changes)
        with pytest.raises(ApprovalError, match="another request"):
            erasure.carry_out(custody, row.id)
        assert _keys(custody) == 3


def test_custody_an_approval_of_another_request_is_refused(room: Room) -> None:
    with room.custody() as custody:
        mine = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        other = approve(custody, erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17").id, BEN)
        _tamper(custody, mine.id, note=parse_body(other).note)
        assert custody.store.set_request_state(mine.id, REQUESTED, APPROVED)
        with pytest.raises(ApprovalError, match="another request"):
            erasure.carry_out(custody, mine.id)
        assert _keys(custody) == 3


def test_custody_a_request_declared_approved_by_hand_is_refused(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        for state in (APPROVED, "running"):
            assert custody.store.set_request_state(row.id, find(custody, row.id).state, state)
            with pytest.raises(ApprovalError, match="expected 2 privacy officers, got 1"):
                erasure.carry_out(custody, row.id)
        assert _keys(custody) == 3


def test_custody_the_law_it_cites_is_signed_too(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        note = parse_body(row).note
        _tamper(custody, row.id, note=note.replace("Z\n-\n", f"Z\n{LAW}\n"))
        with pytest.raises(ApprovalError, match="doesn't verify"):
            approve(custody, row.id, BEN)


def test_custody_an_officer_who_was_struck_off_counts_no_more(room: Room) -> None:
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        assert [officer.name for officer in signers_of(custody, row)] == ["ada", "ben"]
    room.officers = tuple(officer for officer in room.officers if officer.name != "ben")
    with room.custody() as custody, pytest.raises(ApprovalError, match="got 1"):
        erasure.carry_out(custody, row.id)


def test_custody_officers_who_cannot_be_told_apart_decide_nothing(room: Room) -> None:
    twin = Ed25519Signer("eve", b"a" * 32)
    room.officers = (*room.officers, Officer("eve", twin.verifier_key, ("privacy-officer",)))
    with room.custody() as custody, pytest.raises(ApprovalError, match="two have one key"):
        erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")


def test_custody_a_withdrawn_request_forgets_its_subjects_and_cannot_be_approved(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        withdraw(custody, row.id, ADA)
        assert (find(custody, row.id).state, find(custody, row.id).subjects) == (WITHDRAWN, ())
        with pytest.raises(CustodyError, match="expected one that waits for approval, got one that is withdrawn"):
            approve(custody, row.id, BEN)
        with pytest.raises(CustodyError, match="got one that is withdrawn"):
            erasure.carry_out(custody, row.id)


def test_custody_what_is_done_cannot_be_withdrawn(room: Room) -> None:
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        erasure.carry_out(custody, row.id)
        assert find(custody, row.id).state == DONE
        with pytest.raises(CustodyError, match="expected one that hasn't begun, got one that is done"):
            withdraw(custody, row.id, ADA)


def test_custody_of_a_request_that_is_not_there_says_so(room: Room) -> None:
    with room.custody() as custody:
        for act in (
            lambda custody, name: withdraw(custody, name, ADA),
            find,
            lambda custody, name: approve(custody, name, BEN),
            erasure.carry_out,
        ):
            with pytest.raises(CustodyError, match=f"request {'0' * 32}: there is none"):
                act(custody, "0" * 32)


def test_custody_a_reason_that_is_no_code_is_refused(room: Room) -> None:
    with room.custody() as custody, pytest.raises(FormatError, match="eight lines"):
        erasure.request_erasure(custody, ["p0"], ADA, "Mrs Miller asked")


def test_custody_an_approval_survives_until_the_hold_is_gone(room: Room) -> None:
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        placed = holds.request_hold(custody, ["p0"], ADA, "litigation")
        holds.carry_out(custody, placed.id)
        with pytest.raises(HoldError):
            erasure.carry_out(custody, row.id)
        release = holds.request_release(custody, [custody.store.holds()[0].hold], ADA, "settled")
        holds.carry_out(custody, approve(custody, release.id, BEN).id)
        erasure.carry_out(custody, row.id)
    assert room.verify().erased == 1


# What whoever can write in the vault's store alone can't do


def _alter(room: Room, statement: str, *values: object) -> None:
    with sqlite3.connect(room.directory / "vault.sqlite3") as connection:
        connection.execute(statement, values)
    connection.close()


def _refs(custody: Custody, *patients: str) -> tuple[int, ...]:
    keys = [custody.vault.find(patient_subject(patient)) for patient in patients]
    return tuple(key.ref for key in keys if key is not None)


@pytest.mark.parametrize("state", [APPROVED, "running", "taken", "recorded"])
def test_custody_a_plan_written_into_the_vault_launders_no_deletion(room: Room, state: str) -> None:
    """Keys of others deleted by hand, and an approved request made to say that they were its plan."""
    with room.custody() as custody:
        holds.carry_out(custody, holds.request_hold(custody, ["p1"], ADA, "litigation").id)
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        own, *others = _refs(custody, "p0", "p1", "p2")
    body = msgspec.structs.replace(parse_body(row), plan=(own, *others), retention="ended")
    _alter(room, "UPDATE requests SET state = ?, body = ? WHERE id = ?", state, format_body(body), row.id)
    _alter(room, f"DELETE FROM patient_keys WHERE key_ref IN ({others[0]}, {others[1]})")
    with room.custody() as custody, pytest.raises(CustodyError, match="was changed"):
        erasure.carry_out(custody, row.id)
    assert room.verify().erased == 0


def test_custody_a_plan_of_other_keys_than_were_signed_is_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its seal is right."""
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        plan = _refs(custody, "p0", "p2")
        row = advance(custody, row, "running", msgspec.structs.replace(parse_body(row), plan=plan))
        with pytest.raises(CustodyError, match="keys that its officers didn't sign"):
            erasure.carry_out(custody, row.id)
        assert _keys(custody) == 3


def test_custody_the_keys_that_go_are_signed(room: Room) -> None:
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        assert parse_body(row).keys == _refs(custody, "p0")
        advance(custody, row, APPROVED, msgspec.structs.replace(parse_body(row), keys=_refs(custody, "p0", "p2")))
        with pytest.raises(ApprovalError, match="another request"):
            erasure.carry_out(custody, row.id)
        assert _keys(custody) == 3


def test_custody_a_held_patients_key_deleted_by_hand_makes_no_erasure(room: Room) -> None:
    """What is under a key is looked at as long as it is there, not the key alone."""
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        holds.carry_out(custody, holds.request_hold(custody, ["p0"], ADA, "litigation").id)
        (key_ref,) = _refs(custody, "p0")
    _alter(room, f"DELETE FROM patient_keys WHERE key_ref = {key_ref}")
    with room.custody() as custody:
        with pytest.raises(CustodyError, match="gone, and payloads under it aren't"):
            erasure.carry_out(custody, row.id)
        body = msgspec.structs.replace(parse_body(row), plan=(key_ref,), retention="ended")
        advance(custody, row, "running", body)
        with pytest.raises(HoldError):
            erasure.carry_out(custody, row.id)
    assert room.verify().erased == 0


def test_custody_records_to_be_kept_under_a_key_deleted_by_hand_make_no_erasure(room: Room) -> None:
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        write(custody.log, "p0", 1, RECENT)
        (key_ref,) = _refs(custody, "p0")
        body = msgspec.structs.replace(parse_body(row), plan=(key_ref,), retention="ended", size=10)
        advance(custody, row, "running", body)
    _alter(room, f"DELETE FROM patient_keys WHERE key_ref = {key_ref}")
    with room.custody() as custody, pytest.raises(RetentionError):
        erasure.carry_out(custody, row.id)
    assert room.verify().erased == 0


def test_custody_keys_whose_numbers_were_exchanged_are_refused(room: Room) -> None:
    """p0's row under the number of p1's: what would be taken is p1's."""
    with room.custody() as custody:
        first, second = _refs(custody, "p0", "p1")
    _alter(room, f"UPDATE patient_keys SET key_ref = 99 WHERE key_ref = {first}")
    _alter(room, f"UPDATE patient_keys SET key_ref = {first} WHERE key_ref = {second}")
    _alter(room, f"UPDATE patient_keys SET key_ref = {second} WHERE key_ref = 99")
    with room.custody() as custody, pytest.raises(CustodyError, match="doesn't open what is under it"):
        erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")


# What an erasure leaves of the patient in other requests and holds


def test_custody_an_erased_patients_lookup_stays_in_no_other_request(room: Room) -> None:
    with room.custody() as custody:
        both = erasure.request_erasure(custody, ["p0", "p1"], ADA, "gdpr-17")
        alone = approve(custody, erasure.request_erasure(custody, ["p0"], BEN, "gdpr-17").id, ADA)
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        (gone, kept) = custody.lookups(["p0", "p1"])
        erasure.carry_out(custody, row.id)
        assert find(custody, both.id).subjects == (kept,)
        assert (find(custody, alone.id).state, find(custody, alone.id).subjects) == (WITHDRAWN, ())
        assert not any(gone in path.read_bytes() for path in room.directory.glob("vault.sqlite3*"))
        # Nor does a digest under a salt that is still there.
        salts = [salt for salt, _ in parse_body(find(custody, both.id)).subjects]
        assert [bool(salt) for salt in salts] == [False, True]
        # The signatures over the request about both still hold, for the other.
        erasure.carry_out(custody, approve(custody, both.id, BEN, [kept]).id)
    assert room.verify().erased == 2


def test_custody_an_erased_patients_lookup_stays_in_no_expired_hold(room: Room) -> None:
    with replace(room, now=RECENT).custody() as custody:
        placed = holds.request_hold(custody, ["p0"], ADA, "litigation", "2035-01-01T00:00:00.000000Z")
        holds.carry_out(custody, placed.id)
    with room.custody() as custody:
        row = erasure.request_retention(custody, ADA, "retention", 100)
        assert row is not None
        erasure.carry_out(custody, approve(custody, row.id, BEN).id)
        assert custody.store.holds() == []
        (gone,) = custody.lookups(["p0"])
        assert not any(gone in path.read_bytes() for path in room.directory.glob("vault.sqlite3*"))


def test_custody_a_patient_who_came_back_stays_in_requests(room: Room) -> None:
    def reached(step: str) -> None:
        if step == "destroyed":
            write(custody.log, "p0", 1, OLD)

    with room.custody(reached) as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17").id, BEN)
        other = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        erasure.carry_out(custody, row.id)
        assert find(custody, other.id).subjects == custody.lookups(["p0"])


# Withdrawing


class CutShortError(Exception):
    pass


def _cut_short(room: Room, request_id: str, at: str) -> None:
    def reached(step: str) -> None:
        if step == at:
            raise CutShortError

    with room.custody(reached) as custody, pytest.raises(CutShortError):
        holds.carry_out(custody, request_id)


def test_custody_a_release_that_was_logged_cannot_be_withdrawn(room: Room) -> None:
    with room.custody() as custody:
        holds.carry_out(custody, holds.request_hold(custody, ["p0"], ADA, "litigation").id)
        row = holds.request_release(custody, [custody.store.holds()[0].hold], ADA, "settled")
        approve(custody, row.id, BEN)
    _cut_short(room, row.id, "logged")
    with room.custody() as custody:
        with pytest.raises(CustodyError, match="the log tells of it already"):
            withdraw(custody, row.id, ADA)
        holds.carry_out(custody, row.id)
        assert custody.store.holds() == []


def test_custody_a_hold_that_was_placed_cannot_be_withdrawn(room: Room) -> None:
    with room.custody() as custody:
        row = holds.request_hold(custody, ["p0"], ADA, "litigation")
    _cut_short(room, row.id, "placed")
    with room.custody() as custody, pytest.raises(CustodyError, match="its hold is in force already"):
        withdraw(custody, row.id, ADA)


@pytest.mark.parametrize("signer", [CLEO, Ed25519Signer("ben", b"x" * 32)])
def test_custody_a_withdrawal_takes_an_officers_key(room: Room, signer: Ed25519Signer) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        with pytest.raises(ApprovalError):
            withdraw(custody, row.id, signer)
        assert find(custody, row.id).state == REQUESTED
        withdraw(custody, row.id, BEN)
        (name,) = {line.name for line in parse_note(parse_body(find(custody, row.id)).withdrawal.encode()).signatures}
        assert name == "ben"
