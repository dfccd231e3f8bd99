r"""A process that appends to a log as fast as it can until it is killed, and leaves a line for each acknowledgement.

    {"id": "...", "proof": "c2sp.org/tlog-proof@v1\n..."}     one write of less than 4 KiB: never torn by a kill

The line is written after `record` has returned and never before, so whatever stands there was acknowledged.
"""

from __future__ import annotations

import json
import os
import threading
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from audit.errors import AppendError
from audit.log import AuditLog, LogConfig
from benchmarks.drills.workload import decision, open_log

_PAYLOAD = b"what replay needs " * 20


def append_until_killed(config: LogConfig, output: Path, threads: int) -> None:
    """The body of the process."""
    log = open_log(config)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writers = [threading.Thread(target=_append, args=(log, descriptor, number)) for number in range(threads)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()


def _append(log: AuditLog, descriptor: int, number: int) -> None:
    while True:
        entry, payload = decision(log, payload=_PAYLOAD, patient=f"patient-{number}")
        try:
            receipt = log.record(entry, payload)
        except AppendError:
            continue
        line = json.dumps({"id": receipt.entry_id, "proof": receipt.proof_text})
        os.write(descriptor, line.encode() + b"\n")


class Writers:
    """Such processes, one in each place, started from a server that has imported everything: a start takes milliseconds."""

    def __init__(self, config: LogConfig, folder: Path, places: int, threads: int) -> None:
        self._config = config
        self._folder = folder
        self._threads = threads
        self._context = ForkServerContext()
        self._context.set_forkserver_preload([__name__])
        self._processes: list[BaseProcess] = [self._start(place) for place in range(places)]

    def __len__(self) -> int:
        return len(self._processes)

    def output(self, place: int) -> Path:
        """Where the acknowledgements of all processes of this place lie."""
        return self._folder / f"acknowledged-{place}"

    def pids(self) -> list[int]:
        """The ids of those that live."""
        return [process.pid for process in self._processes if process.is_alive() and process.pid is not None]

    def replace(self, place: int) -> bool:
        """Kills the process with SIGKILL and starts another; False where it had ended by itself."""
        lived = self._processes[place].exitcode is None
        self._end(place)
        self._processes[place] = self._start(place)
        return lived

    def kill_all(self) -> None:
        for place in range(len(self)):
            self._end(place)

    def _end(self, place: int) -> None:
        self._processes[place].kill()
        self._processes[place].join()

    def _start(self, place: int) -> BaseProcess:
        arguments = (self._config, self.output(place), self._threads)
        process = self._context.Process(target=append_until_killed, args=arguments, daemon=True)
        process.start()
        return process
