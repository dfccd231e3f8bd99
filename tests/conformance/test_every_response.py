"""That the watch over all answers sees them, over a socket and in-process, and that it minds."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from cds_service.app import create_app
from tests.conformance.every_response import Watch, faults_of
from tests.conftest import MakeDesk, RunningBedside

GOOD = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class _Broken(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(b'{"services": null}')

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def broken_service() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Broken)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_response_over_a_socket_is_seen(bedside: RunningBedside, every_response: Watch) -> None:
    before = every_response.checked
    bedside.get("/cds-services")
    bedside.post(b"{}")
    assert every_response.checked == before + 2


def test_every_response_in_process_is_seen(make_desk: MakeDesk, every_response: Watch) -> None:
    before = every_response.checked
    app = create_app(make_desk(), max_body_bytes=1000)
    app.test_client().get("/cds-services")
    app.test_client().post("/cds-services/prevent-cvd", data=b"{}")
    assert every_response.checked == before + 2


def test_every_response_at_fault_is_told(broken_service: str, every_response: Watch) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.get(f"{broken_service}/cds-services", timeout=5)
        session.get(f"{broken_service}/elsewhere", timeout=5)
    assert every_response.take() == [
        "GET /cds-services 200: $.services: null or empty",
        "GET /cds-services 200: $.services: required, an array",
    ]


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/cds-services", 200, {"services": []}),
        ("POST", "/cds-services/a", 200, {"cards": []}),
        ("POST", "/cds-services/a/feedback", 200, {}),
    ],
)
def test_every_response_is_judged_by_what_was_asked(method: str, path: str, status: int, body: object) -> None:
    assert faults_of(method, path, status, GOOD, json.dumps(body).encode()) == []
    assert faults_of(method, path, status, GOOD, b'{"other": 1, "x": null}') != []
    assert faults_of(method, path, 400, GOOD, json.dumps(body).encode()) != []


def test_every_response_to_a_preflight_is_empty() -> None:
    assert faults_of("OPTIONS", "/cds-services", 204, {}, b"") == []
    assert faults_of("OPTIONS", "/cds-services", 204, {}, b"{}") == ["$: expected no body"]
