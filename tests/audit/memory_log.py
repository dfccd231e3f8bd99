"""Logs in memory, of any shape: what the tests of witnesses need to grow one, fork it, or lie about it."""

from collections.abc import Sequence

from audit.add_checkpoint import AddCheckpoint, format_add_checkpoint
from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.merkle import Frontier, Sha256, TreeSize, extend, leaf_hash, prove_consistency, read_frontier, root
from audit.note import Signer


class Tree:
    """The log of `signer` with these leaves; forks share leaves up to where they part."""

    def __init__(self, signer: Signer, leaves: Sequence[bytes]) -> None:
        self.signer = signer
        self._nodes: dict[tuple[int, int], Sha256] = {}
        _, completed = extend(Frontier(), (leaf_hash(leaf) for leaf in leaves))
        for index, hashes in enumerate(completed):
            for level, value in enumerate(hashes):
                self._nodes[level, index >> level] = value

    def node(self, level: int, position: int) -> Sha256:
        return self._nodes[level, position]

    def root(self, size: int) -> Sha256:
        return root(read_frontier(TreeSize(size), self.node))

    def note(self, size: int, *, origin: str | None = None) -> bytes:
        """The signed checkpoint of this size."""
        name = self.signer.verifier_key.name if origin is None else origin
        return sign_checkpoint(Checkpoint(name, TreeSize(size), self.root(size)), [self.signer])

    def proof(self, old: int, new: int) -> tuple[Sha256, ...]:
        return prove_consistency(TreeSize(old), TreeSize(new), self.node)

    def request(self, old: int, new: int) -> bytes:
        """The honest add-checkpoint body."""
        return format_add_checkpoint(AddCheckpoint(TreeSize(old), self.proof(old, new), self.note(new)))


def leaves(count: int, fork_at: int | None = None, mark: str = "") -> list[bytes]:
    """`count` leaves; those from `fork_at` on are other ones."""
    return [
        f"leaf {index}{mark if fork_at is not None and index >= fork_at else ''}".encode() for index in range(count)
    ]
