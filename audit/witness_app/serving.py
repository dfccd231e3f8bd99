"""The witness under granian, until it is told to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from audit.witness_app.app import LOGS_VARIABLE, STATE_VARIABLE, open_witness

STOP_WITHIN_S = 10


def serve_witness(directory: Path, log_files: Sequence[Path], host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; raises KeyFileError where the keys can't be used, before anything is served."""
    names = [str(path.resolve()) for path in log_files]
    open_witness(directory, names)
    os.environ[STATE_VARIABLE] = str(directory.resolve())
    os.environ[LOGS_VARIABLE] = os.pathsep.join(names)
    from granian import Granian  # a second of imports that no other verb needs
    from granian.constants import Interfaces

    os.register_at_fork(after_in_child=_end_when_told)
    Granian(
        "audit.witness_app.app:build_app",
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        workers=1,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_WITHIN_S,
        log_access=False,
        log_level="warning",  # type: ignore[arg-type]
    ).serve()


def _end_when_told() -> None:
    """A worker has the supervisor's handlers until it serves, and would lose what it is told before."""
    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, signal.SIG_DFL)
