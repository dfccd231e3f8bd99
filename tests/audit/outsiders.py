"""Outsiders on loopback: witnesses of ours, and servers that answer whatever a test wants."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from werkzeug.serving import WSGIRequestHandler, make_server

from audit.note import VerifierKey
from audit.witness import Witness, known_logs
from audit.witness_app.app import create_app
from audit.witness_state import WitnessState, init_witness, load_cosigner
from audit.witnessing import KnownWitness
from bedside.outside import Outside, Place

Answer = tuple[int, dict[str, str], bytes]


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object, **__: object) -> None:
        """Says nothing."""


@contextmanager
def running_witness(
    directory: Path, log_keys: Sequence[VerifierKey], name: str = "witness.example/w1", *, port: int = 0
) -> Iterator[KnownWitness]:
    """A witness on the state in `directory`, made if it isn't there, until the block ends."""
    if not (directory / "witness.key").exists():
        init_witness(directory, name, os.urandom)
    cosigner = load_cosigner(directory)
    witness = Witness(cosigner, known_logs(log_keys), WitnessState(directory), lambda: datetime.now(UTC))
    server = make_server("127.0.0.1", port, create_app(witness), threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        yield KnownWitness(cosigner.verifier_key, url, url)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(slots=True)
class Answering:
    """A server that answers as `answer` says; `asked` is what it was asked."""

    url: str
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)


@contextmanager
def answering(answer: Callable[[bytes], Answer]) -> Iterator[Answering]:
    """A server that gives `answer(body)` to every request, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            double.asked.append((self.command, self.path, body))
            status, headers, content = answer(body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            with suppress(OSError):  # whoever asked may be gone
                self.end_headers()
                self.wfile.write(content)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double = Answering(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asking(*urls: str) -> Outside:
    """The real way out to these addresses."""
    return Outside(Place(url) for url in urls)
