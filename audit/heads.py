"""Heads that outsiders have cosigned, kept in a directory of their own: what opening a log is compared with.

    heads/<witness name, percent-encoded>.checkpoint      the newest that this witness cosigned, a whole note

The head file shows that the store was put back by itself; put back together with the head file it would look well. A head
that a witness cosigned exists outside, too, so a copy here only saves the way: an operator who removes it hasn't removed the
witness's. Put the directory on another volume, or on one that only grows; any further checkpoint of the log laid into it is
compared as well. docs/outside-heads.md says what each kind of rewrite looks like.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from audit.durable_files import TEMPORARY_SUFFIX, DurableWriter
from audit.errors import AuditError, FormatError, SignatureError, StorageError
from audit.head import check_extends
from audit.merkle import NodeReader
from audit.note import VerifierKey, parse_note
from audit.private_files import sync_directory
from audit.storage import StoredCheckpoint

SUFFIX = ".checkpoint"


def read_heads(directory: Path) -> list[tuple[str, bytes]]:
    """Name and content of every file in the directory, in order; none where there is no directory.

    Raises:
        StorageError: one can't be read.
    """
    try:
        return [(path.name, path.read_bytes()) for path in head_files(directory)]
    except OSError as exc:
        message = f"heads directory {directory}: {exc.strerror}"
        raise StorageError(message) from exc


def head_files(directory: Path) -> list[Path]:
    """Every file in the directory, in order of name, save those that are being written; none where there is no directory.

    Folders are passed over: the root of a volume of its own has a `lost+found`.
    """
    try:
        return sorted(
            path for path in directory.iterdir() if not (path.name.endswith(TEMPORARY_SUFFIX) or path.is_dir())
        )
    except FileNotFoundError:
        return []


def check_heads(
    directory: Path, keys: Sequence[VerifierKey], origin: str, newest: StoredCheckpoint, node: NodeReader
) -> int:
    """How many heads the log whose newest checkpoint is `newest` was compared with; it extends each of them.

    Raises:
        RollbackError: the log is smaller than a head; both notes are in the error.
        ForkError: it has another root at a head's size.
        StorageError: a file can't be read, or isn't a signed checkpoint of this log, so that nothing can be told by it.
    """
    heads = read_heads(directory)
    for name, note in heads:
        try:
            known = open_checkpoint(note, keys, origin=origin)
        except (FormatError, SignatureError) as exc:
            message = f"heads directory: {name}: {exc}"
            raise StorageError(message) from exc
        check_extends(known, note, newest.size, newest.note, node)
    return len(heads)


def keep_head(directory: Path, witness: str, note: bytes) -> None:
    """Keeps `note`, which was checked, as the newest head that this witness cosigned.

    A larger one that is there stays: if it isn't of the same tree, opening the log must still be compared with it. One of the
    same size and another root stays too, and `note` goes beside it.

    Raises:
        StorageError: it can't be written.
    """
    path = directory / f"{quote(witness, safe='')}{SUFFIX}"
    try:
        if not directory.is_dir():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(directory.parent)
        with _locked(directory):
            there = _read(path)
            given = parse_checkpoint(parse_note(note).text)
            if there is not None and there.size > given.size:
                return
            if there is not None and there.size == given.size and there.root != given.root:
                path = path.with_name(f"{path.name.removesuffix(SUFFIX)}.{given.root.hex()[:8]}{SUFFIX}")
            writer = DurableWriter()
            writer.write(path, note)
            writer.sync_folders()
    except OSError as exc:
        message = f"heads directory {directory}: {exc.strerror}"
        raise StorageError(message) from exc


def _read(path: Path) -> Checkpoint | None:
    """The checkpoint that is there; a damaged one counts as none, for what replaces it was checked."""
    try:
        return parse_checkpoint(parse_note(path.read_bytes()).text)
    except (FileNotFoundError, AuditError):
        return None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
