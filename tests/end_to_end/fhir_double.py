"""FHIR servers that misbehave, on real sockets: one base path for each way of failing.

`drip` sends a byte of its answer a second, `redirect` to the stranger, `next-elsewhere` has its next pages at the stranger's;
`hundred-pages` has a hundred pages of everything and then ends, `many-pages` never ends.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.cds_service import patients

REFUSALS = ("401", "403", "404", "500")
BEHAVIOURS = (
    *REFUSALS,
    "hang",
    "drip",
    "redirect",
    "html",
    "wrong-patient",
    "good",
    "labs-fail",
    "many-pages",
    "hundred-pages",
    "next-elsewhere",
    "bad-headers",
)
PAGES = 100


@dataclass(slots=True)
class FhirDouble:
    """The running double; `stranger` is the URL of a listener that no configuration allows, `closed` answers nothing."""

    url: str
    closed: str
    stranger: str
    stranger_socket: socket.socket
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def base_urls(self) -> list[str]:
        """Every base that a configuration is to allow."""
        return [*(self.base(name) for name in BEHAVIOURS), self.closed]

    def stranger_was_called(self) -> bool:
        """Whether anything has connected to the listener that no configuration allows."""
        with suppress(BlockingIOError):
            self.stranger_socket.accept()[0].close()
            return True
        return False

    def base(self, behaviour: str) -> str:
        return f"{self.url}/{behaviour}"


@contextmanager
def running_fhir() -> Iterator[FhirDouble]:
    """A double answering on 127.0.0.1 until the block ends."""
    with socket.socket() as reserved, socket.socket() as stranger:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        double = FhirDouble(
            f"http://127.0.0.1:{server.server_port}",
            f"http://127.0.0.1:{reserved.getsockname()[1]}/fhir",
            f"http://127.0.0.1:{stranger.getsockname()[1]}/fhir",
            stranger,
        )
        server.double = double  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        stranger.setblocking(False)
        try:
            yield double
        finally:
            double.released.set()
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        double: FhirDouble = self.server.double  # type: ignore[attr-defined]
        double.requests.append((self.path, self.headers.get("Authorization")))
        parts = urlsplit(self.path)
        _, behaviour, resource, *_ = parts.path.split("/")
        if behaviour == "hang":
            double.released.wait(20)
            self.close_connection = True
            return
        if behaviour == "drip":
            self._drip(json.dumps(self._found(behaviour, resource, parts.query)).encode())
        elif behaviour in REFUSALS:
            self._answer(int(behaviour), b'{"resourceType": "OperationOutcome"}')
        elif behaviour == "redirect":
            self._answer(302, b"", location=f"{double.stranger}/{resource}")
        elif behaviour == "html":
            self._answer(200, b"<html>sign in</html>", "text/html")
        elif behaviour == "labs-fail" and "98979-8" in parts.query:
            self._answer(503, b"{}")
        else:
            self._answer(200, json.dumps(self._found(behaviour, resource, parts.query)).encode())

    def _found(self, behaviour: str, resource: str, query: str) -> Any:
        found = self._resource(behaviour, resource, query)
        following = self._following(behaviour, query)
        if found["resourceType"] != "Bundle" or following is None:
            return found
        return found | {"link": [{"relation": "next", "url": following}]}

    def _following(self, behaviour: str, query: str) -> str | None:
        """Where the next page of what was asked lies."""
        double: FhirDouble = self.server.double  # type: ignore[attr-defined]
        if behaviour == "next-elsewhere":
            return f"{double.stranger}?page=2"
        place = int(parse_qs(query).get("page", ["1"])[0])
        if behaviour != "hundred-pages" or place == PAGES:
            return None
        first = self.path.partition("&page=")[0]
        return f"{double.url}{first}&page={place + 1}"

    def _resource(self, behaviour: str, resource: str, query: str) -> Any:
        owner = "somebody-else" if behaviour == "wrong-patient" else patients.PATIENT_ID
        data = patients.prefetch(datetime.now(UTC), owner)
        if resource == "Patient":
            return data["patient"]
        if resource == "Condition":
            return data["conditions"]
        if resource == "MedicationRequest":
            return data["active_medications"]
        keys = {
            "8480-6": "blood_pressure",
            "39156-5": "body_mass_index",
            "2093-3": "cholesterol",
            "98979-8": "kidney_function",
            "72166-2": "smoking_status",
        }
        key = next((key for code, key in keys.items() if code in query), "body_height")
        found = data[key]
        if behaviour == "many-pages":  # page after page, as a server with a page size of one and years of results
            found = found | {"link": [{"relation": "next", "url": f"{self.server.double.url}{self.path}"}]}  # type: ignore[attr-defined]
        return found

    def _drip(self, body: bytes) -> None:
        """Status and headers at once, and then a byte a second; gives up with the block or with the reader."""
        double: FhirDouble = self.server.double  # type: ignore[attr-defined]
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for byte in body:
            if double.released.wait(1.0):
                return
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return

    def _answer(
        self, status: int, body: bytes, content_type: str = "application/fhir+json", location: str | None = None
    ) -> None:
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.path.startswith("/bad-headers"):
            self.wfile.write(b"".join(self._headers_buffer) + b"no header at all\r\n\r\n" + body)  # type: ignore[attr-defined]
            self._headers_buffer: list[bytes] = []
            return
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""
