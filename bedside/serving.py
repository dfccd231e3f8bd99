"""`bedside serve`: the WSGI application under granian, one worker process a core."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from audit import serving
from bedside.environment import read_config
from bedside.outsiders import compare_with_witnesses
from bedside.tenants import log_configs, open_logs
from bedside.wiring import require_way_in


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.add_argument("--config", type=Path, help="TOML file; also BEDSIDE_CONFIG")
    parser.set_defaults(run=serve)


def serve(options: argparse.Namespace) -> int:
    """Serves until told to stop; finishes what is in flight."""
    if options.config is not None:
        os.environ["BEDSIDE_CONFIG"] = str(options.config)
    config = read_config()
    require_way_in(config)
    compare_with_witnesses(config, log_configs(config))
    for audit_log in open_logs(config).values():
        audit_log.close()  # one that is missing or was rolled back is told here, in one line, and not by each worker
    listen = config.server
    make_server("bedside.wiring:build_app", host=listen.host, port=listen.port, workers=listen.workers).serve()
    return 0


# While one call waits for the disk others are worked on and share the next commit: with 16 clients 4 threads gave 335 calls/s
# where one gave 185 (50 Observations), 83 where one gave 67 (1,000); 8 gave no more. One client sees no difference.
THREADS = 4

# A worker that is told to stop answers what it has, and ends. One whose client stopped halfway through a body would wait for
# the rest forever; a call takes no longer than the longest deadline a client may have, 60 s, and a little for the log.
STOP_WITHIN_S = 75


def make_server(factory: str, *, host: str, port: int, workers: int, threads: int = THREADS) -> Any:
    """The server of the WSGI application that `factory` ("module:function") builds in each worker process."""
    return serving.make_server(
        factory,
        host=host,
        port=port,
        interface="wsgi",
        stop_within_s=STOP_WITHIN_S,
        workers=workers,
        blocking_threads=threads,
    )
