"""A process that appends when it is told to, and says of each attempt what became of it and how long it took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from types import TracebackType

from audit.errors import AppendError
from audit.log import LogConfig
from benchmarks.drills.workload import decision, open_log

_PATIENCE_S = 60.0
_PAYLOAD = b"what replay needs " * 20


@dataclass(frozen=True, slots=True)
class Attempt:
    """An append: its index, or None where it was refused."""

    entry_id: str
    index: int | None
    seconds: float


class Appender:
    """The process; leaving the block closes its log and ends it."""

    def __init__(self, config: LogConfig) -> None:
        context = ForkServerContext()
        context.set_forkserver_preload([__name__])
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(config, theirs), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def append(self, count: int) -> list[Attempt]:
        """So many attempts, one after the other."""
        self._connection.send(count)
        if not self._connection.poll(_PATIENCE_S + count):
            message = f"no answer to {count} appends"
            raise TimeoutError(message)
        attempts: list[Attempt] = self._connection.recv()
        return attempts

    def __enter__(self) -> Appender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._connection.send(0)
            self._process.join(_PATIENCE_S)
        if self._process.exitcode is None:
            self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(config: LogConfig, connection: Connection) -> None:
    log = open_log(config)
    while count := connection.recv():
        attempts = []
        for _ in range(count):
            entry, payload = decision(log, payload=_PAYLOAD)
            begin = time.perf_counter()
            try:
                index: int | None = log.record(entry, payload).index
            except AppendError:
                index = None
            attempts.append(Attempt(entry.id, index, time.perf_counter() - begin))
        connection.send(attempts)
    log.close()
