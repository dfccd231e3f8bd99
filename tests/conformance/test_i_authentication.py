"""Section I of the checklist: who calls."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from bedside.hospital import fetch_key_set
from cds_service.key_sets import KeySets
from tests.cds_service import tokens
from tests.cds_service.tokens import SigningKey, b64, make_token, signing_key
from tests.conformance import calls
from tests.conformance.hospital import PUBLIC_URL, RISK, Hospital, issuer_of
from tests.conformance.response_rules import check_outcome

PATH = f"/cds-services/{RISK}"
STRANGER = signing_key("stranger-1")
Make = Callable[[Hospital], str]


def _status(hospital: Hospital, token: str | None, path: str = PATH) -> int:
    service = path.removeprefix("/cds-services/")
    return hospital.call(calls.call(), None, service, token=token).status_code


def _good(hospital: Hospital, header: dict[str, Any] | None = None, **claims: Any) -> str:
    return hospital.token(PATH, "spec", header, **claims)


def _parts(hospital: Hospital, header: dict[str, Any], claims: dict[str, Any] | None = None) -> str:
    """A token of these very members, signed by the client's key."""
    now = int(time.time())
    whole = {"iss": issuer_of("spec"), "aud": f"{PUBLIC_URL}{PATH}", "iat": now, "exp": now + 300, "jti": f"j{now}"}
    return tokens.sign(json.dumps(header), json.dumps(claims or whole), hospital.keys["spec"])


def _hmac(hospital: Hospital, alg: str) -> str:
    """Signed with the public key as if it were a shared secret."""
    secret = tokens.public_pem(hospital.keys["spec"])
    return make_token(f"{PUBLIC_URL}{PATH}", key=tokens.hmac_key("spec-1", secret, alg), iss=issuer_of("spec"))


def _stranger(**header: Any) -> Make:
    return lambda hospital: make_token(f"{PUBLIC_URL}{PATH}", key=STRANGER, header=header, iss=issuer_of("spec"))


def _now(**seconds: int) -> Make:
    """A good token whose times differ from now by so much."""
    return lambda hospital: _good(hospital, **{name: int(time.time()) + by for name, by in seconds.items()})


