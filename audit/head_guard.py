"""Whether the newest checkpoint in the store is one to go on from, where this process didn't sign it itself.

Whoever can write to the store could put an entry there under a checkpoint of their own, and the next batch would sign it along.
So before anything is built on such a head:

(1) a key that signs here signed it, for our origin, and it is filed under its own size;
(2) the entries since the head checked before are looked at that say who may append: rotations and switches;
(3) a key of (1) isn't retired, and the log wasn't closed.

Keys that sign here are enough for (1): each is retired only under its successor, so until then all who write share one. For
(2), each look begins where the one before ended, the first at the head file's checkpoint; what the log said of our keys before
that is looked up once, as the log is opened, and only where a successor of ours is listed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from audit.closing import SWITCH_TYPE, check_open
from audit.entry import parse_entry
from audit.entry_operations import KeyRotationEntry
from audit.errors import EpochEndedError, FormatError, KeyFileError, SignatureError, UnsignedHeadError
from audit.head import HeadFile, check_extends, read_checked_frontier
from audit.heads import check_heads
from audit.key_history import INTRODUCE, RETIRE, ROTATION_TYPE, SIGNING
from audit.merkle import LeafIndex, TreeSize
from audit.note import Signer, VerifierKey, open_note
from audit.storage import Foreseen, Query, Storage, StoredCheckpoint, Transaction

_TYPES = (ROTATION_TYPE, SWITCH_TYPE)
_PREFIXES = tuple(f'{{"_t":"{kind}"'.encode() for kind in _TYPES)
# A rotation makes two entries: this many are rotations each week for a life.
_MAX_ROTATIONS = 10_000


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A checkpoint, the keys signing here that signed it, and all that sign here."""

    checkpoint: Checkpoint
    signed_by: tuple[VerifierKey, ...]
    own: tuple[VerifierKey, ...]


class HeadGuard:
    """What this process knows of who may append; one caller at a time, under the log's lock."""

    def __init__(
        self, signers: Callable[[], Sequence[Signer]], listed: Callable[[], Sequence[VerifierKey]], origin: str
    ) -> None:
        """`signers` gives the keys that sign here, `listed` all that the log is known to have had, in their order."""
        self._signers = signers
        self._listed = listed
        self._origin = origin
        self._retired: set[str] = set()
        self._ended: EpochEndedError | None = None
        self._checked = TreeSize(0)

    @property
    def ended(self) -> EpochEndedError | None:
        """What the entry says that closed the log, if one was seen."""
        return self._ended

    def look_up(self, storage: Storage) -> None:
        """Learns which of the keys that sign here the log has retired: rotations from the newest back to our successor's.

        Where no successor is listed there is nothing to learn, and nothing is read.
        """
        own, listed = self._own_ids(), [key.key_id.hex() for key in self._listed()]
        following = listed[listed.index(own[0]) + 1 :] if own[0] in listed else []
        undecided, before = set(own), None
        for _ in range(_MAX_ROTATIONS if following else 0):
            found = storage.find(Query(type=ROTATION_TYPE, before=before, limit=1))
            if not found:
                return
            before = found[0].index
            entry = _signing_rotation(storage.entry(before) or b"")
            if entry is None:
                continue
            if entry.key_id in undecided and entry.action == RETIRE:
                self._retired.add(entry.key_id)
            undecided.discard(entry.key_id)
            if not undecided or (entry.action == INTRODUCE and entry.key_id == following[0]):
                return

    def open(self, stored: StoredCheckpoint, signers: Sequence[Signer] | None = None) -> SignedHead:
        """The checkpoint in `stored`, which keys that sign here signed (1); `signers`: those, where they are known already.

        Raises:
            UnsignedHeadError: none of them did, or it is another log's, or filed under another size.
            KeyFileError: only successors of our keys did.
        """
        own = tuple(signer.verifier_key for signer in (self._signers() if signers is None else signers))
        try:
            opened = open_note(stored.note, own)
            checkpoint = parse_checkpoint(opened.text)
        except (FormatError, SignatureError) as exc:
            raise self._refusal(stored, own, exc) from exc
        if (checkpoint.origin, checkpoint.size) != (self._origin, stored.size):
            message = (
                f"store: the newest checkpoint, filed under size {stored.size}, isn't the one of that size of this log"
            )
            raise UnsignedHeadError(message)
        return SignedHead(checkpoint, opened.signed_by, own)

    def foreseen(self, entry_ids: Sequence[str]) -> Foreseen:
        """What a batch of these entries will ask of the store: their places, and what (2) looks at."""
        return Foreseen(entry_ids, _TYPES, self._checked)

    def follow(self, head: SignedHead, transaction: Transaction, since: TreeSize | None = None) -> None:
        """Takes the entries since the head checked before, or `since` (2), and returns if a key in force signed (3).

        Raises:
            KeyFileError: our keys were retired.
            UnsignedHeadError: the keys that signed were.
        """
        size = head.checkpoint.size
        if size:
            start = self._checked if since is None else since
            for entry in transaction.entries_of(_TYPES, start, LeafIndex(size - 1)):
                self.take(entry)
        own = [key.key_id.hex() for key in head.own]
        if all(key_id in self._retired for key_id in own):
            raise _retired(own[0])
        if all(key.key_id.hex() in self._retired for key in head.signed_by):
            raise _signed_by_retired(size, head.signed_by)
        self._checked = size

    def take(self, entry: bytes) -> None:
        """Learns from an entry of the log, if it is one to learn from."""
        if not entry.startswith(_PREFIXES):
            return
        try:
            check_open(entry)
        except EpochEndedError as exc:
            self._ended = exc
        rotation = _signing_rotation(entry)
        if rotation is not None and rotation.action == RETIRE:
            self._retired.add(rotation.key_id)
        elif rotation is not None and rotation.action == INTRODUCE:
            self._retired.discard(rotation.key_id)

    def take_own(self, entries: Sequence[bytes], size: TreeSize) -> None:
        """Learns from what this process appended itself, up to `size`."""
        for entry in entries:
            self.take(entry)
        self._checked = size

    def check_goes_on(self) -> None:
        """Returns if no entry that was looked at closed the log; raises EpochEndedError."""
        if self._ended is not None:
            raise EpochEndedError(self._ended.following, self._ended.reason)

    def _own_ids(self) -> list[str]:
        return [signer.verifier_key.key_id.hex() for signer in self._signers()]

    def _refusal(
        self, stored: StoredCheckpoint, own: Sequence[VerifierKey], reason: Exception
    ) -> UnsignedHeadError | KeyFileError:
        """Why none of our keys signed: the log went on to a successor of ours, or back to a predecessor, or it is forged."""
        listed = list(self._listed())
        try:
            signed_by = open_note(stored.note, listed).signed_by
        except (FormatError, SignatureError):
            signed_by = ()
        if not signed_by or any(key in own for key in signed_by):
            message = (
                f"store: the newest checkpoint, of size {stored.size}, isn't signed by the log: {reason}. "
                "It is forged, or by a key that isn't among the key files and in log.vkey here"
            )
            return UnsignedHeadError(message)
        ours = [listed.index(key) for key in own if key in listed]
        if ours and max(map(listed.index, signed_by)) > max(ours):
            return _retired(own[0].key_id.hex())
        return _signed_by_retired(stored.size, signed_by)


