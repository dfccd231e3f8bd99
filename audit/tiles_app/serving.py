"""The tiles under granian, until it is told to stop."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from audit.tiles_app.app import FOLDER_VARIABLE, LOG_VARIABLE, open_tiles

# A tile is one read of the store; gzip of a bundle of entries is some ten milliseconds of one core.
THREADS = 4
STOP_WITHIN_S = 10


def serve_tiles(directory: Path, folder: Path | None, host: str, port: int) -> None:
    """Serves the log in `directory`, or what was published in `folder`, until SIGTERM or SIGINT.

    Raises:
        StorageError: it can't be read; nothing is served then.
    """
    os.environ[LOG_VARIABLE] = str(directory.resolve())
    os.environ[FOLDER_VARIABLE] = "" if folder is None else str(folder.resolve())
    open_tiles().checkpoint()
    from granian import Granian  # a second of imports that no other verb needs
    from granian.constants import Interfaces

    os.register_at_fork(after_in_child=_end_when_told)
    Granian(
        "audit.tiles_app.app:build_app",
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        respawn_failed_workers=True,
        blocking_threads=THREADS,
        workers_kill_timeout=STOP_WITHIN_S,
        log_access=False,
        log_level="warning",  # type: ignore[arg-type]
    ).serve()


def _end_when_told() -> None:
    """A worker has the supervisor's handlers until it serves, and would lose what it is told before."""
    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, signal.SIG_DFL)
