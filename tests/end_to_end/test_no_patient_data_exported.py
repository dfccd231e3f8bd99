"""What leaves the log by `bedside audit export`: no name, identifier, value or token, in no format and in no message."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cds_service import patients
from tests.conftest import RunningBedside
from tests.end_to_end.test_no_patient_data import CANARIES, _calls

FORMATS = ("fhir-auditevent", "provenance", "cef", "otlp")


def _feedback(bedside: RunningBedside) -> str:
    """Sends feedback full of canaries on a card that was shown; the id of the card."""
    call = patients.call(patients.prefetch(datetime.now(UTC)))
    (card,) = bedside.post(patients.encoded(call)).json()["cards"]
    reason = {
        "reason": {"code": patients.CANARY_TEXT, "display": patients.CANARY_NAME},
        "userComment": patients.PATIENT_ID,
    }
    entry = {
        "card": card["uuid"],
        "outcome": "overridden",
        "overrideReason": reason,
        "outcomeTimestamp": datetime.now(UTC).isoformat(),
        "extension": {"org.example": patients.CANARY_TEXT},
    }
    answer = bedside.post(json.dumps({"feedback": [entry]}).encode(), service="prevent-cvd/feedback")
    assert answer.json()["extension"]["org.bedside.feedback"]["recorded"] == 1, answer.text
    return str(card["uuid"])


@pytest.fixture(scope="module", name="shown_card")
def shown_card_fixture(bedside: RunningBedside) -> str:
    """A log with canaries in every request that led to it; the id of a card with feedback."""
    for call in _calls(bedside):
        bedside.post(patients.encoded(call))
    return _feedback(bedside)


@pytest.mark.parametrize("name", FORMATS)
def test_no_patient_data_in_any_export(bedside: RunningBedside, shown_card: str, name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = bedside.run("audit", "export", name, "-o", str(out))
    assert done.returncode == 0, done.stderr
    exported = out.read_text()
    assert shown_card in exported
    assert exported.count("\n") >= 3
    for text in (exported, done.stdout, done.stderr):
        assert [canary for canary in CANARIES if canary in text] == []


def test_what_the_running_service_logged_is_proven_by_its_copies(
    bedside: RunningBedside, shown_card: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert shown_card
    bedside.run("audit", "export", "fhir-auditevent", "--proofs", "-o", str(out))
    checked = bedside.run("audit", "export", "check", str(out))
    assert checked.returncode == 0, checked.stdout + checked.stderr
