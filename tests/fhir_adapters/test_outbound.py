from __future__ import annotations

import ipaddress
import json
import math
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from fhir_adapters.client import FhirClient, fetch_document
from fhir_adapters.errors import (
    AddressNotAllowedError,
    FhirUpstreamError,
    OriginNotAllowedError,
    UpstreamConnectionError,
    UpstreamStatusError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
)
from fhir_adapters.outbound import AddressPolicy, AddressRefusedError
from tests.fhir_adapters.crafted_urls import FORBIDDEN_ADDRESSES, crafted

PUBLIC = ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2001:4860:4860::8888")
NAMED = AddressPolicy()


class Canary:
    """A listener on 127.0.0.1 that nobody is to connect to."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def was_called(self) -> bool:
        with suppress(BlockingIOError):
            self._socket.accept()[0].close()
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    listening = Canary()
    yield listening
    listening.close()


class Resolver:
    """Answers for every name with the next of its lists of addresses, the last again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port))
            for one in addresses
        ]


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
def test_outbound_forbids_what_is_not_public(address: str) -> None:
    assert not NAMED.permits(ipaddress.ip_address(address), "fhir.example.org")


@pytest.mark.parametrize("address", PUBLIC)
def test_outbound_permits_public_addresses(address: str) -> None:
    assert NAMED.permits(ipaddress.ip_address(address), "fhir.example.org")


@pytest.mark.parametrize(
    ("address", "permitted"),
    [("10.20.1.1", True), ("::ffff:10.20.1.1", True), ("10.21.0.1", False), ("fd00:1::5", True), ("127.0.0.1", False)],
)
def test_outbound_networks_open_what_they_name(address: str, permitted: bool) -> None:
    networks = (ipaddress.ip_network("10.20.0.0/16"), ipaddress.ip_network("fd00:1::/32"))
    policy = AddressPolicy((*networks, ipaddress.ip_network("127.0.0.0/8")))
    assert policy.permits(ipaddress.ip_address(address), "fhir.example.org") is permitted


@pytest.mark.parametrize("address", ["8.8.8.8", "10.20.1.1"])
def test_outbound_a_loopback_host_leads_nowhere_else(address: str) -> None:
    policy = AddressPolicy((ipaddress.ip_network("10.0.0.0/8"),))
    assert not policy.permits(ipaddress.ip_address(address), "localhost")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_outbound_loopback_only_where_the_url_says_so(host: str, canary: Canary) -> None:
    NAMED.connect(host, canary.port, 2.0).close()
    assert canary.was_called()


def test_outbound_a_name_that_leads_to_this_machine_is_not_followed(canary: Canary) -> None:
    policy = AddressPolicy(resolve=Resolver(["127.0.0.1"]))
    with pytest.raises(AddressRefusedError):
        policy.connect("fhir.example.org", canary.port, 2.0)
    assert not canary.was_called()


@pytest.mark.filterwarnings("ignore:A test tried to use socket.socket.connect")
def test_outbound_rebinding_finds_no_second_resolution(canary: Canary) -> None:
    """The first answer is public (and here unreachable), any later one is this machine."""
    resolver = Resolver(["203.0.113.1"], ["127.0.0.1"])
    policy = AddressPolicy((ipaddress.ip_network("203.0.113.0/24"),), resolver)
    client = FhirClient(
        f"https://fhir.example.org:{canary.port}/r4",
        "token",
        allowed_servers=[f"https://fhir.example.org:{canary.port}/r4"],
        policy=policy,
        timeout_s=0.3,
        deadline=time.monotonic() + 1.0,
    )
    # pytest-socket lets nothing but loopback be connected to, as the real network would not answer
    with pytest.raises((FhirUpstreamError, RuntimeError)):
        client.read("Patient/1")
    assert resolver.asked == 1
    assert not canary.was_called()


def test_outbound_only_the_permitted_ones_of_several_addresses_are_tried(canary: Canary) -> None:
    resolver = Resolver(["10.0.0.1", "127.0.0.1", "169.254.169.254"])
    with pytest.raises(AddressRefusedError):
        AddressPolicy(resolve=resolver).connect("fhir.example.org", canary.port, 2.0)
    assert not canary.was_called()


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "fe80::1%1", "１２７.0.0.1"]
)
def test_outbound_odd_spellings_of_addresses_are_refused(host: str, canary: Canary) -> None:
    resolver = Resolver(["127.0.0.1"])
    with pytest.raises(AddressRefusedError):
        AddressPolicy(resolve=resolver).connect(host, canary.port, 2.0)
    assert not canary.was_called()
    assert resolver.asked == 0  # no matter what a C library would make of it