BAD: dict[str, Make] = {
    "76 none": lambda h: f"{b64(json.dumps({'alg': 'none', 'kid': 'spec-1'}))}.{_good(h).split('.')[1]}.",
    "76 None": lambda h: f"{b64(json.dumps({'alg': 'None', 'kid': 'spec-1'}))}.{_good(h).split('.')[1]}.AA",
    "76 HS256 of the public key": lambda h: _hmac(h, "HS256"),
    "76 HS384 of the public key": lambda h: _hmac(h, "HS384"),
    "76 HS512 of the public key": lambda h: _hmac(h, "HS512"),
    "76 an algorithm not agreed": lambda h: make_token(
        f"{PUBLIC_URL}{PATH}",
        key=SigningKey("filing-1", "RS256", h.keys["filing"].key),
        iss=issuer_of("filing"),
    ),
    "76 RS384 named for an EC key": lambda h: _good(h, {"alg": "RS384"}),
    "76 no alg": lambda h: _good(h, {"alg": None}),
    "75 no kid": lambda h: _good(h, {"kid": None}),
    "75 kid a number": lambda h: _good(h, {"kid": 7}),
    "75 another typ": lambda h: _good(h, {"typ": "JWE"}),
    "75 no iss": lambda h: _good(h, iss=None),
    "75 iss a list": lambda h: _good(h, iss=[issuer_of("spec")]),
    "75 no aud": lambda h: make_token(None, key=h.keys["spec"], iss=issuer_of("spec")),
    "75 no exp": lambda h: _good(h, exp=None),
    "75 no iat": lambda h: _good(h, iat=None),
    "75 no jti": lambda h: _good(h, jti=None),
    "75 an empty jti": lambda h: _good(h, jti=""),
    "77 aud of another service": lambda h: h.token("/cds-services/prevent-cvd"),
    "77 aud of discovery": lambda h: h.token("/cds-services"),
    "77 aud a prefix": lambda h: h.token("/cds-services/ris"),
    "77 aud longer": lambda h: h.token(f"{PATH}/x"),
    "77 aud with a slash": lambda h: h.token(f"{PATH}/"),
    "77 aud in capitals": lambda h: make_token(
        f"{PUBLIC_URL}{PATH}".upper(), key=h.keys["spec"], iss=issuer_of("spec")
    ),
    "77 aud the inner address": lambda h: make_token(f"{h.url}{PATH}", key=h.keys["spec"], iss=issuer_of("spec")),
    "77 aud an object": lambda h: make_token({"a": PATH}, key=h.keys["spec"], iss=issuer_of("spec")),
    "77 aud an empty array": lambda h: make_token([], key=h.keys["spec"], iss=issuer_of("spec")),
    "77 aud of another client's agreement": lambda h: make_token("epic-app", key=h.keys["spec"], iss=issuer_of("spec")),
    "78 an unknown issuer": lambda h: _good(h, iss="https://evil.example"),
    "78 an issuer with a slash": lambda h: _good(h, iss=f"{issuer_of('spec')}/"),
    "78 another client's issuer": lambda h: _good(h, iss=issuer_of("epic")),
    "78 jku of another client": lambda h: h.token(PATH, "spec", {"jku": h.servers.key_set("named")}),
    "78 jku of a stranger": lambda h: _stranger(jku=f"{h.servers.canary}/keys")(h),
    "78 jku where none was agreed": lambda h: _good(h, {"jku": h.servers.key_set("spec")}),
    "80 an unknown kid": lambda h: _good(h, {"kid": "spec-2"}),
    "80 another client's kid": lambda h: _good(h, {"kid": "epic-1"}),
    "82 another key": _stranger(kid="spec-1"),
    "82 a changed claim": lambda h: _swapped(h),
    "82 a changed signature": lambda h: tokens.with_signature(_good(h), b"\x01" * 96),
    "82 an empty signature": lambda h: _good(h).rpartition(".")[0] + ".",
    "82 a cut token": lambda h: _good(h)[:-10],
    "82 two parts": lambda h: _good(h).rpartition(".")[0],
    "82 no token at all": lambda h: "x",
    "83 expired": _now(iat=-400, exp=-100),
    "83 issued in the future": _now(iat=120, exp=300),
    "83 not valid yet": _now(nbf=120),
    "83 a life of an hour": _now(exp=3600),
    "83 expires before it is issued": _now(iat=0, exp=-10),
    "84 exp of text": lambda h: _good(h, exp=str(int(time.time()) + 300)),
    "84 iat of text": lambda h: _good(h, iat="now"),
    "84 exp true": lambda h: _good(h, exp=True),
    "84 exp without end": lambda h: _good(h, exp=1e300),
    "84 jti a number": lambda h: _good(h, jti=7),
    "84 crit": lambda h: _good(h, {"crit": ["x"], "x": 1}),
    "84 b64": lambda h: _good(h, {"b64": False, "crit": ["b64"]}),
    "84 an embedded key": _stranger(kid="spec-1", jwk=STRANGER.public()),
    "84 an embedded key without kid": _stranger(kid=None, jwk=STRANGER.public()),
    "84 x5u": lambda h: _stranger(kid="spec-1", x5u=f"{h.servers.canary}/c.pem")(h),
    "84 claims that are no object": lambda h: tokens.sign(
        json.dumps({"alg": "ES384", "kid": "spec-1"}), "[1]", h.keys["spec"]
    ),
    "84 a claim twice": lambda h: tokens.sign(
        json.dumps({"alg": "ES384", "kid": "spec-1"}), '{"iss": "a", "iss": "b"}', h.keys["spec"]
    ),
    "85 the token for the FHIR server": lambda h: "CANARY-TOKEN-4f1d9b",
    "75 the tenant of nobody": lambda h: h.token(PATH, "branch-a", tenant="c"),
    "75 the other branch's tenant": lambda h: h.token(PATH, "branch-a", tenant="b"),
    "75 no tenant where one is asked for": lambda h: h.token(PATH, "branch-a", tenant=None),
}


def _swapped(hospital: Hospital) -> str:
    header, _, signature = _good(hospital).split(".")
    return f"{header}.{_good(hospital).split('.')[1]}.{signature}"


def _of(number: int) -> list[str]:
    return [name for name in BAD if name.startswith(f"{number} ")]


def _refused(name: str, hospital: Hospital) -> None:
    answer = hospital.call(calls.call(), None, token=BAD[name](hospital))
    assert answer.status_code == 401, (name, answer.text)
    assert check_outcome(401, answer.headers, answer.content) == []
    assert not hospital.servers.canary_was_called()


