"""Authorization headers that must be refused, each with the one thing that is wrong with it: `BAD`.

Every one would be let in by the clients of `REGISTRY` but for that thing, at the moment NOW and for URL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cds_service.bearer import MAX_TOKEN_CHARS, Why
from tests.cds_service.tokens import (
    ES384,
    ISSUER,
    JWKS_URL,
    LIFE_S,
    RS384,
    SigningKey,
    b64,
    hmac_key,
    jwks,
    make_token,
    public_pem,
    sign,
    signature_of,
    signing_key,
    spec_client,
    with_signature,
)

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
URL = "https://cds.example.org/cds-services/prevent-cvd"
NEXT_JKU = "https://keys.ehr.example.org/next.json"
OTHER_ISSUER = "https://other.example.org"
OTHER_JKU = "https://other.example.org/jwks.json"
CERNER = "https://cds-hooks.cerner.com"
CERNER_JKU = "https://authorization.cerner.com/jwk"
EPIC = "https://epic.example.org/oauth2"
EPIC_JKU = "https://epic.example.org/api/epic/2019/Security/Open/PublicKeys/530013/530013"
EPIC_AUDIENCE = "https://cds.example.org/agreed-with-epic"
MTLS_ISSUER = "https://mtls.example.org"
CERTIFICATE = "ab" * 32
CANARY = "canary-7f3a91"

OTHER = signing_key("other-1")
CERNER_KEY = signing_key("cerner-1", "RS384")
EPIC_KEY = signing_key("Zq/8+t:1==", "RS384")
ATTACKER = signing_key("attacker-1")
FORGED = SigningKey(ES384.kid, "ES384", ATTACKER.key)  # signs with its own key under the client's key id
FOR_ENCRYPTION = signing_key("enc-1")
FOR_ES512 = signing_key("es512-by-name")
TWICE = signing_key("twice-1")
P256 = signing_key("p256-1", "ES256")
SECRET = hmac_key("secret-1", b"a secret of thirty-two bytes and more")

REGISTRY = (
    # What the configuration refuses is listed here all the same: the gate must not rely on it.
    spec_client(algorithms=frozenset({"ES384", "RS384", "HS256", "none"}), allowed_jku=frozenset({JWKS_URL, NEXT_JKU})),
    spec_client(id="other", issuer=OTHER_ISSUER, jwks_url=None, allowed_jku=frozenset({OTHER_JKU})),
    spec_client(
        id="epic",
        issuer=EPIC,
        jwks_url=None,
        allowed_jku=frozenset({EPIC_JKU}),
        audiences=frozenset({EPIC_AUDIENCE}),
        algorithms=frozenset({"RS384"}),
    ),
    *(
        spec_client(
            id=f"oracle-{tenant}",
            issuer=CERNER,
            token_tenant=tenant,
            jwks_url=None,
            allowed_jku=frozenset({CERNER_JKU}),
        )
        for tenant in ("one", "two")
    ),
    spec_client(id="mtls", issuer=MTLS_ISSUER, certificates=frozenset({CERTIFICATE})),
)
KEY_SETS = {
    JWKS_URL: jwks(
        ES384,
        RS384,
        P256,
        FOR_ENCRYPTION.public(use="enc"),
        FOR_ES512.public(alg="ES512"),
        TWICE,
        ATTACKER.public(kid=TWICE.kid),
        {"kty": "oct", "k": b64(b"a secret of thirty-two bytes and more"), "kid": SECRET.kid, "use": "sig"},
    ),
    NEXT_JKU: jwks(signing_key("next-1")),
    OTHER_JKU: jwks(OTHER),
    EPIC_JKU: jwks(EPIC_KEY.public(use=None)),
    CERNER_JKU: jwks(CERNER_KEY),
}


def token(audience: object = URL, **changes: Any) -> str:
    """A good token but for the changes."""
    return make_token(audience, **{"now": NOW_S, "jti": CANARY, **changes})


@dataclass(frozen=True, slots=True)
class Bad:
    """`authorization` is refused, and the log says `why`."""

    name: str
    why: Why
    authorization: str | None


def bad(name: str, why: Why, text: str) -> Bad:
    return Bad(name, why, f"Bearer {text}")


def raw(header: Mapping[str, Any] | str | bytes | None = None, payload: Any = None) -> str:
    """Signed as it stands, what JSON's writer would not write too."""
    standard = {"alg": "ES384", "typ": "JWT", "kid": ES384.kid}
    head = standard if header is None else header
    body = claims() if payload is None else payload
    return sign(*(one if isinstance(one, str | bytes) else json.dumps(one) for one in (head, body)), ES384)


