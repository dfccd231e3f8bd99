"""AuditEvents and Provenances to a FHIR server that keeps them: once each, however often they are sent."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import pytest
from fhir.resources.R4B.bundle import Bundle

from audit.entry import format_entry
from audit.export.errors import DeliveryError
from audit.export.fhir_auditevent import audit_events
from audit.export.provenance import provenances
from audit.export.push import FhirServer, Sending, bundle, ndjson
from audit.export.records import LogRecord, make_record
from audit.merkle import LeafIndex, TreeSize
from tests.audit.export.examples import DECISION, EXAMPLES, example, record_of
from tests.audit.export.servers import Request, Waits, ask, http_server

Json = dict[str, Any]
RECORDS = [record_of(entry, index) for index, entry in enumerate(EXAMPLES.values())]
ALL = [event for record in RECORDS for event in audit_events(record)]


class Keeper:
    """A small FHIR server: conditional creates and searches by entity:identifier, updates by id, batches and transactions.

    It fails the creates and updates whose number is in `failing`, with this status; a transaction then as a whole.
    """

    def __init__(self, failing: Mapping[int, int] | None = None) -> None:
        self.kept: dict[str, Json] = {}
        self.failing = dict(failing or {})
        self.number = 0
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> tuple[int, Mapping[str, str], bytes]:
        self.requests.append(request)
        if request.method == "GET":
            return self._search(request.path)
        document = request.document
        if document["resourceType"] != "Bundle":
            status = self._take(request.method, request.path.strip("/"), document, request.headers.get("if-none-exist"))
            return status, {}, b""
        Bundle.model_validate(document)
        before = dict(self.kept)
        statuses = []
        for entry in document["entry"]:
            wanted = entry["request"]
            statuses.append(self._take(wanted["method"], wanted["url"], entry["resource"], wanted.get("ifNoneExist")))
        if document["type"] == "transaction" and any(status >= 400 for status in statuses):
            self.kept = before
            return 400, {}, b"{}"
        entries = [{"response": {"status": f"{status} Whatever"}} for status in statuses]
        answer = {"resourceType": "Bundle", "type": f"{document['type']}-response", "entry": entries}
        return 200, {}, json.dumps(answer).encode()

    def _take(self, method: str, url: str, resource: Json, criterion: str | None) -> int:
        self.number += 1
        if self.number in self.failing:
            return self.failing[self.number]
        if method == "PUT":
            status = 200 if url in self.kept else 201
            self.kept[url] = resource
            return status
        assert (method, url) == ("POST", "AuditEvent")
        if criterion is not None and (found := self._matches(criterion)):
            return 200 if len(found) == 1 else 412
        self.kept[f"AuditEvent/{len(self.kept)}"] = resource | {"id": str(len(self.kept))}
        return 201

    def _search(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        kind, _, query = path.strip("/").partition("?")
        criterion, _, count = query.rpartition("&")
        assert (kind, count) == ("AuditEvent", "_count=1")
        entries = [{"resource": found} for found in self._matches(criterion)[:1]]
        return 200, {}, json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entries}).encode()

    def _matches(self, criterion: str) -> list[Json]:
        ((name, token),) = parse_qsl(criterion, strict_parsing=True)
        assert name == "entity:identifier"
        system, _, value = token.partition("|")
        assert re.fullmatch(r"(?:[^\\|,$]|\\[\\|,$])*", value), "characters with a meaning have to be escaped"
        value = re.sub(r"\\(.)", r"\1", value)
        wanted = {"system": system, "value": value}
        return [
            kept
            for kept in self.kept.values()
            if any(entity.get("what", {}).get("identifier") == wanted for entity in kept.get("entity", ()))
        ]


class Forgetful(Keeper):
    """A server that leaves out the modifier it doesn't know, and with it the whole criterion."""

    def _matches(self, _: str) -> list[Json]:
        return list(self.kept.values())


def _server(url: str, waits: Waits, sending: Sending = Sending.BATCH) -> FhirServer:
    return FhirServer(f"{url}", _both, ask, waits.patience(), {"authorization": "Bearer secret"}, sending)


def _both(record: LogRecord) -> Sequence[Json]:
    return (*audit_events(record), *provenances(record))


@pytest.mark.parametrize("sending", Sending)
def test_what_is_sent_twice_is_kept_once(sending: Sending) -> None:
    keeper = Keeper()
    with http_server(keeper) as url:
        for _ in range(2):
            _server(url, Waits(), sending).send(RECORDS)
    assert len(keeper.kept) == len(ALL) + 1
    assert all(request.headers["authorization"] == "Bearer secret" for request in keeper.requests)
    assert all(
        request.headers["content-type"] == "application/fhir+json" for request in keeper.requests if request.body
    )


