"""Files that are replaced whole and durably: a reader sees the old content or the new one, also after a power cut."""

import os
import threading
from pathlib import Path

UNFINISHED = "."  # what a file's name starts with while it is written


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Puts `data` at `path`, and returns when it is durable.

    The bytes go to a file beside it, are synced, take its name, and then the directory is synced, as the name is there.

    Raises:
        OSError: it can't be written; the old content is still there, save where only the last sync failed.
    """
    unfinished = path.with_name(f"{UNFINISHED}{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Makes the names in `directory` durable; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
