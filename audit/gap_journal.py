r"""The gap journal: what was refused since the last commit, kept so that a process that dies can't take it along.

Each process holds one small file under `gaps/`, locked while it lives and written in place: its room is taken when it is
made, so a full disk can't keep a refusal from being noted. Whoever opens the log later finds the files of the dead by
their free lock, and the next commit begins with their gap entries.

    {"reason":"storage","since":"2026-11-24T05:54:35.000000Z","unacknowledged":12}   padded with spaces to 256 bytes

The file isn't synced: it outlives the process, and a power cut that takes it also took the refused calls' machine.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from audit.errors import StorageError

GAP_DIRECTORY = "gaps"
_BYTES = 256
_EMPTY = b" " * _BYTES
_SUFFIX = ".gap"


class NotedGap(msgspec.Struct, frozen=True):
    """A gap as it stands in a file; times as in entries."""

    since: str
    reason: str
    unacknowledged: int


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
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            os.pwrite(self._descriptor, _EMPTY, 0)
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
    except msgspec.DecodeError:  # empty, or killed while it was made
        with suppress(OSError):
            path.unlink()
        return None
