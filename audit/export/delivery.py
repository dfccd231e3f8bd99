"""Records from the log to a destination, batch by batch, and the file as one of the destinations.

(1) the log must extend what was exported before, and a file still have it;
(2) read a batch from the cursor on, under one signed checkpoint;
(3) send it; on failure stop, with the cursor where it was;
(4) move the cursor, durably;
(5) until the log is exhausted.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audit.export.cursor import Cursor
from audit.export.errors import ExportError
from audit.export.records import LogRecord, read_records
from audit.merkle import LeafIndex
from audit.private_files import sync_directory
from audit.storage import Storage

BATCH = 100

# One record as the lines that stand for it in a file, each with its line end; empty where it has none.
Lines = Callable[[LogRecord], bytes]


class Destination(Protocol):
    """Where records go."""

    def send(self, records: Sequence[LogRecord]) -> None:
        """Returns when the destination has all records for good; raises DeliveryError."""
        ...


def deliver(
    storage: Storage, destination: Destination, cursor: Cursor, *, start: LeafIndex, proofs: bool, batch: int = BATCH
) -> int:
    """How many records the destination took: all that the log has from the cursor on, or from `start` where it is new.

    Raises:
        DeliveryError: the destination failed; what it took before is not sent again.
        RollbackError, ForkError: the log isn't the one that was exported before.
        ExportError: the file is gone, or was cut: what it had can't be made good by going on.
    """
    delivered = 0
    while True:
        cursor.check(storage)  # (1)
        _check_kept(destination, cursor)
        following = start if cursor.next is None else cursor.next
        records = list(read_records(storage, following, proofs=proofs, limit=batch))  # (2)
        if not records:  # (5)
            return delivered
        head = storage.checkpoint(records[-1].tree_size)
        if head is None:
            message = f"log: expected the checkpoint of size {records[-1].tree_size} that was read before"
            raise ExportError(message)
        destination.send(records)  # (3)
        cursor.advance(LeafIndex(records[-1].index + 1), head, _length(destination))  # (4)
        delivered += len(records)


@dataclass(frozen=True, slots=True)
class AppendedFile:
    """A file that grows; a batch is delivered when it is on the disk."""

    path: Path
    lines: Lines

    def length(self) -> int:
        """How many bytes it has; none where it isn't there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def send(self, records: Sequence[LogRecord]) -> None:
        """Appends the records' lines, durably; a line that a crash cut short is taken away first."""
        data = b"".join(self.lines(record) for record in records)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = _end_of_last_line(descriptor)
            os.ftruncate(descriptor, end)
            os.lseek(descriptor, end, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if end == 0:  # perhaps new, and then its name is to last too
            sync_directory(self.path.parent)


def write_file(path: Path, records: Iterable[LogRecord], lines: Lines) -> int:
    """How many records were written: all of them, in a file that is there complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    written = 0
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for record in records:
                file.write(lines(record))
                written += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
    return written


def _length(destination: Destination) -> int:
    return destination.length() if isinstance(destination, AppendedFile) else 0


def _check_kept(destination: Destination, cursor: Cursor) -> None:
    """Returns if a file still has what was exported into it."""
    length = _length(destination)
    if isinstance(destination, AppendedFile) and length < cursor.length:
        message = (
            f"{destination.path}: expected the {cursor.length} bytes that were exported before, got {length}; "
            f"put the file back, or begin anew by another --cursor"
        )
        raise ExportError(message)


def _end_of_last_line(descriptor: int) -> int:
    """Where the last whole line ends: what follows was cut short by a crash."""
    step, end = 1 << 16, os.fstat(descriptor).st_size
    while end > 0:
        start = max(end - step, 0)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
