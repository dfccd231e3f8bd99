"""The tiles under granian, until it is told to stop."""

from __future__ import annotations

import os
from pathlib import Path

from audit.serving import make_server
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
    make_server(
        "audit.tiles_app.app:build_app",
        host=host,
        port=port,
        interface="wsgi",
        stop_within_s=STOP_WITHIN_S,
        blocking_threads=THREADS,
    ).serve()