@pytest.fixture
def hanging() -> Iterator[AddressPolicy]:
    """Its resolver says nothing as long as the test runs."""
    released = threading.Event()

    def resolve(*_: object, **__: object) -> list[tuple[Any, ...]]:
        released.wait(20)
        return []

    yield AddressPolicy(resolve=resolve)
    released.set()


@pytest.mark.parametrize("host", ["fhir.example.org", "localhost"])
def test_outbound_a_resolver_that_hangs_is_left_behind(host: str, hanging: AddressPolicy) -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        hanging.connect(host, 443, 0.2)
    assert time.monotonic() - begin < 5


@contextmanager
def _dead_address() -> Iterator[int]:
    """The port of a listener on 127.0.0.1 whose queue is full: who connects gets no answer."""
    with ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def _loopback(*ports: int) -> AddressPolicy:
    """Resolves every name to 127.0.0.1 at these ports, one after the other."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    return AddressPolicy(resolve=lambda *_, **__: found)


def test_outbound_a_dead_address_leaves_time_for_the_next(canary: Canary) -> None:
    with _dead_address() as dead:
        _loopback(dead, canary.port).connect("localhost", 443, 2.0).close()
    assert canary.was_called()


def test_outbound_many_dead_addresses_take_no_longer_than_one() -> None:
    with _dead_address() as dead:
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            _loopback(*[dead] * 8).connect("localhost", 443, 0.4)
        assert time.monotonic() - begin < 3.0


def _read_at_localhost(policy: AddressPolicy, timeout_s: float) -> float:
    """Seconds until reading from https://localhost has failed for want of time, long before the deadline."""
    base = "https://localhost/r4"
    begin = time.monotonic()
    with (
        FhirClient(
            base, None, allowed_servers=[base], policy=policy, timeout_s=timeout_s, deadline=begin + 20
        ) as client,
        pytest.raises(UpstreamTimeoutError),
    ):
        client.read("Patient/1")
    return time.monotonic() - begin


def test_outbound_client_says_that_connecting_took_too_long() -> None:
    with _dead_address() as dead:
        assert _read_at_localhost(_loopback(dead), 0.3) < 3


def test_outbound_client_leaves_a_resolver_that_hangs_behind(hanging: AddressPolicy) -> None:
    assert _read_at_localhost(hanging, 0.3) < 5


def test_outbound_the_handshake_has_only_what_connecting_left(canary: Canary) -> None:
    """The canary takes the connection and never says a word of TLS."""

    def slow(*_: object, **__: object) -> list[tuple[Any, ...]]:
        time.sleep(1.5)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", canary.port))]

    assert _read_at_localhost(AddressPolicy(resolve=slow), 2.0) < 3
    assert canary.was_called()


def test_outbound_client_says_that_an_address_is_not_allowed() -> None:
    client = FhirClient(
        "https://fhir.example.org/r4",
        None,
        allowed_servers=["https://fhir.example.org/r4"],
        policy=AddressPolicy(resolve=Resolver(["10.0.0.1"])),
        timeout_s=1.0,
        deadline=time.monotonic() + 2.0,
    )
    with pytest.raises(AddressNotAllowedError) as caught:
        client.read("Patient/1")
    assert "10.0.0.1" not in str(caught.value)
    assert "example" not in str(caught.value)


def test_outbound_crafted_servers_reach_nobody(canary: Canary) -> None:
    allowed = "https://fhir.example.org/r4"
    servers = crafted(canary.port, allowed)
    assert len(servers) >= 20
    for server in servers:
        with pytest.raises(FhirUpstreamError):
            FhirClient(server, "token", allowed_servers=[allowed], timeout_s=0.5, deadline=time.monotonic() + 1.0)
    assert not canary.was_called()


def test_outbound_crafted_documents_reach_nobody(canary: Canary) -> None:
    """What the addresses alone hold off, where a key server's URL was put on a list unread."""
    policy = AddressPolicy(resolve=Resolver(["127.0.0.1"]))
    literal = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\]):\d", re.IGNORECASE)
    urls = [url for url in crafted(canary.port) if not literal.match(url)]
    assert len(urls) >= 20
    for url in urls:
        with pytest.raises(FhirUpstreamError):
            fetch_document(url, policy=policy, timeout_s=0.5, max_bytes=1_000)
        assert not canary.was_called(), url


