"""The way out, against real servers on loopback that behave and misbehave."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from audit.outside import OutsideError
from bedside.outside import MAX_ANSWER_BYTES, Outside, Place
from fhir_adapters.outbound import AddressPolicy
from tests.conftest import free_port
from tests.programs import need


class _Handler(BaseHTTPRequestHandler):
    """Each path is a way of answering; what was asked is kept in the server's `asked`."""

    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        behaviour = self.path.partition("?")[0].rsplit("/", 1)[-1]
        match behaviour:
            case "redirect":
                self.send_response(307)
                self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/base/echo")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "conflict":
                self._send(409, b"42\n", {"Content-Type": "text/x.tlog.size"})
            case "endless" | "drip":
                self.send_response(200)
                self.end_headers()
                piece, pause_s = (bytes(65_536), 0.0) if behaviour == "endless" else (b"x", 0.05)
                with contextlib.suppress(OSError):
                    while not self.server.released.wait(pause_s):
                        self.wfile.write(piece)
                        self.wfile.flush()
                        self.server.sent += len(piece)
                self.close_connection = True
            case "silent":
                self.server.released.wait(30)
                self.close_connection = True
            case "full":
                self._send(200, bytes(MAX_ANSWER_BYTES))
            case "over":
                self._send(200, bytes(MAX_ANSWER_BYTES + 1))
            case "packed":
                self._send(200, b"x", {"Content-Encoding": "gzip"})
            case _:
                self._send(200, body, {"X-Answer": "yes"})

    def do_GET(self) -> None:
        self.do_POST()

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        self.sent = 0
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that broke off is no error here."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/base"


@contextlib.contextmanager
def _running(context: ssl.SSLContext | None = None) -> Iterator[_Server]:
    server = _Server(context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[_Server]:
    with _running() as one:
        yield one


@pytest.fixture
def ask(server: _Server) -> Outside:
    return Outside([Place(server.base)])


def test_outside_sends_what_it_is_given_and_gives_back_what_came(server: _Server, ask: Outside) -> None:
    headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
    answer = ask("POST", f"{server.base}/echo", body=b"\x00query", headers=headers)
    assert (answer.status, answer.body, answer.headers["x-answer"]) == (200, b"\x00query", "yes")
    ((method, path, sent, body),) = server.asked
    assert (method, path, body) == ("POST", "/base/echo", b"\x00query")
    assert sent["Content-Type"] == "application/timestamp-query"
    assert sent["Accept"] == "application/timestamp-reply"
    assert "Authorization" not in sent
    assert "Cookie" not in sent


def test_outside_gives_every_status(server: _Server, ask: Outside) -> None:
    answer = ask("POST", f"{server.base}/conflict", body=b"x")
    assert (answer.status, answer.headers["content-type"], answer.body) == (409, "text/x.tlog.size", b"42\n")


def test_outside_follows_no_redirect(server: _Server, ask: Outside) -> None:
    answer = ask("POST", f"{server.base}/redirect", body=b"x")
    assert answer.status == 307
    assert [path for _, path, _, _ in server.asked] == ["/base/redirect"]


def test_outside_reads_a_mebibyte_and_no_byte_more(server: _Server, ask: Outside) -> None:
    assert len(ask("GET", f"{server.base}/full").body) == MAX_ANSWER_BYTES
    with pytest.raises(OutsideError, match="at most 1048576 bytes, got more"):
        ask("GET", f"{server.base}/over")


def test_outside_leaves_an_endless_answer(server: _Server, ask: Outside) -> None:
    with pytest.raises(OutsideError, match="at most 1048576 bytes"):
        ask("GET", f"{server.base}/endless", timeout_s=20.0)
    assert server.sent < 64 * MAX_ANSWER_BYTES


@pytest.mark.parametrize("behaviour", ["drip", "silent"])
def test_outside_waits_no_longer_than_it_was_told(server: _Server, ask: Outside, behaviour: str) -> None:
    started = time.monotonic()
    with pytest.raises(OutsideError, match=r"127\.0\.0\.1: expected a whole answer within 0\.3 s"):
        ask("GET", f"{server.base}/{behaviour}", timeout_s=0.3)
    assert time.monotonic() - started < 5


def test_outside_takes_no_packed_answer(server: _Server, ask: Outside) -> None:
    with pytest.raises(OutsideError, match="none that can be read"):
        ask("GET", f"{server.base}/packed")


def test_outside_says_that_nobody_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(OutsideError, match=r"127\.0\.0\.1: expected an answer"):
        Outside([Place(url)])("GET", f"{url}/x")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/other",
        "http://127.0.0.1:{port}/base/../other",
        "http://127.0.0.1:{port}/base/%2e%2e/other",
        "http://127.0.0.1:{port}/base/..%5cother",
        "http://127.0.0.1:{port}/basement",
        "http://127.0.0.1:{port}",
        "http://localhost:{port}/base/echo",
        "http://127.0.0.1:{port}@elsewhere.example/base/echo",
        "https://127.0.0.1:{port}/base/echo",
        "file:///etc/passwd",
        "",
    ],
)
def test_outside_asks_only_at_configured_addresses(server: _Server, ask: Outside, url: str) -> None:
    with pytest.raises(OutsideError, match="expected a configured address"):
        ask("GET", url.format(port=server.server_port))
    assert server.asked == []


