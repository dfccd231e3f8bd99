from __future__ import annotations

import base64
import logging
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from bedside.hospital import fetch_key_set
from cds_service.auth import Gate, OpenGate, certificate_sha256_of
from cds_service.bearer import Why
from cds_service.clients import CdsClient
from cds_service.errors import UnauthenticatedError
from cds_service.jti_store import AuthenticationUnavailableError, JtiStore
from cds_service.key_sets import KeySets
from tests.cds_service.bad_tokens import (
    BAD,
    CANARY,
    CERNER,
    CERNER_JKU,
    CERNER_KEY,
    CERTIFICATE,
    EPIC,
    EPIC_AUDIENCE,
    EPIC_JKU,
    EPIC_KEY,
    FORGED,
    GOOD,
    KEY_SETS,
    MTLS_ISSUER,
    NEXT_JKU,
    NOW,
    NOW_S,
    OTHER,
    OTHER_ISSUER,
    OTHER_JKU,
    REGISTRY,
    URL,
    Bad,
    token,
)
from tests.cds_service.test_signatures import counted_verifications
from tests.cds_service.tokens import ES384, JWKS_URL, RS384, jwks, make_token, signing_key, spec_client

MakeGate = Callable[..., Gate]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JtiStore]:
    opened = JtiStore.open(tmp_path / "jti.sqlite3")
    yield opened
    opened.close()


@pytest.fixture
def make_gate(store: JtiStore) -> MakeGate:
    def make(clients: tuple[CdsClient, ...] = REGISTRY, now: datetime = NOW, store: JtiStore = store) -> Gate:
        return Gate(clients, KeySets(lambda _, url: KEY_SETS[url]), store, lambda: now)

    return make


@pytest.fixture
def gate(make_gate: MakeGate) -> Gate:
    return make_gate()


def refused(gate: Gate, authorization: str | None, certificate: str | None = None) -> UnauthenticatedError:
    with pytest.raises(UnauthenticatedError) as refusal:
        gate.admit(authorization, (URL,), certificate)
    return refusal.value


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_auth_bad_token_is_refused(gate: Gate, bad: Bad) -> None:
    error = refused(gate, bad.authorization)
    assert str(error) == "authentication required"
    assert error.why == bad.why
    assert error.issuer in {None, *(client.issuer for client in REGISTRY)}


def test_auth_bad_tokens_show_every_reason_but_the_replay() -> None:
    assert {bad.why for bad in BAD} == set(get_args(Why)) - {"replayed"}
    assert max(Counter(bad.name for bad in BAD).values()) == 1


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_auth_refusal_leaks_no_token(gate: Gate, bad: Bad, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        error = refused(gate, bad.authorization)
    told = "".join(traceback.format_exception(error)) + repr(vars(error)) + caplog.text
    sent = (bad.authorization or "").partition(" ")[2]
    assert CANARY not in told
    assert not [part for part in sent.split(".") if len(part) > 12 and part in told]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_auth_refusal_costs_one_check_of_a_signature(gate: Gate, bad: Bad) -> None:
    with counted_verifications() as checked:
        refused(gate, bad.authorization)
    assert len(checked) == 1


@pytest.mark.parametrize("key", [ES384, RS384], ids=lambda key: key.alg)
def test_auth_unknown_issuer_costs_what_a_bad_signature_does(gate: Gate, key: object) -> None:
    with counted_verifications() as unknown:
        refused(gate, f"Bearer {token(key=key, iss='https://evil.example.org')}")
    with counted_verifications() as bad_signature:
        refused(gate, f"Bearer {token(key=key, jti='other')[:-8]}AAAAAAAA")
    assert unknown == bad_signature


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.why != "certificate"], ids=lambda bad: bad.name)
def test_auth_refusal_burns_no_jti(gate: Gate, bad: Bad) -> None:
    refused(gate, bad.authorization)
    assert gate.admit(f"Bearer {GOOD}", (URL,)).id == "spec"


