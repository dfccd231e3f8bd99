"""Each test talks to a real server on loopback that misbehaves in one way."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fhir_adapters.client import FhirClient, fetch_all
from fhir_adapters.errors import (
    FhirUpstreamError,
    OriginNotAllowedError,
    UpstreamConnectionError,
    UpstreamNotJsonError,
    UpstreamStatusError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
)
from tests.end_to_end.fhir_double import running_fhir

TOKEN = "secret-token"
PATIENT = b'{"resourceType":"Patient","id":"1"}'

Answer = Callable[[socket.socket, str], None]


def certificate(folder: Path) -> ssl.SSLContext:
    """A TLS context for 127.0.0.1 whose own certificate lies in `folder`/ca.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


@dataclass
class Server:
    """Answers each path as the test says, and remembers the requests it saw."""

    origin: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    tls: ssl.SSLContext | None = None

    def handle(self, connection: socket.socket) -> None:
        try:
            with connection if self.tls is None else self.tls.wrap_socket(connection, server_side=True) as opened:
                self.answer(opened)
        except OSError:
            return  # the client has hung up, which is what some tests are about

    def answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = connection.recv(4096)
            if not chunk:
                return
            head += chunk
        self.requests.append(head.decode())
        path = head.split(b" ", 2)[1].decode()
        self.answers[path](connection, path)


def body(content: bytes, status: str = "200 OK", headers: str = "Content-Type: application/fhir+json\r\n") -> Answer:
    head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode()
    return lambda connection, _: connection.sendall(head + content)


def page(*links: dict[str, str]) -> Answer:
    return body(json.dumps({"resourceType": "Bundle", "type": "searchset", "link": list(links)}).encode())


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made.origin = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=made.handle, args=(connection,)))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        yield made
        made.over.set()
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join(5)
        for thread in threads:
            thread.join(5)


