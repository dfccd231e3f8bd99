"""`bedside audit anchor`: gives the logs' heads to witnesses and time-stamping authorities, once or until told to stop.

The service does the same beside its calls. The verb is for a host of its own, for a first look at whether the outsiders
answer, and for logs whose service stands still.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from contextlib import ExitStack

from audit.anchor_loop import LOCK_FILE, AnchorLock
from audit.anchoring import Anchoring, Round
from audit.log import AuditLog
from bedside.config import Config, ConfigError
from bedside.environment import now, read_config
from bedside.logs import configure_logging
from bedside.outsiders import are_any, compare_with_witnesses, outsiders, start_anchoring
from bedside.tenants import log_configs, open_logs

DONE, FAILED = 0, 1


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.add_argument("--follow", action="store_true", help="again and again, until told to stop")
    parser.set_defaults(run=anchor)


def anchor(options: argparse.Namespace) -> int:
    """Exit code 0 if every outsider that was due answered, 1 if not; with `--follow` 0 when told to stop."""
    config = read_config()
    if not are_any(config):
        raise ConfigError("witnesses, timestamp_authorities, audit.publish_directory: expected at least one, got none")
    compare_with_witnesses(config, log_configs(config))
    with ExitStack() as opened:
        logs = open_logs(config)
        for audit_log in logs.values():
            opened.callback(audit_log.close)
        if options.follow:
            return _follow(config, list(logs.values()))
        return max(_once(config, tenant, audit_log) for tenant, audit_log in logs.items())


def _once(config: Config, tenant: str, audit_log: AuditLog) -> int:
    lock = AnchorLock(audit_log.config.directory / LOCK_FILE)
    if not lock.take():
        sys.stdout.write(f"{tenant}: another process anchors this log\n")
        return DONE
    try:
        done = Anchoring(audit_log, outsiders(config, audit_log), now).round()
    finally:
        lock.release()
    sys.stdout.writelines(f"{tenant}: {line}\n" for line in _described(done))
    return FAILED if done.failures else DONE


def _described(done: Round) -> list[str]:
    lines = [f"{one.kind} of {one.authority} for size {one.size}" for one in done.anchors]
    lines += [f"{name} failed: {reason}" for name, reason in done.failures]
    return lines or ["nothing new"]


def _follow(config: Config, logs: list[AuditLog]) -> int:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    configure_logging()
    loops = start_anchoring(config, logs, now)
    told.wait()
    for loop in loops:
        loop.close()
    return DONE
