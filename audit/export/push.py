"""AuditEvents and Provenances to a FHIR server, so that sending twice leaves one copy.

Every create is conditional (https://hl7.org/fhir/R4/http.html#ccreate): the server is to make the resource only if it finds
none with our name for it, which stands as an identifier among the event's entities:

    POST AuditEvent   If-None-Exist: entity:identifier=<NamingSystem/log-record>|<origin>#<index>.<part>

A Provenance has no such element in R4, so it goes by its id, which is always the same: `PUT Provenance/<id>`.

A server that doesn't know the modifier `:identifier` may leave it out, and then finds any event for ours: it answers that the
event is there, and keeps none. So an answer other than "created" is believed only when a search by the same criterion gives
our event back.

A batch Bundle is the usual way; a transaction is taken whole or not at all; single requests suit servers that take no Bundle.
Where a server doesn't know `:identifier`, updates do for AuditEvents what they do for Provenance: `PUT AuditEvent/<id>` in a
batch, if it lets clients name what is new.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import msgspec

from audit.export.errors import DeliveryError
from audit.export.records import LogRecord
from audit.export.retrying import Patience, ask_patiently
from audit.outside import Ask, HttpAnswer

Json = dict[str, Any]
Resources = Callable[[LogRecord], Sequence[Json]]

MAX_BUNDLE = 50  # resources; of some 8 KiB each
_FHIR_JSON = "application/fhir+json"
_CREATED, _UPDATED = frozenset((201,)), frozenset((200, 201, 204))
# To a conditional create: one was there before, or several.
_FOUND = frozenset((200, 204, 412))


class Sending(StrEnum):
    """How resources go to the server."""

    BATCH = "batch"
    TRANSACTION = "transaction"
    SINGLE = "single"
    UPDATE = "update"

    @property
    def bundle_type(self) -> str:
        """The type of the Bundle that carries it."""
        return Sending.BATCH.value if self is Sending.UPDATE else self.value


@dataclass(frozen=True, slots=True)
class FhirServer:
    """A FHIR R4 server; `base` is its address without a slash at the end, `make` gives a record's resources."""

    base: str
    make: Resources
    ask: Ask
    patience: Patience
    headers: Mapping[str, str]
    sending: Sending = Sending.BATCH

    def send(self, records: Sequence[LogRecord]) -> None:
        """Sends every resource of the records; all are there when this returns.

        Raises:
            DeliveryError: one wasn't taken.
        """
        resources = [resource for record in records for resource in self.make(record)]
        if self.sending is Sending.SINGLE:
            for resource in resources:
                self._send_single(resource)
            return
        for start in range(0, len(resources), MAX_BUNDLE):
            self._send_bundle(resources[start : start + MAX_BUNDLE])

    def _send_single(self, resource: Json) -> None:
        request = _request(resource, self.sending)
        headers = {"if-none-exist": request["ifNoneExist"]} if "ifNoneExist" in request else {}
        answer = self._ask(request["method"], f"{self.base}/{request['url']}", resource, headers)
        self._settle(resource, answer.status)

    def _send_bundle(self, resources: Sequence[Json]) -> None:
        answer = self._ask("POST", self.base, bundle(resources, self.sending), {})
        if answer.status != 200:
            message = f"FHIR server: expected status 200 to a {self.sending}, got {answer.status}"
            raise DeliveryError(message)
        try:
            statuses = msgspec.json.decode(answer.body, type=_BundleAnswer).entry
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise DeliveryError("FHIR server: expected a Bundle in answer to a Bundle") from exc
        if len(statuses) != len(resources):
            message = f"FHIR server: expected {len(resources)} answers in the Bundle, got {len(statuses)}"
            raise DeliveryError(message)
        for resource, entry in zip(resources, statuses, strict=True):
            self._settle(resource, entry.response.code)

    def _settle(self, resource: Json, status: int) -> None:
        """Returns if the server has the resource, having answered with `status`."""
        criterion = _criterion(resource, self.sending)
        if status in (_UPDATED if criterion is None else _CREATED):
            return
        if criterion is not None and status in _FOUND:
            self._find(resource, criterion)
            return
        message = f"FHIR server: expected {resource['resourceType']} to be taken, got status {status}"
        raise DeliveryError(message)

    def _find(self, resource: Json, criterion: str) -> None:
        """Returns if the event is there, as the server says."""
        sent = {**self.headers, "accept": _FHIR_JSON, "prefer": "handling=strict", "cache-control": "no-cache"}
        url = f"{self.base}/{resource['resourceType']}?{criterion}&_count=1"
        answer = ask_patiently(self.ask, self.patience, "GET", url, b"", sent)
        if answer.status != 200:
            message = (
                f"FHIR server: expected status 200 to the search for an event it says is there, got {answer.status}"
            )
            raise DeliveryError(message)
        if _log_name(resource) not in _names_found(answer.body):
            raise DeliveryError(
                "FHIR server: says that an event is there and, asked for it by entity:identifier, gives another or none; "
                "--sending update does without that search"
            )

    def _ask(self, method: str, url: str, document: Json, headers: Mapping[str, str]) -> HttpAnswer:
        sent = {**self.headers, **headers, "content-type": _FHIR_JSON, "accept": _FHIR_JSON, "prefer": "return=minimal"}
        return ask_patiently(self.ask, self.patience, method, url, _encode(document), sent)


