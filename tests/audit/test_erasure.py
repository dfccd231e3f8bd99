import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from audit import erasure, holds
from audit.approvals import check_signed
from audit.commitments import digest
from audit.custody import Custody, approve, find, written_request
from audit.custody_body import parse_body
from audit.custody_epochs import kept_payloads, kept_under
from audit.entry import parse_entry
from audit.entry_custody import ErasureEntry
from audit.errors import (
    CustodyError,
    EntryConflictError,
    ErasedError,
    HoldError,
    PayloadError,
    RetentionError,
    VerificationError,
)
from audit.held import check_not_held
from audit.merkle import LeafIndex
from audit.proof import format_proof
from audit.retention import RetentionRule
from audit.vault import patient_subject
from tests.audit.custody_log import ADA, BEN, LAW, OLD, RECENT, Room, make_entry, make_room, marker, write

PATIENTS, PAYLOADS = 4, 2


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """Two payloads each of p0 to p3: entries 0 to 7, p0's are 0 and 4."""
    return make_room(tmp_path / "log", patients=PATIENTS, payloads=PAYLOADS)


def _erase(custody: Custody, *patients: str, override: str | None = None) -> LeafIndex:
    row = erasure.request_erasure(custody, list(patients), ADA, "gdpr-17", override)
    return erasure.carry_out(custody, approve(custody, row.id, BEN).id)


