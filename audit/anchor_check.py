"""What outsiders gave for a log's heads, held against the log: the evidence in the store, and the entries that name it.

Evidence for a size counts if it is about the checkpoint of that size: a cosignature over its very text, a time stamp over its
note. An anchor/v1 entry says what evidence came, so evidence that was taken away or exchanged later shows, even where the
verifier has no key of the outsider. Evidence that no entry names is no fault: the process may have died before it wrote one.

Told of checkpoints, entries and the end in order, as `audit.verify` meets them; memory for what waits to be named alone. Pure.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256

from audit.cosignature import cosigned_time_s
from audit.entry_operations import AnchorEntry
from audit.errors import AuditError, ForkError, RollbackError, SignatureError, StorageError, VerificationError
from audit.key_history import KeyHistory
from audit.merkle import LeafIndex
from audit.note import ED25519_COSIGNATURE, KEY_TYPES, Note, VerifierKey, parse_note
from audit.storage import Anchor, StoredCheckpoint

ANCHOR_TYPE = "anchor/v1"
COSIGNATURE, RFC3161 = "cosignature", "rfc3161"

# Gives the stamped time of a note, or raises SignatureError; reading time stamps is no pure matter.
CheckTimestamp = Callable[[bytes, bytes], datetime]


@dataclass(frozen=True, slots=True)
class Anchored:
    """How much of one kind of evidence there is, how much of it was checked against its giver's key, and the newest.

    Where keys are given, the newest is the newest that was checked, and `newest_time` its giver's word; without keys it is what
    the evidence or the store says.
    """

    count: int = 0
    checked: int = 0
    newest_size: int | None = None
    newest_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class AnchorReport:
    """The evidence by kind, and how many pieces no entry names."""

    cosignatures: Anchored = Anchored()
    timestamps: Anchored = Anchored()
    unnamed: int = 0


class AnchorCheck:
    """Where the comparison stands."""

    def __init__(
        self,
        anchors: Iterator[Anchor],
        keys: KeyHistory,
        witness_keys: tuple[VerifierKey, ...],
        check_timestamp: CheckTimestamp | None,
    ) -> None:
        self._pending = anchors
        self._keys = keys
        self._witness_keys = witness_keys
        self._check_timestamp = check_timestamp
        self._unnamed: set[tuple[int, str, str, str, str]] = set()
        self._cosignatures = Anchored()
        self._timestamps = Anchored()
        self._newest_note = b""
        self._next = self._advance()

    def pass_checkpoint(self, stored: StoredCheckpoint) -> None:
        """Checks the evidence for a checkpoint, which itself holds.

        Raises:
            VerificationError: it proves nothing about this checkpoint, or there is evidence for a size without one.
            ForkError: a witness cosigned another tree of this size, which the log signed too.
        """
        self._newest_note = stored.note
        while self._next is not None and self._next.size <= stored.size:
            anchor = self._next
            if anchor.size < stored.size:
                raise VerificationError(_part(anchor), "there is no checkpoint of its size")
            if anchor.kind == COSIGNATURE:
                self._take_cosignature(anchor, stored)
            elif anchor.kind == RFC3161:
                self._take_timestamp(anchor, stored)
            self._unnamed.add(_place(anchor))
            self._next = self._advance()

    def take(self, index: LeafIndex, entry: AnchorEntry) -> None:
        """Returns if the evidence that the entry names is there.

        Raises:
            VerificationError: it isn't, or is another.
        """
        place = (entry.size, entry.kind, entry.authority, entry.evidence, entry.time)
        if place not in self._unnamed:
            message = f"the {entry.kind} of {entry.authority} for size {entry.size} that it names is missing or another"
            raise VerificationError("anchor", message, index)
        self._unnamed.discard(place)

    def finish(self) -> AnchorReport:
        """The report, after the last entry.

        Raises:
            RollbackError: a witness cosigned a larger tree, which the log signed.
            VerificationError: other evidence for a larger one.
        """
        if self._next is not None:
            if self._next.kind == COSIGNATURE:
                self._check_signed(self._next)
                raise RollbackError(self._next.evidence, self._newest_note)
            raise VerificationError(_part(self._next), "the log has no such size")
        return AnchorReport(self._cosignatures, self._timestamps, len(self._unnamed))

    def _take_cosignature(self, anchor: Anchor, stored: StoredCheckpoint) -> None:
        try:
            note, own = parse_note(anchor.evidence), parse_note(stored.note)
            times = [cosigned_time_s(anchor.evidence, key) for key in self._witness_keys if _has_line(note, key)]
        except AuditError as exc:
            raise VerificationError(_part(anchor), str(exc)) from exc
        if note.text != own.text:
            self._check_signed(anchor)
            raise ForkError(anchor.evidence, stored.note)
        said = times or [_said_time_s(line.value) for line in note.signatures if line not in own.signatures]
        if not said:
            raise VerificationError(_part(anchor), "nobody but the log signed it")
        named = [key for key in self._witness_keys if key.name == anchor.authority]
        if named and not any(_has_line(note, key) for key in named):
            raise VerificationError(_part(anchor), "no signature by a key given for this witness")
        if self._witness_keys and not times:
            self._cosignatures = replace(self._cosignatures, count=self._cosignatures.count + 1)
            return
        newest = datetime.fromtimestamp(max(said), UTC) if max(said) < _YEAR_9999_S else None
        self._cosignatures = _add(self._cosignatures, anchor, newest, checked=bool(times))

    def _take_timestamp(self, anchor: Anchor, stored: StoredCheckpoint) -> None:
        if self._check_timestamp is None:
            self._timestamps = _add(self._timestamps, anchor, _stored_time(anchor), checked=False)
            return
        try:
            time = self._check_timestamp(anchor.evidence, stored.note)
        except SignatureError as exc:
            raise VerificationError(_part(anchor), str(exc)) from exc
        self._timestamps = _add(self._timestamps, anchor, time, checked=True)

    def _check_signed(self, anchor: Anchor) -> None:
        """Returns if the log signed the evidence: only then does it say something about the log."""
        try:
            self._keys.open_head(anchor.evidence, None)
        except AuditError as exc:
            raise VerificationError(_part(anchor), str(exc)) from exc

    def _advance(self) -> Anchor | None:
        try:
            return next(self._pending, None)
        except StorageError as exc:
            raise VerificationError("anchors", str(exc)) from exc


_YEAR_9999_S = 253_402_300_800
_COSIGNATURE_BYTES = KEY_TYPES[ED25519_COSIGNATURE].signature_bytes


def _add(so_far: Anchored, anchor: Anchor, time: datetime | None, *, checked: bool) -> Anchored:
    return Anchored(so_far.count + 1, so_far.checked + checked, anchor.size, time)


def _has_line(note: Note, key: VerifierKey) -> bool:
    return any((line.name, line.key_id) == (key.name, key.key_id) for line in note.signatures)


def _said_time_s(value: bytes) -> int:
    """The time in a line that may be a cosignature; 0 where it can't be one."""
    return int(struct.unpack(">Q", value[:8])[0]) if len(value) == _COSIGNATURE_BYTES else 0


def _stored_time(anchor: Anchor) -> datetime:
    try:
        return datetime.fromisoformat(anchor.time).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise VerificationError(_part(anchor), "its time is none") from exc


def _place(anchor: Anchor) -> tuple[int, str, str, str, str]:
    return anchor.size, anchor.kind, anchor.authority, sha256(anchor.evidence).hexdigest(), anchor.time


def _part(anchor: Anchor) -> str:
    return f"anchor of size {anchor.size}, {anchor.kind} of {anchor.authority}"
