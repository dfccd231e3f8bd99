"""OTLP log records, decoded by OpenTelemetry's own protobuf definitions at a real collector."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

from audit.export.errors import DeliveryError
from audit.export.otlp import OtlpCollector, logs_data
from tests.audit.export.examples import EXAMPLES, ORIGIN, UNKNOWN, changed, digest, example, record_of
from tests.audit.export.servers import Request, Waits, ask, http_server

RECORDS = [record_of(entry, index) for index, entry in enumerate(EXAMPLES.values())]
Answer = tuple[int, Mapping[str, str], bytes]


def _parse(document: object) -> ExportLogsServiceRequest:
    return json_format.Parse(json.dumps(document), ExportLogsServiceRequest())


def _value(value: Any) -> object:
    """The plain value of an AnyValue."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def _attributes(record: Any) -> dict[str, object]:
    return {item.key: _value(item.value) for item in record.attributes}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_kind_is_read_by_opentelemetrys_own_definitions(name: str) -> None:
    record = record_of(EXAMPLES[name], 17)
    (resource,) = _parse(logs_data([record])).resource_logs
    (found,) = resource.scope_logs[0].log_records
    attributes = _attributes(found)
    assert (attributes["origin"], attributes["log.index"], attributes["leaf.hash"]) == (ORIGIN, 17, record.leaf_hex)
    assert (attributes["log.tree_size"], attributes["log.record.uid"]) == (100, record.header.id)
    assert attributes["bedside.type"] == record.header.type
    assert found.time_unix_nano == 1_772_352_000_000_000_000
    assert found.event_name.startswith("bedside.")
    assert resource.resource.attributes[0].value.string_value == "bedside"


def test_every_field_of_the_entry_is_an_attribute() -> None:
    (resource,) = _parse(logs_data([example("decision")])).resource_logs
    attributes = _attributes(resource.scope_logs[0].log_records[0])
    assert attributes["bedside.request.hook"] == "patient-view"
    assert attributes["bedside.request.prefetch_present"] == ["conditions", "labs"]
    assert attributes["bedside.model.artefact"] == digest("artefact")
    assert attributes["bedside.latency_us.gather"] == 120
    assert attributes["bedside.cards"] is not None
    assert "bedside.abstention" not in attributes


def test_integers_beyond_32_bits_are_text_as_proto3_has_them() -> None:
    record = changed(EXAMPLES["gap"], unacknowledged=2**53 - 1)
    (resource,) = logs_data([record])["resourceLogs"]
    values = [item["value"] for item in resource["scopeLogs"][0]["logRecords"][0]["attributes"]]
    assert {"intValue": str(2**53 - 1)} in values


@pytest.mark.parametrize(
    ("name", "severity"), [("decision", "INFO"), ("model", "WARN"), ("gap", "ERROR"), ("switch", "ERROR")]
)
def test_severities_are_opentelemetrys(name: str, severity: str) -> None:
    (resource,) = _parse(logs_data([example(name)])).resource_logs
    record = resource.scope_logs[0].log_records[0]
    assert record.severity_text == severity
    assert SeverityNumber.Name(record.severity_number) == f"SEVERITY_NUMBER_{severity}"


def test_an_invalid_log_is_fatal() -> None:
    record = changed(EXAMPLES["verification"], outcome="invalid")
    (resource,) = _parse(logs_data([record])).resource_logs
    assert resource.scope_logs[0].log_records[0].severity_text == "FATAL"


def test_an_unknown_kind_gives_its_place_and_nothing_of_its_content() -> None:
    (resource,) = _parse(logs_data([record_of(UNKNOWN)])).resource_logs
    attributes = _attributes(resource.scope_logs[0].log_records[0])
    assert attributes["bedside.type"] == "novelty/v7"
    assert "nobody knows" not in json.dumps(logs_data([record_of(UNKNOWN)]))


