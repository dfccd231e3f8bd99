from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey

from cds_service.clients import CdsClient
from cds_service.key_sets import MAX_KEY_SET_BYTES, MAX_KEYS, KeySets, parse_key_set
from tests.cds_service.tokens import ES384, JWKS_URL, RS384, SigningKey, b64, hmac_key, jwks, signing_key, spec_client

NEXT = signing_key("next-1")
LISTED = "https://keys.ehr.example.org/listed.json"
CLIENT = spec_client(allowed_jku=frozenset({LISTED}))


@dataclass(slots=True)
class KeyServer:
    """What the addresses serve, and who asked for what; a document that is an exception is raised."""

    documents: dict[str, bytes | Exception] = field(default_factory=lambda: {JWKS_URL: jwks(ES384)})
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, client: CdsClient, url: str) -> bytes:
        self.asked.append((client.id, url))
        document = self.documents[url]
        if isinstance(document, Exception):
            raise document
        return document


@dataclass(slots=True)
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> KeyServer:
    return KeyServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key_sets(server: KeyServer, clock: Clock) -> KeySets:
    return KeySets(server, clock)


def has(key_sets: KeySets, kid: str = ES384.kid, jku: str | None = None, client: CdsClient = CLIENT) -> bool:
    return key_sets.key(client, jku, kid, "ES384") is not None


def test_key_sets_give_the_public_key_only(key_sets: KeySets, server: KeyServer) -> None:
    assert not isinstance(ES384.key, bytes)
    server.documents[JWKS_URL] = jwks(ES384.public() | {"d": ES384.key.as_dict(private=True)["d"]})
    key = key_sets.key(CLIENT, None, ES384.kid, "ES384")
    assert key is not None
    assert not key.is_private
    assert key.thumbprint() == ES384.key.thumbprint()


def test_key_sets_are_fetched_once_for_many_calls(key_sets: KeySets, server: KeyServer) -> None:
    assert all(has(key_sets) for _ in range(5))
    assert server.asked == [("spec", JWKS_URL)]


def test_key_sets_named_by_a_listed_jku_are_fetched_there(key_sets: KeySets, server: KeyServer) -> None:
    server.documents[LISTED] = jwks(NEXT)
    assert has(key_sets, "next-1", LISTED)
    assert not has(key_sets, ES384.kid, LISTED)
    assert {url for _, url in server.asked} == {LISTED}


@pytest.mark.parametrize("jku", ["https://evil.example.org/", f"{LISTED}#", LISTED.upper(), "", JWKS_URL])
def test_key_sets_at_an_unlisted_jku_are_never_fetched(key_sets: KeySets, server: KeyServer, jku: str) -> None:
    assert not has(key_sets, ES384.kid, jku)
    assert server.asked == []


def test_key_sets_of_a_client_without_any_hold_no_key(key_sets: KeySets, server: KeyServer) -> None:
    assert not has(key_sets, client=spec_client(jwks_url=None))
    assert server.asked == []


def test_key_sets_are_each_clients_own(key_sets: KeySets, server: KeyServer) -> None:
    assert has(key_sets)
    assert has(key_sets, client=spec_client(id="other"))
    assert server.asked == [("spec", JWKS_URL), ("other", JWKS_URL)]


def test_key_sets_find_a_new_key_by_fetching_once_more(key_sets: KeySets, server: KeyServer, clock: Clock) -> None:
    assert has(key_sets)
    server.documents[JWKS_URL] = jwks(ES384, NEXT)
    clock.now += 61
    assert has(key_sets, "next-1")
    assert len(server.asked) == 2


def test_key_sets_are_fetched_for_unknown_ids_once_a_minute(key_sets: KeySets, server: KeyServer, clock: Clock) -> None:
    for second in range(180):
        clock.now = 1_000.0 + second
        assert not has(key_sets, f"invented-{second}")
    assert len(server.asked) == 1 + 3
    assert has(key_sets)


