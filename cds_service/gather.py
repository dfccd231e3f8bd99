"""Collects the patient's record: what was prefetched, and by FHIR search, in parallel, only what was not.

CDS Hooks 2.0.1, "Prefetch tokens" and "HTTP Status Codes". Each key has one of five states, each with its own meaning:
 - sent: used as it is;
 - part sent: a page with another behind it, and less than was wanted; asked whole from the FHIR server if there is one;
 - `null`: the client looked and found nothing (so does an empty Bundle, which is simply sent); not asked again;
 - an OperationOutcome, or what cannot answer the query: asked from the FHIR server if there is one;
 - absent: asked from the FHIR server if there is one.
What a key that stays without an answer means, its query says: the call fails with 412 (required), the estimate is less
certain than its figures show (widens: told in words, no figure moves), or it is a gap and no more (optional). All but the first
are told on the card: what could not be had must not read as what is not there. Where silence means "no" (no diagnosis, no
drug), a required search of which anything is missing or unreadable makes the model abstain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from cds_service.errors import Came, MissingDataError
from cds_service.request import FhirAuthorization, HookRequest
from fhir_adapters.documents import Document, decode_document, reports_failure
from fhir_adapters.errors import FhirUpstreamError, OriginNotAllowedError, UpstreamTooLargeError
from fhir_adapters.queries import Query, search_url
from fhir_adapters.reasons import WORDS, Reason
from fhir_adapters.record import PatientRecord, build_record
from fhir_adapters.resources import Bundle, OperationOutcome, Patient, PatientId

KeyState = Literal["sent", "part sent", "nothing found", "error", "absent"]
Answer: TypeAlias = Sequence[bytes] | FhirUpstreamError
Fetched: TypeAlias = Mapping[str, Answer]
Fetch: TypeAlias = Callable[[str, FhirAuthorization | None, Mapping[str, str]], Fetched]
"""(FHIR base URL, token, key to relative URL) -> key to documents or the reason there are none; within one deadline."""

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
# Set aside for one of these reasons may be the very thing a model looks for; the other reasons settle the matter.
# Of these a model takes what it does not find for "no"; of measurements, for "not measured".
SILENCE_IS_NO = frozenset({"Condition", "MedicationRequest", "MedicationStatement", "MedicationAdministration"})
_GAPS = frozenset(
    {Reason.NOT_JSON, Reason.UNREADABLE, Reason.OPERATION_OUTCOME, Reason.OTHER_PATIENT, Reason.NO_SUBJECT}
    | {Reason.CONTRADICTORY}
)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The record, and for each of the service's keys where it came from.

    Attributes:
        came: where from, for the log.
        gaps: what could not be had or read, in words without values.
        unsure: the required keys whose silence would mean "no" and of which something is missing or could not be read.
    """

    record: PatientRecord
    came: Came
    gaps: tuple[str, ...]
    unsure: tuple[str, ...]


class _Head(msgspec.Struct, rename="camel"):
    resource_type: str | None = None
    link: msgspec.Raw = msgspec.Raw(b"null")
    resource: msgspec.Raw = msgspec.Raw(b"")


class _Entries(msgspec.Struct):
    entry: tuple[msgspec.Raw, ...] = ()


class _Link(msgspec.Struct):
    relation: str | None = None