def test_73_a_call_needs_to_show_who_makes_it(hospital: Hospital) -> None:
    assert _status(hospital, None) == 401
    assert _status(hospital, _good(hospital)) == 200


@pytest.mark.parametrize("certificate", ["", ":AAAA:", f":{base64.b64encode(b'x' * 300).decode()}:"])
def test_73_a_client_certificate_is_asked_for_where_it_was_agreed(certificate: str, hospital: Hospital) -> None:
    answer = hospital.call(calls.call(), "certified", headers={"Client-Cert": certificate})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/cds-services"), ("POST", PATH), ("POST", f"{PATH}/feedback"), ("POST", "/cds-services/x")],
)
def test_74_every_route_asks_for_the_token(method: str, path: str, hospital: Hospital) -> None:
    body = None if method == "GET" else calls.call()
    answers = [
        hospital.send(method, path, body, client=None, headers=headers)
        for headers in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}, {"Authorization": "x"})
    ]
    assert {answer.status_code for answer in answers} == {401}


@pytest.mark.parametrize("name", _of(75))
def test_75_a_token_that_lacks_something_is_refused(name: str, hospital: Hospital) -> None:
    _refused(name, hospital)


def test_75_further_claims_are_no_fault(hospital: Hospital) -> None:
    now = int(time.time())
    assert _status(hospital, _good(hospital, sub="app", nbf=now, tenant="any", name="x", scope="a b")) == 200


def test_75_a_token_without_typ_is_taken(hospital: Hospital) -> None:
    """Who leaves it out means a JWT; another kind of token says so."""
    assert _status(hospital, _good(hospital, {"typ": None})) == 200


@pytest.mark.parametrize("client", ["branch-a", "branch-b"])
def test_75_one_issuer_may_speak_for_several_tenants(client: str, hospital: Hospital) -> None:
    assert _status(hospital, hospital.token(PATH, client)) == 200


@pytest.mark.parametrize("name", _of(76))
def test_76_symmetric_and_unagreed_algorithms_are_refused(name: str, hospital: Hospital) -> None:
    _refused(name, hospital)


@pytest.mark.parametrize(("client", "alg"), [("spec", "ES384"), ("filing", "RS384")])
def test_76_es384_and_rs384_are_taken(client: str, alg: str, hospital: Hospital) -> None:
    assert hospital.keys[client].alg == alg
    assert _status(hospital, hospital.token(PATH, client)) == 200


@pytest.mark.parametrize("name", _of(77))
def test_77_a_token_for_something_else_is_refused(name: str, hospital: Hospital) -> None:
    _refused(name, hospital)


def test_77_the_audience_may_be_among_others_or_one_that_was_agreed(hospital: Hospital) -> None:
    assert _status(hospital, _good(hospital, aud=["https://other.example", f"{PUBLIC_URL}{PATH}"])) == 200
    assert _status(hospital, hospital.token(PATH, "epic", aud="epic-app")) == 200


@pytest.mark.parametrize("name", _of(78))
def test_78_issuers_and_key_sets_that_are_not_on_the_list_are_refused_and_never_fetched(
    name: str, hospital: Hospital
) -> None:
    _refused(name, hospital)


def test_78_a_key_set_on_the_list_is_used(hospital: Hospital) -> None:
    assert _status(hospital, hospital.token(PATH, "named")) == 200


@pytest.mark.parametrize("client", ["spec", "listed"])
def test_79_without_jku_the_key_set_is_the_agreed_one(client: str, hospital: Hospital) -> None:
    assert _status(hospital, hospital.token(PATH, client)) == 200


@pytest.mark.parametrize("name", _of(80))
def test_80_a_key_that_is_not_the_clients_is_refused(name: str, hospital: Hospital) -> None:
    _refused(name, hospital)


def test_80_unknown_keys_cost_no_fetch_each(hospital: Hospital) -> None:
    assert _status(hospital, hospital.token(PATH, "rotating")) == 200
    before = len(hospital.servers.requests_to("/keys/rotating"))
    unknown = [hospital.token(PATH, "rotating", {"kid": f"k{number}"}) for number in range(10)]
    assert {_status(hospital, token) for token in unknown} == {401}
    assert (
        len(hospital.servers.requests_to("/keys/rotating")) - before <= 3
    )  # one for each worker, and the other one's first


