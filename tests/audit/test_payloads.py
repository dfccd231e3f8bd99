import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.commitments import digest
from audit.entry import PayloadReference
from audit.errors import ErasedError, PayloadError
from audit.payloads import MAX_PAYLOAD_BYTES, PayloadContext, SealedPayload, open_payload, read_key_ref, seal_payload
from audit.vault import SubjectKey

WRAPPING = "wrap:0badcafe"
KEY = SubjectKey(7, bytes(range(32)), WRAPPING)
NONCE = bytes(12)
CONTEXT = PayloadContext("00" * 16, "decision/v1", "north")


def _seal(plaintext: bytes = b"value", key: SubjectKey = KEY, nonce: bytes = NONCE) -> SealedPayload:
    return seal_payload(key, CONTEXT, plaintext, nonce, key_id=WRAPPING)


def _only(key: SubjectKey) -> Callable[[int], SubjectKey]:
    """A vault of one key, whatever is asked for."""
    return lambda _ref: key


@given(
    st.binary(max_size=500),
    st.binary(min_size=12, max_size=12),
    st.binary(min_size=32, max_size=32),
    st.integers(1, 2**63 - 1),
)
def test_payloads_sealed_are_opened(plaintext: bytes, nonce: bytes, key: bytes, ref: int) -> None:
    subject = SubjectKey(ref, key, WRAPPING)
    sealed = _seal(plaintext, subject, nonce)
    assert read_key_ref(sealed.sealed) == sealed.key_ref == ref
    assert open_payload({ref: subject}.__getitem__, CONTEXT, sealed.reference, sealed.sealed) == plaintext


def test_payloads_have_the_documented_bytes() -> None:
    sealed = _seal()
    assert sealed.sealed[:21] == b"\x02" + bytes(7) + b"\x07" + NONCE
    assert len(sealed.sealed) == 21 + len(b"value") + 16
    assert sealed.reference == PayloadReference(sha256=hashlib.sha256(sealed.sealed).hexdigest(), key_id=WRAPPING)


def test_payloads_open_for_their_own_entry_type_and_tenant_only() -> None:
    sealed = _seal()
    for other in (
        PayloadContext("01" * 16, "decision/v1", "north"),
        PayloadContext("00" * 16, "feedback/v1", "north"),
        PayloadContext("00" * 16, "decision/v1", "south"),
    ):
        with pytest.raises(PayloadError, match="sealed for another entry"):
            open_payload(_only(KEY), other, sealed.reference, sealed.sealed)


def test_payloads_fail_with_any_flipped_bit() -> None:
    sealed = _seal()
    for bit in range(8 * len(sealed.sealed)):
        flipped = bytearray(sealed.sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PayloadError, match="not the one the entry names"):
            open_payload(_only(KEY), CONTEXT, sealed.reference, bytes(flipped))


def test_payloads_fail_with_any_flipped_bit_though_an_entry_names_it() -> None:
    sealed = _seal()
    keys = {7: KEY}
    for bit in range(8 * len(sealed.sealed)):
        flipped = bytearray(sealed.sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        reference = PayloadReference(sha256=digest(flipped), key_id=WRAPPING)
        with pytest.raises((PayloadError, KeyError)):
            open_payload(keys.__getitem__, CONTEXT, reference, bytes(flipped))


def test_payloads_do_not_open_under_another_key() -> None:
    sealed = _seal()
    with pytest.raises(PayloadError, match="under another key"):
        open_payload(_only(SubjectKey(7, bytes(32), WRAPPING)), CONTEXT, sealed.reference, sealed.sealed)


def test_payloads_say_that_their_key_was_destroyed() -> None:
    def key_at(ref: int) -> SubjectKey:
        raise ErasedError(f"erased: key {ref} was destroyed")

    sealed = _seal()
    with pytest.raises(ErasedError, match="erased: key 7"):
        open_payload(key_at, CONTEXT, sealed.reference, sealed.sealed)


@given(st.binary(max_size=60))
def test_payloads_of_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(PayloadError):
        open_payload(_only(KEY), CONTEXT, PayloadReference(sha256=digest(data), key_id=WRAPPING), data)


def test_payloads_keep_to_their_sizes() -> None:
    with pytest.raises(PayloadError, match="nonce"):
        _seal(nonce=bytes(11))
    with pytest.raises(PayloadError, match="at most"):
        _seal(plaintext=bytes(MAX_PAYLOAD_BYTES + 1))


def test_payloads_say_nothing_in_clear() -> None:
    assert b"canary" not in _seal(b"canary" * 50).sealed
