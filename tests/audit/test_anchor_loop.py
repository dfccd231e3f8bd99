from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.anchor_loop import LOCK_FILE, STOP_WITHIN_S, AnchorLock, AnchorLoop
from audit.anchoring import Outsiders
from audit.cosignature import Cosigner
from audit.errors import StorageError
from audit.log import AuditLog
from audit.witnessing import KnownWitness
from bedside.outside import Outside
from tests.audit.outsiders import answering, asking, running_witness

ROOT = Path(__file__).parents[2]
KEY = Cosigner("witness.example/w1", bytes(32)).verifier_key


def _now() -> datetime:
    return datetime.now(UTC)


def _wait(condition: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen"
        time.sleep(0.005)


@pytest.fixture
def start() -> Iterator[Callable[..., AnchorLoop]]:
    """Starts loops that the end of the test closes."""
    loops: list[AnchorLoop] = []

    def start_one(log: AuditLog, outsiders: Outsiders, every_s: float = 0.01) -> AnchorLoop:
        loops.append(AnchorLoop(log, outsiders, every_s=every_s, clock=_now))
        loops[-1].start()
        return loops[-1]

    yield start_one
    for loop in loops:
        loop.close()


def test_loop_anchors_what_is_added_while_the_log_is_written(
    log: AuditLog, make_entry: Callable, start: Callable, tmp_path: Path
) -> None:
    with running_witness(tmp_path / "w", log.keys.verifier_keys) as witness:
        start(log, Outsiders(asking(witness.url), (witness,)))
        for count in (1, 2, 3):
            log.append(*make_entry(log))
            _wait(lambda count=count: len(log.storage.anchors()) >= count)
            newest = log.storage.newest_checkpoint().size
            _wait(lambda size=newest: log.storage.anchors()[-1].size >= size - 1)


def test_loop_runs_in_one_of_those_that_are_started(log: AuditLog, make_entry: Callable, start: Callable) -> None:
    rounds: list[str] = []
    first = start(log, Outsiders(Outside(()), publish=lambda: rounds.append("first")))
    log.append(*make_entry(log))
    _wait(lambda: "first" in rounds)
    start(log, Outsiders(Outside(()), publish=lambda: rounds.append("second")))
    log.append(*make_entry(log))
    _wait(lambda: rounds.count("first") >= 2)
    time.sleep(0.1)
    assert "second" not in rounds
    first.close()
    log.append(*make_entry(log))
    _wait(lambda: "second" in rounds)


HOLD = """
import sys
from pathlib import Path
from audit.anchor_loop import AnchorLock
lock = AnchorLock(Path(sys.argv[1]))
print(lock.take(), flush=True)
sys.stdin.read()
"""


def test_loop_lock_is_one_processs_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / LOCK_FILE
    own = AnchorLock(path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "True\n"
        assert not own.take()
        holder.kill()
    assert own.take()
    assert own.take()
    assert not AnchorLock(path).take()
    own.release()
    assert AnchorLock(path).take()


def test_loop_goes_on_after_whatever_goes_wrong(
    log: AuditLog, make_entry: Callable, start: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def publish() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError

    log.append(*make_entry(log))
    start(log, Outsiders(Outside(()), publish=publish))
    _wait(lambda: len(calls) >= 2)
    (event,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (event.message, event.why) == ("anchoring failed", "ZeroDivisionError: ")


def test_loop_tells_where_it_cannot_lock(log: AuditLog, start: Callable, caplog: pytest.LogCaptureFixture) -> None:
    (log.config.directory / LOCK_FILE).mkdir()
    with pytest.raises(StorageError):
        AnchorLock(log.config.directory / LOCK_FILE).take()
    start(log, Outsiders(Outside(())))
    _wait(lambda: [record for record in caplog.records if record.message == "anchoring failed"])


def test_loop_is_closed_promptly_while_an_outsider_keeps_it_waiting(
    log: AuditLog, make_entry: Callable, start: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    asked, released = threading.Event(), threading.Event()

    def keep_waiting(_: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.set()
        released.wait(30)
        return 503, {}, b""

    with answering(keep_waiting) as server:
        log.append(*make_entry(log))
        witness = KnownWitness(KEY, server.url)
        loop = start(log, Outsiders(asking(server.url), (witness,)))
        assert asked.wait(20)
        started = time.monotonic()
        loop.close()
        assert time.monotonic() - started < STOP_WITHIN_S + 2
        log.close()
        released.set()
        _wait(lambda: "anchoring" not in {thread.name for thread in threading.enumerate()})
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_loop_is_closed_at_once_while_it_rests(log: AuditLog, start: Callable) -> None:
    loop = start(log, Outsiders(Outside(())), 3600.0)
    started = time.monotonic()
    loop.close()
    assert time.monotonic() - started < 1.5


def test_loop_adds_nothing_to_an_append_while_outsiders_hang(
    log: AuditLog, make_entry: Callable, start: Callable
) -> None:
    asked, released = threading.Event(), threading.Event()

    def hang(_: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.set()
        released.wait(30)
        return 503, {}, b""

    with answering(hang) as server:
        log.append(*make_entry(log))
        start(log, Outsiders(asking(server.url), (KnownWitness(KEY, server.url),)))
        assert asked.wait(20)
        for _ in range(5):
            log.append(*make_entry(log))
        assert log.storage.newest_checkpoint().size == 6
        released.set()