def test_80_a_new_key_is_fetched_within_a_minute(hospital: Hospital) -> None:
    """By the class itself, as nobody is to wait a minute here; Epic's key ids look like the new one."""
    times = iter(range(0, 10_000, 61))
    key_sets = KeySets(fetch_key_set, lambda: float(next(times)))
    url = hospital.servers.key_set("renewed")
    client = tokens.spec_client(id="renewed", jwks_url=url)
    old, new = signing_key("renewed-1"), signing_key("n/e+w:2=")
    hospital.servers.keys["renewed"] = [old.public()]
    assert key_sets.key(client, None, old.kid, "ES384") is not None
    assert key_sets.key(client, None, new.kid, "ES384") is None
    hospital.servers.keys["renewed"] = [old.public(), new.public()]
    assert key_sets.key(client, None, new.kid, "ES384") is not None


def test_81_a_token_is_good_once_whichever_worker_sees_it(hospital: Hospital) -> None:
    token = _good(hospital)
    assert _status(hospital, token) == 200
    assert {_status(hospital, token) for _ in range(8)} == {401}


def test_81_a_jti_is_each_issuers_own(hospital: Hospital) -> None:
    assert _status(hospital, _good(hospital, jti="shared-number")) == 200
    assert _status(hospital, hospital.token(PATH, "epic", jti="shared-number")) == 200
    assert _status(hospital, _good(hospital, jti="shared-number")) == 401


@pytest.mark.parametrize("broken", ["signature", "audience", "life"])
def test_81_a_refused_token_uses_up_no_jti(broken: str, hospital: Hospital) -> None:
    jti = f"not-burnt-{broken}"
    now = int(time.time())
    forged = {
        "signature": tokens.with_signature(_good(hospital, jti=jti), b"\x01" * 96),
        "audience": hospital.token("/cds-services", jti=jti),
        "life": _good(hospital, jti=jti, exp=now + 5000),
    }
    assert _status(hospital, forged[broken]) == 401
    assert _status(hospital, _good(hospital, jti=jti)) == 200


@pytest.mark.parametrize("name", _of(82))
def test_82_a_token_that_is_not_what_was_signed_is_refused(name: str, hospital: Hospital) -> None:
    _refused(name, hospital)


def test_82_every_refusal_reads_the_same(hospital: Hospital) -> None:
    bodies = {hospital.call(calls.call(), None, token=make(hospital)).content for make in BAD.values()}
    assert len(BAD) >= 40
    assert len(bodies) == 1


@pytest.mark.parametrize("name", _of(83))
def test_83_a_token_outside_its_time_is_refused(name: str, hospital: Hospital) -> None:
    _refused(name, hospital)


@pytest.mark.parametrize("seconds", [{"iat": 1}, {"iat": 50}, {"nbf": 50}, {"iat": -340, "exp": -40}, {"exp": 890}])
def test_83_a_minute_between_clocks_is_no_fault(seconds: dict[str, int], hospital: Hospital) -> None:
    assert _status(hospital, _now(**seconds)(hospital)) == 200


@pytest.mark.parametrize("name", _of(84))
def test_84_odd_headers_and_claims_are_refused(name: str, hospital: Hospital) -> None:
    _refused(name, hospital)


def test_84_a_key_embedded_in_a_good_token_is_ignored(hospital: Hospital) -> None:
    odd = {"jwk": STRANGER.public(), "x5c": ["AA=="], "x5u": f"{hospital.servers.canary}/c.pem"}
    assert _status(hospital, _good(hospital, odd)) == 200
    assert not hospital.servers.canary_was_called()


@pytest.mark.parametrize("name", _of(85))
def test_85_the_token_for_the_fhir_server_is_none_for_us(name: str, hospital: Hospital) -> None:
    _refused(name, hospital)


def test_85_the_clients_jwt_never_goes_to_the_fhir_server(hospital: Hospital) -> None:
    token = _good(hospital)
    before = len(hospital.servers.asked)
    hospital.call(calls.without_prefetch(hospital.servers.fhir("good")), None, token=token)
    asked = hospital.servers.asked[before:]
    assert asked
    assert all(token not in json.dumps(one.headers) for one in asked)


def test_88_a_client_is_held_to_the_services_it_was_given(hospital: Hospital) -> None:
    assert hospital.call(calls.call(), "narrow", "prevent-cvd").status_code == 200
    assert hospital.call(calls.call(), "narrow", RISK).status_code == 403
