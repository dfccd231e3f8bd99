"""A FHIR server that is slow without end: the hook answers inside its deadline, and the log says what was missing."""

from __future__ import annotations

import time
from typing import Any

import pytest

from audit.entry import DecisionEntry, parse_entry
from audit.merkle import LeafIndex
from audit.storage.sqlite import SqliteStorage
from cds_service.response import RECEIPT_KEY
from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.hospital import BUSY_S, DEADLINE_S, Hospital

OPTIONAL = ("hba1c", "urine_albumin", "body_height")
REQUIRED = ("patient", "conditions", "active_medications")

SLOW = ["stalled", "drip", "pages"]


def _entry(hospital: Hospital, index: int | None = None) -> DecisionEntry:
    """The decision at `index`, or the newest one."""
    storage = SqliteStorage(hospital.folder / "audit")
    try:
        place = storage.newest_checkpoint().size - 1 if index is None else index
        entry = parse_entry(storage.entry(LeafIndex(place)) or b"")
    finally:
        storage.close()
    assert isinstance(entry, DecisionEntry)
    return entry


def _without(*keys: str) -> dict[str, Any]:
    return {name: value for name, value in calls.prefetched().items() if name not in keys}


@pytest.mark.parametrize("behaviour", SLOW)
def test_deadlines_a_part_of_the_data_gives_an_answer_that_says_so(behaviour: str, hospital: Hospital) -> None:
    server = hospital.servers.fhir(behaviour)
    body = calls.call(prefetch=_without(*OPTIONAL), **patients.fhir_access(server))
    started = time.monotonic()
    answer = hospital.call(body)
    assert time.monotonic() - started < DEADLINE_S + BUSY_S
    assert answer.status_code == 200, answer.text
    (card,) = answer.json()["cards"]
    entry = _entry(hospital, answer.json()["extension"][RECEIPT_KEY]["index"])
    assert entry.status == "answered"
    if behaviour == "pages":  # those have a count, and the pages before the limit are of use
        return
    assert set(entry.request.prefetch_failed) == set(OPTIONAL)
    for name in OPTIONAL:
        assert f"- {name.replace('_', ' ')}: " in card["detail"]


@pytest.mark.parametrize("behaviour", SLOW)
def test_deadlines_without_required_data_there_is_a_412_in_time(behaviour: str, hospital: Hospital) -> None:
    started = time.monotonic()
    answer = hospital.call(calls.without_prefetch(hospital.servers.fhir(behaviour)))
    assert time.monotonic() - started < DEADLINE_S + BUSY_S
    assert answer.status_code == 412
    entry = _entry(hospital)
    assert entry.status == "missing-data"
    missing = set(REQUIRED) - ({"patient"} if behaviour == "pages" else set())  # a Patient has no pages
    assert missing <= set(entry.request.prefetch_failed)