def _files(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def test_erasure_forgets_the_patient_and_nobody_else(room: Room) -> None:
    with room.custody() as custody:
        _erase(custody, "p1", "p2")
        for index in range(PATIENTS * PAYLOADS):
            patient, number = index % PATIENTS, index // PATIENTS
            if patient in (1, 2):
                with pytest.raises((ErasedError, PayloadError)):
                    custody.log.payload(LeafIndex(index))
            else:
                assert custody.log.payload(LeafIndex(index)) == marker(f"p{patient}", number)
        assert custody.vault.find(patient_subject("p1")) is None
        assert custody.vault.find(patient_subject("p0")) is not None


def test_erasure_leaves_every_entry_and_proof_as_it_was(room: Room) -> None:
    with room.custody() as custody:
        size = custody.log.storage.newest_checkpoint().size
        before = [custody.log.entry(LeafIndex(index)) for index in range(size)]
        proofs = [format_proof(custody.log.prove(LeafIndex(index))) for index in range(size)]
        row = erasure.request_erasure(custody, ["p0"], ADA, "gdpr-17")
        proven: list[list[bytes]] = []

    def reached(step: str) -> None:
        if step == "payloads":
            proven.append([format_proof(again.log.prove(LeafIndex(index))) for index in range(size)])

    with room.custody(reached) as again:
        erasure.carry_out(again, approve(again, row.id, BEN).id)
        assert [again.log.entry(LeafIndex(index)) for index in range(size)] == before
    assert proven == [proofs]


def test_erasure_leaves_no_key_no_lookup_and_no_ciphertext_in_any_file(room: Room) -> None:
    with room.custody() as custody:
        (key,) = (custody.store.key(lookup) for lookup in custody.lookups(["p1"]))
        sealed = [custody.log.storage.payload(LeafIndex(index)).sealed for index in (1, 5)]
        searched = [key.wrapped, key.lookup, key.lookup.hex().encode(), *(one[9:41] for one in sealed)]
        found = [needle in _files(room.directory) for needle in searched]
        assert found == [True, True, False, True, True]
        _erase(custody, "p1")
        assert not any(needle in _files(room.directory) for needle in searched)
    assert not any(needle in _files(room.directory) for needle in searched)


def test_erasure_is_recorded_with_its_approvals(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p1", "p2"], ADA, "gdpr-17")
        index = erasure.carry_out(custody, approve(custody, row.id, BEN).id)
        entry = parse_entry(custody.log.entry(index))
        assert isinstance(entry, ErasureEntry)
        assert (entry.id, entry.reason, entry.subjects, entry.payloads) == (row.id, "gdpr-17", 2, 4)
        assert (entry.requested_by, entry.approved_by) == (custody.person("ada"), custody.person("ben"))
        assert entry.retention == "ended"
        done = find(custody, row.id)
        note = parse_body(done).note.encode()
        assert entry.approval == digest(note)
        assert len(check_signed(note, written_request(done), room.officers, at_least=2)) == 2
        assert (done.state, done.subjects, parse_body(done).salt) == ("done", (), "")


def test_erasure_verifies_and_says_how_much_is_gone(room: Room) -> None:
    with room.custody() as custody:
        _erase(custody, "p1")
    report = room.verify()
    assert (report.payloads, report.erased) == (PATIENTS * PAYLOADS - 2, 2)


def test_erasure_of_a_patient_without_record_names_the_line_and_not_the_id(room: Room) -> None:
    with room.custody() as custody, pytest.raises(CustodyError) as caught:
        erasure.request_erasure(custody, ["p0", "stranger", "p1", "nobody"], ADA, "gdpr-17")
    assert str(caught.value) == "line 2, 4: no record of this patient"


def test_erasure_of_nobody_is_refused(room: Room) -> None:
    with room.custody() as custody, pytest.raises(CustodyError, match="got none"):
        erasure.request_erasure(custody, [], ADA, "gdpr-17")


def test_erasure_of_the_same_patient_given_twice_is_one(room: Room) -> None:
    with room.custody() as custody:
        index = _erase(custody, "p1", "p1")
        entry = parse_entry(custody.log.entry(index))
    assert isinstance(entry, ErasureEntry)
    assert (entry.subjects, entry.payloads) == (1, 2)


def test_erasure_before_retention_has_ended_is_refused(room: Room) -> None:
    with replace(room, now=RECENT).custody() as custody:
        write(custody.log, "p1", 2, RECENT)
    with room.custody() as custody:
        with pytest.raises(RetentionError, match="kept for 10 years, the newest record is of 2034-03-01"):
            erasure.request_erasure(custody, ["p0", "p1"], ADA, "gdpr-17")
        _erase(custody, "p0")


def test_erasure_by_a_law_the_tenant_names_may_come_earlier(room: Room) -> None:
    with replace(room, now=RECENT).custody() as custody:
        write(custody.log, "p1", 2, RECENT)
    room.rule = RetentionRule(law=LAW)
    with room.custody() as custody:
        with pytest.raises(RetentionError, match="expected the law"):
            erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17", "fr-l1111-7")
        entry = parse_entry(custody.log.entry(_erase(custody, "p1", override=LAW)))
    assert isinstance(entry, ErasureEntry)
    assert (entry.retention, entry.payloads) == (LAW, 3)


def test_erasure_never_comes_before_183_days(room: Room) -> None:
    room.rule = RetentionRule(law=LAW)
    with room.custody() as custody:
        write(custody.log, "p1", 2, room.now - timedelta(days=182))
        with pytest.raises(RetentionError, match="183 days by any law"):
            erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17", LAW)


def test_erasure_is_refused_when_the_patient_came_back_after_the_request(room: Room) -> None:
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17").id, BEN)
        write(custody.log, "p1", 2, room.now)
        with pytest.raises(RetentionError):
            erasure.carry_out(custody, row.id)
        assert custody.vault.find(patient_subject("p1")) is not None
        assert find(custody, row.id).state == "approved"


def test_erasure_is_refused_when_the_patient_comes_back_at_the_last_moment(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that is appended between the look at the payloads and the lock."""
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17").id, BEN)

        def kept_then_written(*arguments: Any) -> object:
            found = list(kept_under(*arguments))
            write(custody.log, "p1", 2, room.now)
            return iter(found)

        monkeypatch.setattr(erasure, "kept_under", kept_then_written)
        with pytest.raises(RetentionError):
            erasure.carry_out(custody, row.id)
        assert custody.vault.find(patient_subject("p1")) is not None


def test_erasure_is_refused_by_a_hold_placed_between_request_and_approval(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p0", "p1"], ADA, "gdpr-17")
        holds.carry_out(custody, holds.request_hold(custody, ["p1"], BEN, "litigation").id)
        approve(custody, row.id, BEN)
        with pytest.raises(HoldError):
            erasure.carry_out(custody, row.id)
        assert find(custody, row.id).state == "approved"
        for patient in ("p0", "p1"):
            assert custody.vault.find(patient_subject(patient)) is not None
    assert room.verify().erased == 0


def test_erasure_is_refused_by_a_hold_placed_at_the_last_moment(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vault looks once more, in the transaction that destroys the keys."""
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17").id, BEN)
        placed = holds.request_hold(custody, ["p1"], BEN, "litigation")
        monkeypatch.setattr(erasure, "check_not_held", lambda *_arguments: None)
        holds.carry_out(custody, placed.id)
        with pytest.raises(HoldError):
            erasure.carry_out(custody, row.id)
        assert custody.vault.find(patient_subject("p1")) is not None
        monkeypatch.setattr(erasure, "check_not_held", check_not_held)
        with pytest.raises(HoldError):
            erasure.carry_out(custody, row.id)


def test_erasure_a_request_on_a_held_patient_is_refused_at_once(room: Room) -> None:
    with room.custody() as custody:
        holds.carry_out(custody, holds.request_hold(custody, ["p1"], BEN, "litigation").id)
        with pytest.raises(HoldError):
            erasure.request_erasure(custody, ["p0", "p1"], ADA, "gdpr-17")


def test_erasure_takes_what_was_under_way_when_the_key_went(room: Room) -> None:
    """An entry whose key was read before it was destroyed, and which is appended after."""

    def reached(step: str) -> None:
        if step == "destroyed":
            custody.log.record(*late)

    with room.custody(reached) as custody:
        late = make_entry(custody.log, "p1", 2, OLD)
        entry = parse_entry(custody.log.entry(_erase(custody, "p1")))
    assert isinstance(entry, ErasureEntry)
    assert entry.payloads == 3
    assert room.verify().erased == 3


def test_erasure_carried_out_by_two_at_once_is_one(room: Room) -> None:
    """The slower one stops before it takes anything, be it what came after the faster one had counted."""

    def reached(step: str) -> None:
        if step == "destroyed":
            with room.custody() as faster:
                erasure.carry_out(faster, row.id)
            custody.log.record(*late)

    with room.custody(reached) as custody:
        late = make_entry(custody.log, "p1", 2, OLD)
        row = approve(custody, erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17").id, BEN)
        with pytest.raises(CustodyError, match="another process is at it"):
            erasure.carry_out(custody, row.id)
    assert room.verify().erased == 2


def test_erasure_whose_entry_somebody_else_wrote_differently_is_refused(room: Room) -> None:
    def reached(step: str) -> None:
        if step == "payloads":
            body = parse_body(find(custody, row.id))
            custody.log.record(
                ErasureEntry(
                    id=row.id,
                    time=custody.now(),
                    clock="synchronised",
                    tenant="north",
                    reason="gdpr-17",
                    subjects=1,
                    payloads=body.payload_count,
                    erased=body.erased,
                    requested_by=custody.person("ada"),
                    approved_by=custody.person("mallory"),
                    approval=digest(body.note.encode()),
                    retention="ended",
                )
            )

    with room.custody(reached) as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17").id, BEN)
        with pytest.raises(EntryConflictError, match="says something else"):
            erasure.carry_out(custody, row.id)


def test_erasure_a_patient_who_comes_back_gets_a_new_key(room: Room) -> None:
    with room.custody() as custody:
        before = custody.vault.key_for(patient_subject("p1"))
        _erase(custody, "p1")
        index = write(custody.log, "p1", 2, room.now)
        after = custody.vault.key_for(patient_subject("p1"))
        assert after.key != before.key
        assert after.ref > before.ref
        assert custody.log.payload(index) == marker("p1", 2)
    assert room.verify().erased == 2


def test_erasure_carried_out_again_is_refused(room: Room) -> None:
    with room.custody() as custody:
        row = approve(custody, erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17").id, BEN)
        erasure.carry_out(custody, row.id)
        with pytest.raises(CustodyError, match="got one that is done"):
            erasure.carry_out(custody, row.id)


def test_erasure_in_parts_takes_everything(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "KEYS_AT_A_TIME", 1)
    with room.custody() as custody:
        _erase(custody, "p0", "p1", "p2")
    assert room.verify().erased == 6


def test_erasure_forgets_holds_that_had_ended(room: Room) -> None:
    with replace(room, now=RECENT).custody() as custody:
        placed = holds.request_hold(custody, ["p1"], ADA, "litigation", "2035-01-01T00:00:00.000000Z")
        holds.carry_out(custody, placed.id)
    with room.custody() as custody:
        assert len(custody.store.holds()) == 1
        _erase(custody, "p1")
        assert custody.store.holds() == []


def test_erasure_leaves_a_hold_that_came_while_it_ran(room: Room) -> None:
    """It is on a patient who came back: it keeps what comes from now on."""

    def reached(step: str) -> None:
        if step == "destroyed":
            with room.custody() as other:
                holds.carry_out(other, holds.request_hold(other, ["p1"], BEN, "litigation").id)

    with room.custody(reached) as custody:
        _erase(custody, "p1")
        assert len(custody.store.holds()) == 1


# Retention


def test_retention_takes_what_is_due_and_leaves_what_is_newer(room: Room) -> None:
    with replace(room, now=RECENT).custody() as custody:
        newer = write(custody.log, "p1", 2, RECENT)
    with room.custody() as custody:
        row = erasure.request_retention(custody, ADA, "retention", 100)
        assert row is not None
        entry = parse_entry(custody.log.entry(erasure.carry_out(custody, approve(custody, row.id, BEN).id)))
        assert isinstance(entry, ErasureEntry)
        assert (entry.subjects, entry.payloads, entry.retention) == (3, 8, "ended")
        assert custody.log.payload(newer) == marker("p1", 2)
        assert [payload.index for payload in kept_payloads(custody)] == [newer]
        assert erasure.request_retention(custody, ADA, "retention", 100) is None
    assert room.verify().erased == 8


def test_retention_takes_no_more_than_asked(room: Room) -> None:
    with room.custody() as custody:
        row = erasure.request_retention(custody, ADA, "retention", 3)
        assert row is not None
        erasure.carry_out(custody, approve(custody, row.id, BEN).id)
    assert room.verify().erased == 3


def test_retention_leaves_what_is_held(room: Room) -> None:
    with room.custody() as custody:
        holds.carry_out(custody, holds.request_hold(custody, ["p1"], BEN, "litigation").id)
        row = erasure.request_retention(custody, ADA, "retention", 100)
        assert row is not None
        erasure.carry_out(custody, approve(custody, row.id, BEN).id)
        assert [payload.index for payload in kept_payloads(custody)] == [1, 5]
    assert room.verify().erased == 6


@pytest.mark.parametrize("patient", ["p0", "p1"])
def test_retention_is_refused_by_a_hold_placed_after_the_request(room: Room, patient: str) -> None:
    with replace(room, now=RECENT).custody() as custody:
        write(custody.log, "p1", 2, RECENT)
    with room.custody() as custody:
        row = erasure.request_retention(custody, ADA, "retention", 100)
        assert row is not None
        holds.carry_out(custody, holds.request_hold(custody, [patient], BEN, "litigation").id)
        approve(custody, row.id, BEN)
        with pytest.raises(HoldError):
            erasure.carry_out(custody, row.id)
    assert room.verify().erased == 0


def test_retention_leaves_a_payload_that_came_to_be_held_while_it_ran(room: Room) -> None:
    with replace(room, now=RECENT).custody() as custody:
        write(custody.log, "p1", 2, RECENT)

    def reached(step: str) -> None:
        if step == "destroyed":
            with room.custody() as other:
                holds.carry_out(other, holds.request_hold(other, ["p1"], BEN, "litigation").id)

    with room.custody(reached) as custody:
        row = erasure.request_retention(custody, ADA, "retention", 100)
        assert row is not None
        erasure.carry_out(custody, approve(custody, row.id, BEN).id)
        assert [payload.index for payload in kept_payloads(custody)] == [1, 5, 8]
    assert room.verify().erased == 6


# What whoever can write in the store can't do unseen


def _alter(room: Room, *statements: str) -> None:
    with sqlite3.connect(room.directory / "log.sqlite3") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    for seal in room.directory.glob("*.seal"):
        seal.unlink()


TAKE_ONE_MORE = "UPDATE payloads SET sealed = NULL, erasure = (SELECT id FROM erasures) WHERE idx = 0"


@pytest.mark.parametrize(
    ("statements", "index", "reason"),
    [
        (("UPDATE payloads SET sealed = NULL WHERE idx = 3",), 3, "missing"),
        (("DELETE FROM payloads WHERE idx = 3",), 3, "missing"),
        (("UPDATE payloads SET sealed = NULL, erasure = 'beef' WHERE idx = 3",), 3, "missing"),
        (
            (
                f"INSERT INTO erasures VALUES ('{'5b' * 16}', x'00')",
                f"UPDATE payloads SET sealed = NULL, erasure = '{'5b' * 16}' WHERE idx = 3",
            ),
            3,
            "isn't in the log",
        ),
        ((TAKE_ONE_MORE,), 0, "3 are said to be taken"),
        ((TAKE_ONE_MORE, "DELETE FROM payloads WHERE idx = 5"), 5, "missing"),
        ((TAKE_ONE_MORE, "UPDATE payloads SET sealed = x'00', erasure = '' WHERE idx = 5"), 5, "not the one"),
        (("UPDATE erasures SET salt = x'00'",), 1, "as many payloads, and others"),
        (("DELETE FROM erasures",), 1, "missing"),
        (("UPDATE payloads SET key_ref = 2 WHERE idx = 3",), 3, "filed under another key"),
        (
            ("UPDATE payloads SET erasure = (SELECT id FROM erasures) WHERE idx = 3",),
            3,
            "said to be erased, and is there",
        ),
    ],
)
def test_erasure_hides_no_other_loss(room: Room, statements: tuple[str, ...], index: int, reason: str) -> None:
    with room.custody() as custody:
        _erase(custody, "p1")
    assert room.verify().erased == 2
    _alter(room, *statements)
    with pytest.raises(VerificationError, match=reason) as caught:
        room.verify()
    assert caught.value.index == index


def test_erasure_that_was_cut_short_does_not_verify_until_it_is_completed(room: Room) -> None:
    class CutShortError(Exception):
        pass

    def reached(step: str) -> None:
        if step == "taken":
            raise CutShortError

    with room.custody(reached) as custody, pytest.raises(CutShortError):
        _erase(custody, "p1")
    with pytest.raises(VerificationError, match="isn't in the log, or not completed"):
        room.verify()
    with room.custody() as custody:
        (row,) = custody.store.requests("taken")
        erasure.carry_out(custody, row.id)
    assert room.verify().erased == 2
