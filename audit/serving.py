"""One application under granian: what every server of ours has in common."""

from __future__ import annotations

import os
import signal
from typing import Any


def make_server(
    factory: str, *, host: str, port: int, interface: str, stop_within_s: int, workers: int = 1, **settings: Any
) -> Any:
    """The server of the application that `factory` ("module:function") builds in each worker process.

    A worker that was killed is replaced; one that is told to stop has `stop_within_s` to end. `settings` are granian's own.
    """
    from granian import Granian  # a second of imports that no other verb needs
    from granian.constants import Interfaces

    os.register_at_fork(after_in_child=_end_when_told)
    return Granian(
        factory,
        factory=True,
        address=host,
        port=port,
        interface=Interfaces(interface),
        workers=workers,
        respawn_failed_workers=True,
        workers_kill_timeout=stop_within_s,
        log_access=False,
        log_level="warning",  # type: ignore[arg-type]
        **settings,
    )


def _end_when_told() -> None:
    """A worker has the supervisor's handlers until it serves, and would lose what it is told before."""
    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, signal.SIG_DFL)