@dataclass(frozen=True, slots=True)
class HeadPlace:
    """Where heads of the log `origin` are kept on this host."""

    origin: str
    head_file: HeadFile
    heads_directory: Path


def check_start(place: HeadPlace, guard: HeadGuard, vkeys: Sequence[VerifierKey], storage: Storage) -> None:
    """Compares the store with the head file and the heads that witnesses cosigned, as a log is opened.

    (1) under the lock, so that no other process moves on between the two reads;
    (2) the newest checkpoint is signed by us, for our origin, and the stored nodes lead to its root;
    (3) the head file's checkpoint is signed by the log, whose keys are `vkeys`, and the store extends it;
    (4) so are those in the heads directory, and it extends each of them;
    (5) the key of (2) is in force, as far as the entries since the head file's checkpoint tell.

    Raises:
        UnsignedHeadError, KeyFileError: (2) or (5).
        RollbackError, ForkError: (3) or (4); both heads are in the error.
        StorageError: the stored nodes don't lead to the root, or a kept head can't be read.
    """
    with storage.exclusive() as transaction:  # (1)
        newest = transaction.newest_checkpoint()
        signed = guard.open(newest)  # (2)
        known_note = place.head_file.read()
        if known_note.startswith(newest.note):  # a process died before it cut off the rest of a longer one
            known_note = newest.note
        known = open_checkpoint(known_note, vkeys, origin=place.origin)  # (3)
        read_checked_frontier(signed.checkpoint, transaction.node)
        check_extends(known, known_note, newest.size, newest.note, transaction.node)
        check_heads(place.heads_directory, vkeys, place.origin, newest, transaction.node)  # (4)
        guard.follow(signed, transaction, since=known.size)  # (5)


def _signing_rotation(entry: bytes) -> KeyRotationEntry | None:
    if not entry.startswith(_PREFIXES):
        return None
    parsed = parse_entry(entry)
    return parsed if isinstance(parsed, KeyRotationEntry) and parsed.purpose == SIGNING else None


def _retired(key_id: str) -> KeyFileError:
    return KeyFileError(f"signing key {key_id}: retired, and its successor isn't among the key files here")


def _signed_by_retired(size: int, signed_by: Sequence[VerifierKey]) -> UnsignedHeadError:
    ids = ", ".join(key.key_id.hex() for key in signed_by)
    message = (
        f"store: the newest checkpoint, of size {size}, isn't signed by a key in force, only by retired ones ({ids})"
    )
    return UnsignedHeadError(message)
