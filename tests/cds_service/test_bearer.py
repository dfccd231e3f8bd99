from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import UnsupportedAlgorithmError

from cds_service.bearer import ALGORITHMS, MAX_TOKEN_CHARS, REGISTRY, parse_bearer
from cds_service.errors import UnauthenticatedError
from tests.cds_service.tokens import ES384, RS384, b64, make_token, sign

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=20), JSON, max_size=5))
def test_bearer_claims_are_read_as_they_were_written(claims: dict[str, Any]) -> None:
    text = sign('{"alg":"ES384"}', json.dumps(claims), ES384)
    token = parse_bearer(f"Bearer {text}")
    assert token.claims == claims
    assert token.header == {"alg": "ES384"}


@given(JSON, JSON)
def test_bearer_any_json_is_parsed_or_refused(header: object, claims: object) -> None:
    text = sign(json.dumps(header), json.dumps(claims), ES384)
    with pytest.raises(UnauthenticatedError) as refusal:  # no header of these has an alg that is text
        parse_bearer(f"Bearer {text}")
    assert refusal.value.why in ("malformed", "header")


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=20))
def test_bearer_any_bytes_are_refused(header: bytes, payload: bytes, signature: bytes) -> None:
    with pytest.raises(UnauthenticatedError, match="authentication required"):
        parse_bearer(f"Bearer {b64(header)}.{b64(payload)}.{b64(signature)}")


@pytest.mark.parametrize(("key", "length"), [(ES384, 96), (RS384, 256)])
def test_bearer_signature_is_measured_in_bytes(key: Any, length: int) -> None:
    assert parse_bearer(f"Bearer {make_token('a', key=key)}").signature_bytes == length


def test_bearer_longest_token_is_read_and_no_longer_one() -> None:
    room = MAX_TOKEN_CHARS - len(make_token("a", note="")) - 4
    longest = make_token("a", note="x" * (room * 3 // 4))
    assert MAX_TOKEN_CHARS - 8 < len(longest) <= MAX_TOKEN_CHARS
    assert parse_bearer(f"Bearer {longest}").claims["aud"] == "a"
    longer = make_token("a", note="x" * (room * 3 // 4 + 9))
    assert len(longer) > MAX_TOKEN_CHARS
    with pytest.raises(UnauthenticatedError):
        parse_bearer(f"Bearer {longer}")


def test_bearer_token_does_not_show_itself() -> None:
    text = make_token("canary-1", jti="canary-2", sub="canary-3")
    shown = repr(parse_bearer(f"Bearer {text}"))
    assert "canary" not in shown
    assert not any(part in shown for part in text.split("."))


def test_bearer_registry_knows_asymmetric_algorithms_only() -> None:
    for name in jws.JWSRegistry.algorithms:
        if name in ALGORITHMS:
            assert REGISTRY.get_alg(name).name == name
        else:
            with pytest.raises(UnsupportedAlgorithmError):
                REGISTRY.get_alg(name)
    assert set(jws.JWSRegistry.algorithms) - ALGORITHMS == {"none", "HS256", "HS384", "HS512", "ES256K", "Ed448"}
