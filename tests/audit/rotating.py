"""A process that is killed before its n-th step on disk, for every n: rotating.py VERB DIRECTORY…; prints a line for each.

Each try is a fork of this process, which has no threads yet. A step is a call that changes files; before the n-th of them
the fork kills itself, as by kill -9.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from audit.log import AuditLog, LogConfig
from audit.rewrapping import rewrap
from audit.rotation import retire, rotate
from tests.memory import memory_folder

ORIGIN = "hospital.example/cds-audit/north/1"
STEPS = {"link", "rename", "replace", "unlink", "fsync", "pwrite", "ftruncate"}
NOW = datetime(2026, 3, 2, tzinfo=UTC)


class Killer:
    """Counts the steps of every thread, and kills this process before one of them."""

    def __init__(self, fatal: int) -> None:
        self.count = 0
        self._fatal = fatal
        self._lock = threading.Lock()

    def __call__(self, frame: FrameType, event: str, called: object) -> None:
        if event == "c_call" and getattr(called, "__name__", "") in STEPS:
            with self._lock:
                self.count += 1
                if self.count == self._fatal:
                    os.kill(os.getpid(), signal.SIGKILL)


def run(verb: str, directory: Path) -> None:
    @contextmanager
    def open_log():
        log = AuditLog.open(LogConfig(directory, ORIGIN, "north", deadline_s=10), clock=lambda: datetime.now(UTC))
        try:
            yield log
        finally:
            log.close()

    verbs: dict[str, Callable[[], object]] = {
        "rotate": lambda: rotate(directory, open_log, NOW, os.urandom),
        "retire": lambda: retire(directory, open_log, NOW),
        "rewrap": lambda: rewrap(directory, open_log, NOW, os.urandom),
    }
    verbs[verb]()


@contextmanager
def killed_at_every_step(verb: str, directory: Path, at_least: int) -> Iterator[list[Path]]:
    """Copies of a log, the n-th of them left by a process that was killed before its n-th step; the last one by none."""
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        tries = [Path(folder) / f"try-{number}" for number in range(1, 80)]
        for name in tries:
            shutil.copytree(directory, name)
        command = [sys.executable, __file__, verb, *map(str, tries)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent.parent)}
        output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout
        states = [line.split()[1] for line in output.splitlines()]
        assert states == ["killed"] * (len(states) - 1) + ["done"]
        assert len(states) > at_least, "too few steps to be all of them"
        yield tries[: len(states)]


def killed_at(verb: str, directory: Path, fatal: int) -> bool:
    """Whether the process was killed before its `fatal`-th step; False: it had fewer, and is done."""
    child = os.fork()
    if not child:
        killer = Killer(fatal)
        sys.setprofile(killer)
        threading.setprofile(killer)
        try:
            run(verb, directory)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise SystemExit(1)
    return False


if __name__ == "__main__":
    # one directory for each try, the n-th killed at step n; each is then completed by a run that nobody kills
    done = 0
    for number, name in enumerate(sys.argv[2:], start=1):
        was_killed = killed_at(sys.argv[1], Path(name), number)
        os.write(1, f"{name} {'killed' if was_killed else 'done'}\n".encode())
        if not was_killed:
            break
