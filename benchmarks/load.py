"""A load of bounded size: so many calls, over so many kept-alive connections, or until the time is up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


class UnexpectedAnswerError(Exception):
    """A server answered something else than 200, so there is no figure."""


@dataclass(slots=True)
class Load:
    """What one load saw: every call's latency, and how long the whole took."""

    latencies_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def per_second(self) -> float:
        """Calls answered per second."""
        return len(self.latencies_s) / self.elapsed_s

    def quantile_ms(self, share: float) -> float:
        """The latency that `share` of the calls did not exceed."""
        ordered = sorted(self.latencies_s)
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def put_load(port: int, path: str, body: bytes, *, clients: int, tokens: Sequence[str], seconds: float) -> Load:
    """One call for each token, by `clients` clients that each wait for an answer before the next; stops after `seconds`.

    Raises:
        UnexpectedAnswerError: an answer was not 200, or a connection broke.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    requests = [f"{head}Authorization: Bearer {token}\r\n\r\n".encode() + body for token in tokens]
    load, failures = Load(), list[Exception]()
    deadline = time.monotonic() + seconds
    shares = [requests[number::clients] for number in range(clients)]

    def work(share: Sequence[bytes]) -> None:
        try:
            load.latencies_s.extend(_call_each(port, share, deadline))
        except (OSError, UnexpectedAnswerError) as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(share,)) for share in shares if share]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.elapsed_s = time.perf_counter() - begin
    if failures:
        raise UnexpectedAnswerError(str(failures[0])) from failures[0]
    return load


def _call_each(port: int, requests: Sequence[bytes], deadline: float) -> list[float]:
    latencies = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(65_536)
        for request in requests:
            if time.monotonic() > deadline:
                break
            begin = time.perf_counter()
            connection.sendall(request)
            _read_answer(connection, buffer)
            latencies.append(time.perf_counter() - begin)
    return latencies


def _read_answer(connection: socket.socket, buffer: bytearray) -> None:
    """Reads one answer with a Content-Length."""
    received = connection.recv_into(buffer)
    while b"\r\n\r\n" not in buffer[:received]:
        more = connection.recv_into(memoryview(buffer)[received:])
        if more == 0:
            raise UnexpectedAnswerError("connection closed")
        received += more
    head, _, rest = bytes(buffer[:received]).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise UnexpectedAnswerError(head.partition(b"\r\n")[0].decode("latin-1"))
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    left = length - len(rest)
    while left > 0:
        left -= connection.recv_into(buffer)
