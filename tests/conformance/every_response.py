"""Every answer of a CDS service that any test receives, held to the rules: over sockets and in-process.

`every_response` is in force for the whole session: it looks at what `requests` receives from this machine below
`/cds-services`, and at what Flask's test client receives from our application. A test during which an answer was at fault
fails. tests/demo has doubles of a CDS service, broken ones among them, and is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.conformance.discovery_rules import check_discovery
from tests.conformance.response_rules import check_feedback, check_outcome, check_response

DOUBLES = "tests/demo/"
ROOT = "/cds-services"


@dataclass(slots=True)
class Watch:
    """What was seen: how many answers were checked, and the faults since they were last taken."""

    checked: int = 0
    faults: list[str] = field(default_factory=list)

    def see(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Checks one answer."""
        if path != ROOT and not path.startswith(f"{ROOT}/"):
            return
        self.checked += 1
        self.faults += (
            f"{method} {path} {status}: {fault}" for fault in faults_of(method, path, status, headers, body)
        )

    def take(self) -> list[str]:
        """The faults, which are forgotten here."""
        taken, self.faults = self.faults, []
        return taken


def faults_of(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
    """What the rules find, by what was asked."""
    if method == "HEAD" or (method == "OPTIONS" and 200 <= status < 300):
        return ["$: expected no body"] if body else []
    _, _, *below = path.split("/")
    if method == "GET" and not any(below):
        return check_discovery(status, headers, body)
    if method == "POST" and len(below) == 1:
        return check_response(status, headers, body)
    if method == "POST" and len(below) == 2 and below[1] == "feedback":
        return check_feedback(status, headers, body)
    return check_outcome(status, headers, body)


WATCH = Watch()


@pytest.fixture(scope="session", autouse=True)
def every_response() -> Iterator[Watch]:
    """The watch, in force until the session ends."""
    send, open_ = requests.Session.send, FlaskClient.open

    @functools.wraps(send)
    def watched_send(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        response = send(self, request, **options)
        parts = urlsplit(request.url or "")
        if parts.hostname == "127.0.0.1" and parts.path.startswith(ROOT):  # elsewhere the body is left unread
            WATCH.see(request.method or "", parts.path, response.status_code, response.headers, response.content)
        return response

    @functools.wraps(open_)
    def watched_open(self: FlaskClient, *arguments: Any, **options: Any) -> TestResponse:
        response = open_(self, *arguments, **options)
        if "bedside.desk" in self.application.extensions:
            asked = response.request
            WATCH.see(asked.method, asked.path, response.status_code, dict(response.headers), response.get_data())
        return response

    requests.Session.send, FlaskClient.open = watched_send, watched_open  # type: ignore[method-assign]
    yield WATCH
    requests.Session.send, FlaskClient.open = send, open_  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def only_valid_responses(request: pytest.FixtureRequest, every_response: Watch) -> Iterator[None]:
    """Fails the test that received a faulty answer."""
    yield
    faults = every_response.take()
    if faults and DOUBLES not in request.node.path.as_posix():
        pytest.fail("answers at fault:\n" + "\n".join(faults), pytrace=False)
