"""Files that only their owner may read: read with that checked, written whole or not at all, and overwritten when they go.

What is overwritten may still lie in a snapshot, in a backup, or in blocks that a solid-state disk has set aside: a key that
must be gone for certain belongs in a token.
"""

import os
import stat
from pathlib import Path

from audit.errors import KeyFileError

_DRAFT = ".draft-"


def read_private(path: Path) -> str:
    """The text of a key file; its owner and mode are looked at through the open file, so nothing can be swapped."""
    try:
        with path.open(encoding="ascii") as file:
            status = os.fstat(file.fileno())
            text = file.read()
    except (OSError, UnicodeDecodeError) as exc:
        message = f"key file {path.name}: unreadable"
        raise KeyFileError(message) from exc
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        message = f"key file {path.name}: expected mode 0600 and our own, got {stat.S_IMODE(status.st_mode):04o}"
        raise KeyFileError(message)
    return text.strip()


def write_key_file(path: Path, text: str, mode: int) -> None:
    """Makes the file, durably; nobody ever sees it half written. Raises KeyFileError where it is there already."""
    draft = _write_draft(path, text, mode)
    try:
        os.link(draft, path)  # unlike a rename, it fails where the name is taken
    except FileExistsError as exc:
        message = f"key file {path.name}: exists already"
        raise KeyFileError(message) from exc
    finally:
        draft.unlink()
    sync_directory(path.parent)


def replace_file(path: Path, text: str, mode: int) -> None:
    """Gives the file another content, durably and at once."""
    _write_draft(path, text, mode).replace(path)
    sync_directory(path.parent)


def destroy_file(path: Path) -> None:
    """Overwrites the file, then removes it; nothing where it isn't there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()
    sync_directory(path.parent)


def clear_drafts(directory: Path) -> None:
    """Removes what writers that were killed have left, overwritten unless it got its name before."""
    for draft in directory.glob(f".*{_DRAFT}*"):
        if draft.stat().st_nlink == 1:
            destroy_file(draft)
        else:
            draft.unlink()


def sync_directory(path: Path) -> None:
    """Makes what was made, renamed or removed in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_draft(path: Path, text: str, mode: int) -> Path:
    draft = path.with_name(f".{path.name}{_DRAFT}{os.getpid()}")
    draft.unlink(missing_ok=True)  # left by a process of the same number that was killed
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    return draft
