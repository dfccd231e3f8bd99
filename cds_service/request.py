"""A hook call's bytes as a `HookRequest` (CDS Hooks 2.0.1, "Calling a CDS Service").

Unknown members are allowed anywhere and ignored: real EHRs send vendor fields and `extension`. A member sent twice is
refused, as another reader on the way may have taken the other one; only inside prefetched resources nobody looks. The
prefetch stays raw bytes here; `gather` reads it once, straight into the fields that models need. The token has no `repr`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from cds_service.errors import BadRequestError
from cds_service.hooks import PARSERS
from cds_service.hooks.context import HookContext

MAX_HOOK_INSTANCE_CHARS = 256  # a UUID has 36; some clients send words
MIN_CUT_BYTES = 64  # what is shorter costs nothing to read again


@dataclass(frozen=True, slots=True)
class FhirAuthorization:
    """The OAuth 2.0 bearer token for the client's FHIR server; used for this call only, never stored or logged."""

    access_token: str = field(repr=False)
    scope: str
    subject: str | None
    patient: str | None
    expires_in: int | None = None


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
    expires_in: int | None = None


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
        context = {name: msgspec.json.decode(value) for name, value in wire.context.items()}
        prefetch = {key: bytes(value) for key, value in (wire.prefetch or {}).items()}
        _refuse_repeated_members(body, prefetch)
    except msgspec.ValidationError as exc:
        raise BadRequestError(f"request is not a CDS Hooks call: {_without_values(exc)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequestError(f"request body is not JSON in UTF-8, or nested too deeply: {len(body)} bytes") from None
    if not 0 < len(wire.hook_instance) <= MAX_HOOK_INSTANCE_CHARS:
        raise BadRequestError("hookInstance: expected a UUID string")
    return HookRequest(
        hook=wire.hook,
        hook_instance=wire.hook_instance,
        context=_parse_context(wire.hook, context),
        fhir_server=wire.fhir_server or None,
        fhir_authorization=_parse_authorization(wire),
        prefetch=prefetch,
        body_sha256=hashlib.sha256(body).digest(),
    )


def _refuse_repeated_members(body: bytes, prefetch: Mapping[str, bytes]) -> None:
    """Reads the call once more, with the prefetched resources cut out, by a parser that sees every member."""
    kept: list[bytes] = []
    at = 0
    for document in prefetch.values():
        start = _find_object(body, document, at)
        if start >= 0:
            kept += (body[at:start], b"null")
            at = start + len(document)
    json.loads(b"".join((*kept, body[at:])), object_pairs_hook=_members)


def _find_object(body: bytes, document: bytes, at: int) -> int:
    """Where `document` stands in `body`, or -1 if it is no object of some size, or stands before `at`."""
    if len(document) < MIN_CUT_BYTES or not document.startswith(b"{"):
        return -1
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


def _parse_context(hook: str, context: dict[str, object]) -> HookContext:
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
    if sent.expires_in is not None and sent.expires_in < 0:
        raise BadRequestError("fhirAuthorization.expires_in: expected seconds, got less than none")
    patient = None if sent.patient is None else sent.patient.removeprefix("Patient/")
    return FhirAuthorization(sent.access_token, sent.scope, sent.subject, patient, sent.expires_in)


def _without_values(exc: msgspec.ValidationError) -> str:
    """The message of msgspec; it names types and paths, and quotes enum or tag values only, which this schema has none of."""
    text = str(exc)
    return text[0].lower() + text[1:]
