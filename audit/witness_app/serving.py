"""The witness under granian, until it is told to stop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from audit.serving import make_server
from audit.witness_app.app import LOGS_VARIABLE, STATE_VARIABLE, open_witness

STOP_WITHIN_S = 10


def serve_witness(directory: Path, log_files: Sequence[Path], host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; raises KeyFileError where the keys can't be used, before anything is served."""
    names = [str(path.resolve()) for path in log_files]
    open_witness(directory, names)
    os.environ[STATE_VARIABLE] = str(directory.resolve())
    os.environ[LOGS_VARIABLE] = os.pathsep.join(names)
    make_server(
        "audit.witness_app.app:build_app", host=host, port=port, interface="asginl", stop_within_s=STOP_WITHIN_S
    ).serve()
