"""What a log asks of its store.

A store keeps five things: entries with the perfect nodes each leaf completes, the few facts they are found by, signed
checkpoints, sealed payloads, and what outsiders gave for our heads. `sqlite` is the embedded default, `postgresql` serves
several hosts; another store is one module with these protocols, and passes tests/audit/test_log.py unchanged.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from audit.merkle import LeafIndex, Sha256, TreeSize


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """The facts an entry is found by, all copied from the entry; "" for what its kind doesn't have.

    Attributes:
        model: `id@version`.
        status: a decision's status, feedback's outcome, or what else was done.
        actor: the keyed digest of the practitioner, operator or account.
    """

    index: LeafIndex
    entry_id: str
    type: str
    time: str
    service: str
    model: str
    status: str
    actor: str


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """A sealed payload and the patient key it is under; `sealed` is None once the erasure `erasure` took it away."""

    key_ref: int
    sealed: bytes | None
    erasure: str = ""


@dataclass(frozen=True, slots=True)
class KeptPayload:
    """A payload that is still there: under which key, of which entry, and the entry's time."""

    key_ref: int
    index: LeafIndex
    time: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """What took payloads away: the id of its erasure/v1 entry, and the salt under which that entry digests their indices."""

    id: str
    salt: bytes


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One entry as stored: `nodes` is the perfect nodes its leaf completes, 32 bytes each, leaf hash first."""

    summary: EntrySummary
    nodes: bytes
    entry: bytes
    payload: StoredPayload | None


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed checkpoint and the size it is filed under."""

    size: TreeSize
    note: bytes


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What will be asked of a transaction as soon as it has the lock, for a store to which each question is a journey.

    `places` of `entry_ids`; and, where the log has grown beyond `since`, `entries_of` of `types` from there to its last entry.
    """

    entry_ids: Sequence[str] = ()
    types: Sequence[str] = ()
    since: int = 0


def nothing_foreseen() -> Foreseen:
    """Of a caller that can't tell."""
    return Foreseen()


@dataclass(frozen=True, slots=True)
class Anchor:
    """What an outsider gave for the head of `size`.

    `kind` is `cosignature` (evidence: the checkpoint with the witness's signature, a whole note) or `rfc3161` (evidence: the
    DER time stamp over the SHA-256 of the checkpoint stored for this size); `authority` is its name, `time` when we got it.
    """

    size: TreeSize
    kind: str
    authority: str
    evidence: bytes
    time: str


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries to find; times are entry times, both inclusive; None asks for nothing.

    `model` is `id@version`, or an id alone for every version. `before` gives entries of lower index only: the next page.
    """

    since: str | None = None
    until: str | None = None
    type: str | None = None
    service: str | None = None
    model: str | None = None
    status: str | None = None
    actor: str | None = None
    before: int | None = None
    limit: int = 100


class Reader(Protocol):
    """Reads of what is committed; all raise StorageError when the store fails."""

    def newest_checkpoint(self) -> StoredCheckpoint: ...

    def checkpoint(self, size: TreeSize) -> bytes | None:
        """The signed checkpoint of exactly this size."""
        ...

    def node(self, level: int, position: int) -> Sha256:
        """The perfect node (level, position); StorageError when its leaves aren't all there."""
        ...

    def entry(self, index: LeafIndex) -> bytes | None: ...

    def index_of(self, entry_id: str) -> LeafIndex | None: ...


class Transaction(Reader, Protocol):
    """Holds the log's lock, across threads, processes and (where the store can) hosts."""

    def places(self, entry_ids: Sequence[str]) -> Mapping[str, tuple[LeafIndex, bytes]]:
        """Index and bytes of those of these entries that are in the log already."""
        ...

    def entries_of(self, types: Sequence[str], start: int, last: LeafIndex) -> list[bytes]:
        """The entries of these types from index `start` on, and in any case entry `last`, in order; costs what came since."""
        ...

    def append(self, entries: Sequence[StoredEntry], checkpoint: StoredCheckpoint) -> None:
        """Writes all or nothing, and returns only when it is durable."""
        ...

    def erase(
        self, erasure: Erasure, *, key_refs: Sequence[int] = (), indices: Sequence[LeafIndex] = ()
    ) -> tuple[LeafIndex, ...]:
        """Takes away the payloads under these keys and of these entries, durably.

        Gives the entries whose payload this erasure took, in order, also where it is done again.
        """
        ...


class Storage(Reader, Protocol):
    """A store open for serving; safe to use from many threads."""

    def exclusive(self, turn: Callable[[], Foreseen] = nothing_foreseen) -> AbstractContextManager[Transaction]:
        """The lock, for one batch or one erasure; leaving without either writes nothing.

        `turn` is called once, when no other process of this host is before us any more, and tells what will be asked; that
        only saves time: the transaction answers the same questions without it.
        """
        ...

    def entries(self, start: LeafIndex, count: int) -> list[bytes]:
        """Up to `count` entries from `start` on."""
        ...

    def nodes(self, level: int, start: int, count: int) -> bytes:
        """Up to `count` perfect nodes of one level from position `start` on, 32 bytes each."""
        ...

    def payload(self, index: LeafIndex) -> StoredPayload | None: ...

    def payloads_under(self, key_ref: int) -> list[LeafIndex]:
        """The entries whose payload is under this key, in order: a patient's."""
        ...

    def kept_payloads(self, key_ref: int, after: int, count: int) -> list[KeptPayload]:
        """Up to `count` payloads that are still there, by key and index: from beyond index `after` of this key on."""
        ...

    def find(self, query: Query) -> list[EntrySummary]:
        """The newest matching entries first."""
        ...

    def latest_time(self) -> str | None:
        """The latest time that any entry says, not always the newest entry's: a clock may have gone back."""
        ...

    def keep_anchor(self, anchor: Anchor) -> bool:
        """Stores it durably, beside the authority's older ones; False where it gave one for this size, which stays.

        An entry names what is kept, so it must not be replaced, also where two hosts ask at once.
        """
        ...

    def anchors(self, kind: str | None = None, size: TreeSize | None = None) -> list[Anchor]:
        """The anchors, of this kind and size where they are given, in order of size, then authority."""
        ...

    def newest_anchors(self) -> list[Anchor]:
        """Of each kind and authority the anchor of the largest size, in order of kind, then authority."""
        ...

    def newest_anchored(self, kind: str) -> TreeSize | None:
        """The largest size that has an anchor of this kind."""
        ...

    def scrub(self) -> None:
        """Leaves no copy of what was erased in the store's own files: write-ahead logs, free pages."""
        ...

    def close(self) -> None: ...


class Scan(Protocol):
    """A store open for verification: one snapshot, read from front to back in constant memory.

    The iterators raise StorageError where the store can't be read on.
    """

    def check_form(self) -> None:
        """Raises VerificationError when this isn't a store of ours, to the letter of its schema."""
        ...

    def check_integrity(self) -> None:
        """Raises VerificationError when the store's own structure is damaged anywhere."""
        ...

    def entries(self) -> Iterator[StoredEntry]:
        """Every entry in order of index."""
        ...

    def checkpoints(self) -> Iterator[StoredCheckpoint]:
        """Every checkpoint in order of size."""
        ...

    def anchors(self) -> Iterator[Anchor]:
        """Every anchor in order of size."""
        ...

    def erasures(self) -> Iterator[Erasure]:
        """Every erasure that took a payload."""
        ...

    def stray_index(self, size: TreeSize) -> int | None:
        """An index with facts or a payload that lies outside 0..size-1."""
        ...

    def close(self) -> None: ...
