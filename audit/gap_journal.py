r"""The gap journal: what was refused since the last commit, kept so that a process that dies can't take it along.

Each process holds one small file under `gaps/`, locked while it lives and written in place: its room is taken when it is
made, so a full disk can't keep a refusal from being noted. Whoever opens the log later finds the files of the dead by
their free lock, and the next commit begins with their gap entries.

    {"reason":"storage","since":"2026-11-24T05:54:35.000000Z","unacknowledged":12}   padded with spaces to 256 bytes

A file that says nothing of the kind, a flipped bit in it, is set aside under another name, and an event tells of it: what can't
be read can't be told by an entry, and must not keep entries from being written.

The file isn't synced: it outlives the process, and a power cut that takes it also took the refused calls' machine.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audit.errors import StorageError
from audit.fields import Code, Count, Timestamp

log = logging.getLogger("bedside.audit.gaps")

GAP_DIRECTORY = "gaps"
_BYTES = 256
_EMPTY = b" " * _BYTES
_SUFFIX = ".gap"
_UNREADABLE_SUFFIX = ".unreadable"


class NotedGap(msgspec.Struct, frozen=True):
    """A gap as it stands in a file; its fields are those of the entry that will tell of it."""

    since: Timestamp
    reason: Code
    unacknowledged: Count


@dataclass(frozen=True, slots=True)
class Leftover:
    """The gap of a process that died; `descriptor` holds the file's lock until it is forgotten."""

    gap: NotedGap
    path: Path
    descriptor: int

    def forget(self) -> None:
        """Removes the file: the gap is in the log."""
        with suppress(OSError):
            self.path.unlink()
        os.close(self.descriptor)


class GapJournal:
    """The file of the process that made it."""

    def __init__(self, directory: Path, name: str) -> None:
        """Makes the file `name` under `directory`/gaps.

        Raises:
            StorageError: it can't be made; a log that couldn't tell its gaps isn't opened.
        """
        folder = directory / GAP_DIRECTORY
        self._path = folder / f"{name}{_SUFFIX}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._descriptor = _make(self._path)
        except OSError as exc:
            message = f"gap journal: {exc.strerror}"
            raise StorageError(message) from exc

    def note(self, gap: NotedGap | None) -> None:
        """Replaces what the file says; a disk that can't even be overwritten leaves the count to memory."""
        text = b"" if gap is None else msgspec.json.encode(gap, order="sorted")
        with suppress(OSError):
            os.pwrite(self._descriptor, text.ljust(_BYTES), 0)

    def close(self, *, keep: bool) -> None:
        """Lets the file go; with `keep` it stays for the next opener to find."""
        if not keep:
            with suppress(OSError):
                self._path.unlink()
        os.close(self._descriptor)


def leftovers(directory: Path) -> Iterator[Leftover]:
    """The gaps of processes that are no more; their empty files are removed on the way."""
    for path in sorted((directory / GAP_DIRECTORY).glob(f"*{_SUFFIX}")):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            gap = _claim(descriptor, path)
            if gap is None:
                os.close(descriptor)
            else:
                yield Leftover(gap, path, descriptor)


def _claim(descriptor: int, path: Path) -> NotedGap | None:
    """What a dead process left; None where it lives, left nothing, or another opener was faster."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 0:  # forgotten by whoever held the lock before
            return None
        text = os.pread(descriptor, _BYTES, 0).strip()
    except OSError:
        return None
    try:
        return msgspec.json.decode(text, type=NotedGap)
    except (msgspec.DecodeError, UnicodeDecodeError):
        with suppress(OSError):
            _set_aside(path, is_empty=not text)
        return None


def _make(path: Path) -> int:
    """The descriptor of a new file, locked and with its room taken; raises OSError, and leaves nothing open then."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.pwrite(descriptor, _EMPTY, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _set_aside(path: Path, *, is_empty: bool) -> None:
    if is_empty:  # its process had nothing to tell, or was killed while it made the file
        path.unlink()
        return
    log.error("gap file can't be read; set aside", extra={"file": path.name})
    path.rename(path.with_suffix(_UNREADABLE_SUFFIX))