def bundle(resources: Iterable[Json], sending: Sending) -> Json:
    """The Bundle that creates `resources` where they aren't there yet."""
    entries = [{"resource": resource, "request": _request(resource, sending)} for resource in resources]
    return {"resourceType": "Bundle", "type": sending.bundle_type, "entry": entries}


def ndjson(resources: Iterable[Json]) -> bytes:
    """The resources, one to a line."""
    return b"".join(json_line(resource) for resource in resources)


def json_line(document: Json) -> bytes:
    """The document in one line."""
    return _encode(document) + b"\n"


class _Response(msgspec.Struct):
    status: str

    @property
    def code(self) -> int:
        """The number that begins the status, 0 where there is none."""
        digits = self.status[:3]
        return int(digits) if digits.isascii() and digits.isdigit() else 0


class _AnswerEntry(msgspec.Struct):
    response: _Response


class _BundleAnswer(msgspec.Struct):
    entry: tuple[_AnswerEntry, ...] = ()


class _Identifier(msgspec.Struct, frozen=True):
    system: str = ""
    value: str = ""


class _What(msgspec.Struct):
    identifier: _Identifier | None = None


class _Entity(msgspec.Struct):
    what: _What | None = None


class _Found(msgspec.Struct):
    entity: tuple[_Entity, ...] = ()


class _FoundEntry(msgspec.Struct):
    resource: _Found | None = None


class _SearchAnswer(msgspec.Struct):
    entry: tuple[_FoundEntry, ...] = ()


def _names_found(body: bytes) -> set[_Identifier]:
    """What the entities of the events in a search's answer are called."""
    try:
        found = msgspec.json.decode(body, type=_SearchAnswer).entry
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise DeliveryError("FHIR server: expected a Bundle in answer to a search") from exc
    entities = [entity for entry in found if entry.resource is not None for entity in entry.resource.entity]
    return {entity.what.identifier for entity in entities if entity.what and entity.what.identifier}


def _request(resource: Json, sending: Sending) -> Json:
    kind, criterion = resource["resourceType"], _criterion(resource, sending)
    if criterion is None:
        return {"method": "PUT", "url": f"{kind}/{resource['id']}"}
    return {"method": "POST", "url": kind, "ifNoneExist": criterion}


def _criterion(resource: Json, sending: Sending) -> str | None:
    """The search that finds this event and no other, None for what goes by its id."""
    if resource["resourceType"] != "AuditEvent" or sending is Sending.UPDATE:
        return None
    name = _log_name(resource)
    return f"entity:identifier={quote(_token(name.system), safe='')}%7C{quote(_token(name.value), safe='')}"


def _log_name(event: Json) -> _Identifier:
    """Our name for the event: the last entity's."""
    name = event["entity"][-1]["what"]["identifier"]
    return _Identifier(name["system"], name["value"])


def _token(text: str) -> str:
    """R4 search §3.1.1.4.3: characters with a meaning of their own are escaped by a backslash."""
    return "".join(f"\\{character}" if character in "\\$,|" else character for character in text)


def _encode(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
