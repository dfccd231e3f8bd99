from pathlib import Path

import msgspec
import pytest

from audit import erasure, holds
from audit.approvals import Officer
from audit.custody import APPROVED, DONE, REQUESTED, WITHDRAWN, Custody, approve, find, parse_body, signers_of, withdraw
from audit.errors import ApprovalError, CustodyError, FormatError, HoldError
from audit.keys import Ed25519Signer
from tests.audit.custody_log import ADA, BEN, CLEO, LAW, Room, make_room


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
    "changes", [{"keys": (3,)}, {"payloads": ((3, 2),)}, {"holds": ("5a" * 16,)}, {"salt": "00" * 32}]
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
        withdraw(custody, row.id)
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
            withdraw(custody, row.id)


def test_custody_of_a_request_that_is_not_there_says_so(room: Room) -> None:
    with room.custody() as custody:
        for act in (withdraw, find, lambda custody, name: approve(custody, name, BEN), erasure.carry_out):
            with pytest.raises(CustodyError, match=f"request {'0' * 32}: there is none"):
                act(custody, "0" * 32)


def test_custody_a_reason_that_is_no_code_is_refused(room: Room) -> None:
    with room.custody() as custody, pytest.raises(FormatError, match="eight lines"):
        erasure.request_erasure(custody, ["p0"], ADA, "Mrs Miller asked")


def test_custody_two_requests_about_one_patient_do_not_hinder_each_other(room: Room) -> None:
    with room.custody() as custody:
        rows = [erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17") for _ in range(2)]
        for row in rows:
            erasure.carry_out(custody, approve(custody, row.id, BEN).id)
    assert room.verify().erased == 1


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