GOOD_TOKENS = {
    "ES384": ("spec", token()),
    "RS384": ("spec", token(key=RS384)),
    "typ missing": ("spec", token(header={"typ": None})),
    "typ in small letters": ("spec", token(header={"typ": "jwt"})),
    "aud an array with others": ("spec", token(["https://a.example.org", URL, 7])),
    "iat half a second ahead": ("spec", token(iat=NOW_S + 0.5)),
    "iat a minute ahead": ("spec", token(iat=NOW_S + 60)),
    "exp a minute ago, less a second": ("spec", token(iat=NOW_S - 300, exp=NOW_S - 59)),
    "life of 15 minutes": ("spec", token(exp=NOW_S + 900)),
    "nbf a minute ahead": ("spec", token(nbf=NOW_S + 60)),
    "jti of 256 letters": ("spec", token(jti="j" * 256)),
    "jti a lone surrogate": ("spec", token(jti="\ud800")),
    "further claims": ("spec", token(sub="x", tenant="y", azp=None, nested={"a": [1, {"b": 2}]})),
    "jku that is the agreed address": ("spec", token(header={"jku": JWKS_URL})),
    "jku listed": ("spec", token(key=signing_key("next-1"), header={"jku": NEXT_JKU})),
    "another client": ("other", token(key=OTHER, iss=OTHER_ISSUER, header={"jku": OTHER_JKU})),
    "further header members": ("spec", token(header={"cty": "JSON", "x-vendor": {"a": 1}, "jwk": {"kty": "oct"}})),
    "as Epic": (
        "epic",
        token(EPIC_AUDIENCE, key=EPIC_KEY, header={"jku": EPIC_JKU}, iss=EPIC, sub="app-1", nbf=NOW_S - 300)
    ),
    "as Oracle, tenant one": (
        "oracle-one", token(iss=CERNER, key=CERNER_KEY, header={"jku": CERNER_JKU}, tenant="one")
    ),
    "as Oracle, tenant two": (
        "oracle-two", token(iss=CERNER, key=CERNER_KEY, header={"jku": CERNER_JKU}, tenant="two")
    ),
}  # fmt: skip


@pytest.mark.parametrize(("client", "text"), GOOD_TOKENS.values(), ids=GOOD_TOKENS)
def test_auth_good_token_is_let_in(gate: Gate, client: str, text: str) -> None:
    with counted_verifications() as checked:
        assert gate.admit(f"Bearer {text}", ("https://elsewhere.example.org", URL)).id == client
    assert len(checked) == 1


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_auth_scheme_may_be_in_any_case(gate: Gate, scheme: str) -> None:
    assert gate.admit(f"{scheme} {GOOD}", (URL,)).id == "spec"


@pytest.mark.parametrize("alg", ["ES256", "ES512", "RS256", "RS512", "PS384", "EdDSA"])
def test_auth_other_asymmetric_algorithm_is_taken_where_agreed(store: JtiStore, alg: str) -> None:
    key = signing_key(f"key-{alg}", alg)
    client = spec_client(algorithms=frozenset({alg}))
    gate = Gate((client,), KeySets(lambda *_: jwks(key)), store, lambda: NOW)
    assert gate.admit(f"Bearer {token(key=key)}", (URL,)) is client


def test_auth_key_set_may_be_a_file(store: JtiStore, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(ES384))
    client = spec_client(jwks_url=None, jwks_file=path)
    gate = Gate((client,), KeySets(lambda *_: b""), store, lambda: NOW)
    assert gate.admit(f"Bearer {GOOD}", (URL,)) is client


@given(st.data())
def test_auth_any_other_character_spoils_a_token(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD) - 1))
    other = data.draw(st.characters(max_codepoint=0x17F).filter(lambda letter: letter != GOOD[at]))
    error = refused(_shared_gate(tmp_path_factory), f"Bearer {GOOD[:at]}{other}{GOOD[at + 1 :]}")
    assert str(error) == "authentication required"


@given(st.text(max_size=200))
def test_auth_arbitrary_text_is_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    gate = _shared_gate(tmp_path_factory)
    assert refused(gate, text).why in get_args(Why)
    assert refused(gate, f"Bearer {text}").why in get_args(Why)


_GATES: list[Gate] = []


def _shared_gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """One gate for all examples of a property: nothing is let in, so nothing is remembered."""
    if not _GATES:
        store = JtiStore.open(tmp_path_factory.mktemp("gate") / "jti.sqlite3")
        _GATES.append(Gate(REGISTRY, KeySets(lambda _, url: KEY_SETS[url]), store, lambda: NOW))
    return _GATES[0]


def test_auth_token_is_good_once(gate: Gate) -> None:
    gate.admit(f"Bearer {GOOD}", (URL,))
    error = refused(gate, f"Bearer {GOOD}")
    assert (error.why, error.issuer) == ("replayed", "https://ehr.example.org")


def test_auth_jti_is_good_once_in_another_token_too(gate: Gate) -> None:
    gate.admit(f"Bearer {GOOD}", (URL,))
    assert refused(gate, f"Bearer {token(key=RS384, exp=NOW_S + 200)}").why == "replayed"


def test_auth_jti_is_each_issuers_own(gate: Gate) -> None:
    gate.admit(f"Bearer {GOOD}", (URL,))
    other = token(key=OTHER, iss=OTHER_ISSUER, header={"jku": OTHER_JKU})
    assert gate.admit(f"Bearer {other}", (URL,)).id == "other"


