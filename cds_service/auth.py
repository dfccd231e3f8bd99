"""Who calls: a CDS client's JWT (CDS Hooks 2.0.1, "Trusting CDS Clients"), and the one who is let in by it.

`Gate.admit` goes through the token in this order, which is the specification's best practice:

 (1) a bearer token of three parts and bounded size, its header and claims JSON objects without a repeated member;
 (2) `iss` (and `tenant`, where one issuer speaks for many) names a registered client;
 (3) `aud` has exactly the URL that was called, or one that was agreed;
 (4) `exp`, `iat`, `nbf` fit the time, within a minute, and the token's life is short;
 (5) `alg` is one that was agreed and asymmetric; the key is the client's own, by `kid`; a key in the header is ignored;
 (6) the signature is good;
 (7) the client certificate is one that was agreed, where one is asked for;
 (8) `jti` was not used before: last, so that a forged token uses up nobody's `jti`.

A refusal says nothing of its reason, and each costs one check of a signature, so that its time says nothing either. The
reason is a fixed word for the operations log. No part of a token gets into a message, a log line or an exception's chain.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from cryptography import x509
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from cds_service.clients import CdsClient
from cds_service.errors import UnauthenticatedError
from cds_service.jti_store import JtiStore
from cds_service.key_sets import KeySets, PublicKey

LEEWAY_S = 60  # clocks of two hospitals' machines; the public sandbox sends `iat` up to half a second ahead
MAX_LIFE_S = 900  # Epic's tokens live 15 minutes, the longest of those documented
MAX_TOKEN_CHARS = 16_384
MAX_JTI_CHARS = 256
MAX_CERTIFICATE_CHARS = 16_384
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SYMMETRIC = ("none", "hs")


class _Registry(jws.JWSRegistry):
    """Real headers hold URLs and key ids of some length; what else they hold is ignored, embedded keys above all."""

    max_header_length = 4_096


@dataclass(frozen=True, slots=True)
class _Token:
    """A token taken apart; nothing in it is believed yet."""

    text: bytes
    header: dict[str, Any]
    claims: dict[str, Any]


class OpenGate:
    """Lets everyone in as one client: for an evaluation on one machine, and never beyond."""

    def __init__(self, client: CdsClient) -> None:
        self._client = client

    def admit(
        self, authorization: str | None, urls: tuple[str, ...], certificate_sha256: str | None = None
    ) -> CdsClient:
        """The one client."""
        del authorization, urls, certificate_sha256
        return self._client


class Gate:
    """Lets in whoever shows a registered client's JWT."""

    def __init__(
        self,
        clients: Iterable[CdsClient],
        key_sets: KeySets,
        jti_store: JtiStore,
        clock: Callable[[], datetime],
        *,
        max_life_s: int = MAX_LIFE_S,
        leeway_s: int = LEEWAY_S,
    ) -> None:
        self._clients = {(client.issuer, client.token_tenant): client for client in clients}
        self._issuers = frozenset(issuer for issuer, _ in self._clients)
        self._key_sets = key_sets
        self._jti_store = jti_store
        self._clock = clock
        self._max_life_s = max_life_s
        self._leeway_s = leeway_s
        self._decoys = _Decoys()

    def admit(
        self, authorization: str | None, urls: tuple[str, ...], certificate_sha256: str | None = None
    ) -> CdsClient:
        """The client that the `Authorization` header shows; `urls` are what its JWT may be meant for.

        Raises:
            UnauthenticatedError: it shows none. The text is always the same.
            AuthenticationUnavailableError: whether it was used before cannot be known.
        """
        token: _Token | None = None
        try:
            token = _take_apart(authorization)  # (1)
            client, key = self._check_claims(token, urls)  # (2) to (5)
        except _Refusal as refusal:
            self._decoys.verify(token)  # as long as for a bad signature
            raise UnauthenticatedError(refusal.why, refusal.issuer) from None
        if not _is_signed(token, key, client):  # (6)
            raise UnauthenticatedError("signature", client.issuer)
        if client.certificates and not _is_among(certificate_sha256, client.certificates):  # (7)
            raise UnauthenticatedError("certificate", client.issuer)
        now, claims = int(self._clock().timestamp()), token.claims
        until = int(claims["exp"]) + self._leeway_s + 1
        if not self._jti_store.spend(str(client.issuer), claims["jti"], until, now):  # (8)
            raise UnauthenticatedError("replayed", client.issuer)
        return client

    def _check_claims(self, token: _Token, urls: tuple[str, ...]) -> tuple[CdsClient, PublicKey]:
        header, claims = token.header, token.claims
        client = self._client_of(claims)  # (2)
        issuer = client.issuer
        audience = claims.get("aud")
        meant_for = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(one, str) and (one in urls or one in client.audiences) for one in meant_for):  # (3)
            raise _Refusal("audience", issuer)
        self._check_times(claims, issuer)  # (4)
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI_CHARS:
            raise _Refusal("jti", issuer)
        return client, self._key(header, client)  # (5)

    def _client_of(self, claims: dict[str, Any]) -> CdsClient:
        issuer, tenant = claims.get("iss"), claims.get("tenant")
        if not isinstance(issuer, str) or issuer not in self._issuers:
            raise _Refusal("issuer")
        client = self._clients.get((issuer, tenant)) if isinstance(tenant, str) else None
        client = client or self._clients.get((issuer, None))
        if client is None:
            raise _Refusal("tenant", issuer)
        return client

    def _check_times(self, claims: dict[str, Any], issuer: str | None) -> None:
        now = self._clock().timestamp()
        expires, issued = _seconds(claims.get("exp")), _seconds(claims.get("iat"))
        if expires is None or issued is None:
            raise _Refusal("times", issuer)
        if not 0 < expires - issued <= self._max_life_s:
            raise _Refusal("life", issuer)
        if expires <= now - self._leeway_s:
            raise _Refusal("expired", issuer)
        not_before = _seconds(claims["nbf"]) if "nbf" in claims else issued
        if not_before is None or max(issued, not_before) > now + self._leeway_s:
            raise _Refusal("not-yet-valid", issuer)

    def _key(self, header: dict[str, Any], client: CdsClient) -> PublicKey:
        alg, kid, jku, issuer = header.get("alg"), header.get("kid"), header.get("jku"), client.issuer
        if not isinstance(alg, str) or alg.lower().startswith(_SYMMETRIC) or alg not in client.algorithms:
            raise _Refusal("algorithm", issuer)
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.upper() != "JWT" or "crit" in header or "b64" in header:
            raise _Refusal("header", issuer)
        if not isinstance(kid, str) or not (jku is None or isinstance(jku, str)):
            raise _Refusal("header", issuer)
        key = self._key_sets.key(client, jku, kid, alg)
        if key is None:
            raise _Refusal("key", issuer)
        return key


