"""Rounds of anchoring in a thread beside the service: in one process of many, until it is closed.

The lock is an flock on `anchor.lock` in the log's directory, held as long as the loop runs: of several worker processes one
anchors, and when it dies another takes over at its next turn. Nothing that goes wrong here reaches a caller of the service; it
goes to the operations log.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from audit.anchoring import Anchoring, Outsiders
from audit.errors import StorageError
from audit.log import AuditLog

log = logging.getLogger("bedside.audit.anchoring")

LOCK_FILE = "anchor.lock"
# An outsider that is being asked may take its whole time limit; a service that stops doesn't wait for it.
STOP_WITHIN_S = 1.0


class AnchorLock:
    """Held by one process of those that serve a log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether it is held now; doesn't wait.

        Raises:
            StorageError: the file can't be made.
        """
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            message = f"{self._path.name}: {exc.strerror}"
            raise StorageError(message) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class AnchorLoop:
    """Anchors a log every so often; must be made in the process that uses it, after any fork, and closed before its log."""

    def __init__(
        self, audit_log: AuditLog, outsiders: Outsiders, *, every_s: float, clock: Callable[[], datetime]
    ) -> None:
        self._log = audit_log
        self._outsiders = outsiders
        self._every_s = every_s
        self._clock = clock
        self._anchoring: Anchoring | None = None
        self._lock = AnchorLock(audit_log.config.directory / LOCK_FILE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="anchoring", daemon=True)

    def start(self) -> None:
        """Begins with a round at once."""
        self._thread.start()

    def close(self) -> None:
        """Ends after the outsider that is being asked, or leaves that question behind."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)

    def run(self) -> None:
        """As `start`, in this thread, until `close` is called in another."""
        self._run()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._turn()
                self._stop.wait(self._every_s)
        finally:
            self._lock.release()

    def _turn(self) -> None:
        try:
            if self._lock.take():
                self._anchoring = self._anchoring or Anchoring(self._log, self._outsiders, self._clock)
                self._anchoring.round(self._stop.is_set)
        except Exception as exc:  # noqa: BLE001 - border: a thread that ends would stop anchoring, and nobody would see it
            if not self._stop.is_set():  # a log that is being closed under it is no failure
                log.error("anchoring failed", extra={"why": f"{type(exc).__name__}: {exc}"})