@pytest.mark.parametrize("since_s", [1, 59])
def test_key_sets_find_a_key_that_is_new_since_the_set_was_fetched_a_moment_ago(
    since_s: int, key_sets: KeySets, server: KeyServer, clock: Clock
) -> None:
    assert has(key_sets)
    clock.now += 3_601
    assert has(key_sets)
    server.documents[JWKS_URL] = jwks(ES384, NEXT)
    clock.now += since_s
    assert has(key_sets, "next-1")
    assert len(server.asked) == 3


def test_key_sets_forget_a_withdrawn_key_within_the_hour(key_sets: KeySets, server: KeyServer, clock: Clock) -> None:
    assert has(key_sets)
    server.documents[JWKS_URL] = jwks(NEXT)
    clock.now += 3_599
    assert has(key_sets)
    clock.now += 2
    assert not has(key_sets)


@pytest.mark.parametrize(
    "failure",
    [OSError("no route"), RuntimeError("odd"), b"<html>sign in</html>", b"", b"[]", b'{"keys": 1}'],
    ids=["no route", "odd", "HTML", "empty", "array", "number"],
)
def test_key_sets_keep_the_old_keys_when_a_fetch_fails(
    key_sets: KeySets, server: KeyServer, clock: Clock, failure: bytes | Exception
) -> None:
    assert has(key_sets)
    server.documents[JWKS_URL] = failure
    clock.now += 86_399
    assert has(key_sets)
    assert len(server.asked) == 2
    clock.now += 2
    assert not has(key_sets)


def test_key_sets_failing_are_asked_again_once_a_minute_while_keys_are_known(
    key_sets: KeySets, server: KeyServer, clock: Clock
) -> None:
    assert has(key_sets)
    server.documents[JWKS_URL] = OSError()
    clock.now += 3_601
    for _ in range(120):
        assert has(key_sets)
        clock.now += 1
    assert len(server.asked) == 3


def test_key_sets_failing_from_the_start_are_asked_again_after_seconds(
    key_sets: KeySets, server: KeyServer, clock: Clock
) -> None:
    server.documents[JWKS_URL] = OSError()
    assert not any(has(key_sets) for _ in range(20))
    assert len(server.asked) == 1
    server.documents[JWKS_URL] = jwks(ES384)
    clock.now += 5
    assert has(key_sets)


def test_key_sets_that_fail_are_told_of_without_their_content(
    key_sets: KeySets, server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.documents[JWKS_URL] = OSError("canary-9")
    with caplog.at_level(logging.WARNING):
        assert not has(key_sets)
    assert [(one.getMessage(), vars(one)["client"], vars(one)["error"]) for one in caplog.records] == [
        ("key set not read", "spec", "OSError")
    ]
    assert "canary-9" not in caplog.text


def test_key_sets_are_fetched_by_one_of_many_threads() -> None:
    asked = []

    def slowly(_: CdsClient, url: str) -> bytes:
        asked.append(url)
        time.sleep(0.1)
        return jwks(ES384)

    key_sets = KeySets(slowly)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: has(key_sets), range(8)))
    assert len(asked) == 1


def test_key_sets_serve_known_keys_while_another_call_fetches(clock: Clock) -> None:
    fetching, go_on = threading.Event(), threading.Event()
    served = iter([jwks(ES384), jwks(ES384, NEXT)])

    def fetch(*_: object) -> bytes:
        document = next(served)
        if clock.now > 1_000:
            fetching.set()
            assert go_on.wait(10)
        return document

    key_sets = KeySets(fetch, clock)
    assert has(key_sets)
    clock.now += 3_601
    with ThreadPoolExecutor(1) as pool:
        fetched = pool.submit(has, key_sets, "next-1")
        assert fetching.wait(10)
        assert has(key_sets)  # would hang if it waited
        go_on.set()
        assert fetched.result(10)


