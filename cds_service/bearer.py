"""A bearer token taken apart, and checked to be a JWT in form: `parse_bearer`. Nothing in it is believed yet.

joserfc reads the parts (RFC 7515, compact form, strict base64url). What JSON leaves open and JWTs are attacked by is closed
here: a member that stands twice, NaN and Infinity, other encodings than UTF-8 (RFC 8725, sections 2.4 and 3.10).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.util import urlsafe_b64decode

from cds_service.errors import UnauthenticatedError

Why: TypeAlias = Literal[
    "no-token",
    "malformed",
    "issuer",
    "tenant",
    "audience",
    "times",
    "life",
    "expired",
    "not-yet-valid",
    "jti",
    "algorithm",
    "header",
    "key",
    "signature",
    "certificate",
    "replayed",
]
"""Every reason for a 401, for the operations log; docs/connect-an-ehr.md says what to do about each."""

ALGORITHMS = frozenset(
    {"ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA", "Ed25519"}
)
MAX_TOKEN_CHARS = 16_384  # real ones have under 2,000
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class TokenRegistry(jws.JWSRegistry):
    """joserfc's rules for our case: the whole token is bounded already, and unknown header members are ignored.

    Of the asymmetric algorithms, the client's table says which are taken; joserfc's choice would warn of EdDSA's old name.
    """

    max_header_length = MAX_TOKEN_CHARS
    max_payload_length = MAX_TOKEN_CHARS
    max_signature_length = MAX_TOKEN_CHARS

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError("alg: expected an asymmetric one, got another")
        return self.algorithms[name]


REGISTRY = TokenRegistry(strict_check_header=False)


@dataclass(frozen=True, slots=True)
class Token:
    """A JWT in form. Its text stays out of its `repr`."""

    jws: jws.CompactSignature = field(repr=False)
    header: dict[str, Any] = field(repr=False)
    claims: dict[str, Any] = field(repr=False)
    signature_bytes: int


def refusal(why: Why, issuer: str | None = None) -> UnauthenticatedError:
    """The error for one of the known reasons."""
    return UnauthenticatedError(why, issuer)


def parse_bearer(authorization: str | None) -> Token:
    """The token in an `Authorization: Bearer <JWT>` header.

    Raises:
        UnauthenticatedError: there is none; "no-token", "malformed" or "header".
    """
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise refusal("no-token")
    if len(text) > MAX_TOKEN_CHARS or not _TOKEN.fullmatch(text):
        raise refusal("malformed")
    try:
        parts = jws.extract_compact(text.encode("ascii"), registry=REGISTRY)
        header = _json_object(urlsafe_b64decode(parts.segments["header"]))
        claims = _json_object(parts.payload)
        signature = urlsafe_b64decode(parts.segments["signature"])
    except (JoseError, ValueError, TypeError, RecursionError):  # binascii's and codecs' errors are ValueErrors
        raise refusal("malformed") from None
    try:
        REGISTRY.check_header(header)
    except JoseError:
        raise refusal("header") from None
    return Token(parts, header, claims, len(signature))


def _json_object(document: bytes) -> dict[str, Any]:
    decoded = json.loads(document.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    if not isinstance(decoded, dict):
        raise TypeError("expected an object")
    return decoded


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member twice")
    return members


def _refuse_constant(_: str) -> float:
    raise ValueError("not a number of JSON")
