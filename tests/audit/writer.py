"""A process that appends until it is killed: writer.py DIRECTORY THREADS; one line "index id" per acknowledgement."""

import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from audit.entry import format_entry
from audit.entry_operations import GapEntry
from audit.log import AuditLog, LogConfig

ORIGIN = "hospital.example/cds-audit/north/1"
TIME = "2026-03-01T08:00:00.000000Z"


def write(log: AuditLog) -> None:
    while True:
        entry_id = log.new_entry_id()
        entry = GapEntry(
            id=entry_id, time=TIME, clock="ok", tenant="north", since=TIME, until=TIME, reason="test", unacknowledged=0
        )
        receipt = log.append(format_entry(entry))
        os.write(1, f"{receipt.index} {entry_id}\n".encode())  # one write below 4 KiB: never torn


if __name__ == "__main__":
    config = LogConfig(Path(sys.argv[1]), ORIGIN, "north", deadline_s=10)
    opened = AuditLog.open(config, clock=lambda: datetime.now(UTC))
    for _ in range(int(sys.argv[2])):
        threading.Thread(target=write, args=(opened,)).start()
