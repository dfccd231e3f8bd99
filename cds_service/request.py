"""A hook call's bytes as a `HookRequest` (CDS Hooks 2.0.1, "Calling a CDS Service").

Unknown members are allowed anywhere and ignored: real EHRs send vendor fields and `extension`. A member sent twice is
refused, as another reader on the way may have taken the other one; only inside prefetched resources nobody looks. A
token that comes without `fhirServer` is ignored, as nobody says whom it may be shown to. The prefetch stays raw bytes
here; `gather` reads it once, straight into the fields that models need. So do the resources in the context, save for what
shows whose they are. The token has no `repr`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from cds_service.errors import BadRequestError
from cds_service.hooks import PARSERS
from cds_service.hooks.context import HookContext, Members, without_values

MAX_HOOK_INSTANCE_CHARS = 256  # a UUID has 36; some clients send words
MAX_EXPIRES_IN_S = 2**31 - 1  # who sends more means "for long", and no sum with it may overflow
MIN_CUT_BYTES = 64  # what is shorter costs nothing to read again


@dataclass(frozen=True, slots=True)
class FhirAuthorization:
    """The OAuth 2.0 bearer token for the client's FHIR server; used for this call only, never stored or logged."""

    access_token: str = field(repr=False)
    scope: str
    subject: str | None
    patient: str | None
    expires_in: int | None = None  # seconds from the call on, never less than none


@dataclass(frozen=True, slots=True)
class HookRequest:
    """One call of a CDS service.

    Attributes:
        prefetch: key to the raw JSON the client sent, `null` included; absent keys were not sent.
        body_sha256: digest of the bytes as received, for the log.
    """

    hook: str
    hook_instance: str
    context: HookContext
    fhir_server: str | None
    fhir_authorization: FhirAuthorization | None
    prefetch: Mapping[str, bytes]
    body_sha256: bytes


class _WireAuthorization(msgspec.Struct):
    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    scope: str = ""
    subject: str | None = None
    patient: str | None = None
    expires_in: int | float | None = None


class _WireRequest(msgspec.Struct, rename="camel"):
    hook: str
    hook_instance: str
    context: dict[str, msgspec.Raw]
    fhir_server: str | None = None
    fhir_authorization: _WireAuthorization | None = None
    prefetch: dict[str, msgspec.Raw] | None = None


_DECODER = msgspec.json.Decoder(_WireRequest)


def parse_hook_request(body: bytes) -> HookRequest:
    """The hook call in `body`.

    Raises:
        BadRequestError: not JSON, not an object, a field missing or of the wrong type, or a hook we don't know.
    """
    try:
        wire = _DECODER.decode(body)
        prefetch = {key: bytes(value) for key, value in (wire.prefetch or {}).items()}
        _refuse_repeated_members(body, prefetch)
    except msgspec.ValidationError as exc:
        raise BadRequestError(f"request is not a CDS Hooks call: {without_values(exc)}") from None
    except (ValueError, RecursionError):  # DecodeError and UnicodeDecodeError are ValueErrors, as is a number too long
        raise BadRequestError(f"request body is not JSON in UTF-8, or nested too deeply: {len(body)} bytes") from None
    if not 0 < len(wire.hook_instance) <= MAX_HOOK_INSTANCE_CHARS:
        raise BadRequestError("hookInstance: expected a UUID string")
    return HookRequest(
        hook=wire.hook,
        hook_instance=wire.hook_instance,
        context=_parse_context(wire.hook, wire.context),
        fhir_server=wire.fhir_server or None,
        fhir_authorization=_parse_authorization(wire),
        prefetch=prefetch,
        body_sha256=hashlib.sha256(body).digest(),
    )


def _refuse_repeated_members(body: bytes, prefetch: Mapping[str, bytes]) -> None:
    """Reads the call once more, with the prefetched resources cut out, by a parser that sees every member and value.

    The first pass skips what it needn't read, and lets numbers too large and text that isn't UTF-8 pass there.
    """
    kept: list[bytes] = []
    at = 0
    for document in prefetch.values():
        if len(document) < MIN_CUT_BYTES or not document.startswith(b"{"):
            continue
        start = _find(body, document, at)
        if start < 0:  # out of order, as only a key sent twice makes it; searching on for each of many would take long
            break
        kept += (body[at:start], b"null")
        at = start + len(document)
    json.loads(b"".join((*kept, body[at:])), object_pairs_hook=_members, parse_float=_finite)


def _find(body: bytes, document: bytes, at: int) -> int:
    """Where `document` stands in `body`, or -1 if that is before `at`."""
    beginning = document[:MIN_CUT_BYTES]  # searching for all of a large needle costs more than parsing it
    start = body.find(beginning, at)
    while start >= 0 and not body.startswith(document, start):
        start = body.find(beginning, start + 1)
    return start


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadRequestError("request is not a CDS Hooks call: a member was sent twice")
    return members


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _parse_context(hook: str, context: Members) -> HookContext:
    if hook not in PARSERS:
        raise BadRequestError(f"hook: expected one of {', '.join(sorted(PARSERS))}")
    return PARSERS[hook](context)


def _parse_authorization(wire: _WireRequest) -> FhirAuthorization | None:
    sent = wire.fhir_authorization
    if sent is None or not wire.fhir_server:
        return None  # a token without a server has no audience we could trust (3.0 invariant cds-r-1)
    if sent.token_type.lower() != "bearer":
        raise BadRequestError("fhirAuthorization.token_type: expected Bearer")
    if not sent.access_token or not sent.access_token.isascii() or not sent.access_token.isprintable():
        raise BadRequestError("fhirAuthorization.access_token: expected a bearer token")
    patient = None if sent.patient is None else sent.patient.removeprefix("Patient/")
    return FhirAuthorization(sent.access_token, sent.scope, sent.subject, patient, _parse_expires_in(sent.expires_in))


def _parse_expires_in(sent: float | None) -> int | None:
    if sent is None:
        return None
    if sent != int(sent):
        raise BadRequestError("fhirAuthorization.expires_in: expected whole seconds, got a fraction")
    if sent < 0:
        raise BadRequestError("fhirAuthorization.expires_in: expected seconds, got less than none")
    return int(min(sent, MAX_EXPIRES_IN_S))