_HEADS = msgspec.json.Decoder(_Head)
_LINKS = msgspec.json.Decoder(tuple[_Link, ...] | None)
_ENTRIES = msgspec.json.Decoder(_Entries)
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def gather(request: HookRequest, queries: Sequence[Query], fetch: Fetch, as_of: datetime) -> Gathered:
    """The record for `request`'s patient as far as `queries` ask for it.

    Raises:
        MissingDataError: a required query has no answer.
    """
    received = {q.name: decode_document(request.prefetch[q.name]) for q in queries if q.name in request.prefetch}
    states = {q.name: _state(received[q.name], q) if q.name in received else "absent" for q in queries}
    wanted = [query for query in queries if states[query.name] in ("absent", "error", "part sent")]
    answers = _fetch_wanted(request, wanted, fetch, as_of)
    got = {query.name: documents for query in wanted if (documents := _documents(answers.get(query.name), query))}
    failed = [query for query in wanted if query.name not in got]
    partial = {query.name for query in failed if states[query.name] == "part sent"}
    asked = any(not isinstance(answer, OriginNotAllowedError) for answer in answers.values())
    came = Came(
        prefetched=tuple(name for name, state in states.items() if state in ("sent", "part sent", "nothing found")),
        fetched=tuple(got),
        failed=tuple(query.name for query in failed),
        fhir_origin=_origin(request.fhir_server) if asked else None,
    )
    _require([query for query in failed if query.name not in partial], answers, request, came)
    sent = [name for name, state in states.items() if state == "sent" or name in partial]
    usable = [*(received[name] for name in sent), *(page for pages in got.values() for page in pages)]
    drafts = [(resource.document, resource.selected) for resource in request.context.resources]
    record = build_record(
        PatientId(request.context.patient_id),
        usable,
        base_url=request.fhir_server,
        drafts=drafts,
        encounter_id=request.context.encounter_id,
    )
    _require_patient(record, states, queries, came)
    cut = {query.name for query in wanted if _is_cut(answers.get(query.name), query)}
    parts = {name: [received[name]] for name in sent} | {name: list(pages) for name, pages in got.items()}
    return Gathered(
        record=record,
        came=came,
        gaps=tuple(_gap_words(query, query.name in partial) for query in failed)
        + tuple(_cut_words(query) for query in wanted if query.name in cut)
        + _set_aside_words(record),
        unsure=tuple(
            query.name
            for query in queries
            if query.required
            and query.resource in SILENCE_IS_NO
            and (query.name in partial | cut or _holds_unreadable(record, query.name, parts))
        ),
    )


def _holds_unreadable(record: PatientRecord, name: str, parts: Mapping[str, list[Document]]) -> bool:
    """Whether something under this key could not be read, or not as this patient's."""
    if not any(item.reason in _GAPS for item in record.set_aside):
        return False
    person = [document for part in parts.values() for document in part if isinstance(document, Patient)]
    alone = build_record(record.patient_id, [*person, *parts.get(name, ())])
    return any(item.reason in _GAPS for item in alone.set_aside)


def key_state(document: bytes | None, query: Query) -> KeyState:
    """What the client said about one prefetch key."""
    return "absent" if document is None else _state(decode_document(document), query)


def _state(document: Document, query: Query) -> KeyState:
    """By the document's type and, of a Bundle, whether it holds what was wanted."""
    if document is None:
        return "nothing found"
    if isinstance(document, bytes | msgspec.Raw):
        return _undecoded_state(document, query)
    if not isinstance(document, Bundle):
        return "sent" if type(document).__name__ == query.resource else "error"
    entries = document.entry or ()
    if any(isinstance(entry.resource, OperationOutcome) and reports_failure(entry.resource) for entry in entries):
        return "error"
    is_page = any(link.relation == "next" for link in document.link or ()) or len(entries) < (document.total or 0)
    is_short = query.count is None or len(entries) < query.count
    return "part sent" if is_page and is_short else "sent"


def _undecoded_state(document: bytes | msgspec.Raw, query: Query) -> KeyState:
    """The same of a document that cannot be read as a whole, by its outermost members."""
    try:
        head = _HEADS.decode(document)
    except _UNDECODABLE:
        return "error"
    if head.resource_type is None and bytes(head.resource):  # the envelope of early clients: {"response", "resource"}
        return key_state(bytes(head.resource), query)
    if head.resource_type not in ("Bundle", query.resource):
        return "error"
    return "part sent" if _has_next_page(head.link) and _is_short((bytes(document),), query) else "sent"


def _has_next_page(links: msgspec.Raw) -> bool:
    try:
        return any(link.relation == "next" for link in _LINKS.decode(links) or ())
    except _UNDECODABLE:
        return False