@pytest.fixture
def file_client(tmp_path: Path) -> CdsClient:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(ES384))
    return spec_client(jwks_url=None, jwks_file=path)


def rewrite(client: CdsClient, document: bytes, mtime: int = 2_000_000_000) -> None:
    assert client.jwks_file is not None
    client.jwks_file.write_bytes(document)
    os.utime(client.jwks_file, (mtime, mtime))


def test_key_sets_in_a_file_are_read_again_when_it_changes(key_sets: KeySets, file_client: CdsClient) -> None:
    assert has(key_sets, client=file_client)
    assert not has(key_sets, "next-1", client=file_client)
    rewrite(file_client, jwks(NEXT))
    assert has(key_sets, "next-1", client=file_client)
    assert not has(key_sets, client=file_client)


def test_key_sets_in_a_file_are_not_read_while_it_stays(key_sets: KeySets, file_client: CdsClient) -> None:
    rewrite(file_client, jwks(ES384))
    first = key_sets.key(file_client, None, ES384.kid, "ES384")
    assert key_sets.key(file_client, None, ES384.kid, "ES384") is first


@pytest.mark.parametrize("break_it", [lambda path: path.unlink(), lambda path: path.write_bytes(b'{"keys": [')])
def test_key_sets_in_a_file_that_fails_are_kept_for_a_day(
    key_sets: KeySets, clock: Clock, file_client: CdsClient, break_it: Callable[[Path], object]
) -> None:
    clock.now += 100_000
    assert has(key_sets, client=file_client)
    assert file_client.jwks_file is not None
    break_it(file_client.jwks_file)
    clock.now += 86_400
    assert has(key_sets, client=file_client)
    clock.now += 1
    assert not has(key_sets, client=file_client)
    rewrite(file_client, jwks(ES384))
    assert has(key_sets, client=file_client)


def test_key_sets_in_a_file_are_good_for_as_long_as_it_is_there(
    key_sets: KeySets, clock: Clock, file_client: CdsClient
) -> None:
    for _ in range(3):
        assert has(key_sets, client=file_client)
        clock.now += 86_000


@pytest.mark.parametrize("kid", ["Zq/8+t:1==", "a b", "ключ", "x" * 200])
def test_key_sets_take_ids_with_any_marks(kid: str) -> None:
    key = signing_key(kid)
    assert list(parse_key_set(jwks(key))) == [kid]


def test_key_sets_leave_out_ids_that_stand_twice() -> None:
    twice = NEXT.public(kid=ES384.kid)
    assert list(parse_key_set(jwks(ES384, RS384, twice))) == [RS384.kid]


def test_key_sets_leave_out_an_id_that_a_symmetric_key_has_too() -> None:
    assert list(parse_key_set(jwks(ES384, {"kty": "oct", "k": "AAAA", "kid": ES384.kid}))) == []