class _Refusal(Exception):  # noqa: N818 - it is caught where it is raised
    def __init__(self, why: str, issuer: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.issuer = issuer


class _Decoys:
    """Keys that sign nothing: a refusal that came to no signature checks one of theirs instead."""

    def __init__(self) -> None:
        self._keys: dict[str, ECKey | RSAKey] = {
            "ES384": ECKey.generate_key("P-384", private=True),
            "RS384": RSAKey.generate_key(2048, private=True),
        }
        self._signed = {alg: jws.serialize_compact({"alg": alg}, b"{}", key, [alg]) for alg, key in self._keys.items()}

    def verify(self, token: _Token | None) -> None:
        alg = "RS384" if token is not None and token.header.get("alg") == "RS384" else "ES384"
        jws.deserialize_compact(self._signed[alg], self._keys[alg], [alg])


def certificate_sha256_of(header: str) -> str | None:
    """SHA-256 (hex) of the certificate in a `Client-Cert` header (RFC 9440: `:base64 of DER:`), None if there is none."""
    if len(header) > MAX_CERTIFICATE_CHARS or len(header) < 3 or header[0] != ":" or header[-1] != ":":
        return None
    try:
        der = base64.b64decode(header[1:-1], validate=True)
        x509.load_der_x509_certificate(der)
    except (binascii.Error, ValueError):
        return None
    return sha256(der).hexdigest()


def _take_apart(authorization: str | None) -> _Token:
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise _Refusal("no-token")
    if len(text) > MAX_TOKEN_CHARS or not _TOKEN.fullmatch(text):
        raise _Refusal("malformed")
    header, claims, _ = text.split(".")
    return _Token(text.encode("ascii"), _json_object(header), _json_object(claims))


def _json_object(part: str) -> dict[str, Any]:
    try:
        decoded = json.loads(
            base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)),
            object_pairs_hook=_without_repeats,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError):  # UnicodeDecodeError and binascii.Error are ValueErrors
        raise _Refusal("malformed") from None
    if not isinstance(decoded, dict):
        raise _Refusal("malformed")
    return decoded


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member twice")
    return members


def _no_number(_: str) -> float:
    raise ValueError("not a number of JSON")


def _seconds(value: object) -> float | None:
    """Seconds of Unix time; None for what isn't a number, or no moment of the next centuries."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        return None
    return float(value)


def _is_signed(token: _Token, key: PublicKey, client: CdsClient) -> bool:
    alg = token.header["alg"]
    registry = _Registry(algorithms=[alg] if alg in client.algorithms else [], strict_check_header=False)
    try:
        jws.deserialize_compact(token.text, key, registry=registry)
    except (JoseError, ValueError, TypeError):
        return False
    return True


def _is_among(certificate: str | None, known: frozenset[str]) -> bool:
    return sum(hmac.compare_digest(certificate or "", one) for one in known) > 0
