"""A process under strace: which system calls it makes, one of them made to fail, and what was synced when it spoke.

    1234 pwrite64(7</log/log.sqlite3-wal>, ..., 4120, 32) = 4120
    1234 fdatasync(7</log/log.sqlite3-wal>) = -1 EIO (Input/output error) (INJECTED)

strace attaches to a process that has stopped itself and is let go then, so that calls are counted from there on.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.drills import DrillSkippedError

_ATTACH_S = 10.0
# What a durable commit consists of: traced always, to see whether it was.
_ALWAYS = ("pwrite64", "write", "fsync", "fdatasync")
_LINE = re.compile(r"(?P<thread>\d+) +(?:<\.\.\. )?(?P<call>\w+)(?P<rest>.*)")
_FILE = re.compile(r"\d+<(?P<path>[^>]*)>")
_RESULT = re.compile(r"= (?P<result>-?\d+)")


@dataclass(frozen=True, slots=True)
class Fault:
    """The call to fail, how, and at which of a thread's calls of this kind."""

    call: str
    how: str
    number: int

    @property
    def option(self) -> str:
        return f"inject={self.call}:{self.how}:when={self.number}"


@dataclass(frozen=True, slots=True)
class Call:
    """One finished call: its file if it has one, its arguments as strace writes them, and whether it did what it was asked."""

    thread: int
    name: str
    path: str
    arguments: str
    succeeded: bool


def stop_until_traced() -> None:
    """Called by the process to be traced: it goes on when the tracer is there."""
    os.kill(os.getpid(), signal.SIGSTOP)


@contextmanager
def traced(pid: int, output: Path, *, fault: Fault | None = None) -> Iterator[None]:
    """Attaches to the stopped process and lets it go; every call, or those that matter for `fault`, go to `output`.

    Raises:
        DrillSkippedError: strace isn't there, or may not attach.
    """
    chosen = [] if fault is None else ["-e", "trace=" + ",".join({*_ALWAYS, fault.call}), "-e", fault.option]
    command = ["strace", "-f", "-y", "-s", "48", "-o", str(output), *chosen, "-p", str(pid)]
    try:
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except FileNotFoundError as exc:
        raise DrillSkippedError("strace is not installed") from exc
    try:
        _wait_for_attachment(tracer)
        os.kill(pid, signal.SIGCONT)
        yield
    finally:
        if tracer.poll() is None and not _ended(tracer):
            tracer.kill()
        tracer.communicate()


@contextmanager
def failing(pid: int, calls: str, error: str) -> Iterator[None]:
    """Every one of these calls of the running process fails with `error` until the block is left; as `traced`."""
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    try:
        tracer = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except FileNotFoundError as exc:
        raise DrillSkippedError("strace is not installed") from exc
    try:
        _wait_for_attachment(tracer)
        yield
    finally:
        tracer.terminate()
        tracer.communicate(timeout=_ATTACH_S)


def _wait_for_attachment(tracer: subprocess.Popen[bytes]) -> None:
    assert tracer.stderr is not None
    line = tracer.stderr.readline().decode("utf-8", "replace")
    if "attached" not in line:
        message = f"strace can't attach: {line.strip()}"
        raise DrillSkippedError(message)


def _ended(tracer: subprocess.Popen[bytes]) -> bool:
    """Strace ends with the process it traces."""
    try:
        tracer.wait(_ATTACH_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def wait_until_stopped(pid: int) -> None:
    """Returns when the process has stopped itself; raises TimeoutError."""
    until = time.monotonic() + _ATTACH_S
    while time.monotonic() < until:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] == "T":
            return
        time.sleep(0.002)
    message = f"process {pid} didn't come to the point where it is traced"
    raise TimeoutError(message)


def read_calls(output: Path) -> Iterator[Call]:
    """The calls in the order in which they ended; one cut short by a kill isn't among them."""
    begun: dict[int, str] = {}
    for line in output.read_text("utf-8", "replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        thread, name, rest = int(match["thread"]), match["call"], match["rest"]
        if rest.endswith("<unfinished ...>"):
            begun[thread] = rest
            continue
        if rest.startswith(" resumed>"):
            rest = begun.pop(thread, "") + rest
        result = _RESULT.search(rest, rest.rfind(")"))
        if result is not None:
            file = _FILE.search(rest)
            yield Call(thread, name, file["path"] if file else "", rest, int(result["result"]) >= 0)


def count_calls(output: Path) -> Counter[str]:
    """For each kind of call the most that any one thread made."""
    by_thread = Counter((call.name, call.thread) for call in read_calls(output))
    most: Counter[str] = Counter()
    for (name, _), count in by_thread.items():
        most[name] = max(most[name], count)
    return most
