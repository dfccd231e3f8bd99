r"""The seal of a closed store: SHA-256 over the whole SQLite file, in a small file beside it.

    sha256 <64 hex digits>\n

Signatures protect what is logged; SQLite's pages also have room that holds nothing, and a byte changed there alters
no entry. The seal makes such a change visible too, so that any byte of a store at rest is covered. It is written when
the store is closed and taken away before the next commit. It adds no trust: whoever can change the store can remove it.
"""

import os
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path

from audit.errors import VerificationError
from audit.private_files import sync_directory

SEAL_SUFFIX = ".seal"
# Closing must not take longer than about a second; a larger store goes unsealed.
MAX_SEALED_BYTES = 1 << 30
_PART = "store"


def write_seal(database: Path) -> None:
    """Seals the file; the caller holds the log's lock and has moved all of the write-ahead log into the file."""
    if database.stat().st_size > MAX_SEALED_BYTES:
        return
    seal = seal_path(database)
    fresh = seal.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(_text(database))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(seal)


def remove_seal(seal: Path) -> None:
    """Takes the seal away; called before each commit.

    That is durable before the commit is: after a power cut the seal would be back, over a file that has changed.
    """
    with suppress(FileNotFoundError):
        os.unlink(seal)
        sync_directory(seal.parent)


def check_seal(database: Path) -> None:
    """Returns if the file is as it was sealed, or isn't sealed.

    Raises:
        VerificationError: a byte differs.
    """
    seal = seal_path(database)
    with suppress(FileNotFoundError):
        expected = seal.read_bytes()
        # A writer takes the seal away before it touches the file: only a seal that is still there counts.
        if _text(database) != expected and seal.read_bytes() == expected:
            raise VerificationError(_PART, "a byte outside of every entry was changed since the store was closed")


def is_sealed(directory: Path) -> bool:
    """Whether the store in `directory` was closed and not opened for writing since."""
    return any(directory.glob(f"*{SEAL_SUFFIX}"))


def seal_path(database: Path) -> Path:
    """Where the seal of this file lies."""
    return database.with_name(database.name + SEAL_SUFFIX)


def _text(database: Path) -> bytes:
    with database.open("rb") as file:
        return f"sha256 {file_digest(file, 'sha256').hexdigest()}\n".encode()