def weak_rsa(bits: int) -> dict[str, Any]:
    numbers = rsa.generate_private_key(public_exponent=65_537, key_size=bits).public_key().public_numbers()
    return {"kty": "RSA", "n": b64(numbers.n.to_bytes(bits // 8)), "e": "AQAB", "kid": "rsa"}


UNUSABLE: dict[str, dict[str, Any]] = {
    "symmetric": {"kty": "oct", "k": b64(b"secret" * 8), "kid": "a"},
    "RSA of 1,024 bits": weak_rsa(1_024),
    "RSA of 16,384 bits": {"kty": "RSA", "n": b64(b"\xff" * 2_048), "e": "AQAB", "kid": "a"},
    "RSA with exponent 1": {**RS384.public(), "e": "AQ"},
    "RSA without modulus": {"kty": "RSA", "e": "AQAB", "kid": "a"},
    "for encryption": ES384.public(use="enc"),
    "use null": ES384.public() | {"use": None},
    "to sign only": ES384.public(key_ops=["sign"]),
    "operations no array": ES384.public(key_ops="verify"),
    "alg a number": ES384.public(alg=1),
    "without kid": ES384.public(kid=None),
    "kid a number": ES384.public(kid=1),
    "kty missing": ES384.public(kty=None),
    "kty unknown": ES384.public(kty="AKP"),
    "kty an array": ES384.public(kty=["EC"]),
    "curve unknown": ES384.public(crv="P-999"),
    "curve another": ES384.public(crv="P-256"),
    "point not on the curve": ES384.public(y=b64(bytes(48))),
    "no base64": ES384.public(x="%%%"),
    "x a number": ES384.public(x=1),
}


@pytest.mark.parametrize("jwk", UNUSABLE.values(), ids=UNUSABLE)
def test_key_sets_leave_out_unusable_keys_and_keep_the_rest(jwk: dict[str, Any]) -> None:
    assert list(parse_key_set(jwks(jwk, NEXT))) == ["next-1"]


@pytest.mark.parametrize(
    ("key", "fitting"),
    [
        (ES384, {"ES384"}),
        (signing_key("p256", "ES256"), {"ES256"}),
        (signing_key("p521", "ES512"), {"ES512"}),
        (signing_key("ed", "EdDSA"), {"EdDSA", "Ed25519"}),
        (RS384, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ],
    ids=["P-384", "P-256", "P-521", "Ed25519", "RSA"],
)
def test_key_sets_match_algorithm_and_kind_of_key(key: SigningKey, fitting: set[str]) -> None:
    entry = parse_key_set(jwks(key.public(alg=None)))[key.kid]
    every = {"none", "HS256", "ES256", "ES256K", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert {alg for alg in every | {"EdDSA", "Ed25519", "Ed448", ""} if entry.fits(alg)} == fitting


def test_key_sets_hold_a_key_to_its_own_algorithm() -> None:
    entry = parse_key_set(jwks(RS384))[RS384.kid]
    assert entry.fits("RS384")
    assert not entry.fits("RS256")
    assert not entry.fits("PS384")


def test_key_sets_are_bounded() -> None:
    full = [ES384.public(kid=f"{number}") for number in range(MAX_KEYS)]
    assert len(parse_key_set(jwks(*full))) == MAX_KEYS
    with pytest.raises(ValueError, match="at most 256 keys, got 257"):
        parse_key_set(jwks(*full, NEXT))
    with pytest.raises(ValueError, match="at most 262144 bytes"):
        parse_key_set(jwks(ES384) + b" " * MAX_KEY_SET_BYTES)


@given(st.binary(max_size=100) | st.recursive(st.none() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
def test_key_sets_are_parsed_or_refused_with_one_error(document: bytes) -> None:
    with pytest.raises(ValueError, match="key set: expected"):
        parse_key_set(document)


MEMBERS = st.sampled_from(["kty", "kid", "crv", "x", "y", "n", "e", "use", "alg", "key_ops", "d"])
VALUES = (
    st.sampled_from(["EC", "RSA", "OKP", "oct", "P-384", "sig", "AQAB", ""]) | st.none() | st.integers() | st.text()
)


@given(st.dictionaries(MEMBERS, VALUES))
def test_key_sets_with_odd_keys_are_parsed(changes: dict[str, Any]) -> None:
    for key in (ES384, RS384):
        found = parse_key_set(json.dumps({"keys": [key.public() | changes]}).encode())
        assert all(isinstance(entry.key, ECKey | RSAKey) for entry in found.values())


def test_key_sets_serve_no_symmetric_key(key_sets: KeySets, server: KeyServer) -> None:
    secret = hmac_key("secret", b"s" * 32)
    assert isinstance(secret.key, bytes)
    server.documents[JWKS_URL] = jwks({"kty": "oct", "k": b64(secret.key), "kid": "secret", "alg": "HS256"})
    assert key_sets.key(CLIENT, None, "secret", "HS256") is None