def test_auth_replay_costs_one_check_of_a_signature(gate: Gate) -> None:
    gate.admit(f"Bearer {GOOD}", (URL,))
    with counted_verifications() as checked:
        refused(gate, f"Bearer {GOOD}")
    assert len(checked) == 1


def test_auth_token_stays_used_until_it_has_expired(make_gate: MakeGate, store: JtiStore) -> None:
    make_gate().admit(f"Bearer {GOOD}", (URL,))
    last_moment = NOW + timedelta(seconds=300 + 59)
    for number in range(600):  # enough for the store to clear away what it thinks has expired
        store.spend("someone else", str(number), NOW_S + 10_000, int(last_moment.timestamp()))
    assert refused(make_gate(now=last_moment), f"Bearer {GOOD}").why == "replayed"


def test_auth_token_stays_used_after_a_restart(make_gate: MakeGate, tmp_path: Path, store: JtiStore) -> None:
    make_gate().admit(f"Bearer {GOOD}", (URL,))
    store.close()
    reopened = JtiStore.open(tmp_path / "jti.sqlite3")
    assert refused(make_gate(store=reopened), f"Bearer {GOOD}").why == "replayed"
    reopened.close()


def test_auth_one_of_two_processes_takes_a_token(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(jwks(ES384))
    text = make_token(URL)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), URL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for _ in range(2)
    ]
    for worker in started:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in started:
        assert worker.stdin is not None
        worker.stdin.write(f"Bearer {text}\n")
        worker.stdin.flush()
    assert sorted(worker.communicate(timeout=30)[0] for worker in started) == ["let in\n", "replayed\n"]


WORKER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from cds_service.auth import Gate
from cds_service.errors import UnauthenticatedError
from cds_service.jti_store import JtiStore
from cds_service.key_sets import KeySets
from tests.cds_service.tokens import spec_client

folder, url = Path(sys.argv[1]), sys.argv[2]
client = spec_client(jwks_url=None, jwks_file=folder / "jwks.json")
store = JtiStore.open(folder / "jti.sqlite3")
gate = Gate((client,), KeySets(lambda *_: b""), store, lambda: datetime.now(UTC))
print("ready", flush=True)
try:
    gate.admit(sys.stdin.readline().rstrip("\\n"), (url,))
    print("let in")
except UnauthenticatedError as error:
    print(error.why)
