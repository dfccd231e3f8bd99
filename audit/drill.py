"""A drill for a site: its own log, copied, is tampered with in ten ways, and each alarm is shown as it would be seen.

The log itself is only read. The copy (see `audit.drill_copy`) is damaged by whoever has all rights on the machine: the seal
is taken away each time, and where a key is needed it is used. What is seen is what `bedside audit verify` says, which is given
the public key and the head file. A further way is one function and its line in `WAYS`.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from audit.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint, sign_checkpoint
from audit.committer import summarise
from audit.drill_copy import Copy, DrillError, make_copy
from audit.entry import format_entry, read_header
from audit.entry_operations import SwitchEntry
from audit.errors import AuditError, ForkError, RollbackError
from audit.head import HEAD_FILE
from audit.keys import SEED_BYTES, Ed25519Signer
from audit.merkle import Frontier, LeafIndex, TreeSize, extend, leaf_hash, root
from audit.note import Note, format_note, parse_note
from audit.storage import Scan
from audit.storage.sqlite_scan import SqliteScan
from audit.storage.sqlite_schema import DATABASE_FILE, connect
from audit.storage.sqlite_seal import seal_path
from audit.verify import Trust, verify_log

DEFAULT_LIMIT = 2_000
Way = Callable[["Target"], None]


@dataclass(frozen=True, slots=True)
class Alarm:
    """What was done, and what the verification said to it; `message` is "" where it said nothing.

    `kind` is rollback, fork or invalid, "" for nothing; `is_undone` says why it couldn't be done.
    """

    way: str
    kind: str
    message: str
    undone: str = ""

    @property
    def is_detected(self) -> bool:
        return bool(self.kind)


@dataclass(frozen=True, slots=True)
class Target:
    """A fresh copy to tamper with: its open database, and what whoever tampers may use."""

    database: apsw.Connection
    size: int
    signer: Ed25519Signer
    stranger: Ed25519Signer

    def change(self, statement: str, *bindings: object) -> None:
        """Runs the statement, which must meet a row; raises DrillError."""
        self.database.execute(statement, bindings)
        if not self.database.changes():
            raise DrillError("nothing in the log to do it to")

    def value(self, statement: str, *bindings: object) -> bytes:
        row = self.database.execute(statement, bindings).fetchone()
        if row is None:
            raise DrillError("nothing in the log to do it to")
        return bytes(row[0])


def run_drill(
    scan: Scan, workspace: Path, random_bytes: Callable[[int], bytes], limit: int = DEFAULT_LIMIT
) -> Iterator[Alarm]:
    """One alarm for each way of tampering with a copy in the empty folder `workspace`.

    Raises:
        DrillError: the log has too few entries, or its untouched copy doesn't verify.
    """
    copy = make_copy(scan, workspace / "copy", random_bytes(SEED_BYTES), limit)
    stranger = Ed25519Signer(copy.signer.verifier_key.name, random_bytes(SEED_BYTES))
    untouched = _verify(copy.directory, copy.signer)
    if untouched is not None:
        message = f"drill: the log doesn't verify as it is: {untouched}"
        raise DrillError(message) from untouched
    for number, (name, way) in enumerate(WAYS.items()):
        folder = workspace / f"tampered-{number}"
        shutil.copytree(copy.directory, folder)
        yield _tamper(folder, name, way, copy, stranger)
        shutil.rmtree(folder)


def _tamper(folder: Path, name: str, way: Way, copy: Copy, stranger: Ed25519Signer) -> Alarm:
    database = folder / DATABASE_FILE
    connection = connect(database, apsw.SQLITE_OPEN_READWRITE)
    try:
        with connection:
            way(Target(connection, copy.size, copy.signer, stranger))
    except DrillError as exc:
        return Alarm(name, "", "", undone=str(exc))
    finally:
        connection.close()
        seal_path(database).unlink(missing_ok=True)
    error = _verify(folder, copy.signer)
    if error is None:
        return Alarm(name, "", "")
    kind = {RollbackError: "rollback", ForkError: "fork"}.get(type(error), "invalid")
    return Alarm(name, kind, str(error))


def _verify(directory: Path, signer: Ed25519Signer) -> AuditError | None:
    """What `bedside audit verify` would say against the log, None where it holds."""
    key = signer.verifier_key
    head = (directory / HEAD_FILE).read_bytes()
    try:
        scan = SqliteScan(directory)
        try:
            verify_log(scan, Trust((key,), key.name, (head,)))
        finally:
            scan.close()
    except AuditError as exc:
        return exc
    return None


def _flip_entry(target: Target) -> None:
    index = target.size // 2
    entry = bytearray(target.value("SELECT entry FROM entries WHERE idx = ?", index))
    entry[len(entry) // 2] ^= 1
    target.change("UPDATE entries SET entry = ? WHERE idx = ?", bytes(entry), index)


def _drop_last(target: Target) -> None:
    for table in ("entries", "facts", "payloads"):
        target.database.execute(f"DELETE FROM {table} WHERE idx >= ?", (target.size - 2,))  # noqa: S608 - fixed names


def _change_column(target: Target) -> None:
    target.change("UPDATE facts SET status = 'overridden' WHERE idx = ?", target.size // 2)


def _swap_entries(target: Target) -> None:
    """With all that belongs to them, so that only their places are wrong."""
    first, second = target.size // 2, target.size // 2 + 1
    for table in ("entries", "facts", "payloads"):
        for before, after in ((first, -1), (second, first), (-1, second)):
            target.database.execute(f"UPDATE {table} SET idx = ? WHERE idx = ?", (after, before))  # noqa: S608


def _sign_with_another_key(target: Target) -> None:
    """The newest checkpoint, word for word, by another key of the same name."""
    text = parse_note(_newest_note(target)).text
    forged = sign_checkpoint(parse_checkpoint(text), [target.stranger])
    target.change("UPDATE checkpoints SET note = ? WHERE size = ?", forged, target.size)


def _edit_checkpoint(target: Target) -> None:
    """Another root under the old signature."""
    note = parse_note(_newest_note(target))
    checkpoint = parse_checkpoint(note.text)
    other = Checkpoint(checkpoint.origin, checkpoint.size, leaf_hash(b"another root"))
    forged = format_note(Note(format_checkpoint(other), note.signatures))
    target.change("UPDATE checkpoints SET note = ? WHERE size = ?", forged, target.size)


def _roll_back(target: Target) -> None:
    """To an earlier checkpoint, without a trace in the database: only the head file knows better."""
    earlier = "SELECT max(size) FROM checkpoints WHERE size < ?"
    size = int(target.database.execute(earlier, (target.size,)).get)
    target.change("DELETE FROM checkpoints WHERE size > ?", size)
    for table in ("entries", "facts", "payloads"):
        target.database.execute(f"DELETE FROM {table} WHERE idx >= ?", (size,))  # noqa: S608 - fixed names


def _fork(target: Target) -> None:
    """Another last entry, hashed and signed as it should be: a sound log that isn't the one whose head is known."""
    last = LeafIndex(target.size - 1)
    old = read_header(target.value("SELECT entry FROM entries WHERE idx = ?", last))
    entry = format_entry(
        SwitchEntry(
            id=f"{int(old.id, 16) ^ 1:032x}",
            time=old.time,
            clock="synchronised",
            tenant=old.tenant,
            scope="service",
            name="drill",
            off=True,
            reason="drill",
            operator=None,
        )
    )
    leaves = [leaf_hash(row[0]) for row in target.database.execute("SELECT entry FROM entries ORDER BY idx")]
    frontier, completed = extend(Frontier(), [*leaves[:-1], leaf_hash(entry)])
    found = summarise(last, read_header(entry))
    target.change("UPDATE entries SET entry = ?, hashes = ? WHERE idx = ?", entry, b"".join(completed[-1]), last)
    target.change(
        "UPDATE facts SET entry_id = ?, type = ?, time = ?, service = ?, model = ?, status = ?, actor = ? WHERE idx = ?",
        bytes.fromhex(found.entry_id), found.type, found.time, found.service, found.model, found.status, found.actor, last,
    )  # fmt: skip
    target.database.execute("DELETE FROM payloads WHERE idx = ?", (last,))
    note = sign_checkpoint(
        Checkpoint(target.signer.verifier_key.name, TreeSize(target.size), root(frontier)), [target.signer]
    )
    target.change("UPDATE checkpoints SET note = ? WHERE size = ?", note, target.size)


def _remove_payload(target: Target) -> None:
    target.change("DELETE FROM payloads WHERE idx = (SELECT max(idx) FROM payloads WHERE sealed IS NOT NULL)")


def _change_payload(target: Target) -> None:
    sealed = bytearray(target.value("SELECT sealed FROM payloads WHERE sealed IS NOT NULL ORDER BY idx DESC LIMIT 1"))
    sealed[-1] ^= 1
    target.change(
        "UPDATE payloads SET sealed = ? WHERE idx = (SELECT max(idx) FROM payloads WHERE sealed IS NOT NULL)",
        bytes(sealed),
    )


def _newest_note(target: Target) -> bytes:
    return target.value("SELECT note FROM checkpoints WHERE size = ?", target.size)


WAYS: dict[str, Way] = {
    "flip one bit of an entry": _flip_entry,
    "drop the last two entries": _drop_last,
    "change a column": _change_column,
    "swap two entries": _swap_entries,
    "sign the checkpoint with another key": _sign_with_another_key,
    "edit the checkpoint": _edit_checkpoint,
    "roll back to an earlier checkpoint": _roll_back,
    "fork: another last entry, signed with the log's key": _fork,
    "remove a payload": _remove_payload,
    "change a payload": _change_payload,
}
