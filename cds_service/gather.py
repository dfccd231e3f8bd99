"""Collects the patient's record: what was prefetched, and by FHIR search, in parallel, only what was not.

CDS Hooks 2.0.1, "Prefetch tokens" and "HTTP Status Codes". Each key has one of four states, each with its own meaning:
 - sent: used as it is;
 - `null` (or an empty Bundle): the client looked and found nothing; not asked again, and no error;
 - an OperationOutcome: the client could not get it; asked from the FHIR server if there is one;
 - absent: asked from the FHIR server if there is one.
A required key that stays without an answer makes the call fail with 412.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from cds_service.errors import MissingDataError
from cds_service.request import FhirAuthorization, HookRequest
from fhir_adapters.errors import FhirUpstreamError
from fhir_adapters.queries import Query, search_url
from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import PatientId

KeyState = Literal["sent", "nothing found", "error", "absent"]
Fetched: TypeAlias = Mapping[str, Sequence[bytes] | FhirUpstreamError]
Fetch: TypeAlias = Callable[[str, FhirAuthorization | None, Mapping[str, str]], Fetched]
"""(FHIR base URL, token, key to relative URL) -> key to documents or the reason there are none; within one deadline."""

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
MAX_OUTCOME_BYTES = 65_536  # an OperationOutcome is small; larger documents are not looked into twice


@dataclass(frozen=True, slots=True)
class Gathered:
    """The record, and for each of the service's keys where it came from."""

    record: PatientRecord
    prefetched: tuple[str, ...]
    fetched: tuple[str, ...]
    failed: tuple[str, ...]
    fhir_origin: str | None


class _Head(msgspec.Struct, rename="camel"):
    resource_type: str | None = None


def gather(request: HookRequest, queries: Sequence[Query], fetch: Fetch, as_of: datetime) -> Gathered:
    """The record for `request`'s patient as far as `queries` ask for it.

    Raises:
        MissingDataError: a required query has no answer.
    """
    states = {query.name: key_state(request.prefetch.get(query.name)) for query in queries}
    wanted = [query for query in queries if states[query.name] in ("absent", "error")]
    answers = _fetch_wanted(request, wanted, fetch, as_of)
    documents = [request.prefetch[name] for name, state in states.items() if state == "sent"]
    failed = []
    for query in wanted:
        answer = answers.get(query.name)
        if answer is None or isinstance(answer, FhirUpstreamError):
            failed.append(query)
        else:
            documents.extend(answer)
    _require(failed, request)
    return Gathered(
        record=build_record(PatientId(request.context.patient_id), documents, base_url=request.fhir_server),
        prefetched=tuple(name for name, state in states.items() if state in ("sent", "nothing found")),
        fetched=tuple(query.name for query in wanted if query not in failed),
        failed=tuple(query.name for query in failed),
        fhir_origin=_origin(request.fhir_server),
    )


def key_state(document: bytes | None) -> KeyState:
    """What the client said about one prefetch key."""
    if document is None:
        return "absent"
    if document.strip() == b"null":
        return "nothing found"
    if len(document) <= MAX_OUTCOME_BYTES and _resource_type(document) == "OperationOutcome":
        return "error"
    return "sent"


def _resource_type(document: bytes) -> str | None:
    try:
        return msgspec.json.decode(document, type=_Head).resource_type
    except msgspec.DecodeError:
        return None


def _fetch_wanted(request: HookRequest, wanted: Sequence[Query], fetch: Fetch, as_of: datetime) -> Fetched:
    token = request.fhir_authorization
    if not wanted or request.fhir_server is None:
        return {}
    if token is not None and token.patient is not None and token.patient != request.context.patient_id:
        return {}  # the token is for another patient: asking with it would mix two people
    patient_id = request.context.patient_id
    urls = {query.name: search_url(query, PatientId(patient_id), as_of) for query in wanted}
    return fetch(request.fhir_server, token, urls)


def _require(failed: Sequence[Query], request: HookRequest) -> None:
    lacking = tuple(query.name for query in failed if query.required)
    if lacking:
        why = "no fhirServer was given" if request.fhir_server is None else "the FHIR server did not answer"
        raise MissingDataError(f"required data missing: prefetch {', '.join(lacking)} not sent and {why}", lacking)


def _origin(url: str | None) -> str | None:
    """Scheme, host and port of the FHIR server; path and user information never reach the log."""
    try:
        parts = urlsplit(url or "")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
        return None
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
