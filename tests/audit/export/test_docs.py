"""docs/exports.md shows what is really written: each example line, and the table of events."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from audit.export.cef import cef_line
from audit.export.fhir_auditevent import audit_events
from audit.export.fhir_codes import BALP, BASE, PROFILE
from audit.export.fhir_profiles import definitions
from audit.export.otlp import logs_data
from audit.export.provenance import provenances
from audit.export.push import json_line
from audit.export.records import LogRecord
from audit.export.syslog import frame, syslog_message
from tests.audit.export.examples import DECISION, EXAMPLES, record_of

TEXT = (Path(__file__).parents[3] / "docs" / "exports.md").read_text()
FENCES: Mapping[str, str] = dict(re.findall(r"```([a-z-]+)\n(.*?)\n```", TEXT, re.DOTALL))
GAP, DECIDED = record_of(EXAMPLES["gap"], 3), record_of(DECISION, 17)

SHOWN: Mapping[str, Callable[[], bytes]] = {
    "cef": lambda: cef_line(DECIDED).encode(),
    "syslog": lambda: frame(syslog_message(GAP)),
    "otlp": lambda: json_line(logs_data([GAP])).rstrip(b"\n"),
    "fhir-auditevent": lambda: json_line(audit_events(GAP)[0]).rstrip(b"\n"),
    "provenance": lambda: json_line(provenances(DECIDED)[0]).rstrip(b"\n"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_each_example_line_is_what_is_written(name: str) -> None:
    assert FENCES[name] == SHOWN[name]().decode()


def events_table() -> str:
    """The table of what each entry kind becomes, as it stands in the document."""
    rows = ["| entry | event | type | subtypes | action | profile |", "|---|---|---|---|---|---|"]
    for name, entry in EXAMPLES.items():
        rows += _rows(name, record_of(entry))
    return "\n".join(rows)


def _rows(name: str, record: LogRecord) -> list[str]:
    rows = []
    for event in audit_events(record):
        subtypes = [subtype["code"] for subtype in event["subtype"]]
        profiles = [
            url.replace(f"{BALP}.", "BALP ").replace(f"{PROFILE}/", "own: ")
            for url in event.get("meta", {}).get("profile", [])
        ]
        kind = record.header.type if name != "search" else "access/v1 (search)"
        codes = ", ".join(code for code in subtypes[:-1])
        cells = (kind, subtypes[-1], event["type"]["code"], codes or "–", event["action"], ", ".join(profiles) or "–")
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def test_the_table_of_events_is_what_is_written() -> None:
    assert events_table() in TEXT


def test_every_canonical_address_and_every_verb_is_named() -> None:
    resources = [event for entry in EXAMPLES.values() for event in audit_events(record_of(entry))]
    text = json.dumps([*resources, *provenances(DECIDED), *definitions()])
    written = set(re.findall(rf"{re.escape(BASE)}/[A-Za-z/-]+", text))
    assert [address for address in sorted(written) if address.removeprefix(BASE + "/") not in TEXT] == []
    for verb in ("fhir-auditevent", "provenance", "cef", "otlp", "profiles", "check"):
        assert f"bedside audit export {verb}" in TEXT
