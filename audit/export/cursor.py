"""How far an export got: at least once, whatever dies when.

A cursor is a file `<log>/exports/<name>.json`:

    {"destination": "<sha256>", "head": "<signed checkpoint>", "length": 0, "next": 17,
     "origin": "hospital.example/cds-audit/north/1"}

`destination` is the digest of where it goes and in which format, as addresses may hold a secret: nothing is sent to another
by the same cursor, for it would get the rest alone. `length` is how many bytes a file had then, 0 for other destinations.
`next` is the first index that no destination has acknowledged; it moves only after an acknowledgement, by a file that is synced
and then takes the old one's place. A crash in between sends a batch again and never leaves one out. `head` is the
checkpoint the last batch was read under: a log that doesn't extend it was rolled back or rewritten, and then nothing is
exported. One process at a time holds a cursor.
"""

import fcntl
import json
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Self

import msgspec

from audit.errors import FormatError
from audit.export.errors import ExportError
from audit.export.records import head_of
from audit.head import check_extends
from audit.merkle import LeafIndex
from audit.private_files import replace_file
from audit.storage import Reader

DIRECTORY = "exports"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    origin: str
    destination: str
    next: int
    length: int
    head: str


class Cursor:
    """One destination's place in one log, held until `close`."""

    def __init__(self, directory: Path, name: str, origin: str, destination: str) -> None:
        """Takes hold of the cursor `name` of the log in `directory`; `destination` tells format and address from all others.

        Raises:
            ExportError: the name isn't one, another process holds it, it is another log's or destination's, or it can't
                be read.
        """
        if not _NAME.fullmatch(name):
            raise ExportError("cursor: expected letters, digits and ._- as name")
        folder = directory / DIRECTORY
        folder.mkdir(mode=0o700, exist_ok=True)
        self._path = folder / f"{name}.json"
        self._origin = origin
        self._destination = sha256(os.fsencode(destination)).hexdigest()
        self._lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._state = self._hold(name)
        except BaseException:
            os.close(self._lock)
            raise

    def _hold(self, name: str) -> _State | None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            message = f"cursor {name}: another export holds it"
            raise ExportError(message) from exc
        if not self._path.exists():
            return None
        try:
            state = msgspec.json.decode(self._path.read_bytes(), type=_State)
            head_of(state.head.encode())
        except (msgspec.DecodeError, UnicodeDecodeError, FormatError) as exc:
            message = f"cursor {name}: can't be read"
            raise ExportError(message) from exc
        if state.origin != self._origin:
            message = f"cursor {name}: expected one of {self._origin}, got one of {state.origin}"
            raise ExportError(message)
        if state.destination != self._destination:
            message = f"cursor {name}: expected one of this format and destination, got another's; take another name"
            raise ExportError(message)
        return state

    @property
    def length(self) -> int:
        """How many bytes the destination had when it last acknowledged, if it is a file; else 0."""
        return 0 if self._state is None else self._state.length

    @property
    def next(self) -> LeafIndex | None:
        """The first index that was not acknowledged; None where nothing ever was."""
        return None if self._state is None else LeafIndex(self._state.next)

    def check(self, store: Reader) -> None:
        """Returns if the log extends what was exported.

        Raises:
            RollbackError, ForkError: it doesn't; both heads are in the error.
        """
        if self._state is None:
            return
        known_note, newest = self._state.head.encode(), store.newest_checkpoint()
        check_extends(head_of(known_note), known_note, newest.size, newest.note, store.node)

    def advance(self, following: LeafIndex, head: bytes, length: int) -> None:
        """Says, durably, that everything below `following` was acknowledged, as read under the checkpoint `head`."""
        state = _State(self._origin, self._destination, int(following), length, head.decode())
        replace_file(self._path, json.dumps(msgspec.to_builtins(state), sort_keys=True), 0o600)
        self._state = state

    def close(self) -> None:
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
