"""Real servers on loopback: a syslog collector over TLS, an HTTP server that answers as it is told, and the way to ask it."""

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from audit.export.retrying import Patience
from audit.outside import HttpAnswer, OutsideError

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Certificate:
    """A certificate in a file, its key in another."""

    certificate: Path
    key: Path


def make_certificate(folder: Path, name: str, *, host: str = "localhost", days: int = 1) -> Certificate:
    """A certificate that signs itself, for `host` and 127.0.0.1; valid now, or past where `days` is negative."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = [x509.DNSName(host)] + ([x509.IPAddress(ip_address("127.0.0.1"))] if host == "localhost" else [])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=min(days, 0) - 1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@dataclass
class TlsCollector:
    """What a syslog collector received: one byte string for each connection that ended in good order.

    `faults` says what to do to the next connections in turn: "drop" (end the TCP connection after reading, without TLS's end),
    "reset" (after the first bytes), "end first" (say the end before reading), "speak" (answer where nothing is to be said),
    "slow" (wait before reading on) or "serve".
    """

    port: int = 0
    received: list[bytes] = field(default_factory=list)
    versions: list[str | None] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    connections: int = 0
    acknowledged: int = 0
    ended_first: threading.Event = field(default_factory=threading.Event)

    def serve(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        """One connection, from handshake to end."""
        self.connections += 1
        fault = self.faults.pop(0) if self.faults else "serve"
        plain.settimeout(5)
        with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as tls:
            if fault == "end first":
                tls.settimeout(0)
                with suppress(ssl.SSLWantReadError):
                    tls.unwrap()
                self.ended_first.set()
                time.sleep(0.1)
                return
            data = tls.recv(1 << 16)
            if fault == "reset":
                tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return
            if fault == "slow":
                time.sleep(0.2)
            if fault == "speak":
                tls.sendall(b"thank you")
            while more := tls.recv(1 << 16):
                data += more
            if fault == "drop":
                return
            self.versions.append(tls.version())
            self.received.append(data)
            tls.unwrap()
            self.acknowledged += fault in ("serve", "slow")


@contextmanager
def tls_collector(
    certificate: Certificate, *, newest: ssl.TLSVersion | None = None, client_ca: Path | None = None
) -> Iterator[TlsCollector]:
    """A collector that runs for the length of a block."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    if newest is not None:
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = newest
        context.set_ciphers("ALL:@SECLEVEL=0")
    collector = TlsCollector()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        collector.port = listener.getsockname()[1]
        thread = threading.Thread(target=_accept, args=(listener, context, collector), daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _accept(listener: socket.socket, context: ssl.SSLContext, collector: TlsCollector) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        collector.serve(plain, context)


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


Respond = Callable[[Request], tuple[int, Mapping[str, str], bytes]]


@contextmanager
def http_server(respond: Respond) -> Iterator[str]:
    """The address of an HTTP server that answers by `respond`, for the length of a block."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answered, content = respond(Request(self.command, self.path, headers, body))
            self.send_response(status)
            for name, value in answered.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def ask(
    method: str, url: str, *, body: bytes = b"", headers: Mapping[str, str] = {}, timeout_s: float = 5.0
) -> HttpAnswer:
    """One real request, as `audit.outside.Ask` has it."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, dict(headers))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return HttpAnswer(response.status, names, response.read(1 << 20))
    except OSError as exc:
        message = f"{parts.hostname}: can't be reached"
        raise OutsideError(message) from exc
    finally:
        connection.close()


@dataclass
class Waits:
    """The pauses that were made, without making them."""

    pauses_s: list[float] = field(default_factory=list)

    def patience(self, attempts: int = 4) -> Patience:
        return Patience(self.pauses_s.append, lambda: NOW, attempts=attempts)