@pytest.mark.parametrize("host", ["10.1.2.3", "witness.internal"])
def test_outside_contacts_a_private_address_only_where_it_is_listed(host: str) -> None:
    def resolve(name: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", port))]

    url = f"https://{host}/witness"
    closed = Outside([Place(""), Place(url, AddressPolicy(resolve=resolve))])
    with pytest.raises(OutsideError, match=f"{host}: expected an address that may be contacted"):
        closed("GET", url)
    listed = AddressPolicy((ipaddress.IPv4Network("10.1.0.0/16"),), resolve)
    assert listed.permits(ipaddress.ip_address("10.1.2.3"), host)


def test_outside_follows_no_name_to_this_machine(server: _Server) -> None:
    def resolve(name: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    url = f"https://witness.example:{server.server_port}/base"
    everywhere = AddressPolicy((ipaddress.IPv4Network("0.0.0.0/0"),), resolve)
    with pytest.raises(OutsideError, match="may be contacted"):
        Outside([Place(url, everywhere)])("GET", url)
    assert server.asked == []


def test_outside_lets_each_place_into_its_own_networks_alone() -> None:
    def resolve(name: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", port))]

    listed = AddressPolicy((ipaddress.IPv4Network("10.1.0.0/16"),), resolve)
    ask = Outside(
        [Place("https://one.internal", listed), Place("https://two.internal", AddressPolicy(resolve=resolve))]
    )
    with pytest.raises(OutsideError, match=r"two\.internal: expected an address that may be contacted"):
        ask("GET", "https://two.internal/x")


def test_outside_asks_for_https_beyond_loopback() -> None:
    with pytest.raises(OutsideError, match="expected a plain https url, or http on loopback"):
        Outside([Place("http://witness.example/w")])("GET", "http://witness.example/w")


def test_outside_sends_no_header_that_could_hide_another(server: _Server, ask: Outside) -> None:
    with pytest.raises(OutsideError, match="printable ascii"):
        ask("GET", f"{server.base}/echo", headers={"X": "a\r\nHost: b"})
    assert server.asked == []


def test_outside_errors_tell_nothing_of_what_was_sent(server: _Server, ask: Outside) -> None:
    with pytest.raises(OutsideError) as failed:
        ask("POST", f"{server.base}/silent?secret", body=b"secret", headers={"X": "secret"}, timeout_s=0.1)
    assert "secret" not in str(failed.value)


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = [need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=test", "-days", "2"]
    subprocess.run([*command, "-addext", f"subjectAltName={name}"], check=True, capture_output=True, timeout=60)
    return key, certificate


@pytest.mark.parametrize(
    ("name", "trusted", "answers"),
    [("IP:127.0.0.1", True, True), ("IP:127.0.0.1", False, False), ("DNS:elsewhere.example", True, False)],
    ids=["its own", "of nobody we trust", "another's"],
)
def test_outside_believes_a_certificate_of_its_authority_in_the_hosts_name(
    tmp_path: Path, name: str, *, trusted: bool, answers: bool
) -> None:
    key, certificate = _certificate(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with _running(context) as server:
        url = server.base.replace("http:", "https:")
        ask = Outside([Place(url, ca_file=str(certificate) if trusted else None)])
        if answers:
            assert ask("POST", f"{url}/echo", body=b"x").body == b"x"
        else:
            with pytest.raises(OutsideError):
                ask("POST", f"{url}/echo", body=b"x")
            assert server.asked == []
