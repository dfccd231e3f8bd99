"""A process that appends until it is killed: writer.py DIRECTORY THREADS; one line "index id" per acknowledgement."""

import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from audit.committer import LogReceipt
from audit.entry import format_entry
from audit.entry_operations import GapEntry
from audit.log import AuditLog, LogConfig

ORIGIN = "hospital.example/cds-audit/north/1"
TIME = "2026-03-01T08:00:00.000000Z"


def write_entry(log: AuditLog) -> LogReceipt:
    """Appends one small entry."""
    entry = GapEntry(
        id=log.new_entry_id(),
        time=TIME,
        clock="ok",
        tenant="north",
        since=TIME,
        until=TIME,
        reason="test",
        unacknowledged=0,
    )
    return log.append(format_entry(entry))


def write(log: AuditLog) -> None:
    while True:
        receipt = write_entry(log)
        os.write(1, f"{receipt.index} {receipt.entry_id}\n".encode())  # one write below 4 KiB: never torn


def stop(failed: threading.ExceptHookArgs) -> None:
    """Ends the process with the first append that fails."""
    os.write(2, f"{failed.exc_value!r}\n".encode())
    os._exit(1)


if __name__ == "__main__":
    threading.excepthook = stop
    config = LogConfig(Path(sys.argv[1]), ORIGIN, "north", deadline_s=10)
    opened = AuditLog.open(config, clock=lambda: datetime.now(UTC))
    for _ in range(int(sys.argv[2])):
        threading.Thread(target=write, args=(opened,)).start()
