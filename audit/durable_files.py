"""Files that are there whole or not at all, also after a power cut: temporary file, fsync, rename, fsync of the folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


class DurableWriter:
    """Writes files one by one; their names are durable once `sync_folders` has returned.

    Not safe among writers of one folder: hold `locked_folder`.
    """

    def __init__(self) -> None:
        self._folders: set[Path] = set()
        self.files = 0
        self.bytes = 0

    def write(self, path: Path, data: bytes) -> None:
        """Makes or replaces the file, and the folders above it."""
        self._make_folder(path.parent)
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        self._folders.add(path.parent)
        self.files += 1
        self.bytes += len(data)

    def sync_folders(self) -> None:
        """Returns when every name written so far is durable."""
        for folder in self._folders:
            _sync_folder(folder)
        self._folders.clear()

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            self._folders.add(folder.parent)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keeps every other process that asks for it out of the folder; raises BlockingIOError where one is in already."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
