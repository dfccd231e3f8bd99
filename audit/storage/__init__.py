"""What a log asks of its store.

A store keeps four things: entries with the few columns they are found by, the perfect nodes each leaf completes,
signed checkpoints, and sealed payloads. `sqlite` is the embedded default; another store is one module with these
three protocols, and passes tests/audit/test_log.py unchanged.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from audit.merkle import LeafIndex, Sha256, TreeSize


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """The columns an entry is found by, all copied from the entry; `service` is "" for kinds without one."""

    index: LeafIndex
    entry_id: str
    type: str
    time: str
    service: str


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One entry as stored: `nodes` is the perfect nodes its leaf completes, 32 bytes each, leaf hash first."""

    summary: EntrySummary
    entry: bytes
    nodes: bytes
    sealed: bytes | None


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed checkpoint and the size it is filed under."""

    size: TreeSize
    note: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries to find; times are entry times, both inclusive; None asks for nothing."""

    since: str | None = None
    until: str | None = None
    type: str | None = None
    service: str | None = None
    limit: int = 100


class Reader(Protocol):
    """Reads of what is committed; all raise StorageError when the store fails."""

    def newest_checkpoint(self) -> StoredCheckpoint: ...

    def node(self, level: int, position: int) -> Sha256:
        """The perfect node (level, position); StorageError when its leaves aren't all there."""
        ...

    def entry(self, index: LeafIndex) -> bytes | None: ...

    def index_of(self, entry_id: str) -> LeafIndex | None: ...


class Transaction(Reader, Protocol):
    """Holds the log's lock, across threads, processes and (where the store can) hosts."""

    def checkpoint(self, size: TreeSize) -> bytes | None:
        """The signed checkpoint of exactly this size."""
        ...

    def append(self, entries: Sequence[StoredEntry], checkpoint: StoredCheckpoint) -> None:
        """Writes all or nothing, and returns only when it is durable."""
        ...


class Storage(Reader, Protocol):
    """A store open for serving; safe to use from many threads."""

    def exclusive(self) -> AbstractContextManager[Transaction]:
        """The lock, for one batch; leaving without `append` writes nothing."""
        ...

    def sealed_payload(self, index: LeafIndex) -> bytes | None: ...

    def find(self, query: Query) -> list[EntrySummary]:
        """The newest matching entries first."""
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

    def stray_index(self, size: TreeSize) -> int | None:
        """An index with nodes or a payload that lies outside 0..size-1."""
        ...

    def close(self) -> None: ...
