from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.entry_custody import ErasureEntry
from audit.errors import VerificationError
from audit.merkle import LeafIndex
from audit.storage import Erasure
from audit.tombstones import Tombstones, digest_erased

ID, OTHER, SALT = "5a" * 16, "5b" * 16, b"s" * 32
TAKEN = tuple(LeafIndex(index) for index in (2, 3, 7))


def _entry(taken: tuple[LeafIndex, ...] = TAKEN, erasure: str = ID) -> ErasureEntry:
    return ErasureEntry(
        id=erasure,
        time="2026-03-01T08:00:00.000000Z",
        clock="synchronised",
        tenant="north",
        reason="gdpr-17",
        subjects=1,
        payloads=len(taken),
        erased=digest_erased(SALT, taken),
        requested_by="ab" * 32,
        approved_by="cd" * 32,
        approval="ef" * 32,
        retention="ended",
    )


def _tombstones(gone: tuple[int, ...], erasure: str = ID) -> Tombstones:
    tombstones = Tombstones([Erasure(ID, SALT), Erasure(OTHER, SALT)])
    for index in gone:
        tombstones.take(LeafIndex(index), erasure)
    return tombstones


def test_tombstones_the_digest_is_over_the_salt_and_the_indices() -> None:
    assert digest_erased(b"salt", [LeafIndex(1), LeafIndex(258)]) == (
        sha256(b"salt" + b"\0\0\0\0\0\0\0\x01" + b"\0\0\0\0\0\0\x01\x02").hexdigest()
    )


@given(st.sets(st.integers(0, 40)).map(sorted).map(tuple))
def test_tombstones_of_a_recorded_erasure_hold(gone: tuple[int, ...]) -> None:
    tombstones = _tombstones(gone)
    tombstones.check_entry(LeafIndex(50), _entry(tuple(LeafIndex(index) for index in gone)))
    tombstones.finish()


@pytest.mark.parametrize(
    ("gone", "index", "reason"),
    [
        ((1, 2, 3, 7), 1, "4 are said to be taken by erasure .*, which took 3"),
        ((2, 3, 7, 8), 2, "4 are said"),
        ((2, 3, 8), 2, "as many payloads, and others"),
        ((2, 3), 9, "it took 3 payloads, and 2 are gone"),
        ((), 9, "and 0 are gone"),
    ],
)
def test_tombstones_that_do_not_fit_their_erasure_are_found(gone: tuple[int, ...], index: int, reason: str) -> None:
    with pytest.raises(VerificationError, match=reason) as caught:
        _tombstones(gone).check_entry(LeafIndex(9), _entry())
    assert caught.value.index == index


def test_tombstones_of_an_erasure_the_store_does_not_know_are_missing_payloads() -> None:
    with pytest.raises(VerificationError, match="first bad index 4, payload: missing") as caught:
        _tombstones((4,), "ff" * 16)
    assert caught.value.index == 4


def test_tombstones_of_an_erasure_that_is_not_in_the_log_are_missing_payloads() -> None:
    with pytest.raises(VerificationError, match=f"erasure {OTHER} isn't in the log") as caught:
        _tombstones((5, 6), OTHER).finish()
    assert caught.value.index == 5


def test_tombstones_that_came_after_their_erasure_are_missing_payloads() -> None:
    tombstones = _tombstones(TAKEN)
    tombstones.check_entry(LeafIndex(9), _entry())
    with pytest.raises(VerificationError, match="missing") as caught:
        tombstones.take(LeafIndex(12), ID)
    assert caught.value.index == 12


def test_tombstones_an_erasure_without_its_salt_is_found() -> None:
    with pytest.raises(VerificationError, match="no salt") as caught:
        Tombstones([]).check_entry(LeafIndex(3), _entry(()))
    assert caught.value.index == 3


def test_tombstones_an_erasure_that_was_begun_and_took_nothing_is_no_fault() -> None:
    _tombstones(()).finish()
