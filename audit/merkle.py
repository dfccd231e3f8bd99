"""The Merkle tree of RFC 6962 §2.1 (the same as RFC 9162 §2.1 with SHA-256): hashes, frontier, proofs.

    empty tree   SHA-256("")
    leaf hash    SHA-256(00 || entry)
    node hash    SHA-256(01 || left || right)

A *perfect node* (level, position) is the root of the 2^level leaves that start at position * 2^level. Every subtree
a proof names is a short row of perfect nodes, so whoever can read perfect nodes can prove anything about any tree
size: the functions here take such a reader and never see a store. Pure.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NewType

from audit.errors import ProofError

Sha256 = NewType("Sha256", bytes)
LeafIndex = NewType("LeafIndex", int)
TreeSize = NewType("TreeSize", int)

# Reads the perfect node (level, position).
NodeReader = Callable[[int, int], Sha256]

HASH_BYTES = 32
EMPTY_ROOT = Sha256(sha256(b"").digest())


def leaf_hash(entry: bytes) -> Sha256:
    """SHA-256(00 || entry)."""
    return Sha256(sha256(b"\x00" + entry).digest())


def node_hash(left: bytes, right: bytes) -> Sha256:
    """SHA-256(01 || left || right)."""
    return Sha256(sha256(b"\x01" + left + right).digest())


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that appending needs to know of a tree: one perfect node per one-bit of `size`, the largest first."""

    size: TreeSize = TreeSize(0)
    peaks: tuple[Sha256, ...] = ()


def extend(frontier: Frontier, leaves: Iterable[Sha256]) -> tuple[Frontier, list[tuple[Sha256, ...]]]:
    """The frontier after `leaves`, and for each leaf the perfect nodes it completes, leaf hash first.

    Amortised two hashes a leaf. Leaf i completes the node (level, ((i + 1) >> level) - 1) for each level up to the
    number of one-bits at the end of i.
    """
    size, peaks = int(frontier.size), list(frontier.peaks)
    completed: list[tuple[Sha256, ...]] = []
    for leaf in leaves:
        nodes = [leaf]
        remaining = size
        while remaining & 1:
            nodes.append(node_hash(peaks.pop(), nodes[-1]))
            remaining >>= 1
        peaks.append(nodes[-1])
        completed.append(tuple(nodes))
        size += 1
    return Frontier(TreeSize(size), tuple(peaks)), completed


def root(frontier: Frontier) -> Sha256:
    """The root of the tree behind `frontier`."""
    return _fold(frontier.peaks) if frontier.peaks else EMPTY_ROOT


def perfect_nodes(begin: int, end: int) -> list[tuple[int, int]]:
    """The row of perfect nodes (level, position) that makes up leaves begin..end-1 of an RFC 6962 subtree."""
    row = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        row.append((level, begin >> level))
        begin += 1 << level
    return row


def read_frontier(size: TreeSize, node: NodeReader) -> Frontier:
    """The frontier of the first `size` leaves, in at most log2(size) + 1 reads."""
    return Frontier(size, tuple(node(level, position) for level, position in perfect_nodes(0, size)))


