"""The pocket EHR: a FHIR R4 server, a CDS Hooks client and its pages, together on one loopback port.

Imports nothing of Bedside; the two know each other only by CDS Hooks and FHIR over HTTP. It is a demonstration: it binds
127.0.0.1 only, answers only to that name or localhost, and keeps nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Thread
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from demo.client import CdsClient
from demo.fhir_server import FhirServer
from demo.fhir_views import fhir_views
from demo.pages import pages, with_page_headers
from demo.signer import KEY_SET_PATH, Signer, load_key
from demo.store import PATIENTS_FOLDER, ChartStore, load_store

HOST = "127.0.0.1"
_STOP_CHECK_S = 0.05  # how often the running server looks whether it should stop


@dataclass(frozen=True, slots=True)
class PocketEhr:
    """A running EHR; `origin` is like `http://127.0.0.1:8090`."""

    origin: str
    fhir: FhirServer
    client: CdsClient

    @property
    def store(self) -> ChartStore:
        return self.fhir.store


def create_app(fhir: FhirServer, client: CdsClient, signer: Signer, clock: Callable[[], datetime]) -> Flask:
    app = Flask(__name__)
    app.config["TRUSTED_HOSTS"] = [HOST, "localhost"]  # a page of another site cannot reach it by rebinding a name
    app.register_blueprint(fhir_views(fhir))
    app.register_blueprint(pages(fhir.store, client, clock))
    app.add_url_rule(KEY_SET_PATH, "key_set", signer.key_set)
    app.after_request(with_page_headers)
    return app


@contextmanager
def running_ehr(
    bedside_url: str,
    clock: Callable[[], datetime],
    port: int = 0,
    folder: Path = PATIENTS_FOLDER,
    key_file: Path | None = None,
) -> Iterator[PocketEhr]:
    """A pocket EHR answering on 127.0.0.1 until the block ends; port 0 takes a free one. Raises BundleError.

    It signs its calls with the key in `key_file`, or with one that is gone when the block ends.
    """
    now = clock()
    store = load_store(folder, now)
    server = make_server(HOST, port, _not_ready, threaded=True, request_handler=_QuietHandler)
    origin = f"http://{HOST}:{server.server_port}"
    fhir = FhirServer(store, f"{origin}/fhir", secrets.token_urlsafe(32), now)
    signer = Signer(origin, load_key(key_file))
    client = CdsClient(bedside_url, fhir, signer)
    server.app = create_app(fhir, client, signer, clock)
    thread = Thread(target=server.serve_forever, args=(_STOP_CHECK_S,), name="pocket-ehr", daemon=True)
    thread.start()
    try:
        yield PocketEhr(origin, fhir, client)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _not_ready(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
    return [b"not ready"]


class _QuietHandler(WSGIRequestHandler):
    """Requests are not logged: their paths name patients."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""
