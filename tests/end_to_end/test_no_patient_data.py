"""What a running service leaves behind: no name, identifier, value or token, in no file and in no error."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from tests.cds_service import patients
from tests.conftest import RunningBedside

CANARIES = (
    patients.PATIENT_ID,
    patients.CANARY_NAME,
    patients.CANARY_TEXT,
    patients.CANARY_TOKEN,
    "canary",
    "Zyxwvut",
    "151.0",
    "Condition/c1",
)


def _calls(bedside: RunningBedside) -> list[dict[str, Any]]:
    good = patients.prefetch(datetime.now(UTC))
    fhir = bedside.fhir
    canary = patients.CANARY_TEXT
    return [
        patients.call(good, **patients.fhir_access(fhir.base("good"))),
        patients.call(good, hookInstance=canary),
        patients.call(good, **patients.fhir_access(f"https://{patients.PATIENT_ID}.example.org/{canary}")),
        patients.call(good, **patients.fhir_access(fhir.base("good"), scope=f"patient/{canary} launch/canary")),
        patients.call(good | {"kidney_function": canary, "active_medications": {"resourceType": canary}}),
        patients.call(None, **patients.fhir_access(fhir.base("good"))),
        patients.call(None, **patients.fhir_access(fhir.base("bad-headers"))),
        patients.call(None, **patients.fhir_access(fhir.base("500"))),
        patients.call(None, **patients.fhir_access(fhir.base("wrong-patient"))),
        patients.call(None, **patients.fhir_access(fhir.closed)),
        patients.call(good, hook=canary),
        patients.call(good, context={"userId": canary, "patientId": patients.PATIENT_ID}),
        patients.call(good, context={"userId": "Practitioner/1", "patientId": canary}),
        patients.call(canary, fhirServer=5),  # type: ignore[arg-type]
    ]


def test_no_patient_data_in_errors_the_log_or_the_audit_database(bedside: RunningBedside) -> None:
    shown = set()
    for call in _calls(bedside):
        for body in (patients.encoded(call), patients.encoded(call)[:-3]):
            answer = bedside.post(body)
            if answer.status_code == 200:
                (card,) = answer.json()["cards"]
                shown |= {card["summary"], card["detail"].splitlines()[0]}
            else:
                found = [canary for canary in CANARIES if canary in answer.text]
                assert found == [], answer.text
            assert patients.CANARY_TOKEN not in answer.text
    assert len(shown) >= 2
    time.sleep(0.1)  # the log's file catches up
    left = {path: path.read_bytes() for path in bedside.audit.rglob("*") if path.is_file()}
    left[bedside.stderr] = bedside.stderr.read_bytes()
    assert any(path.name == "log.sqlite3" for path in left)
    for path, content in left.items():
        for canary in (*CANARIES, *shown):
            assert canary.encode() not in content, (path, canary)


def test_no_patient_data_in_the_operations_log_whose_lines_are_json(bedside: RunningBedside) -> None:
    bedside.post(b"{}")
    time.sleep(0.1)
    lines = [json.loads(line) for line in bedside.stderr.read_text().splitlines()]
    assert {"time", "level", "logger", "event"} <= set(lines[-1])
    assert {line["event"] for line in lines} <= {
        "call answered",
        "call refused",
        "feedback recorded",
        "open to every caller on this machine, for evaluation only",
    }