def prove_inclusion(index: LeafIndex, size: TreeSize, node: NodeReader) -> tuple[Sha256, ...]:
    """PATH(index, D[size]) of RFC 6962 §2.1.1, leaf sibling first; at most ceil(log2 size) hashes.

    Raises:
        ProofError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        message = f"no leaf {index} in a tree of {size}"
        raise ProofError(message)
    begin, end = 0, int(size)
    path: list[Sha256] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_subtree_root(middle, end, node))
            end = middle
        else:
            path.append(_subtree_root(begin, middle, node))
            begin = middle
    return tuple(reversed(path))


def check_inclusion(
    leaf: bytes, index: LeafIndex, size: TreeSize, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """Returns if `leaf` is entry `index` of the tree of `size` leaves with `expected_root` (RFC 9162 §2.1.3.2).

    (1) the index lies in the tree and every hash has 32 bytes;
    (2) fold the proof into the leaf hash, sibling on the side that the index's bits tell;
    (3) the proof ends exactly at the root;
    (4) the root is the expected one.

    Raises:
        ProofError: a step fails.
    """
    _check_lengths(leaf, expected_root, *proof)  # (1)
    if not 0 <= index < size:
        message = f"no leaf {index} in a tree of {size}"
        raise ProofError(message)
    position, last, folded = int(index), int(size) - 1, Sha256(leaf)
    for sibling in proof:  # (2)
        if last == 0:
            raise ProofError("inclusion proof is too long")
        if position & 1 or position == last:
            folded = node_hash(sibling, folded)
            position, last = _skip_right_edge(position, last)
        else:
            folded = node_hash(folded, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:  # (3)
        raise ProofError("inclusion proof is too short")
    if folded != expected_root:  # (4)
        raise ProofError("inclusion proof leads to another root")


def prove_consistency(old: TreeSize, new: TreeSize, node: NodeReader) -> tuple[Sha256, ...]:
    """PROOF(old, D[new]) of RFC 6962 §2.1.2; empty when old is 0 or equals new.

    Raises:
        ProofError: old is larger than new.
    """
    if not 0 <= old <= new:
        message = f"no consistency proof from size {old} to {new}"
        raise ProofError(message)
    if old == 0:
        return ()
    begin, end, verifier_has_it = 0, int(new), True
    path: list[Sha256] = []
    while end != old:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(_subtree_root(middle, end, node))
            end = middle
        else:
            path.append(_subtree_root(begin, middle, node))
            begin, verifier_has_it = middle, False
    if not verifier_has_it:
        path.append(_subtree_root(begin, end, node))
    return tuple(reversed(path))


def check_consistency(old: TreeSize, new: TreeSize, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Returns if the tree (new, new_root) extends the tree (old, old_root) (RFC 9162 §2.1.4.2).

    (1) sizes are in order;
    (2) from the empty tree anything follows: the proof is empty, which proves nothing about new_root;
    (3) equal sizes need equal roots and an empty proof;
    (4) every hash has 32 bytes;
    (5) fold the proof twice: over what the old tree holds, and over what the new one holds;
    (6) the proof ends exactly at the root and both folds give the roots.

    Raises:
        ProofError: a step fails.
    """
    if not 0 <= old <= new:  # (1)
        message = f"size went from {old} to {new}"
        raise ProofError(message)
    if old == 0 and old_root != EMPTY_ROOT:  # (2)
        raise ProofError("the empty tree has another root")
    if old in (0, new) and proof:  # (2) (3)
        raise ProofError("consistency proof is too long")
    if old == new:  # (3)
        if old_root != new_root:
            raise ProofError("equal sizes with different roots")
        return
    _check_lengths(old_root, new_root, *proof)  # (4)
    if old:
        _check_growth(old, new, proof, old_root, new_root)


def _check_growth(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    row = [old_root, *proof] if old & (old - 1) == 0 else list(proof)  # a perfect old tree is its own first node
    if not row:
        raise ProofError("consistency proof is too short")
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_folded = new_folded = Sha256(row[0])
    for sibling in row[1:]:  # (5)
        if last == 0:
            raise ProofError("consistency proof is too long")
        if position & 1 or position == last:
            old_folded, new_folded = node_hash(sibling, old_folded), node_hash(sibling, new_folded)
            position, last = _skip_right_edge(position, last)
        else:
            new_folded = node_hash(new_folded, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:  # (6)
        raise ProofError("consistency proof is too short")
    if old_folded != old_root or new_folded != new_root:
        raise ProofError("consistency proof leads to another root")


def _skip_right_edge(position: int, last: int) -> tuple[int, int]:
    """Climbs the levels at which a node on the right edge has no sibling."""
    while position and not position & 1:
        position, last = position >> 1, last >> 1
    return position, last


def _subtree_root(begin: int, end: int, node: NodeReader) -> Sha256:
    return _fold([node(level, position) for level, position in perfect_nodes(begin, end)])


def _fold(row: Sequence[Sha256]) -> Sha256:
    """The root over a row of perfect nodes of falling size."""
    folded = row[-1]
    for left in reversed(row[:-1]):
        folded = node_hash(left, folded)
    return folded


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _check_lengths(*hashes: bytes) -> None:
    for value in hashes:
        if len(value) != HASH_BYTES:
            message = f"hash: expected {HASH_BYTES} bytes, got {len(value)}"
            raise ProofError(message)