@pytest.mark.parametrize("sending", Sending)
def test_a_failure_in_between_leaves_no_duplicate_behind(sending: Sending) -> None:
    keeper = Keeper({4: 422})
    with http_server(keeper) as url:
        server = _server(url, Waits(), sending)
        with pytest.raises(DeliveryError, match="FHIR server"):
            server.send(RECORDS)
        server.send(RECORDS)
    assert len(keeper.kept) == len(ALL) + 1


def test_a_transaction_is_taken_whole_or_not_at_all() -> None:
    keeper = Keeper({4: 422})
    with http_server(keeper) as url:
        server = _server(url, Waits(), Sending.TRANSACTION)
        with pytest.raises(DeliveryError, match="transaction, got 400"):
            server.send(RECORDS[:1])
    assert keeper.kept == {}


@pytest.mark.parametrize("sending", [Sending.BATCH, Sending.SINGLE])
def test_several_copies_from_before_count_as_there(sending: Sending) -> None:
    keeper, (event,) = Keeper(), audit_events(RECORDS[1])
    keeper.kept = {f"AuditEvent/{number}": event for number in range(2)}
    with http_server(keeper) as url:
        _server(url, Waits(), sending).send(RECORDS[1:2])
    assert len(keeper.kept) == 2


@pytest.mark.parametrize("sending", [Sending.BATCH, Sending.TRANSACTION, Sending.SINGLE])
def test_a_server_that_ignores_the_search_is_not_believed_to_have_what_it_never_kept(sending: Sending) -> None:
    keeper = Forgetful()
    with http_server(keeper) as url:
        server = _server(url, Waits(), sending)
        with pytest.raises(DeliveryError, match="gives another or none; --sending update"):
            server.send(RECORDS[1:3])
    assert len(keeper.kept) == 1


@pytest.mark.parametrize("status", [200, 204, 412])
def test_a_server_that_says_an_event_is_there_and_has_none_is_not_believed(status: int) -> None:
    with http_server(Keeper({1: status})) as url:
        server = _server(url, Waits())
        with pytest.raises(DeliveryError, match="gives another or none"):
            server.send(RECORDS[1:2])


@pytest.mark.parametrize(
    ("status", "body"), [(400, b""), (200, b"<html>"), (200, b"\xff"), (200, b'{"x":' + b"[" * 100_000)]
)
def test_a_search_that_says_nothing_is_no_delivery(status: int, body: bytes) -> None:
    keeper = Keeper({1: 200})

    def respond(request: Request) -> tuple[int, Mapping[str, str], bytes]:
        return (status, {}, body) if request.method == "GET" else keeper(request)

    with http_server(respond) as url:
        server = _server(url, Waits())
        with pytest.raises(DeliveryError, match="search"):
            server.send(RECORDS[1:2])


@pytest.mark.parametrize("make", [audit_events, provenances])
def test_an_update_refused_by_412_is_not_delivered(make: Callable[[LogRecord], Sequence[Json]]) -> None:
    decided = record_of(DECISION)
    with http_server(Keeper(dict.fromkeys(range(1, 10), 412))) as url:
        server = FhirServer(url, make, ask, Waits().patience(), {}, Sending.UPDATE)
        with pytest.raises(DeliveryError, match="to be taken, got status 412"):
            server.send([decided])


def test_a_busy_server_is_asked_again() -> None:
    waits, answers = Waits(), [503]
    keeper = Keeper()

    def respond(request: Request) -> tuple[int, Mapping[str, str], bytes]:
        return (answers.pop(), {"Retry-After": "3"}, b"") if answers else keeper(request)

    with http_server(respond) as url:
        _server(url, waits).send(RECORDS[:1])
    assert waits.pauses_s == [3.0]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"resourceType":"Bundle","entry":[]}', b'{"entry":[{"response":{"status":"no"}}]}']
)
def test_an_answer_that_does_not_say_what_became_of_each_is_no_delivery(body: bytes) -> None:
    with http_server(lambda _: (200, {}, body)) as url:
        server = _server(url, Waits())
        with pytest.raises(DeliveryError, match="FHIR server"):
            server.send(RECORDS[1:2])


def test_an_origin_with_search_syntax_in_it_still_names_one_record() -> None:
    origin = "odd,host|with$marks\\and%20/cds-audit"
    records = [make_record(origin, LeafIndex(index), TreeSize(2), format_entry(DECISION)) for index in range(2)]
    keeper = Keeper()
    with http_server(keeper) as url:
        for _ in range(2):
            _server(url, Waits()).send(records)
    assert len(keeper.kept) == 2 * len(_both(records[0]))


def test_bundles_are_valid_r4() -> None:
    Bundle.model_validate(bundle(ALL, Sending.TRANSACTION))


def test_ndjson_has_one_resource_to_a_line() -> None:
    lines = ndjson(audit_events(example("decision"))).decode().removesuffix("\n").split("\n")
    assert [json.loads(line) for line in lines] == list(audit_events(example("decision")))