@contextmanager
def _answering(*chunks: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """A server that answers each connection with these bytes, one after the other, and its base URL."""
    server = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65_536)
            for chunk in chunks:
                connection.sendall(chunk)
                if pause_s and stopped.wait(pause_s):
                    return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        stopped.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def _response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _fetch(url: str, timeout_s: float = 2.0, max_bytes: int = 1_000, deadline: float = math.inf) -> bytes:
    return fetch_document(url, policy=NAMED, timeout_s=timeout_s, max_bytes=max_bytes, deadline=deadline)


def test_outbound_document_is_read_whole() -> None:
    with _answering(_response(b'{"keys": []}')) as url:
        assert _fetch(f"{url}/jwks") == b'{"keys": []}'


def test_outbound_document_redirects_are_not_followed(canary: Canary) -> None:
    moved = _response(b"", f"Location: http://127.0.0.1:{canary.port}/", status="302 Found")
    with _answering(moved) as url, pytest.raises(UpstreamStatusError):
        _fetch(f"{url}/jwks")
    assert not canary.was_called()


def test_outbound_document_is_bounded_in_bytes() -> None:
    with _answering(_response(b"x" * 1_001)) as url, pytest.raises(UpstreamTooLargeError):
        _fetch(f"{url}/jwks")


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"], ids=["headers", "body"])
def test_outbound_document_that_drips_ends_in_time(start: bytes) -> None:
    """Each byte renews a socket's own time limit; the whole has one too."""
    dripping = start + (b"x" * 100 if start else b"HTTP/1.1 200 OK\r\n" * 10)
    with _answering(*(bytes([byte]) for byte in dripping), pause_s=0.1) as url:
        begin = time.monotonic()
        with pytest.raises((UpstreamTimeoutError, UpstreamConnectionError)):
            _fetch(f"{url}/jwks", timeout_s=0.6)
        assert time.monotonic() - begin < 6


def test_outbound_document_is_not_awaited_beyond_the_deadline(canary: Canary) -> None:
    begin = time.monotonic()
    with pytest.raises(UpstreamTimeoutError):
        _fetch(f"http://127.0.0.1:{canary.port}/jwks", timeout_s=20.0, deadline=begin + 0.3)
    assert time.monotonic() - begin < 5


def test_outbound_document_of_nobody_is_a_broken_connection() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(UpstreamConnectionError):
            _fetch(f"http://127.0.0.1:{reserved.getsockname()[1]}/jwks")


def test_outbound_document_needs_https_beyond_loopback() -> None:
    with pytest.raises(OriginNotAllowedError, match="expected https beyond loopback"):
        _fetch("http://ehr.example.org/jwks")


@pytest.mark.parametrize("host", ["127%2e0%2e0%2e1", "ehr%2eexample.org", "[fe80::1%25lo]", "\u212ais.example.org"])
def test_outbound_document_of_an_encoded_host_is_not_looked_up(host: str) -> None:
    resolver = Resolver(["127.0.0.1"])
    with pytest.raises(OriginNotAllowedError):
        fetch_document(f"https://{host}/jwks", policy=AddressPolicy(resolve=resolver), timeout_s=1.0, max_bytes=1_000)
    assert resolver.asked == 0


def test_outbound_document_follows_no_name_to_this_machine(canary: Canary) -> None:
    policy = AddressPolicy(resolve=Resolver(["127.0.0.1"]))
    with pytest.raises(AddressNotAllowedError):
        fetch_document(f"https://ehr.example.org:{canary.port}/jwks", policy=policy, timeout_s=1.0, max_bytes=1_000)
    assert not canary.was_called()


def test_outbound_crafted_next_links_reach_nobody(canary: Canary) -> None:
    """A server that is allowed, and whose next page lies elsewhere."""
    for value in crafted(canary.port):
        page = json.dumps({"resourceType": "Bundle", "link": [{"relation": "next", "url": value}]}).encode()
        with _answering(_response(page)) as base:
            client = FhirClient(base, "token", allowed_servers=[base], timeout_s=1.0, deadline=time.monotonic() + 2.0)
            if value:
                with pytest.raises(FhirUpstreamError):
                    client.read("Observation?patient=1")
            else:
                assert client.read("Observation?patient=1") == [page]
        assert not canary.was_called(), value
