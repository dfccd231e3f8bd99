import hashlib
import hmac

import pytest

from audit.commitments import IndexKey, commit, commit_patient, digest, keyed_digest
from audit.errors import EntryError

KEY = IndexKey(bytes(range(32)))
ENTRY_1, ENTRY_2 = "00" * 16, "01" * 16


def test_commitments_to_a_patient_differ_in_every_entry() -> None:
    assert commit_patient(KEY, ENTRY_1, "p1") == commit_patient(KEY, ENTRY_1, "p1")
    assert len({commit_patient(KEY, entry, patient) for entry in (ENTRY_1, ENTRY_2) for patient in ("p1", "p2")}) == 4


def test_commitments_need_the_key() -> None:
    assert commit_patient(KEY, ENTRY_1, "p1") != commit_patient(IndexKey(bytes(32)), ENTRY_1, "p1")
    with pytest.raises(EntryError):
        commit_patient(IndexKey(b"short"), ENTRY_1, "p1")


def test_commitments_are_the_documented_hmac() -> None:
    inner = hmac.new(KEY, b"patient\0p1", hashlib.sha256).digest()
    assert commit_patient(KEY, ENTRY_1, "p1") == hmac.new(inner, ENTRY_1.encode(), hashlib.sha256).hexdigest()
    assert commit(KEY, ENTRY_1, "patient", b"p1") == commit_patient(KEY, ENTRY_1, "p1")


def test_commitments_keyed_digests_of_two_purposes_cannot_be_compared() -> None:
    assert keyed_digest(KEY, "practitioner", b"x") == keyed_digest(KEY, "practitioner", b"x")
    assert keyed_digest(KEY, "practitioner", b"x") != keyed_digest(KEY, "body", b"x")
    assert keyed_digest(KEY, "body", b"x") != digest(b"x") == hashlib.sha256(b"x").hexdigest()
