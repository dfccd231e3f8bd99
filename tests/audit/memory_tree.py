"""A whole log in memory: what publishing reads of a store, real hashes and signatures, no database."""

from __future__ import annotations

from collections.abc import Iterable

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.errors import StorageError
from audit.keys import Ed25519Signer
from audit.merkle import Frontier, LeafIndex, Sha256, TreeSize, extend, leaf_hash, root
from audit.note import Signer
from audit.storage import Anchor, StoredCheckpoint

ORIGIN = "hospital.example/cds-audit/north/1"
SIGNER = Ed25519Signer(ORIGIN, bytes(range(32)))


class MemoryTree:
    """A growing log; `grow` appends entries under one new checkpoint."""

    def __init__(self, *signers: Signer, origin: str = ORIGIN) -> None:
        self._signers = signers or (SIGNER,)
        self._origin = origin
        self._entries: list[bytes] = []
        self._levels: list[list[Sha256]] = []
        self._frontier = Frontier()
        self._checkpoints: dict[int, bytes] = {}
        self.kept: list[Anchor] = []
        self.grow([])

    @property
    def size(self) -> TreeSize:
        return self._frontier.size

    @property
    def root(self) -> Sha256:
        return root(self._frontier)

    def grow(self, entries: Iterable[bytes]) -> bytes:
        fresh = list(entries)
        self._frontier, completed = extend(self._frontier, [leaf_hash(entry) for entry in fresh])
        self._entries += fresh
        for nodes in completed:
            for level, node in enumerate(nodes):
                self._levels += [[]] if level == len(self._levels) else []
                self._levels[level].append(node)
        note = sign_checkpoint(Checkpoint(self._origin, self.size, self.root), self._signers)
        self._checkpoints[self.size] = note
        return note

    def newest_checkpoint(self) -> StoredCheckpoint:
        return StoredCheckpoint(self.size, self._checkpoints[self.size])

    def checkpoint(self, size: TreeSize) -> bytes | None:
        return self._checkpoints.get(size)

    def node(self, level: int, position: int) -> Sha256:
        try:
            return self._levels[level][position]
        except IndexError:
            raise StorageError("no such node") from None

    def entry(self, index: LeafIndex) -> bytes | None:
        return self._entries[index] if 0 <= index < len(self._entries) else None

    def nodes(self, level: int, start: int, count: int) -> bytes:
        return b"".join(self._levels[level][start : start + count]) if level < len(self._levels) else b""

    def entries(self, start: LeafIndex, count: int) -> list[bytes]:
        return self._entries[start : start + count]

    def anchors(self, kind: str | None = None, size: TreeSize | None = None) -> list[Anchor]:
        return [anchor for anchor in self.kept if kind in (None, anchor.kind) and size in (None, anchor.size)]

    def newest_anchored(self, kind: str) -> TreeSize | None:
        return max((anchor.size for anchor in self.anchors(kind)), default=None)


def plain_entries(count: int, start: int = 0) -> list[bytes]:
    """Entries of no application's: short, all different."""
    return [b"entry %d" % number for number in range(start, start + count)]
