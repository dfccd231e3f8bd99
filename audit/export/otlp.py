"""The log as OpenTelemetry log records: OTLP/HTTP with JSON, one record for an entry.

    {"resourceLogs": [{"resource": {...}, "scopeLogs": [{"scope": {...}, "logRecords": [
        {"timeUnixNano": "1772352000000000000", "severityNumber": 9, "eventName": "bedside.decision", "attributes": [...]}]}]}]}

The encoding is proto3's JSON mapping as OTLP has it: 64-bit integers are text, enums numbers, names in camel case. Attributes
`origin`, `log.index`, `leaf.hash` and `log.tree_size` are the place in the log, `log.record.uid` is the entry's id by which a
collector drops duplicates, and `bedside.*` is every field of the entry: none holds patient data, as no entry does.

A collector that takes only part of a batch has refused the rest for good (OTLP 1.9, "Partial success"): that isn't sent
again, and isn't delivered either, so the export stops there and says so.

Source: https://opentelemetry.io/docs/specs/otlp/ 1.9.0; field names of opentelemetry-proto 1.x, logs.proto.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from audit.export.errors import DeliveryError
from audit.export.facts import epoch_nanoseconds, facts
from audit.export.fhir_parts import host_of
from audit.export.records import LogRecord
from audit.export.retrying import Patience, ask_patiently
from audit.outside import Ask

SCOPE, SCOPE_VERSION = "bedside.audit", "1"
# severity_number of logs.proto: INFO, WARN, ERROR, FATAL.
_SEVERITIES = ((10, 21, "FATAL"), (8, 17, "ERROR"), (4, 13, "WARN"), (0, 9, "INFO"))

Json = dict[str, Any]


def logs_data(records: Sequence[LogRecord]) -> Json:
    """The records, all of one log, as one ExportLogsServiceRequest (the same bytes are a line of an OTLP file)."""
    origin = records[0].origin
    resource = [_attribute("service.name", "bedside"), _attribute("host.name", host_of(origin))]
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": resource},
                "scopeLogs": [
                    {
                        "scope": {"name": SCOPE, "version": SCOPE_VERSION},
                        "logRecords": [_log_record(record) for record in records],
                    }
                ],
            }
        ]
    }


@dataclass(frozen=True, slots=True)
class OtlpCollector:
    """A collector that takes OTLP over HTTP; `url` is the whole address, usually ending in /v1/logs."""

    url: str
    ask: Ask
    patience: Patience
    headers: Mapping[str, str]
    warn: Callable[[str], None]

    def send(self, records: Sequence[LogRecord]) -> None:
        """Sends the records in one request.

        Raises:
            DeliveryError: refused, wholly or in part, or not to be had.
        """
        body = json.dumps(logs_data(records), separators=(",", ":")).encode()
        headers = {**self.headers, "content-type": "application/json", "accept": "application/json"}
        answer = ask_patiently(self.ask, self.patience, "POST", self.url, body, headers)
        if answer.status != 200:
            message = f"OTLP collector: expected status 200, got {answer.status}"
            raise DeliveryError(message)
        self._check_whole(answer.body, len(records))

    def _check_whole(self, body: bytes, sent: int) -> None:
        if not body:
            return
        try:
            partial = msgspec.json.decode(body, type=_Answer).partial
            rejected = 0 if partial is None else int(partial.rejected)
        except (msgspec.DecodeError, ValueError, RecursionError) as exc:
            raise DeliveryError("OTLP collector: the answer can't be read") from exc
        if rejected:
            message = f"OTLP collector: refused {rejected} of {sent} records for good"
            raise DeliveryError(message)
        if partial is not None and partial.message:
            self.warn("OTLP collector: took all, with a warning")


class _Partial(msgspec.Struct):
    rejected: int | str = msgspec.field(default=0, name="rejectedLogRecords")  # proto3 JSON takes either
    message: str = msgspec.field(default="", name="errorMessage")


class _Answer(msgspec.Struct):
    partial: _Partial | None = msgspec.field(default=None, name="partialSuccess")


def _log_record(record: LogRecord) -> Json:
    known = facts(record)
    time = str(epoch_nanoseconds(record.header.time))
    number, text = next((number, text) for floor, number, text in _SEVERITIES if known.severity >= floor)
    place = (
        _attribute("origin", record.origin),
        _attribute("log.index", int(record.index)),
        _attribute("leaf.hash", record.leaf_hex),
        _attribute("log.tree_size", int(record.tree_size)),
        _attribute("log.record.uid", record.header.id),
    )
    return {
        "timeUnixNano": time,
        "observedTimeUnixNano": time,  # the log itself observed it, when it happened
        "severityNumber": number,
        "severityText": text,
        "eventName": f"bedside.{known.event}",
        "body": {"stringValue": known.name},
        "attributes": [*place, *(_attribute(f"bedside.{name}", value) for name, value in _fields(record))],
    }


def _fields(record: LogRecord) -> Iterator[tuple[str, object]]:
    """Every field of the entry by its path; of an unknown kind, only its name."""
    if record.entry is None:
        yield "type", record.header.type
        return
    document = msgspec.to_builtins(record.entry)
    yield "type", document.pop("_t")
    yield from _flat("", document)


def _flat(prefix: str, value: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, member in sorted(value.items()):
        match member:
            case None | [] | ():
                continue
            case dict():
                yield from _flat(f"{prefix}{name}.", member)
            case _:
                yield f"{prefix}{name}", member


def _attribute(key: str, value: object) -> Json:
    """A KeyValue."""
    return {"key": key, "value": _any_value(value)}


def _any_value(value: object) -> Json:
    """An AnyValue; integers are text, as proto3's JSON mapping has int64."""
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case list() | tuple():
            return {"arrayValue": {"values": [_any_value(item) for item in value]}}
        case dict():
            return {"kvlistValue": {"values": [_attribute(key, item) for key, item in sorted(value.items())]}}
        case None:
            return {}
        case _:
            return {"stringValue": str(value)}
