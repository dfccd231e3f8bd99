"""Starts a server for a measurement, says what it has used, and stops it: by the id of the process started here."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedside.demo import stop

_START_DEADLINE_S = 30.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers; `cold_start_s` from starting the process to its first 200."""

    pid: int
    port: int
    cold_start_s: float

    def processor_s(self) -> float:
        """Processor time used so far by the process and its descendants, user and system, from /proc/PID/stat."""
        return sum(_stat(pid)[11] + _stat(pid)[12] for pid in _tree(self.pid)) / _TICKS_PER_S

    def resident_mib(self) -> float:
        """Resident memory of the largest process of the tree: the worker."""
        return max(_stat(pid)[21] for pid in _tree(self.pid)) * _PAGE_BYTES / 2**20


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    arguments: Sequence[str], port: int, environment: Mapping[str, str], python: str = sys.executable
) -> Iterator[Server]:
    """The server `python arguments...`, which is to answer `GET /cds-services` on `port`; stopped at the end."""
    begin = time.perf_counter()
    process = subprocess.Popen([python, *arguments], env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        _await_answer(process, port)
        yield Server(process.pid, port, time.perf_counter() - begin)
    finally:
        stop(process)


def _await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/cds-services")
            if connection.getresponse().status == 200:
                return
        except (ConnectionError, TimeoutError, http.client.HTTPException):
            time.sleep(0.01)
        finally:
            connection.close()
    raise RuntimeError(f"server on port {port}: expected it to answer within {_START_DEADLINE_S:.0f} s, it did not")


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [pid]
    for child in children.read_text().split() if children.exists() else ():
        found.extend(_tree(int(child)))
    return found


def _stat(pid: int) -> list[int]:
    """The numbers of /proc/PID/stat after the state; proc(5) counts them from 4, so utime (14) is at 10 + 1."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [0 if field.isalpha() else int(field) for field in after_name]