"""


def test_auth_one_of_eight_threads_takes_a_token(gate: Gate) -> None:
    together = threading.Barrier(8)

    def call(_: int) -> str:
        together.wait()
        try:
            return gate.admit(f"Bearer {GOOD}", (URL,)).id
        except UnauthenticatedError as error:
            return error.why

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(call, range(8))) == {"spec": 1, "replayed": 7}


def test_auth_lets_nobody_in_without_its_store(gate: Gate, store: JtiStore) -> None:
    store.close()
    with pytest.raises(AuthenticationUnavailableError) as failure:
        gate.admit(f"Bearer {GOOD}", (URL,))
    assert failure.value.issue == "transient"
    assert CANARY not in "".join(traceback.format_exception(failure.value))


def test_auth_unlisted_key_sets_are_never_contacted(store: JtiStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        listed = f"http://{address}/other.json"
        other = spec_client(id="other", issuer=OTHER_ISSUER, jwks_url=None, allowed_jku=frozenset({listed}))
        clients = (spec_client(jwks_url=None, allowed_jku=frozenset({f"https://{address}/jwks.json"})), other)
        gate = Gate(clients, KeySets(fetch_key_set), store, lambda: NOW)
        for jku in (
            listed,
            f"http://{address}/jwks.json",
            f"https://a@{address}/jwks.json",
            f"https://{address}/jwks.json#",
            f"https://{address}/JWKS.json",
            f"https://{address}/a/../jwks.json",
            f"HTTPS://{address}/jwks.json",
            f"https://ehr.example.org@{address}/jwks.json",
        ):
            assert refused(gate, f"Bearer {token(header={'jku': jku})}").why in ("key", "header")
        # An issuer that isn't known has no list at all.
        assert refused(gate, f"Bearer {token(iss='https://evil.example.org', header={'jku': listed})}").why == "issuer"
        with pytest.raises(TimeoutError):
            listener.accept()
        # The address is one that its own client's token does lead to, or the test would show nothing.
        caller = threading.Thread(
            target=refused, args=(gate, f"Bearer {token(iss=OTHER_ISSUER, header={'jku': listed})}")
        )
        caller.start()
        listener.settimeout(10)
        listener.accept()[0].close()
        caller.join()


def test_auth_certificate_that_was_agreed_is_let_in(gate: Gate) -> None:
    assert gate.admit(f"Bearer {token(iss=MTLS_ISSUER)}", (URL,), CERTIFICATE).id == "mtls"


@pytest.mark.parametrize("certificate", [None, "", "cd" * 32, CERTIFICATE.upper(), CERTIFICATE[:-1]])
def test_auth_certificate_that_was_not_agreed_is_refused_and_burns_no_jti(gate: Gate, certificate: str | None) -> None:
    text = f"Bearer {token(iss=MTLS_ISSUER)}"
    assert refused(gate, text, certificate).why == "certificate"
    assert gate.admit(text, (URL,), CERTIFICATE).id == "mtls"


def test_auth_certificate_replaces_no_token(gate: Gate) -> None:
    assert refused(gate, None, CERTIFICATE).why == "no-token"
    assert refused(gate, f"Bearer {token(iss=MTLS_ISSUER, key=FORGED)}", CERTIFICATE).why == "signature"


def test_auth_certificate_is_not_looked_at_where_none_was_agreed(gate: Gate) -> None:
    assert gate.admit(f"Bearer {GOOD}", (URL,), "cd" * 32).id == "spec"


def test_auth_limits_can_be_narrowed(store: JtiStore) -> None:
    gate = Gate(REGISTRY, KeySets(lambda _, url: KEY_SETS[url]), store, lambda: NOW, max_life_s=120, leeway_s=0)
    assert refused(gate, f"Bearer {token(exp=NOW_S + 121)}").why == "life"
    assert refused(gate, f"Bearer {token(iat=NOW_S + 1, exp=NOW_S + 60)}").why == "not-yet-valid"
    assert gate.admit(f"Bearer {token(exp=NOW_S + 120)}", (URL,)).id == "spec"


def test_auth_client_without_an_issuer_is_nobodys(store: JtiStore) -> None:
    gate = Gate((spec_client(issuer=None),), KeySets(lambda *_: jwks(ES384)), store, lambda: NOW)
    assert refused(gate, f"Bearer {token(iss=None)}").why == "issuer"
    assert refused(gate, f"Bearer {token(iss='None')}").why == "issuer"


def test_auth_open_gate_lets_everyone_in_as_one_client() -> None:
    client = replace(REGISTRY[0], id="open")
    assert OpenGate(client).admit(None, ()) is client
    assert OpenGate(client).admit("Bearer nonsense", (URL,), "x") is client


def certificate_der() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ehr.example.org")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_auth_certificate_header_gives_the_digest_of_the_der() -> None:
    der = certificate_der()
    assert certificate_sha256_of(f":{base64.b64encode(der).decode()}:") == sha256(der).hexdigest()


DER = certificate_der()
TEXT = base64.b64encode(DER).decode()
VERSION_3, VERSION_10 = bytes.fromhex("a003020102"), bytes.fromhex("a003020109")
MALFORMED_CERTIFICATES = {
    "empty": "",
    "colons alone": "::",
    "one colon": ":",
    "no colons": TEXT,
    "no colon at the end": f":{TEXT}",
    "two values": f":{TEXT}:, :{TEXT}:",
    "not base64": ":%%%%:",
    "base64url": ":_-__:",
    "blank within": f":{TEXT[:8]} {TEXT[8:]}:",
    "letters beyond ASCII": ":é:",
    "not DER": f":{base64.b64encode(b'not a certificate').decode()}:",
    "DER cut": f":{base64.b64encode(DER[:-1]).decode()}:",
    "more after the DER": f":{base64.b64encode(DER + b'0').decode()}:",
    "version of no kind": f":{base64.b64encode(DER.replace(VERSION_3, VERSION_10, 1)).decode()}:",
    "too long": f":{TEXT}{'A' * 16_384}:",
}


@pytest.mark.parametrize("header", MALFORMED_CERTIFICATES.values(), ids=MALFORMED_CERTIFICATES)
def test_auth_certificate_header_that_is_none_gives_none(header: str) -> None:
    assert certificate_sha256_of(header) is None


@given(st.text(max_size=100))
def test_auth_certificate_header_never_raises(text: str) -> None:
    assert certificate_sha256_of(text) is None
    assert certificate_sha256_of(f":{text}:") is None


def test_auth_clock_is_the_gates(make_gate: MakeGate) -> None:
    text = f"Bearer {make_token(URL, now=datetime(2031, 1, 1, tzinfo=UTC).timestamp())}"
    assert refused(make_gate(), text).why == "not-yet-valid"
    assert make_gate(now=datetime(2031, 1, 1, 0, 1, tzinfo=UTC)).admit(text, (URL,)).id == "spec"
