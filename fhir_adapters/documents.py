"""From the bytes an EHR sent to a flat list of resources: Bundles opened, what cannot be read set aside.

A document is one FHIR resource, a Bundle of any type (nested ones too), an OperationOutcome, JSON null (the prefetch value
for "no data"), or one of these in the envelope `{"response": …, "resource": …}` of early CDS Hooks clients. The fast path
decodes a document in one call. Only if that fails is each entry decoded alone, so that one unreadable resource costs
itself and not the record. Imports `resources` and `reasons` only.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

import msgspec

from fhir_adapters.reasons import Reason, SetAside
from fhir_adapters.resources import (
    AnyResource,
    Bundle,
    LooseEntry,
    LooseResource,
    OperationOutcome,
    document_decoder,
)

T = TypeVar("T")
Document: TypeAlias = bytes | msgspec.Raw | AnyResource | None
"""A document as sent, or decoded."""


class Located:
    """The resources of some documents by type, in the order sent, each with the fullUrl its Bundle gave it."""

    __slots__ = ("by_type",)

    def __init__(self) -> None:
        self.by_type: dict[type, list[tuple[Any, str | None]]] = defaultdict(list)

    def of(self, kind: type[T]) -> list[tuple[T, str | None]]:
        return self.by_type.get(kind, [])


# msgspec answers hostile nesting with RecursionError, bad UTF-8 with UnicodeDecodeError; MsgspecError is the rest.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_LOOSE = msgspec.json.Decoder(LooseResource)
_LOOSE_ENTRY = msgspec.json.Decoder(LooseEntry)
_NAME = re.compile(r"[A-Za-z0-9.\-]{1,64}")
_FAILURES = frozenset({"fatal", "error"})


def decode_document(document: bytes | msgspec.Raw) -> Document:
    """The document decoded; as it is, where it cannot be read as a whole."""
    try:
        return document_decoder.decode(document)
    except DECODE_ERRORS:
        return document


def read_documents(documents: Iterable[Document]) -> tuple[Located, list[SetAside]]:
    """Every resource of the documents, and what could not be read."""
    located = Located()
    set_aside: list[SetAside] = []
    for document in documents:
        decoded = decode_document(document) if isinstance(document, bytes | msgspec.Raw) else document
        if isinstance(decoded, bytes | msgspec.Raw):
            for resource, full_url in _read_loosely(decoded, set_aside):
                _open(resource, full_url, located, set_aside)
        elif decoded is not None:
            _open(decoded, None, located, set_aside)
    return located, set_aside


def _open(resource: AnyResource, full_url: str | None, located: Located, set_aside: list[SetAside]) -> None:
    if type(resource) is Bundle:
        by_type = located.by_type
        for entry in resource.entry or ():
            inner = entry.resource
            if type(inner) is Bundle or type(inner) is OperationOutcome:
                _open(inner, entry.full_url, located, set_aside)
            elif inner is not None:
                by_type[type(inner)].append((inner, entry.full_url))
    elif type(resource) is OperationOutcome:
        set_aside.extend(_failures(resource))
    else:
        located.by_type[type(resource)].append((resource, full_url))


def reports_failure(outcome: OperationOutcome) -> bool:
    """Whether the server reports an error; warnings and information (Epic's "no results") are none."""
    return any(issue.severity in _FAILURES for issue in outcome.issue or ())


def _failures(outcome: OperationOutcome) -> Iterator[SetAside]:
    """One entry per error the server reports."""
    for issue in outcome.issue or ():
        if issue.severity in _FAILURES:
            yield SetAside("OperationOutcome", None, Reason.OPERATION_OUTCOME, _name(issue.code) or "")


def _read_loosely(document: bytes | msgspec.Raw, set_aside: list[SetAside]) -> Iterator[tuple[AnyResource, str | None]]:
    """The readable resources of a document that as a whole is not; the rest goes to `set_aside`."""
    try:
        loose = _LOOSE.decode(document)
    except msgspec.ValidationError:
        set_aside.append(SetAside("unknown", None, Reason.UNREADABLE))
        return
    except DECODE_ERRORS:
        set_aside.append(SetAside("unknown", None, Reason.NOT_JSON))
        return
    if loose.resource_type is None and bytes(loose.resource):
        yield from _read_entry(document, set_aside)
        return
    if loose.resource_type != "Bundle" or loose.entry is None:
        reference = f"{_name(loose.resource_type)}/{_name(loose.id)}" if loose.id and _name(loose.id) else None
        set_aside.append(SetAside(_name(loose.resource_type) or "unknown", reference, Reason.UNREADABLE))
        return
    for raw in loose.entry:
        yield from _read_entry(raw, set_aside)


def _read_entry(raw: bytes | msgspec.Raw, set_aside: list[SetAside]) -> Iterator[tuple[AnyResource, str | None]]:
    try:
        entry = _LOOSE_ENTRY.decode(raw)
    except DECODE_ERRORS:
        set_aside.append(SetAside("unknown", None, Reason.UNREADABLE))
        return
    if not bytes(entry.resource):
        return
    try:
        resource = document_decoder.decode(entry.resource)
    except DECODE_ERRORS:
        yield from _read_loosely(entry.resource, set_aside)
    else:
        if resource is not None:
            yield resource, entry.full_url


def _name(text: str | None) -> str | None:
    """The text if it has the form of a FHIR id or code: what is neither may be anything and stays out of messages."""
    return text if text is not None and _NAME.fullmatch(text) else None