@pytest.fixture
def client(server: Server) -> Iterator[Callable[..., FhirClient]]:
    """A client of the server with `seconds` until its deadline."""
    made: list[FhirClient] = []

    def make(seconds: float = 5.0, **changes: Any) -> FhirClient:
        settings: dict[str, Any] = {"allowed_servers": [f"{server.origin}/fhir"], "timeout_s": 1.0, **changes}
        made.append(FhirClient(f"{server.origin}/fhir", TOKEN, deadline=time.monotonic() + seconds, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., FhirClient]


def test_client_reads_with_token_and_without_compression(server: Server, client: Make) -> None:
    server.answers["/fhir/Patient/1"] = body(PATIENT)
    assert client().read("Patient/1") == [PATIENT]
    (request,) = server.requests
    assert f"Authorization: Bearer {TOKEN}\r\n" in request
    assert "Accept-Encoding: identity\r\n" in request


def test_client_sends_headers_with_every_request(server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = page({"relation": "next", "url": "B"})
    server.answers["/fhir/B"] = page()
    client(headers={"X-Request-ID": "r-1", "accept-encoding": "gzip"}).read("A")
    assert len(server.requests) == 2
    for request in server.requests:
        assert "X-Request-ID: r-1\r\n" in request
        assert request.lower().count("accept-encoding: identity\r\n") == request.lower().count("accept-encoding:") == 1


@pytest.mark.parametrize("header", [("X-Request-ID", "a\r\nX: 1"), ("X\n", "a"), ("traceparent", "a\x00"), ("X", "ä")])
def test_client_refuses_a_header_that_is_more_than_one(header: tuple[str, str], client: Make) -> None:
    with pytest.raises(ValueError, match="header: expected printable ascii, got another"):
        client(headers=dict([header]))


@pytest.mark.parametrize("token", ["a\r\nX: 1", "a\nb", "ä€"])
def test_client_sends_no_token_that_is_no_header(token: str, server: Server) -> None:
    server.answers["/A"] = body(PATIENT)
    base = server.origin
    with (
        FhirClient(base, token, allowed_servers=[base], timeout_s=1, deadline=time.monotonic() + 2) as client,
        pytest.raises(FhirUpstreamError) as caught,
    ):
        client.read("A")
    assert token not in str(caught.value)
    assert server.requests == []


def test_client_follows_next_links_of_the_same_origin(server: Server, client: Make) -> None:
    server.answers["/fhir/Observation?patient=1"] = page(
        {"relation": "self", "url": "x"}, {"relation": "next", "url": "/p?2"}
    )
    server.answers["/p?2"] = page({"relation": "next", "url": f"{server.origin}/fhir?page=3"})
    server.answers["/fhir?page=3"] = page()
    assert len(client().read("Observation?patient=1")) == 3
    assert all(f"Authorization: Bearer {TOKEN}\r\n" in request for request in server.requests)


@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:1/fhir?2", "https://evil.example/x", "//evil.example/x", "http:\\\\evil", "ftp://x/"]
)
def test_client_refuses_a_next_link_elsewhere(link: str, server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = page({"relation": "next", "url": link})
    with pytest.raises(OriginNotAllowedError):
        client().read("A")


def test_client_stops_at_the_page_limit_with_the_pages_read(server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = page({"relation": "next", "url": "A"})
    with pytest.raises(UpstreamTooLargeError) as caught:
        client(max_pages=3).read("A")
    assert len(caught.value.documents) == 3
    assert len(server.requests) == 3


def test_client_stops_at_the_byte_limit(server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = body(b'{"a":"' + b"x" * 200_000 + b'"}')
    with pytest.raises(UpstreamTooLargeError):
        client(max_bytes=100_000).read("A")
    assert client(max_bytes=300_000).read("A")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
def test_client_refuses_redirects(status: str, server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = body(b"", status, "Location: /fhir/B\r\n")
    server.answers["/fhir/B"] = body(PATIENT)
    with pytest.raises(UpstreamStatusError) as caught:
        client().read("A")
    assert caught.value.status == int(status[:3])
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 503])
def test_client_reports_the_status(status: int, server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = body(b'{"resourceType":"OperationOutcome"}', f"{status} No")
    with pytest.raises(UpstreamStatusError) as caught:
        client().read("A")
    assert caught.value.status == status


@pytest.mark.parametrize("content", [b"<html>", b"", b"[]", b'{"a":', b'"text"'])
def test_client_refuses_what_is_no_json_object(content: bytes, server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = body(content)
    with pytest.raises(UpstreamNotJsonError):
        client().read("A")


def test_client_refuses_a_compressed_answer(server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = body(b"\x1f\x8b", headers="Content-Encoding: gzip\r\n")
    with pytest.raises(UpstreamNotJsonError):
        client().read("A")


def silent(server: Server) -> Answer:
    def answer(_connection: socket.socket, _path: str) -> None:
        server.over.wait(5)

    return answer


def drip(server: Server, start: bytes) -> Answer:
    def answer(connection: socket.socket, _: str) -> None:
        connection.sendall(start)
        while not server.over.wait(0.05):
            connection.sendall(b" ")

    return answer


SLOW_BODY = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
SLOW_CHUNKS = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
SLOW_HEADERS = b"HTTP/1.1 200 OK\r\nX-Slow: "


@pytest.mark.parametrize("start", [SLOW_BODY, SLOW_CHUNKS, SLOW_HEADERS])
def test_client_deadline_holds_against_a_dripping_server(start: bytes, server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = drip(server, start)
    begin = time.monotonic()
    with pytest.raises(UpstreamTimeoutError):
        client(0.4).read("A")
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("start", [SLOW_BODY, SLOW_HEADERS])
def test_client_deadline_holds_over_tls(start: bytes, server: Server, client: Make, tmp_path: Path) -> None:
    server.tls = certificate(tmp_path)
    server.origin = server.origin.replace("http:", "https:")
    server.answers["/fhir/A"] = drip(server, start)
    server.answers["/fhir/B"] = body(PATIENT)
    assert client(ca_file=str(tmp_path / "ca.pem")).read("B") == [PATIENT]
    begin = time.monotonic()
    with pytest.raises(UpstreamTimeoutError):
        client(0.5, ca_file=str(tmp_path / "ca.pem")).read("A")
    assert time.monotonic() - begin < 5


def test_client_refuses_a_server_it_cannot_authenticate(server: Server, client: Make, tmp_path: Path) -> None:
    server.tls = certificate(tmp_path)
    server.origin = server.origin.replace("http:", "https:")
    server.answers["/fhir/B"] = body(PATIENT)
    with pytest.raises(UpstreamConnectionError):
        client().read("B")
    assert server.requests == []


def test_client_authenticates_the_name_and_not_the_address(server: Server, tmp_path: Path) -> None:
    """The certificate is 127.0.0.1's, which is also where localhost leads."""
    server.tls = certificate(tmp_path)
    server.answers["/B"] = body(PATIENT)
    base = server.origin.replace("http://127.0.0.1", "https://localhost")
    deadline = time.monotonic() + 5
    with (
        FhirClient(
            base, None, allowed_servers=[base], timeout_s=2, deadline=deadline, ca_file=str(tmp_path / "ca.pem")
        ) as client,
        pytest.raises(UpstreamConnectionError),
    ):
        client.read("B")
    assert server.requests == []


def test_client_read_timeout(server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = silent(server)
    begin = time.monotonic()
    with pytest.raises(UpstreamTimeoutError):
        client(timeout_s=0.2).read("A")
    assert time.monotonic() - begin < 5


def test_client_passed_deadline_sends_nothing(server: Server, client: Make) -> None:
    with pytest.raises(UpstreamTimeoutError):
        client(-1.0).read("A")
    assert server.requests == []


def test_client_broken_answer(server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = lambda connection, _: connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"
    )
    with pytest.raises(UpstreamConnectionError):
        client().read("A")


def test_client_unreachable_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with (
        FhirClient(base, None, allowed_servers=[base], timeout_s=1, deadline=time.monotonic() + 2) as client,
        pytest.raises(UpstreamConnectionError),
    ):
        client.read("A")


@pytest.mark.parametrize(
    ("base", "allowed"),
    [
        ("https://ehr.example/fhir", ["https://other.example/fhir"]),
        ("https://ehr.example:8443/fhir", ["https://ehr.example/fhir"]),
        ("http://ehr.example/fhir", ["http://ehr.example/fhir"]),
        ("https://user@ehr.example/fhir", ["https://ehr.example/fhir"]),
        ("https://ehr.example/fhir", []),
        ("ftp://127.0.0.1/fhir", ["ftp://127.0.0.1/fhir"]),
        ("https://ehr.example:port/fhir", ["https://ehr.example/fhir"]),
        ("", ["https://ehr.example/fhir"]),
    ],
)
def test_client_refuses_a_base_that_is_not_allowed(base: str, allowed: list[str]) -> None:
    with pytest.raises(OriginNotAllowedError):
        FhirClient(base, TOKEN, allowed_servers=allowed, timeout_s=1, deadline=time.monotonic() + 1)


ALLOWED = ["https://ehr.example/fhir"]


@pytest.mark.parametrize(
    "base",
    [
        "https://ehr.example",
        "https://ehr.example/fhir/other",
        "https://ehr.example/fhirx",
        "https://ehr.example/FHIR",
        "https://ehr.example/x/../fhir",
        "https://ehr.example/%66hir",
        "https://ehr.example:8443/fhir",
        "http://ehr.example/fhir",
        "https://ehr.example/fhir?",
        "https://ehr.example/fhir#@evil.example",
        "https://ehr.example@evil.example/fhir",
        "https://ehr.example.evil.example/fhir",
        "",
    ],
)
def test_client_refuses_a_base_that_is_no_allowed_server(base: str) -> None:
    with pytest.raises(OriginNotAllowedError):
        FhirClient(base, TOKEN, allowed_servers=ALLOWED, timeout_s=1, deadline=time.monotonic() + 1)


@pytest.mark.parametrize(
    "base",
    [
        "https://ehr.example/fhir",
        "https://ehr.example/fhir/",
        "https://EHR.example:443/fhir",
        "https://ehr.example./fhir",
    ],
)
def test_client_takes_spellings_of_an_allowed_server(base: str) -> None:
    FhirClient(base, None, allowed_servers=ALLOWED, timeout_s=1, deadline=time.monotonic() + 1).close()


def test_client_refuses_a_host_that_only_looks_allowed() -> None:
    """The Kelvin sign in lower case is a k."""
    base, allowed = "https://\u212ais.example/fhir", ["https://kis.example/fhir"]
    with pytest.raises(OriginNotAllowedError):
        FhirClient(base, TOKEN, allowed_servers=allowed, timeout_s=1, deadline=time.monotonic() + 1)


@pytest.mark.parametrize("base", ["https://ehr.example/fhir?a=", "https://ehr.example/fhir#a", "https://ehr.example?"])
def test_client_refuses_a_base_with_more_than_a_path(base: str) -> None:
    with pytest.raises(OriginNotAllowedError):
        FhirClient(base, TOKEN, allowed_servers=ALLOWED, timeout_s=1, deadline=time.monotonic() + 1)


@pytest.mark.parametrize(
    "url",
    [
        "../secret",
        "/etc",
        "https://evil.example/Patient/1",
        "//evil.example",
        "Patient/1 2",
        "A\r\nB: c",
        "%2e%2e/secret",
        "Patient/.%2E/..%2f..%5csecret",
        "..;/secret",
    ],
)
def test_client_reads_under_its_base_only(url: str, server: Server, client: Make) -> None:
    with pytest.raises(OriginNotAllowedError):
        client().read(url)
    assert server.requests == []


def test_client_ignores_proxies_of_the_environment(
    server: Server, client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    server.answers["/fhir/A"] = body(PATIENT)
    assert client().read("A") == [PATIENT]


def test_client_keeps_no_cookies(server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = body(PATIENT, headers="Set-Cookie: a=b\r\n")
    one = client()
    one.read("A")
    one.read("A")
    assert "Cookie" not in server.requests[1]


def test_client_errors_name_no_token_address_or_body(server: Server, client: Make) -> None:
    server.answers["/fhir/Patient/jane"] = body(b'{"name":"Doe"', "500 Doe")
    server.answers["/fhir/Patient/jim"] = lambda connection, _: connection.sendall(b"nonsense Doe\r\n\r\n")
    server.answers["/fhir/Patient/jon"] = silent(server)
    one = client(0.3)
    for name in ("jane", "jim", "jon"):
        with pytest.raises(FhirUpstreamError) as caught:
            one.read(f"Patient/{name}")
        error = caught.value
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
        for secret in (TOKEN, name, "127.0.0.1", "Doe"):
            assert secret not in str(error)


def test_client_fetch_all_gives_answers_and_errors_side_by_side(server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = body(PATIENT)
    server.answers["/fhir/B"] = body(b"", "404 No")
    results = fetch_all(client(), ["A", "B", "A"])
    assert results["A"] == [PATIENT]
    assert isinstance(results["B"], UpstreamStatusError)
    assert list(results) == ["A", "B"]


def test_client_fetch_all_reads_in_parallel(server: Server, client: Make) -> None:
    together = threading.Barrier(4, timeout=3)

    def answer(connection: socket.socket, path: str) -> None:
        together.wait()
        body(PATIENT)(connection, path)

    urls = ["A", "B", "C", "D"]
    server.answers = {f"/fhir/{url}": answer for url in urls}
    assert all(result == [PATIENT] for result in fetch_all(client(), urls).values())


def test_client_fetch_all_returns_at_the_deadline(server: Server, client: Make) -> None:
    server.answers["/fhir/A"] = drip(server, SLOW_HEADERS)
    server.answers["/fhir/B"] = body(PATIENT)
    one = client(5.0)
    begin = time.monotonic()
    results = fetch_all(one, ["A", "B"], deadline=begin + 0.3)
    assert time.monotonic() - begin < 5
    assert isinstance(results["A"], UpstreamTimeoutError)
    assert results["B"] == [PATIENT]


FAILURES: list[tuple[str, type[FhirUpstreamError]]] = [
    ("hang", UpstreamTimeoutError),
    ("drip", UpstreamTimeoutError),
    ("redirect", UpstreamStatusError),
    ("401", UpstreamStatusError),
    ("403", UpstreamStatusError),
    ("404", UpstreamStatusError),
    ("next-elsewhere", OriginNotAllowedError),
    ("hundred-pages", UpstreamTooLargeError),
    ("many-pages", UpstreamTooLargeError),
]


@pytest.mark.parametrize(("behaviour", "error"), FAILURES)
def test_client_of_a_misbehaving_server_ends_in_time(behaviour: str, error: type[FhirUpstreamError]) -> None:
    with running_fhir() as fhir:
        base = fhir.base(behaviour)
        begin = time.monotonic()
        with (
            FhirClient(base, TOKEN, allowed_servers=[base], timeout_s=1.5, deadline=begin + 2.2) as client,
            pytest.raises(error) as caught,
        ):
            client.read("Observation?patient=1&code=8480-6")
        assert time.monotonic() - begin < 6
        assert not fhir.stranger_was_called()
        assert len(fhir.requests) == (10 if error is UpstreamTooLargeError else 1)
        if isinstance(caught.value, UpstreamTooLargeError):
            assert len(caught.value.documents) == 10


def test_client_reads_a_hundred_pages_where_it_may() -> None:
    with running_fhir() as fhir:
        base = fhir.base("hundred-pages")
        deadline = time.monotonic() + 20
        with FhirClient(base, TOKEN, allowed_servers=[base], timeout_s=2, deadline=deadline, max_pages=100) as client:
            assert len(client.read("Condition?patient=1")) == 100


def test_client_fetch_all_of_nothing(client: Make) -> None:
    assert fetch_all(client(), []) == {}