def _documents(answer: Answer | None, query: Query) -> Sequence[Document]:
    """What the FHIR server gave; of a query with a count, newest first, the pages before a limit are of use.

    Nothing if it gave an error as its answer: an OperationOutcome with status 200, or among the entries.
    """
    pages: Sequence[bytes]
    if isinstance(answer, UpstreamTooLargeError):
        pages = answer.documents if query.count is not None else ()
    else:
        pages = () if answer is None or isinstance(answer, FhirUpstreamError) else answer
    documents = [decode_document(page) for page in pages]
    return () if any(_state(document, query) == "error" for document in documents) else documents


def _fetch_wanted(request: HookRequest, wanted: Sequence[Query], fetch: Fetch, as_of: datetime) -> Fetched:
    token = request.fhir_authorization
    if not wanted or request.fhir_server is None:
        return {}
    if token is not None and token.patient is not None and token.patient != request.context.patient_id:
        return {}  # the token is for another patient: asking with it would mix two people
    patient_id = request.context.patient_id
    urls = {query.name: search_url(query, PatientId(patient_id), as_of) for query in wanted}
    return fetch(request.fhir_server, token, urls)


def _is_cut(answer: Answer | None, query: Query) -> bool:
    """Whether a limit of ours kept some of the results from us that the query counts."""
    return query.count is not None and isinstance(answer, UpstreamTooLargeError) and _is_short(answer.documents, query)


def _is_short(pages: Sequence[bytes], query: Query) -> bool:
    """Whether these pages, which are not the last ones, hold less than the query asks for."""
    try:
        found = sum(len(_ENTRIES.decode(page).entry) for page in pages)
    except _UNDECODABLE:
        return True
    return query.count is None or found < query.count


def _require(failed: Sequence[Query], answers: Fetched, request: HookRequest, came: Came) -> None:
    lacking = tuple(query.name for query in failed if query.required)
    if not lacking:
        return
    if request.fhir_server is None:
        why = "no fhirServer was given"
    elif not answers:
        why = "fhirAuthorization is for another patient"
    else:
        why = "; ".join(dict.fromkeys(_why(answers[name]) for name in lacking))
    message = f"required data missing: prefetch {', '.join(lacking)} not usable, and {why}"
    raise MissingDataError(message, lacking, came)


def _why(answer: Answer) -> str:
    if isinstance(answer, FhirUpstreamError):
        return str(answer)
    return "fhir answer: expected the resources asked for, got an error or something else"


def _require_patient(
    record: PatientRecord, states: Mapping[str, KeyState], queries: Sequence[Query], came: Came
) -> None:
    """Without the person, age, sex and death are unknown; only the client's own `null` makes that an answer."""
    lacking = tuple(
        query.name
        for query in queries
        if query.resource == "Patient" and query.required and states[query.name] != "nothing found"
    )
    if lacking and record.patient is None:
        raise MissingDataError(
            f"required data missing: prefetch {', '.join(lacking)} holds no readable Patient with the id of context.patientId",
            lacking,
            came,
        )


def _gap_words(query: Query, partial: bool) -> str:
    what = query.name.replace("_", " ")
    if partial:
        return f"{what}: only a first page was sent, so more may be in the record"
    if query.widens:
        return f"{what}: could not be had; an estimate without it is less certain than its figures show"
    return f"{what}: not received, so what the record holds of it is unknown"


def _cut_words(query: Query) -> str:
    return f"{query.name.replace('_', ' ')}: only the newest were received, so older ones may be in the record"


def _set_aside_words(record: PatientRecord) -> tuple[str, ...]:
    counted = Counter((item.resource_type, item.reason) for item in record.set_aside if item.reason in _GAPS)
    return tuple(
        f"{'resource' if kind == 'unknown' else kind}: {WORDS[reason]}" + (f" ({times} times)" if times > 1 else "")
        for (kind, reason), times in counted.items()
    )


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
