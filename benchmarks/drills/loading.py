"""Processes that offer decisions to one log, at a rate of their own choosing or as fast as they are acknowledged.

Open loop: rate * seconds decisions of a process are due at times drawn evenly over the duration, each process from a seed of
its own: a Poisson process of that many arrivals, as of clinicians who don't know of each other, bursts included. They are due
whatever became of those before; a thread that is free offers one, if the time is not over. So a log that falls behind is
offered no less. Closed loop (no rate): each thread offers the next when the last was answered. Decisions and their payloads
are made and sealed before the start; what is timed is `record`, from call to receipt.
"""

from __future__ import annotations

import itertools
import random
import resource
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

from audit.entry import Entry
from audit.errors import AppendError, AppendTimeoutError, LogOverloadedError
from audit.log import AuditLog, LogConfig
from audit.payloads import SealedPayload
from benchmarks.drills.workload import decision, open_log

PROCESSES = 4
_PATIENTS = 50
_PREPARE_S = 600.0
_GRACE_S = 60.0
_LEAD_S = 0.5
_SEED = 4_711


@dataclass(frozen=True, slots=True)
class Load:
    """What each process offers: `rate_per_s` None is the closed loop."""

    seconds: float
    rate_per_s: float | None
    threads: int
    leaf_bytes: int
    payload_bytes: int
    prepared: int


@dataclass(slots=True)
class Outcome:
    """What one process met: seconds from call to receipt, and from the time it was due; when it ran; the acknowledged.

    `recovered` is when, after the load's end, an append was acknowledged again, `refused_since` how many weren't till then.
    """

    offered: int = 0
    timed_out: int = 0
    shed: int = 0
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)
    since_due_s: list[float] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)
    began: float = 0.0
    last_offered: float = 0.0
    ended: float = 0.0
    recovered: float = 0.0
    refused_since: int = 0
    most_waiting: int = 0
    resident_mib: float = 0.0


def offer(config: LogConfig, load: Load, processes: int = PROCESSES) -> list[Outcome]:
    """One outcome for each process; all start at the same moment."""
    context = ForkServerContext()
    context.set_forkserver_preload([__name__])
    started = []
    try:
        for number in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(config, load, _SEED + number, theirs), daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
        connections = [connection for _, connection in started]
        for connection in connections:
            _receive(connection, _PREPARE_S)
        begin = time.monotonic() + _LEAD_S
        for connection in connections:
            connection.send(begin)
        return [_receive(connection, load.seconds + _GRACE_S) for connection in connections]
    finally:
        for process, connection in started:
            connection.close()
            process.join(_GRACE_S)
            process.kill()
            process.join()


def arrivals_s(rate_per_s: float, seconds: float, seed: int) -> list[float]:
    """When each is due, in seconds after the start, in order: rate * seconds of them."""
    drawn = random.Random(seed)
    return sorted(drawn.uniform(0.0, seconds) for _ in range(round(rate_per_s * seconds)))


def quantile_ms(seconds: Sequence[float], share: float) -> float:
    """The value that this share of them doesn't exceed, in milliseconds; 0 of none."""
    ordered = sorted(seconds)
    return round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else 0.0


def _receive(connection: Connection, patience_s: float) -> Outcome:
    if not connection.poll(patience_s):
        raise TimeoutError("a process that offers load doesn't answer")
    outcome: Outcome = connection.recv()
    return outcome


def _work(config: LogConfig, load: Load, seed: int, connection: Connection) -> None:
    """The body of a process."""
    log = open_log(config)
    payload = bytes(load.payload_bytes) if load.payload_bytes else None
    prepared = [
        decision(log, load.leaf_bytes, payload, patient=f"patient-{number % _PATIENTS}")
        for number in range(load.prepared)
    ]
    connection.send(Outcome())
    begin = connection.recv()
    due = None if load.rate_per_s is None else arrivals_s(load.rate_per_s, load.seconds, seed)
    outcome = _Offering(log, load, prepared, begin, due).run()
    outcome.recovered = outcome.ended
    if load.rate_per_s:
        _recover(log, outcome)
    connection.send(outcome)
    log.close()


def _recover(log: AuditLog, outcome: Outcome) -> None:
    """Appends until one is acknowledged."""
    until = time.monotonic() + _GRACE_S / 2
    while time.monotonic() < until:
        try:
            log.record(*decision(log))
            break
        except AppendError:
            outcome.refused_since += 1
            time.sleep(0.001)
    outcome.recovered = time.monotonic()


class _Offering:
    """The threads of one process."""

    def __init__(
        self,
        log: AuditLog,
        load: Load,
        prepared: list[tuple[Entry, SealedPayload | None]],
        begin: float,
        due_s: Sequence[float] | None,
    ) -> None:
        self._log = log
        self._load = load
        self._prepared = prepared
        self._begin = begin
        self._due_s = due_s
        self._numbers = itertools.count()  # next() of it is one step under the interpreter's lock
        self._outcome = Outcome(began=begin)
        self._lock = threading.Lock()

    def run(self) -> Outcome:
        threads = [threading.Thread(target=self._offer_until_the_end) for _ in range(self._load.threads)]
        for thread in threads:
            thread.start()
        watching = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(watching,))
        watcher.start()
        for thread in threads:
            thread.join()
        watching.set()
        watcher.join()
        self._outcome.ended = time.monotonic()
        self._outcome.resident_mib = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        return self._outcome

    def _offer_until_the_end(self) -> None:
        end = self._begin + self._load.seconds
        time.sleep(max(0.0, self._begin - time.monotonic()))
        for number in self._numbers:
            if number >= len(self._prepared if self._due_s is None else self._due_s):
                return
            due = time.monotonic() if self._due_s is None else self._begin + self._due_s[number]
            if max(due, time.monotonic()) >= end:
                return
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            self._offer(*self._prepared[number], due)

    def _offer(self, entry: Entry, payload: SealedPayload | None, due: float) -> None:
        called = time.monotonic()
        try:
            index: int | None = self._log.record(entry, payload).index
            error: AppendError | None = None
        except AppendError as exc:
            index, error = None, exc
        answered = time.monotonic()
        with self._lock:
            outcome = self._outcome
            outcome.offered += 1
            outcome.last_offered = max(outcome.last_offered, called)
            outcome.timed_out += isinstance(error, AppendTimeoutError)
            outcome.shed += isinstance(error, LogOverloadedError)
            outcome.refused += error is not None
            if index is not None:
                outcome.acknowledged[entry.id] = index
                outcome.latencies_s.append(answered - called)
                outcome.since_due_s.append(answered - due)

    def _watch(self, ended: threading.Event) -> None:
        """How many requests wait in the queue, a hundred times a second."""
        requests = self._log._group._requests
        while not ended.wait(0.01):
            self._outcome.most_waiting = max(self._outcome.most_waiting, requests.qsize())
