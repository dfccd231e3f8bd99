from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from joserfc.jwk import ECKey

from cds_service.bearer import Token, parse_bearer
from cds_service.key_sets import PublicKey, parse_key_set
from cds_service.signatures import Signatures
from tests.cds_service.tokens import SigningKey, jwks, make_token, signature_of, signing_key, with_signature

URL = "https://cds.example.org/cds-services/a"
SIGNATURES = Signatures()
KEYS = [
    signing_key(f"{alg}-{bits}", alg, bits)
    for alg, bits in (
        *((alg, 0) for alg in ("ES256", "ES384", "ES512", "EdDSA")),
        *((alg, 2048) for alg in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        ("RS384", 3072),
    )
]


@contextmanager
def counted_verifications() -> Iterator[list[tuple[str, int]]]:
    """Each signature that cryptography checks meanwhile in this thread: kind of key, and its size in bits."""
    checked: list[tuple[str, int]] = []

    def look(_: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ == "verify":
            owner = called.__self__
            checked.append((type(owner).__name__, getattr(owner, "key_size", 255)))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield checked
    finally:
        sys.setprofile(before)


def token_of(text: str) -> Token:
    return parse_bearer(f"Bearer {text}")


def public(key: SigningKey) -> PublicKey:
    return parse_key_set(jwks(key))[key.kid].key


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.kid)
def test_signatures_of_the_key_itself_are_good(key: SigningKey) -> None:
    assert SIGNATURES.is_good(token_of(make_token(URL, key=key)), public(key))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.kid)
def test_signatures_of_any_other_key_are_bad(key: SigningKey) -> None:
    token = make_token(URL, key=key)
    altered = bytearray(signature_of(token))
    altered[-1] ^= 1
    assert not SIGNATURES.is_good(token_of(with_signature(token, bytes(altered))), public(key))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.kid)
def test_signatures_without_a_key_cost_as_much_as_with_one(key: SigningKey) -> None:
    token = token_of(make_token(URL, key=key))
    with counted_verifications() as with_key:
        SIGNATURES.is_good(token, public(key))
    with counted_verifications() as without:
        assert not SIGNATURES.is_good(token, None)
    assert len(with_key) == 1
    assert without == with_key


@pytest.mark.parametrize("length", [1, 64, 95, 97, 132, 255, 257, 384])
def test_signatures_of_a_wrong_length_cost_one_check_all_the_same(length: int) -> None:
    key = signing_key("a")
    token = token_of(with_signature(make_token(URL, key=key), b"\x01" * length))
    for known in (public(key), None):
        with counted_verifications() as checked:
            assert not SIGNATURES.is_good(token, known)
        assert checked == [("ECPublicKey", 384)]


def test_signatures_without_a_token_cost_one_check() -> None:
    with counted_verifications() as checked:
        assert not SIGNATURES.is_good(None, None)
    assert checked == [("ECPublicKey", 384)]


@pytest.mark.parametrize(
    "forge",
    [
        lambda signature: signature[48:] + signature[:48],
        lambda signature: bytes(96),
        lambda signature: b"\xff" * 96,
    ],
    ids=["r and s swapped", "zeros", "ones"],
)
def test_signatures_with_other_numbers_are_bad(forge: Callable[[bytes], bytes]) -> None:
    key = signing_key("a")
    token = make_token(URL, key=key)
    forged = with_signature(token, forge(signature_of(token)))
    assert not SIGNATURES.is_good(token_of(forged), public(key))


def test_signatures_are_bad_for_a_key_of_another_kind() -> None:
    token = token_of(make_token(URL, key=signing_key("a")))
    assert not SIGNATURES.is_good(token, public(signing_key("b", "RS384")))
    assert not SIGNATURES.is_good(token, ECKey.generate_key("P-256", private=False))
