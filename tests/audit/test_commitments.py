import hashlib
import hmac

import pytest

from audit.commitments import IndexKey, digest, keyed_digest
from audit.errors import EntryError

KEY = IndexKey(bytes(range(32)))


def test_commitments_keyed_digest_is_the_documented_hmac() -> None:
    assert keyed_digest(KEY, "operator", b"o1") == hmac.new(KEY, b"operator\0o1", hashlib.sha256).hexdigest()


def test_commitments_need_the_key() -> None:
    assert keyed_digest(KEY, "operator", b"o1") != keyed_digest(IndexKey(bytes(32)), "operator", b"o1")
    with pytest.raises(EntryError):
        keyed_digest(IndexKey(b"short"), "operator", b"o1")


def test_commitments_keyed_digests_of_two_purposes_cannot_be_compared() -> None:
    assert keyed_digest(KEY, "practitioner", b"x") == keyed_digest(KEY, "practitioner", b"x")
    assert keyed_digest(KEY, "practitioner", b"x") != keyed_digest(KEY, "body", b"x")
    assert keyed_digest(KEY, "body", b"x") != digest(b"x") == hashlib.sha256(b"x").hexdigest()