def claims(**changes: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": URL, "iat": NOW_S, "exp": NOW_S + LIFE_S, "jti": CANARY} | changes


def with_member(text: str) -> str:
    """The claims with `text` written in front of them."""
    return "{" + text + ", " + json.dumps(claims())[1:]


def without(name: str, text: str = "") -> str:
    """The claims without `name`, and with `text` written in its place."""
    rest = json.dumps({key: value for key, value in claims().items() if key != name})
    return "{" + text + ", " + rest[1:] if text else rest


def unsigned(alg: str, signature: bytes = b"nothing") -> str:
    header = b64(json.dumps({"alg": alg, "typ": "JWT", "kid": ES384.kid}))
    return f"{header}.{b64(json.dumps(claims()))}.{b64(signature)}"


def hmac_signed(secret: bytes, alg: str) -> str:
    return token(key=hmac_key(ES384.kid, secret, alg))


def replaced_part(part: int, document: object) -> str:
    parts = token().split(".")
    parts[part] = b64(json.dumps(document))
    return ".".join(parts)


def der_signature(text: str) -> str:
    """The signature as ASN.1, as other uses of ECDSA have it."""
    r, s = (int.from_bytes(half).to_bytes(49) for half in (signature_of(text)[:48], signature_of(text)[48:]))
    return with_signature(text, b"\x30\x66\x02\x31" + r + b"\x02\x31" + s)


def loose_bits(text: str) -> str:
    """The same signature in base64 that isn't canonical: RS384's 256 bytes leave four unused bits at the end."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) | 1]


def signed_as(kid: str, alg: str, key: SigningKey) -> str:
    """Signed in the way of `key`, and named otherwise."""
    return token(key=key, header={"kid": kid, "alg": alg})


GOOD = token()
SWAPPED = signature_of(GOOD)[48:] + signature_of(GOOD)[:48]
ATTACKERS_JWK = ATTACKER.public()

FORMS = [
    Bad("no header", "no-token", None),
    Bad("empty header", "no-token", ""),
    Bad("no scheme", "no-token", GOOD),
    Bad("basic", "no-token", "Basic Y2RzOmNkcw=="),
    Bad("another scheme", "no-token", f"BearerX {GOOD}"),
    Bad("tab for a blank", "no-token", f"Bearer\t{GOOD}"),
    Bad("scheme alone", "malformed", "Bearer"),
    Bad("two tokens", "malformed", f"Bearer {GOOD}, Bearer {GOOD}"),
    bad("blank before", "malformed", f" {GOOD}"),
    bad("blank after", "malformed", f"{GOOD} "),
    bad("newline after", "malformed", f"{GOOD}\n"),
    bad("newline within", "malformed", GOOD.replace(".", ".\n", 1)),
    bad("NUL after", "malformed", f"{GOOD}\0"),
    bad("quoted", "malformed", f'"{GOOD}"'),
    bad("opaque", "malformed", "0f4c8a7e52d94b1e"),
    bad("two parts", "malformed", GOOD.rpartition(".")[0]),
    bad("empty signature", "malformed", GOOD.rpartition(".")[0] + "."),
    bad("empty payload", "malformed", "..".join(GOOD.split(".")[::2])),
    bad("five parts", "malformed", f"{GOOD}.a.b"),
    bad("padding", "malformed", f"{GOOD}="),
    bad("letters beyond ASCII", "malformed", GOOD + "é"),
    bad("too long", "malformed", token(note="x" * MAX_TOKEN_CHARS)),
    bad("header not base64", "malformed", "a" + GOOD),
    bad("header not JSON", "malformed", raw(header="alg=ES384")),
    bad("header an array", "malformed", raw(header='["ES384"]')),
    bad("header without alg", "malformed", raw(header={"kid": ES384.kid})),
    bad("header with alg twice", "malformed", raw(header=f'{{"alg":"none","alg":"ES384","kid":"{ES384.kid}"}}')),
    bad("payload not JSON", "malformed", raw(payload="iss=me")),
    bad("payload an array", "malformed", raw(payload=[claims()])),
    bad("payload null", "malformed", raw(payload="null")),
    bad("payload in UTF-16", "malformed", raw(payload=json.dumps(claims()).encode("utf-16"))),
    bad("payload not UTF-8", "malformed", raw(payload=json.dumps(claims()).encode().replace(b"canary", b"c\xffnary"))),
    bad("payload nested deep", "malformed", raw(payload="[" * 5_000 + "]" * 5_000)),
    bad("iss twice", "malformed", raw(payload=with_member('"iss": "https://evil.example.org"'))),
    bad("exp twice", "malformed", raw(payload=with_member(f'"exp": {NOW_S + 10**6}'))),
    bad("a member twice further down", "malformed", raw(payload=with_member('"more": {"a": 1, "a": 2}'))),
    bad("signature not canonical", "malformed", loose_bits(token(key=RS384))),
]
CLAIMS = [
    bad("iss missing", "issuer", token(iss=None)),
    bad("iss unknown", "issuer", token(iss="https://evil.example.org")),
    bad("iss with a slash", "issuer", token(iss=f"{ISSUER}/")),
    bad("iss in capitals", "issuer", token(iss=ISSUER.upper())),
    bad("iss an array", "issuer", token(iss=[ISSUER])),
    bad("iss a lone surrogate", "issuer", token(iss="\ud800")),
    bad("tenant missing", "tenant", token(iss=CERNER, key=CERNER_KEY, header={"jku": CERNER_JKU})),
    bad("tenant unknown", "tenant", token(iss=CERNER, key=CERNER_KEY, header={"jku": CERNER_JKU}, tenant="three")),
    bad("tenant an array", "tenant", token(iss=CERNER, key=CERNER_KEY, header={"jku": CERNER_JKU}, tenant=["one"])),
    bad("aud missing", "audience", token(None)),
    bad("aud another service", "audience", token(URL.replace("prevent-cvd", "other"))),
    bad("aud a prefix", "audience", token("https://cds.example.org")),
    bad("aud longer", "audience", token(f"{URL}/feedback")),
    bad("aud with a slash", "audience", token(f"{URL}/")),
    bad("aud with another port", "audience", token(URL.replace(".org", ".org:443"))),
    bad("aud in capitals", "audience", token(URL.replace("cds.example", "CDS.example"))),
    bad("aud empty", "audience", token("")),
    bad("aud an empty array", "audience", token([])),
    bad("aud an array of others", "audience", token(["https://a.example.org", "https://b.example.org"])),
    bad("aud an array in an array", "audience", token([[URL]])),
    bad("aud an object", "audience", token({URL: True})),
    bad("aud agreed with another client", "audience", token(EPIC_AUDIENCE)),
    bad("exp missing", "times", token(exp=None)),
    bad("exp null", "times", raw(payload=without("exp", '"exp": null'))),
    bad("exp a string", "times", token(exp=str(NOW_S + LIFE_S))),
    bad("exp true", "times", token(exp=True)),
    bad("exp an array", "times", token(exp=[NOW_S + LIFE_S])),
    bad("exp NaN", "malformed", raw(payload=without("exp", '"exp": NaN'))),
    bad("exp Infinity", "malformed", raw(payload=without("exp", '"exp": Infinity'))),
    bad("exp beyond a double", "times", raw(payload=without("exp", '"exp": 1e999'))),
    bad("exp beyond the store's integers", "times", token(exp=2**70)),
    bad("exp of 5,000 digits", "malformed", raw(payload=without("exp", f'"exp": {"9" * 5_000}'))),
    bad("exp negative", "times", token(exp=-1)),
    bad("iat missing", "times", token(iat=None)),
    bad("iat a string", "times", token(iat=str(NOW_S))),
    bad("iat false", "times", token(iat=False)),
    bad("exp of another year", "life", token(exp=NOW_S + 365 * 86_400)),
    bad("life a second too long", "life", token(exp=NOW_S + 901)),
    bad("no life", "life", token(exp=NOW_S)),
    bad("exp before iat", "life", token(exp=NOW_S - 1)),
    bad("exp in milliseconds", "times", token(exp=(NOW_S + LIFE_S) * 1_000)),
    bad("expired by leeway", "expired", token(iat=NOW_S - 360, exp=NOW_S - 60)),
    bad("expired by leeway and a second", "expired", token(iat=NOW_S - 361, exp=NOW_S - 61)),
    bad("iat older than life and leeway", "expired", token(iat=NOW_S - 961, exp=NOW_S - 61)),
    bad("iat beyond leeway", "not-yet-valid", token(iat=NOW_S + 61, exp=NOW_S + 120)),
    bad("nbf beyond leeway", "not-yet-valid", token(nbf=NOW_S + 61)),
    bad("nbf a string", "not-yet-valid", token(nbf="0")),
    bad("nbf null", "not-yet-valid", raw(payload=with_member('"nbf": null'))),
    bad("jti missing", "jti", token(jti=None)),
    bad("jti empty", "jti", token(jti="")),
    bad("jti a number", "jti", token(jti=7)),
    bad("jti too long", "jti", token(jti="j" * 257)),
]
HEADERS = [
    *(bad(f"alg {alg}", "algorithm", unsigned(alg)) for alg in ("none", "None", "NONE", "nOnE", "none ", "")),
    bad("alg none without a signature", "malformed", unsigned("none", b"")),
    bad("alg none before a good signature", "algorithm", token(header={"alg": "none"})),
    bad("alg in small letters", "algorithm", token(header={"alg": "es384"})),
    bad("alg a number", "header", token(header={"alg": 384})),
    bad("alg an array", "header", token(header={"alg": ["ES384"]})),
    bad("HS256 with the public PEM", "algorithm", hmac_signed(public_pem(ES384), "HS256")),
    bad("HS384 with the public PEM", "algorithm", hmac_signed(public_pem(ES384), "HS384")),
    bad("HS512 with the public JWK", "algorithm", hmac_signed(json.dumps(ES384.public()).encode(), "HS512")),
    bad("HS256 with RSA's public PEM", "algorithm", hmac_signed(public_pem(RS384), "HS256")),
    bad("HS256 with a key of the set", "algorithm", token(key=SECRET)),
    bad("ES384 named, HS256 signed", "signature", signed_as(ES384.kid, "ES384", hmac_key("", public_pem(ES384)))),
    bad("alg not agreed", "algorithm", token(key=P256)),
    bad("alg agreed with others", "algorithm", token(iss=EPIC, header={"jku": EPIC_JKU})),
    bad("alg unknown", "algorithm", token(header={"alg": "ES999"})),
    bad("ES384 with an RSA key", "key", token(key=RS384, header={"alg": "ES384"})),
    bad("RS384 with an EC key", "key", token(header={"alg": "RS384"})),
    bad("ES384 with a P-256 key", "key", signed_as(P256.kid, "ES384", P256)),
    bad("ES384 signed by P-256", "signature", signed_as(ES384.kid, "ES384", P256)),
    bad("typ of an access token", "header", token(header={"typ": "at+jwt"})),
    bad("typ a number", "header", token(header={"typ": 1})),
    bad("typ empty", "header", token(header={"typ": ""})),
    bad("crit", "header", token(header={"crit": ["exp"], "exp": 1})),
    bad("crit empty", "header", token(header={"crit": []})),
    bad("crit with a known member", "header", token(header={"crit": ["b64"], "b64": True})),
    bad("b64 without crit", "malformed", token(header={"b64": False})),
    bad("payload not encoded", "malformed", token(header={"crit": ["b64"], "b64": False})),
    bad("kid missing", "header", token(header={"kid": None})),
    bad("kid empty", "header", token(header={"kid": ""})),
    bad("kid a number", "header", token(header={"kid": 1})),
    bad("kid unknown", "key", token(key=ATTACKER)),
    bad("kid a path", "key", token(header={"kid": "../../dev/null"})),
    bad("kid of another client", "key", token(key=OTHER)),
    bad("kid twice in the set", "key", token(key=TWICE)),
    bad("key for encryption", "key", token(key=FOR_ENCRYPTION)),
    bad("key for another alg", "key", token(key=FOR_ES512)),
    bad("jwk in the header", "signature", token(key=FORGED, header={"jwk": ATTACKERS_JWK})),
    bad("jwk in the header by its own kid", "key", token(key=ATTACKER, header={"jwk": ATTACKERS_JWK})),
    bad("x5c in the header", "signature", token(key=FORGED, header={"x5c": ["MIIB"]})),
    bad("x5u in the header", "signature", token(key=FORGED, header={"x5u": "https://evil.example.org/"})),
    bad("jku unlisted", "key", token(key=ATTACKER, header={"jku": "https://evil.example.org/jwks.json"})),
    bad("jku of another client", "key", token(key=OTHER, header={"jku": OTHER_JKU})),
    bad("jku without that key", "key", token(header={"jku": NEXT_JKU})),
    bad("jku with a user", "key", token(header={"jku": JWKS_URL.replace("//", "//a@")})),
    bad("jku as a user of another host", "key", token(header={"jku": f"{JWKS_URL}@evil.example.org"})),
    bad("jku with a fragment", "key", token(header={"jku": f"{JWKS_URL}#"})),
    bad("jku with a query", "key", token(header={"jku": f"{JWKS_URL}?"})),
    bad("jku in capitals", "key", token(header={"jku": JWKS_URL.replace("ehr", "EHR")})),
    bad("jku with a port", "key", token(header={"jku": JWKS_URL.replace(".org", ".org:443")})),
    bad("jku with dots", "key", token(header={"jku": JWKS_URL.replace("/jwks", "/a/../jwks")})),
    bad("jku by http", "key", token(header={"jku": JWKS_URL.replace("https", "http")})),
    bad("jku a file", "header", token(header={"jku": "file:///etc/passwd"})),
    bad("jku an array", "header", token(header={"jku": [JWKS_URL]})),
    bad("jku empty", "header", token(header={"jku": ""})),
    bad("jku null", "header", raw(header={"alg": "ES384", "kid": ES384.kid, "jku": None})),
]
SIGNATURES = [
    bad("another key", "signature", token(key=FORGED)),
    bad("r and s swapped", "signature", with_signature(GOOD, SWAPPED)),
    bad("r and s zero", "signature", with_signature(GOOD, bytes(96))),
    bad("signature in ASN.1", "signature", der_signature(GOOD)),
    bad("signature cut", "signature", with_signature(GOOD, signature_of(GOOD)[:-1])),
    bad("signature longer", "signature", with_signature(GOOD, signature_of(GOOD) + b"\0")),
    bad("RSA's signature of one byte", "signature", with_signature(token(key=RS384), b"\1")),
    bad("signature of another token", "signature", with_signature(GOOD, signature_of(token(jti="another")))),
    bad("claims changed", "signature", replaced_part(1, claims(sub="admin"))),
    bad("header changed", "signature", replaced_part(0, {"alg": "ES384", "kid": ES384.kid})),
    bad("no certificate", "certificate", token(iss=MTLS_ISSUER)),
]
BAD = (*FORMS, *CLAIMS, *HEADERS, *SIGNATURES)
