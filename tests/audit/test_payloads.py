import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.commitments import digest
from audit.entry import PayloadReference
from audit.errors import PayloadError
from audit.payloads import PayloadContext, PayloadKey, open_payload, seal_payload

KEY = PayloadKey(bytes(range(32)))
NONCE = bytes(12)
CONTEXT = PayloadContext("00" * 16, "decision/v1", "north")


@given(st.binary(max_size=500), st.binary(min_size=12, max_size=12))
def test_payloads_sealed_are_opened(plaintext: bytes, nonce: bytes) -> None:
    sealed = seal_payload(KEY, CONTEXT, plaintext, nonce)
    assert open_payload(KEY, CONTEXT, sealed.reference, sealed.sealed) == plaintext


def test_payloads_open_for_their_own_entry_type_and_tenant_only() -> None:
    sealed = seal_payload(KEY, CONTEXT, b"value", NONCE)
    for other in (
        PayloadContext("01" * 16, "decision/v1", "north"),
        PayloadContext("00" * 16, "feedback/v1", "north"),
        PayloadContext("00" * 16, "decision/v1", "south"),
    ):
        with pytest.raises(PayloadError):
            open_payload(KEY, other, sealed.reference, sealed.sealed)


def test_payloads_fail_with_any_flipped_bit() -> None:
    sealed = seal_payload(KEY, CONTEXT, b"value", NONCE)
    for position in range(len(sealed.sealed)):
        flipped = bytearray(sealed.sealed)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(PayloadError, match="not the one the entry names"):
            open_payload(KEY, CONTEXT, sealed.reference, bytes(flipped))
        rereferenced = PayloadReference(sha256=digest(flipped), key_id=sealed.key_id)
        with pytest.raises(PayloadError):
            open_payload(KEY, CONTEXT, rereferenced, bytes(flipped))


def test_payloads_of_another_key_are_named_by_key_id() -> None:
    sealed = seal_payload(PayloadKey(bytes(32)), CONTEXT, b"value", NONCE)
    with pytest.raises(PayloadError, match="expected key tenant:"):
        open_payload(KEY, CONTEXT, sealed.reference, sealed.sealed)


def test_payloads_say_nothing_in_clear() -> None:
    assert b"canary" not in seal_payload(KEY, CONTEXT, b"canary" * 50, NONCE).sealed
