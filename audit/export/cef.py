r"""The log as Common Event Format, one line for an entry.

    CEF:0|Bedside|Bedside|1|decision/v1|Decision made and answered|2|rt=1772352000000 externalId=9c1185a5… act=patient-view
    outcome=answered … cs1Label=logOrigin cs1=hospital.example/cds-audit/north/1 cn1Label=logIndex cn1=17 cs2Label=leafHash …

(all in one line). The fields are those of the CEF dictionary; for the place in the log, custom ones with their labels. The
"device version" is the version of this mapping. In the header a backslash and a pipe are escaped with a backslash, in values a
backslash and an equals sign, and line ends become \n and \r. Values are cut at 1,000 characters.

Source: ArcSight Common Event Format Implementation Standard, version 0. Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from audit.entry import DecisionEntry, FeedbackEntry
from audit.errors import FormatError
from audit.export.facts import epoch_nanoseconds, facts
from audit.export.fhir_parts import host_of
from audit.export.records import LogRecord

MAPPING_VERSION = "1"
MAX_VALUE = 1000
_PREFIX = "CEF:0|"
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_UNESCAPED = {"n": "\n", "r": "\r"}


@dataclass(frozen=True, slots=True)
class CefEvent:
    """One event; `extension` in order."""

    vendor: str
    product: str
    version: str
    signature: str
    name: str
    severity: str
    extension: Mapping[str, str]


def cef_line(record: LogRecord) -> str:
    """The line of one entry, without line end; the same record always gives the same one."""
    return format_cef(_event(record))


def format_cef(event: CefEvent) -> str:
    """The line of `event`.

    Raises:
        FormatError: a header field with a line end, which CEF can't write, or a key that isn't one.
    """
    header = (event.vendor, event.product, event.version, event.signature, event.name, event.severity)
    if any("\n" in field or "\r" in field for field in header):
        raise FormatError("CEF: a header field has a line end")
    if not all(_KEY.fullmatch(key) for key in event.extension):
        raise FormatError("CEF: expected letters and digits as key")
    fields = "|".join(field.replace("\\", "\\\\").replace("|", "\\|") for field in header)
    pairs = " ".join(f"{key}={_escape(value)}" for key, value in event.extension.items())
    return f"{_PREFIX}{fields}|{pairs}"


def parse_cef(line: str) -> CefEvent:
    """The event in `line`, which may have a syslog header before it.

    Raises:
        FormatError: not CEF version 0.
    """
    start = line.find(_PREFIX)
    if start < 0:
        raise FormatError("CEF: expected CEF:0")
    header, extension = _parse_header(line[start + len(_PREFIX) :])
    vendor, product, version, signature, name, severity = header
    return CefEvent(vendor, product, version, signature, name, severity, _parse_extension(extension))


def _event(record: LogRecord) -> CefEvent:
    known = facts(record)
    entry, header = record.entry, record.header
    requester = entry.requester if isinstance(entry, DecisionEntry | FeedbackEntry) else None
    fields = {
        "rt": str(epoch_nanoseconds(header.time) // 10**6),
        "externalId": header.id,
        "deviceExternalId": header.tenant,
        "dvchost": host_of(record.origin),
        "act": known.action,
        "outcome": known.outcome,
        "reason": known.reason,
        "suid": known.person,
        "spriv": known.role,
        "sourceServiceName": (requester and requester.subject) or "",
        **_custom("cs1", "logOrigin", record.origin),
        **_custom("cs2", "leafHash", record.leaf_hex),
        **_custom("cs3", "service", header.service_id),
        **_custom("cs4", "model", header.model_version),
        **_custom("cs5", "card", _cards(record)),
        **_custom("cn1", "logIndex", str(record.index)),
        **_custom("cn2", "treeSize", str(record.tree_size)),
    }
    extension = {key: value[:MAX_VALUE] for key, value in fields.items() if value}
    return CefEvent("Bedside", "Bedside", MAPPING_VERSION, header.type, known.name, str(known.severity), extension)


def _custom(key: str, label: str, value: str) -> dict[str, str]:
    """A custom field with its label; neither where there is no value."""
    return {f"{key}Label": label, key: value} if value else {}


def _cards(record: LogRecord) -> str:
    match record.entry:
        case DecisionEntry() as entry:
            return " ".join(card.uuid for card in entry.cards)
        case FeedbackEntry() as entry:
            return entry.card
        case _:
            return ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("=", "\\=").replace("\n", "\\n").replace("\r", "\\r")


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _UNESCAPED.get(match[1], match[1]), text, flags=re.DOTALL)


def _parse_header(text: str) -> tuple[list[str], str]:
    """The six header fields after the version, and the extension."""
    fields = re.match(r"((?:[^\\|]|\\.)*)\|" * 6, text, re.DOTALL)
    if fields is None:
        raise FormatError("CEF: expected seven header fields")
    return [_unescape(field) for field in fields.groups()], text[fields.end() :]


def _parse_extension(text: str) -> dict[str, str]:
    """Key-value pairs: an equals sign that isn't escaped ends a key, and the key reaches back to a space."""
    # Escapes are taken in pairs from the left, so that "\\=" is a backslash and the end of a key.
    marks = [match.start() for match in re.finditer(r"\\.|=", text, re.DOTALL) if match[0] == "="]
    pairs: dict[str, str] = {}
    starts = [text.rfind(" ", 0, mark) + 1 for mark in marks]
    for number, (start, mark) in enumerate(zip(starts, marks, strict=True)):
        key = text[start:mark]
        if not _KEY.fullmatch(key) or key in pairs:
            raise FormatError("CEF: expected letters and digits as key, each key once")
        end = starts[number + 1] - 1 if number + 1 < len(starts) else len(text)
        if end < mark:
            raise FormatError("CEF: expected a space before each key")
        pairs[key] = _unescape(text[mark + 1 : end])
    if starts and starts[0] != 0:
        raise FormatError("CEF: expected a key first")
    if text and not marks:
        raise FormatError("CEF: expected keys with values")
    return pairs
