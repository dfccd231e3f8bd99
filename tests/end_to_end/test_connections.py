"""What only a real connection shows: bodies in chunks, bodies that nobody read, and the next call after them."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from tests.cds_service import patients
from tests.conftest import RunningBedside

PATH = "/cds-services/prevent-cvd"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def connection(bedside: RunningBedside) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection(urlsplit(bedside.url).netloc, timeout=20)) as opened:
        yield opened


def _body() -> bytes:
    return patients.encoded(patients.call(patients.prefetch(datetime.now(UTC))))


def _asked(connection: http.client.HTTPConnection, body: object, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of the answer; an iterator's pieces are sent as chunks."""
    with suppress(BrokenPipeError):  # an answer that came before all was sent
        connection.request("POST", PATH, body=body, headers=headers)  # type: ignore[arg-type]
    answer = connection.getresponse()
    return answer.status, answer.read()


def _asked_again(connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """As `_asked`, asked anew where the server closed while a body was still coming: an answer may be lost then."""
    for _ in range(4):
        try:
            return _asked(connection, body, headers)
        except (ConnectionResetError, http.client.RemoteDisconnected):
            connection.close()
    return _asked(connection, body, headers)


def test_connections_serve_the_next_call_after_a_body_that_nobody_read(connection: http.client.HTTPConnection) -> None:
    """Kept open or closed, as the server finds the body come or not; never is its rest taken for a request."""
    body = _body()
    for _ in range(20):
        assert _asked_again(connection, body, {"Content-Type": "text/plain"})[0] == 415
        assert _asked_again(connection, body, JSON)[0] == 200


def test_connections_a_body_in_chunks_is_read_whole(connection: http.client.HTTPConnection) -> None:
    body = gzip.compress(_body())
    pieces = (body[start : start + 100] for start in range(0, len(body), 100))
    status, answer = _asked(connection, pieces, {**JSON, "Content-Encoding": "gzip"})
    assert status == 200
    assert json.loads(answer)["cards"]


def test_connections_a_body_in_chunks_is_cut_off_at_the_limit(connection: http.client.HTTPConnection) -> None:
    pieces = (b" " * 1_000_000 for _ in range(9))
    status, answer = _asked(connection, pieces, JSON)
    assert (status, json.loads(answer)["issue"][0]["code"]) == (413, "too-long")


def test_connections_health_and_readiness_of_a_real_service(bedside: RunningBedside) -> None:
    assert bedside.get("/health").json() == {"status": "up"}
    assert bedside.get("/ready").json() == {"status": "ready"}


def test_connections_request_id_of_a_refused_call_is_in_the_operations_log(bedside: RunningBedside) -> None:
    answer = bedside.post(b"{")
    lines = [json.loads(line) for line in bedside.stderr.read_text().splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line.get("request_id") == answer.headers["X-Request-ID"]]
    assert (line["event"], line["status"], line["client"]) == ("call refused", 400, "open")
