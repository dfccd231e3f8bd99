"""What a service that is told to stop does with the calls it has."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from audit.keys import load_vkeys
from audit.verify import Trust, verify_receipt
from cds_service.response import RECEIPT_KEY
from tests.cds_service import patients
from tests.conftest import ORIGIN, await_answer, clean_environment, free_port, run_bedside
from tests.end_to_end.fhir_double import FhirDouble, running_fhir

WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Stoppable:
    """A service of one's own, which a test may stop."""

    process: subprocess.Popen[bytes]
    port: int
    audit: Path
    fhir: FhirDouble
    environment: dict[str, str]

    def post(self, answers: list[requests.Response]) -> None:
        """A call that asks a FHIR server which doesn't answer; the answer is appended."""
        found = patients.prefetch(datetime.now(UTC))
        del found["urine_albumin"]
        body = patients.encoded(patients.call(found, **patients.fhir_access(self.fhir.base("hang"))))
        url = f"http://127.0.0.1:{self.port}/cds-services/prevent-cvd"
        answers.append(requests.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=WAIT_S))

    def verify(self) -> str:
        """What `bedside audit verify` says of the log."""
        done = run_bedside("audit", "verify", str(self.audit), environment=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Stoppable]:
    with running_fhir() as fhir, _running(tmp_path, fhir) as running:
        yield running


@contextmanager
def _running(folder: Path, fhir: FhirDouble, *, awaited: bool = True) -> Iterator[Stoppable]:
    port, audit = free_port(), folder / "audit"
    (folder / "bedside.toml").write_text(
        f"[server]\nport = {port}\n[access]\nopen_on_loopback = true\n"
        f"[fhir]\ndeadline_s = {WAIT_S}\nallowed_servers = {fhir.base_urls}\n"
        f'[audit]\ndirectory = "{audit}"\norigin = "{ORIGIN}"\ndeadline_ms = 5000\n'
        f'[models]\nenabled = ["prevent_cvd"]\n[state]\ndirectory = "{folder / "state"}"\n'
    )
    environment = clean_environment(BEDSIDE_CONFIG=str(folder / "bedside.toml"))
    assert run_bedside("audit", "init", "--origin", ORIGIN, environment=environment).returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "bedside", "serve"],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a group of its own, to leave no worker behind
    )
    try:
        if awaited:
            await_answer(process, f"http://127.0.0.1:{port}/ready")
        yield Stoppable(process, port, audit, fhir, environment)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(WAIT_S)


def _until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if happened():
            return
        time.sleep(0.02)
    pytest.fail(f"never happened: {what}")


def _is_refused(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return False
    except ConnectionRefusedError:
        return True


def test_shutdown_answers_and_records_the_call_in_flight_and_takes_no_other(service: Stoppable) -> None:
    answers: list[requests.Response] = []
    caller = threading.Thread(target=service.post, args=(answers,))
    caller.start()
    _until(lambda: service.fhir.requests, "the call asks the FHIR server")
    service.process.send_signal(signal.SIGTERM)
    _until(lambda: _is_refused(service.port), "new connections are refused")
    assert not answers
    assert service.process.poll() is None
    service.fhir.released.set()
    caller.join(WAIT_S)
    (answer,) = answers
    assert answer.status_code == 200
    receipt = answer.json()["extension"][RECEIPT_KEY]
    assert verify_receipt(receipt["proof"].encode(), Trust(load_vkeys(service.audit / "log.vkey"))).index == 2
    assert service.process.wait(WAIT_S) == 0
    assert "valid: 3 entries" in service.verify()  # the start, its model, and the call


def test_shutdown_of_a_service_that_is_still_starting_is_at_once(tmp_path: Path) -> None:
    """A worker that was told to end while it loaded its models once went on, and the supervisor waited for it."""
    with running_fhir() as fhir, _running(tmp_path, fhir, awaited=False) as service:
        children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
        _until(lambda: children.read_text().strip(), "a worker starts")
        time.sleep(0.1)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(10) == 0
        service.verify()


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_shutdown_is_not_held_up_by_an_idle_connection(service: Stoppable, asked: signal.Signals) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=WAIT_S) as idle:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(4_096).startswith(b"HTTP/1.1 200")
        service.process.send_signal(asked)
        assert service.process.wait(5) == 0
    assert "valid: 2 entries" in service.verify()  # the start and its model