class Collector:
    """A collector that decodes what comes and answers in turn by `answers`, then by a plain 200."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.taken: list[str] = []

    def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else (200, {}, b"{}")
        decoded = json_format.Parse(request.body, ExportLogsServiceRequest())
        if answer[0] == 200:
            for record in decoded.resource_logs[0].scope_logs[0].log_records:
                self.taken.append(str(_attributes(record)["log.record.uid"]))
        return answer


def _partial(rejected: int, message: str) -> Answer:
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    response.partial_success.error_message = message
    return 200, {"content-type": "application/json"}, json_format.MessageToJson(response).encode()


def _sender(url: str, waits: Waits, warnings: list[str]) -> OtlpCollector:
    return OtlpCollector(f"{url}/v1/logs", ask, waits.patience(), {"authorization": "Bearer secret"}, warnings.append)


def test_a_batch_arrives_in_one_request() -> None:
    collector, waits = Collector(), Waits()
    with http_server(collector) as url:
        _sender(url, waits, []).send(RECORDS)
    (request,) = collector.requests
    assert (request.method, request.path, request.headers["content-type"]) == ("POST", "/v1/logs", "application/json")
    assert request.headers["authorization"] == "Bearer secret"
    assert collector.taken == [record.header.id for record in RECORDS]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retryable_statuses_are_tried_again(status: int) -> None:
    collector, waits = Collector((status, {}, b"")), Waits()
    with http_server(collector) as url:
        _sender(url, waits, []).send(RECORDS[:1])
    assert (len(collector.requests), waits.pauses_s) == (2, [0.5])


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [("7", 7.0), ("Sun, 01 Mar 2026 09:00:20 GMT", 20.0), ("86400", 60.0), ("soon", 0.5), ("-1", 0.5), ("", 0.5)],
)
def test_retry_after_is_heeded_within_patience(header: str, pause_s: float) -> None:
    collector, waits = Collector((503, {"Retry-After": header}, b"")), Waits()
    with http_server(collector) as url:
        _sender(url, waits, []).send(RECORDS[:1])
    assert waits.pauses_s == [pause_s]


@pytest.mark.parametrize(
    "header", ["Sun, 01 Mar 99999999999999999999999 09:00:00 GMT", "Sun, 01 Mar 2026 09:00:00 +999999"]
)
def test_retry_after_beyond_every_calendar_is_ignored(header: str) -> None:
    collector, waits = Collector((503, {"Retry-After": header}, b"")), Waits()
    with http_server(collector) as url:
        _sender(url, waits, []).send(RECORDS[:1])
    assert waits.pauses_s == [0.5]


def test_patience_ends() -> None:
    collector, waits = Collector(*[(503, {}, b"")] * 9), Waits()
    with http_server(collector) as url:
        sender = _sender(url, waits, [])
        with pytest.raises(DeliveryError, match="4 attempts: status 503"):
            sender.send(RECORDS[:1])
    assert (len(collector.requests), waits.pauses_s) == (4, [0.5, 1.0, 2.0])


@pytest.mark.parametrize("status", [201, 302, 400, 401, 404, 408, 413, 500])
def test_all_other_statuses_are_final(status: int) -> None:
    collector, waits = Collector((status, {}, b"")), Waits()
    with http_server(collector) as url:
        sender = _sender(url, waits, [])
        with pytest.raises(DeliveryError, match=f"got {status}"):
            sender.send(RECORDS[:1])
    assert (len(collector.requests), waits.pauses_s) == (1, [])


def test_a_partial_success_is_not_delivered_and_not_sent_again() -> None:
    collector, waits = Collector(_partial(3, "too old")), Waits()
    with http_server(collector) as url:
        sender = _sender(url, waits, [])
        with pytest.raises(DeliveryError, match="refused 3 of 16 records"):
            sender.send(RECORDS)
    assert len(collector.requests) == 1


def test_a_warning_is_passed_on_and_delivered() -> None:
    warnings: list[str] = []
    with http_server(Collector(_partial(0, "use a newer version"))) as url:
        _sender(url, Waits(), warnings).send(RECORDS)
    assert len(warnings) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"\xff",
        b'{"partialSuccess":[]}',
        b'{"partialSuccess":{"rejectedLogRecords":"abc"}}',
        b'{"partialSuccess":{"rejectedLogRecords":"' + b"9" * 5000 + b'"}}',
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_an_answer_that_cannot_be_read_is_not_delivered(body: bytes) -> None:
    with http_server(Collector((200, {}, body))) as url:
        sender = _sender(url, Waits(), [])
        with pytest.raises(DeliveryError, match="can't be read"):
            sender.send(RECORDS)


def test_nobody_there_is_tried_again_and_then_undelivered() -> None:
    waits = Waits()
    with http_server(Collector()) as url:
        pass
    sender = _sender(url, waits, [])
    with pytest.raises(DeliveryError, match="can't be reached"):
        sender.send(RECORDS)
    assert len(waits.pauses_s) == 3
