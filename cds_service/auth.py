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
import hmac
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from cryptography import x509

from cds_service.bearer import ALGORITHMS, Token, parse_bearer, refusal
from cds_service.clients import CdsClient
from cds_service.errors import UnauthenticatedError
from cds_service.jti_store import JtiStore
from cds_service.key_sets import KeySets, PublicKey
from cds_service.signatures import Signatures

LEEWAY_S = 60  # clocks of two hospitals' machines; the public sandbox sends `iat` up to half a second ahead
MAX_LIFE_S = 900  # Epic's tokens live 15 minutes, the longest of those documented
MAX_JTI_CHARS = 256
MAX_CERTIFICATE_CHARS = 16_384
_FAR_FUTURE = 2**40  # seconds; what is beyond is no moment but a slip, and may not even fit the store's integers


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
        self._signatures = Signatures()

    def admit(
        self, authorization: str | None, urls: tuple[str, ...], certificate_sha256: str | None = None
    ) -> CdsClient:
        """The client that the `Authorization` header shows; `urls` are what its JWT may be meant for.

        Raises:
            UnauthenticatedError: it shows none. The text is always the same.
            AuthenticationUnavailableError: whether it was used before cannot be known.
        """
        token: Token | None = None
        try:
            token = parse_bearer(authorization)  # (1)
            client, key = self._check_claims(token, urls)  # (2) to (5)
        except UnauthenticatedError:
            self._signatures.is_good(token, None)  # as much work as for a bad signature
            raise
        if not self._signatures.is_good(token, key):  # (6)
            raise refusal("signature", client.issuer)
        if client.certificates and not _is_among(certificate_sha256, client.certificates):  # (7)
            raise refusal("certificate", client.issuer)
        if not self._spend(client, token.claims):  # (8)
            raise refusal("replayed", client.issuer)
        return client

    def _spend(self, client: CdsClient, claims: Mapping[str, Any]) -> bool:
        now = int(self._clock().timestamp())
        good_until = int(claims["exp"]) + self._leeway_s + 1
        return self._jti_store.spend(str(client.issuer), claims["jti"], good_until, now)

    def _check_claims(self, token: Token, urls: tuple[str, ...]) -> tuple[CdsClient, PublicKey]:
        claims = token.claims
        client = self._client_of(claims)  # (2)
        audience = claims.get("aud")
        meant_for = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(one, str) and (one in urls or one in client.audiences) for one in meant_for):  # (3)
            raise refusal("audience", client.issuer)
        self._check_times(claims, client.issuer)  # (4)
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= MAX_JTI_CHARS:
            raise refusal("jti", client.issuer)
        return client, self._key(token.header, client)  # (5)

    def _client_of(self, claims: Mapping[str, Any]) -> CdsClient:
        issuer, tenant = claims.get("iss"), claims.get("tenant")
        if not isinstance(issuer, str) or issuer not in self._issuers:
            raise refusal("issuer")
        client = self._clients.get((issuer, tenant)) if isinstance(tenant, str) else None
        client = client or self._clients.get((issuer, None))
        if client is None:
            raise refusal("tenant", issuer)
        return client

    def _check_times(self, claims: Mapping[str, Any], issuer: str | None) -> None:
        now = self._clock().timestamp()
        expires, issued = _seconds(claims.get("exp")), _seconds(claims.get("iat"))
        if expires is None or issued is None:
            raise refusal("times", issuer)
        if not 0 < expires - issued <= self._max_life_s:
            raise refusal("life", issuer)
        if expires <= now - self._leeway_s:  # with the cap on its life, `iat` can't be older than both either
            raise refusal("expired", issuer)
        not_before = _seconds(claims["nbf"]) if "nbf" in claims else issued
        if not_before is None or max(issued, not_before) > now + self._leeway_s:
            raise refusal("not-yet-valid", issuer)

    def _key(self, header: Mapping[str, Any], client: CdsClient) -> PublicKey:
        alg, kid, jku = header.get("alg"), header.get("kid"), header.get("jku")
        if alg not in ALGORITHMS or alg not in client.algorithms:
            raise refusal("algorithm", client.issuer)
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.upper() != "JWT" or "crit" in header or "b64" in header:
            raise refusal("header", client.issuer)
        if not isinstance(kid, str) or not kid or ("jku" in header and not isinstance(jku, str)):
            raise refusal("header", client.issuer)
        key = self._key_sets.key(client, jku, kid, alg)
        if key is None:
            raise refusal("key", client.issuer)
        return key


def certificate_sha256_of(header: str) -> str | None:
    """SHA-256 (hex) of the certificate in a `Client-Cert` header (RFC 9440: `:base64 of DER:`), None if there is none."""
    if not 3 <= len(header) <= MAX_CERTIFICATE_CHARS or header[0] != ":" or header[-1] != ":":
        return None
    try:
        der = base64.b64decode(header[1:-1], validate=True)
        x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):  # binascii.Error is a ValueError
        return None
    return sha256(der).hexdigest()


def _seconds(value: object) -> float | None:
    """Seconds of Unix time; None for what isn't a number, or no moment of the next centuries."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FAR_FUTURE:
        return None
    return float(value)


def _is_among(certificate: str | None, known: frozenset[str]) -> bool:
    return sum(hmac.compare_digest(certificate or "", one) for one in known) > 0
