"""The head file: the newest checkpoint this host has signed, kept apart from the store.

A store put back from a backup, or cut short, is a valid log of the past. Only a newer head shows that it was longer,
so every commit leaves its checkpoint here, and opening compares. The file is written in place after the commit. It is
synced only when its length changes, and when it is made: a power cut must not leave it with room in it that was never
written. So it may lag behind the store after one, which is harmless, and it can never run ahead. It can lie on another
volume; heads that outsiders keep (witnesses, receipts) are stronger and are compared the same way.
"""

import os
from pathlib import Path

from audit.checkpoint import Checkpoint
from audit.errors import ForkError, RollbackError, StorageError
from audit.merkle import Frontier, NodeReader, TreeSize, read_frontier, root

HEAD_FILE = "head"


class HeadFile:
    """The file, held open; written only under the log's lock."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Opens the file.

        Raises:
            StorageError: it isn't there (or, with `create`, is there already).
        """
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as exc:
            message = f"head file {path.name}: {exc.strerror}; without it a rollback can't be told"
            raise StorageError(message) from exc

    def read(self) -> bytes:
        return os.pread(self._descriptor, 1 << 16, 0)

    def write(self, note: bytes) -> None:
        """Replaces the content; one write below 4 KiB, which a killed process can't leave half done."""
        try:
            is_longer_or_shorter = os.fstat(self._descriptor).st_size != len(note)
            os.pwrite(self._descriptor, note, 0)
            if is_longer_or_shorter:
                os.ftruncate(self._descriptor, len(note))
                os.fsync(self._descriptor)
        except OSError as exc:
            raise StorageError("head file: can't be written") from exc

    def close(self) -> None:
        os.close(self._descriptor)


def read_checked_frontier(checkpoint: Checkpoint, node: NodeReader) -> Frontier:
    """The frontier of the stored tree at `checkpoint`.

    Raises:
        StorageError: the stored nodes don't lead to the checkpoint's root.
    """
    frontier = read_frontier(checkpoint.size, node)
    if root(frontier) != checkpoint.root:
        message = f"store: the tree of {checkpoint.size} entries doesn't lead to the root of its checkpoint"
        raise StorageError(message)
    return frontier


def check_extends(known: Checkpoint, known_note: bytes, size: TreeSize, newest_note: bytes, node: NodeReader) -> None:
    """Returns if the log of `size` leaves whose perfect nodes are `node` extends the checkpoint `known`.

    Raises:
        RollbackError: the log is smaller.
        ForkError: its first `known.size` leaves have another root.
    """
    if known.size > size:
        raise RollbackError(known_note, newest_note)
    if root(read_frontier(known.size, node)) != known.root:
        raise ForkError(known_note, newest_note)


def link_head(directory: Path, path: Path) -> None:
    """Makes the usual place lead to a head file that lies elsewhere: who knows the log's directory alone finds the same file.

    Raises:
        StorageError: it can't be made.
    """
    usual = directory / HEAD_FILE
    if path == usual:
        return
    try:
        usual.symlink_to(path.absolute())
    except OSError as exc:
        message = f"head file: can't be linked to from {HEAD_FILE}, {exc.strerror}"
        raise StorageError(message) from exc
