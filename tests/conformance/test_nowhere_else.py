"""Nothing but what is on a client's list is ever contacted, and a token is good once: also over two workers and a restart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from audit.entry import parse_entry
from audit.entry_operations import ModelEntry
from audit.storage import Query
from audit.storage.sqlite import SqliteStorage
from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.hospital import RISK, Hospital, running_hospital, serving
from tests.fhir_adapters.crafted_urls import crafted

PATH = f"/cds-services/{RISK}"


def _crafted(hospital: Hospital) -> tuple[str, ...]:
    port = urlsplit(hospital.servers.canary).port
    assert port is not None
    return crafted(port, hospital.servers.fhir("good").replace("http://127.0.0.1", "https://fhir.example.org"))


def test_nowhere_else_is_a_crafted_fhir_server_contacted(hospital: Hospital) -> None:
    values = _crafted(hospital)
    assert len(values) >= 20
    for value in values:
        answer = hospital.call(patients.call(None, **patients.fhir_access(value)))
        assert answer.status_code in (400, 412), value
        assert patients.CANARY_TOKEN not in answer.text
        assert not hospital.servers.canary_was_called(), value


def test_nowhere_else_is_a_crafted_key_set_contacted(hospital: Hospital) -> None:
    for client in ("spec", "named"):
        for value in _crafted(hospital):
            token = hospital.token(PATH, client, {"jku": value})
            assert hospital.call(calls.call(), None, token=token).status_code == 401, value
            assert not hospital.servers.canary_was_called(), value


def test_nowhere_else_two_workers_spend_a_token_once_between_them(hospital: Hospital) -> None:
    """Thirty-two connections at once reach both workers."""
    token = hospital.token(PATH)
    with ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(lambda _: hospital.call(calls.call(), None, token=token).status_code, range(32)))
    assert sorted(statuses) == [200, *[401] * 31]


@pytest.fixture
def restarted(tmp_path: Path) -> tuple[int, int, int]:
    """What one token gave before a restart and after it, and then a fresh one."""
    with running_hospital(tmp_path) as hospital:
        token = hospital.token(PATH)
        before = hospital.call(calls.call(), None, token=token).status_code
        assert hospital.process is not None
        hospital.process.terminate()
        hospital.process.wait(30)
        with serving(hospital):
            after = hospital.call(calls.call(), None, token=token).status_code
            fresh = hospital.call(calls.call()).status_code
    return before, after, fresh


def test_nowhere_else_a_restart_makes_no_token_fresh(restarted: tuple[int, int, int]) -> None:
    assert restarted == (200, 401, 200)


def test_two_workers_that_start_at_once_tell_a_new_model_once(hospital: Hospital) -> None:
    for name in ("audit", "auditsouth"):
        storage = SqliteStorage(hospital.folder / name)
        try:
            models = [parse_entry(storage.entry(found.index) or b"") for found in storage.find(Query(type="model/v1"))]
        finally:
            storage.close()
        assert [(entry.model, entry.action) for entry in models if isinstance(entry, ModelEntry)] == [
            ("prevent_cvd", "deploy")
        ]
