"""Client JWTs for tests: keys, tokens good and bad, the key sets they are checked with, and clients of several makes.

token = make_token("https://cds.example.org/cds-services/a")                # good, ES384, of ISSUER
token = make_token(url, key=RS384, header={"jku": ...}, exp=None, jti="x")   # None leaves a claim or member out
"""

from __future__ import annotations

import base64
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from bedside.clients import open_client
from bedside.config import Audit, Config
from cds_service.clients import CdsClient

ISSUER = "https://ehr.example.org"
JWKS_URL = "https://ehr.example.org/jwks.json"
LIFE_S = 300
_NO_CLIENT = open_client(Config(audit=Audit(tenant="north")))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, or the secret of a symmetric one; its id and its algorithm."""

    kid: str
    alg: str
    key: ECKey | RSAKey | OKPKey | bytes

    def public(self, **members: Any) -> dict[str, Any]:
        """Its JWK without the private part; `members` add to it, None leaves one out."""
        assert not isinstance(self.key, bytes)
        jwk = {**self.key.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": self.alg, **members}
        return {name: value for name, value in jwk.items() if value is not None}


@cache
def signing_key(kid: str, alg: str = "ES384", bits: int = 2048) -> SigningKey:
    """A key of this id, the same each time within one process."""
    curves = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
    if alg in curves:
        return SigningKey(kid, alg, ECKey.generate_key(curves[alg], private=True))  # type: ignore[arg-type]
    if alg in ("EdDSA", "Ed25519"):
        return SigningKey(kid, alg, OKPKey.generate_key("Ed25519", private=True))
    return SigningKey(kid, alg, RSAKey.generate_key(bits, private=True))


ES384 = signing_key("es384-1")
RS384 = signing_key("rs384-1", "RS384")


def spec_client(**changes: Any) -> CdsClient:
    """A client that keeps to the specification, its key set at an agreed address."""
    client = replace(
        _NO_CLIENT,
        id="spec",
        issuer=ISSUER,
        algorithms=frozenset({"ES384", "RS384"}),
        jwks_url=JWKS_URL,
    )
    return replace(client, **changes)


def jwks(*keys: SigningKey | Mapping[str, Any]) -> bytes:
    """The key set that serves these keys; a mapping stands as it is."""
    return json.dumps({"keys": [key.public() if isinstance(key, SigningKey) else key for key in keys]}).encode()


def make_token(
    audience: object,
    *,
    key: SigningKey = ES384,
    header: Mapping[str, Any] | None = None,
    now: float | None = None,
    **claims: Any,
) -> str:
    """A JWT as the specification has it, changed by `header` and `claims`; None leaves a member out."""
    issued = int(time.time() if now is None else now)
    members = {"alg": key.alg, "typ": "JWT", "kid": key.kid} | dict(header or {})
    all_claims = {
        "iss": ISSUER,
        "aud": audience,
        "iat": issued,
        "exp": issued + LIFE_S,
        "jti": str(uuid.uuid4()),
    } | claims
    return sign(_json(members), _json(all_claims), key)


def sign(header: str | bytes, payload: str | bytes, key: SigningKey) -> str:
    """The compact form of exactly these bytes, signed by `key`'s algorithm whatever the header names."""
    signing_input = f"{b64(header)}.{b64(payload)}"
    if isinstance(key.key, bytes):  # by hand: joserfc refuses to misuse a public key so
        signature = hmac.digest(key.key, signing_input.encode(), f"sha{key.alg[2:]}")
    else:
        signature = jws.JWSRegistry.algorithms[key.alg].sign(signing_input.encode(), key.key)
    return f"{signing_input}.{b64(signature)}"


def hmac_key(kid: str, secret: bytes, alg: str = "HS256") -> SigningKey:
    """A symmetric key, such as a public key's PEM text misused for one."""
    return SigningKey(kid, alg, secret)


def public_pem(key: SigningKey) -> bytes:
    """The public key as PEM text."""
    assert not isinstance(key.key, bytes)
    return key.key.as_pem(private=False)


def with_signature(token: str, signature: bytes) -> str:
    """The token with other bytes for its signature."""
    return f"{token.rpartition('.')[0]}.{b64(signature)}"


def signature_of(token: str) -> bytes:
    """The bytes of the token's signature."""
    part = token.rpartition(".")[2]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def b64(data: str | bytes) -> str:
    """Base64url without padding."""
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _json(members: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in members.items() if value is not None})
