"""A hospital's servers on 127.0.0.1: key sets of its EHRs, and FHIR servers that fail in ways of their own.

`/keys/<name>` is a key set. `/fhir/<behaviour>/<Type>…` is a FHIR server: `good`, a status such as `403`, `redirect`,
`elsewhere` (whose next page lies at the canary), `drip` (a byte at a time), `stalled` (never a word), `outcome`. The
canary is a listener that nothing may ever connect to.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.cds_service import patients

Json = dict[str, Any]
BEHAVIOURS = (
    "good",
    "401",
    "403",
    "404",
    "503",
    "redirect",
    "elsewhere",
    "drip",
    "stalled",
    "outcome",
    "pages",
    "bare",
)
KEYS_BY_CODE = {
    "8480-6": "blood_pressure",
    "39156-5": "body_mass_index",
    "2093-3": "cholesterol",
    "98979-8": "kidney_function",
    "72166-2": "smoking_status",
}
KEYS_BY_TYPE = {
    "Patient": "patient",
    "Condition": "conditions",
    "MedicationRequest": "active_medications",
    "Encounter": "current_encounters",
}


@dataclass(slots=True)
class Asked:
    """One request that came in."""

    path: str
    headers: dict[str, str]


@dataclass(slots=True)
class Servers:
    """The running servers."""

    url: str
    canary: str
    canary_socket: socket.socket
    keys: dict[str, list[Json]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def fhir(self, behaviour: str) -> str:
        """Base URL of a FHIR server."""
        return f"{self.url}/fhir/{behaviour}"

    def key_set(self, name: str) -> str:
        """URL of a key set."""
        return f"{self.url}/keys/{name}"

    def requests_to(self, part: str) -> list[Asked]:
        """What was asked of paths with `part` in them."""
        return [asked for asked in self.asked if part in asked.path]

    def canary_was_called(self) -> bool:
        """Whether anything has connected to it."""
        try:
            self.canary_socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@contextmanager
def running_servers() -> Iterator[Servers]:
    """The servers, until the block ends."""
    with socket.socket() as canary:
        canary.bind(("127.0.0.1", 0))
        canary.listen()
        canary.setblocking(False)
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        url = f"http://127.0.0.1:{server.server_port}"
        servers = Servers(url, f"http://127.0.0.1:{canary.getsockname()[1]}", canary)
        server.servers = servers  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield servers
        finally:
            servers.ended.set()
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    @property
    def servers(self) -> Servers:
        found: Servers = self.server.servers  # type: ignore[attr-defined]
        return found

    def do_GET(self) -> None:
        self.servers.asked.append(Asked(self.path, {name.lower(): value for name, value in self.headers.items()}))
        parts = urlsplit(self.path)
        _, kind, name, *rest = parts.path.split("/")
        if kind == "keys":
            self._answer(200, {"keys": self.servers.keys.get(name, [])})
        elif name.isdigit():
            self._answer(int(name), {"resourceType": "OperationOutcome"})
        elif name == "redirect":
            self._answer(302, {}, Location=f"{self.servers.canary}/{'/'.join(rest)}")
        elif name == "drip":
            self._drip()
        elif name == "stalled":
            self.servers.ended.wait(20)
            self.close_connection = True
        else:
            self._answer(200, self._found(name, rest[0], parts.query))

    def _found(self, name: str, resource: str, query: str) -> Json:
        if name == "outcome":
            issue = {"severity": "error", "code": "exception"}
            return {"resourceType": "OperationOutcome", "issue": [issue]}
        key = KEYS_BY_TYPE.get(resource) or next((k for code, k in KEYS_BY_CODE.items() if code in query), "")
        if name == "bare" and key not in ("patient", "conditions", "active_medications"):
            return patients.bundle()
        found = patients.prefetch(datetime.now(UTC)).get(key, patients.bundle())
        if found["resourceType"] == "Bundle" and name in ("elsewhere", "pages"):
            target = self.servers.canary if name == "elsewhere" else self.servers.url
            return found | {"link": [{"relation": "next", "url": f"{target}{self.path}"}]}
        return found

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", "100000")
        self.end_headers()
        try:
            while not self.servers.ended.wait(0.2):
                self.wfile.write(b" ")
        except OSError:
            pass
        self.close_connection = True

    def _answer(self, status: int, body: Json, **headers: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""
