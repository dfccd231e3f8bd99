"""Proof forgery: a million changed proofs, receipts and checkpoints, and every foreign vector. Bar: 0 accepted.

Two processes take valid inclusion proofs, consistency proofs, receipts (.tlog-proof files) and signed checkpoints of a real
tree, change each in a random way (fixed seed, so a run can be had again), and show it to the very functions that verifiers
call. *Accepted* means that something passed which isn't true of the log. A receipt or checkpoint that is written otherwise
and still says the truth (a further signature line of a stranger, as the specification allows) is counted as `respelled`.

The vectors are other people's (tests/vectors/audit/SOURCE.md): each must be judged as its source says, accepted or refused.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from audit.errors import AuditError
from audit.keys import Ed25519Signer
from audit.merkle import (
    HASH_BYTES,
    Frontier,
    LeafIndex,
    Sha256,
    TreeSize,
    check_consistency,
    check_inclusion,
    extend,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    read_frontier,
    root,
)
from audit.note import format_note, parse_note
from audit.proof import LogProof, format_proof
from audit.verify import Trust, verify_receipt
from benchmarks.drills import Figures
from benchmarks.drills.foreign_vectors import judge_vectors

FUZZED = 1_000_000
_PROCESSES = 2
_SEED = 4711
# Not a power of two, so that trees have ragged right edges; small enough that any index and size is met often.
_LEAVES = 700
_ORIGIN = "drill.example/cds-audit/north/1"
_SIGNER = Ed25519Signer(_ORIGIN, bytes(range(32)))
# The same name under another key: what a thief without the key can make.
_STRANGER = Ed25519Signer(_ORIGIN, bytes(range(1, 33)))
_OTHER = Ed25519Signer("witness.example/w", bytes(range(2, 34)))
_TRUST = Trust((_SIGNER.verifier_key,), _ORIGIN)
# How many of a hundred cases each kind gets: those with a signature check cost ten times as much.
_SHARES = {"inclusion": 45, "consistency": 35, "receipt": 12, "checkpoint": 8}


def run(workspace: Path, scale: float) -> Figures:
    """The figures of FUZZED * scale changed proofs and of all vectors."""
    each = max(1, round(FUZZED * scale / _PROCESSES))
    total: Counter[str] = Counter()
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        for counted in pool.map(partial(fuzz, cases=each), [f"{_SEED}/{worker}" for worker in range(_PROCESSES)]):
            total.update(counted)
    figures: Figures = {"fuzzed": each * _PROCESSES, "accepted": 0, "refused": 0, "respelled": 0}
    figures |= {name: total[name] for name in sorted(total)}
    return figures | {"seed": _SEED} | judge_vectors()


def fuzz(seed: str, cases: int) -> Counter[str]:
    """What became of `cases` changed proofs: by kind, and by outcome."""
    chosen = random.Random(seed)
    tree = _Tree.grown(_LEAVES)
    kinds: dict[str, Callable[[_Tree, random.Random], str]] = {
        "inclusion": _fuzz_inclusion,
        "consistency": _fuzz_consistency,
        "receipt": _fuzz_receipt,
        "checkpoint": _fuzz_checkpoint,
    }
    found: Counter[str] = Counter()
    for kind in chosen.choices(list(_SHARES), list(_SHARES.values()), k=cases):
        outcome = kinds[kind](tree, chosen)
        found.update((f"{kind}_cases", outcome))
    return found


@dataclass(frozen=True)
class _Tree:
    """A real tree: its leaves, its root at every size, its entries, and a reader of its nodes."""

    entries: list[bytes]
    leaves: list[Sha256]
    roots: list[Sha256]
    completed: list[tuple[Sha256, ...]]
    notes: dict[int, bytes]

    @classmethod
    def grown(cls, count: int) -> _Tree:
        entries = [b'{"number":%d}' % number for number in range(count)]
        leaves = [leaf_hash(entry) for entry in entries]
        _, completed = extend(Frontier(), leaves)
        tree = cls(entries, leaves, [], completed, {})
        tree.roots.extend(root(read_frontier(TreeSize(size), tree.node)) for size in range(count + 1))
        return tree

    def node(self, level: int, position: int) -> Sha256:
        return self.completed[((position + 1) << level) - 1][level]

    def note(self, size: int) -> bytes:
        """The signed checkpoint of this size."""
        if size not in self.notes:
            checkpoint = Checkpoint(_ORIGIN, TreeSize(size), self.roots[size])
            self.notes[size] = sign_checkpoint(checkpoint, [_SIGNER])
        return self.notes[size]

    def says_true(self, checkpoint: Checkpoint) -> bool:
        size = checkpoint.size
        return (
            checkpoint.origin == _ORIGIN
            and size < len(self.roots)
            and checkpoint.root == self.roots[size]
            and not checkpoint.extensions
        )


# Inclusion and consistency: the statement and its hashes are changed together or apart.


def _fuzz_inclusion(tree: _Tree, chosen: random.Random) -> str:
    size = chosen.randint(1, _LEAVES)
    index = chosen.randrange(size)
    genuine = (index, size, tree.leaves[index], prove_inclusion(LeafIndex(index), TreeSize(size), tree.node))
    index, size, leaf, hashes = genuine
    if chosen.random() < 0.5:
        hashes = _change_hashes(hashes, tree, chosen)
    match chosen.randrange(5):
        case 0:
            index = chosen.randint(-1, _LEAVES)
        case 1:
            size = chosen.randint(0, _LEAVES)  # held against the root that this size really has, as its checkpoint says
        case 2:
            leaf = _change_hash(leaf, tree, chosen)
        case 3:
            hashes = _change_hashes(hashes, tree, chosen)
        case _:
            index, size = index ^ (1 << chosen.randrange(12)), size ^ (1 << chosen.randrange(10))
    size = min(size, _LEAVES)
    expected = tree.roots[size]
    if (index, size, leaf, hashes) == genuine:
        leaf = _change_hash(leaf, tree, chosen)
    if not _passes(lambda: check_inclusion(leaf, LeafIndex(index), TreeSize(size), hashes, expected)):
        return "refused"
    return "respelled" if _is_inclusion(tree, index, size, leaf, hashes) else "accepted"


def _is_inclusion(tree: _Tree, index: int, size: int, leaf: bytes, hashes: Sequence[bytes]) -> bool:
    """Whether chance hit upon a true statement with its one proof."""
    if not 0 <= index < size or leaf != tree.leaves[index]:
        return False
    return tuple(hashes) == prove_inclusion(LeafIndex(index), TreeSize(size), tree.node)


def _fuzz_consistency(tree: _Tree, chosen: random.Random) -> str:
    new = chosen.randint(2, _LEAVES)
    old = chosen.randint(1, new)
    hashes = prove_consistency(TreeSize(old), TreeSize(new), tree.node)
    genuine = (old, new, tree.roots[old], tree.roots[new], hashes)
    old, new, old_root, new_root, hashes = genuine
    if chosen.random() < 0.5:
        hashes = _change_hashes(hashes, tree, chosen)
    match chosen.randrange(5):
        case 0:
            old = chosen.randint(1, _LEAVES)
            old_root = tree.roots[old]
        case 1:
            new = chosen.randint(1, _LEAVES)
            new_root = tree.roots[new]
        case 2:
            old_root = _change_hash(old_root, tree, chosen)
        case 3:
            new_root = _change_hash(new_root, tree, chosen)
        case _:
            hashes = _change_hashes(hashes, tree, chosen)
    if (old, new, old_root, new_root, hashes) == genuine:
        new_root = _change_hash(new_root, tree, chosen)
    if not _passes(lambda: check_consistency(TreeSize(old), TreeSize(new), hashes, old_root, new_root)):
        return "refused"
    true = old <= new and (old_root, new_root) == (tree.roots[old], tree.roots[new])
    return "respelled" if true and hashes == prove_consistency(TreeSize(old), TreeSize(new), tree.node) else "accepted"


def _change_hashes(hashes: tuple[Sha256, ...], tree: _Tree, chosen: random.Random) -> tuple[Sha256, ...]:
    """The hashes with one changed, missing, added, twice, or two swapped, or all the other way around."""
    row = list(hashes)
    place = chosen.randrange(len(row) + 1)
    match chosen.randrange(6):
        case 0 if row:
            row[place % len(row)] = _change_hash(row[place % len(row)], tree, chosen)
        case 1 if row:
            del row[place % len(row)]
        case 2 if len(row) > 1:
            first, second = chosen.sample(range(len(row)), 2)
            row[first], row[second] = row[second], row[first]
        case 3 if len(row) > 1:
            row.reverse()
        case 4 if row:
            row.insert(place, row[place % len(row)])
        case _:
            row.insert(place, Sha256(chosen.randbytes(HASH_BYTES)))
    return tuple(row)


def _change_hash(value: bytes, tree: _Tree, chosen: random.Random) -> Sha256:
    """A bit flipped, a byte less or more, another hash of the tree, or a random one."""
    match chosen.randrange(5):
        case 0 | 1:
            return Sha256(_flip(value, chosen))
        case 2:
            return Sha256(value[:-1] if chosen.random() < 0.5 else value + b"\0")
        case 3:
            other = chosen.choice((tree.leaves, tree.roots))
            return Sha256(next(one for one in iter(lambda: chosen.choice(other), None) if one != value))
        case _:
            return Sha256(chosen.randbytes(HASH_BYTES))


# Receipts and checkpoints: the file's bytes are changed, or its parts before it is written.


def _fuzz_receipt(tree: _Tree, chosen: random.Random) -> str:
    size = chosen.randint(1, _LEAVES)
    index = chosen.randrange(size)
    entry, hashes = tree.entries[index], prove_inclusion(LeafIndex(index), TreeSize(size), tree.node)
    extra = entry if chosen.random() < 0.5 else tree.leaves[index]
    proof = LogProof(LeafIndex(index), hashes, tree.note(size), extra)
    genuine = format_proof(proof)
    match chosen.randrange(6):
        case 0:
            proof = replace(proof, index=LeafIndex(chosen.randrange(_LEAVES)))
        case 1:
            proof = replace(proof, hashes=_change_hashes(hashes, tree, chosen))
        case 2:
            proof = replace(proof, checkpoint=_changed_note(tree, size, chosen))
        case 3:
            proof = replace(proof, extra=chosen.choice((tree.leaves[chosen.randrange(_LEAVES)], b'{"number":-1}', b"")))
        case 4:
            proof = replace(proof, checkpoint=tree.note(chosen.randint(1, _LEAVES)))
        case _:
            pass
    data = format_proof(proof)
    while data == genuine:
        data = _change_text(data, chosen)
    try:
        report = verify_receipt(data, _TRUST)
    except AuditError:
        return "refused"
    at = report.index
    true = tree.says_true(report.checkpoint) and at < report.checkpoint.size and report.leaf_hash == tree.leaves[at]
    return "respelled" if true else "accepted"


def _fuzz_checkpoint(tree: _Tree, chosen: random.Random) -> str:
    size = chosen.randint(1, _LEAVES)
    data = _changed_note(tree, size, chosen)
    while data == tree.note(size):
        data = _change_text(data, chosen)
    try:
        checkpoint = open_checkpoint(data, _TRUST.log_keys, origin=_ORIGIN)
    except AuditError:
        return "refused"
    return "respelled" if tree.says_true(checkpoint) else "accepted"


def _changed_note(tree: _Tree, size: int, chosen: random.Random) -> bytes:
    """A checkpoint that the log never signed in this form."""
    genuine = tree.note(size)
    note = parse_note(genuine)
    (signature,) = note.signatures
    forged = Checkpoint(_ORIGIN, TreeSize(chosen.randint(0, 2 * _LEAVES)), _change_root(tree, chosen))
    match chosen.randrange(8):
        case 0:  # other text under the old signature
            other = parse_note(sign_checkpoint(forged, [_STRANGER]))
            return format_note(replace(other, signatures=(signature,)))
        case 1:  # other text, signed by another key of the same name
            return sign_checkpoint(forged, [_STRANGER])
        case 2:  # that signature under the log's key id
            other = parse_note(sign_checkpoint(forged, [_STRANGER]))
            line = replace(signature, value=other.signatures[0].value)
            return format_note(replace(other, signatures=(line,)))
        case 3:  # one bit of the signature
            return format_note(replace(note, signatures=(replace(signature, value=_flip(signature.value, chosen)),)))
        case 4:  # the signature of another size
            lines = parse_note(tree.note(size % _LEAVES + 1)).signatures
            return format_note(replace(note, signatures=lines))
        case 5:  # extension lines
            return format_note(replace(note, text=note.text + "extension\n"))
        case 6:  # a stranger's line beside ours: allowed, and says nothing more
            lines = (signature, *parse_note(sign_checkpoint(forged, [_OTHER])).signatures)
            return format_note(replace(note, signatures=lines[:: chosen.choice((1, -1))]))
        case _:
            return _change_text(genuine, chosen)


def _change_root(tree: _Tree, chosen: random.Random) -> Sha256:
    return chosen.choice((tree.roots[chosen.randint(1, _LEAVES)], Sha256(chosen.randbytes(HASH_BYTES))))


def _change_text(data: bytes, chosen: random.Random) -> bytes:
    """The bytes with a bit flipped, cut, doubled, lines swapped, or a value spelt another way."""
    lines = data.split(b"\n")
    place = chosen.randrange(len(lines))
    match chosen.randrange(8):
        case 0 | 1:
            return _flip(data, chosen)
        case 2:
            return data[: chosen.randrange(len(data))]
        case 3:
            lines.insert(place, lines[chosen.randrange(len(lines))])
        case 4:
            del lines[place]
        case 5:
            other = chosen.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        case 6:
            lines[place] = _respell(lines[place], chosen)
        case _:
            start = chosen.randrange(len(data))
            return data[:start] + chosen.randbytes(chosen.randint(1, 8)) + data[start:]
    return b"\n".join(lines)


def _respell(line: bytes, chosen: random.Random) -> bytes:
    """The same value as a lenient reader would take it: stray base64 bits, spaces, zeros, signs, other letters."""
    match chosen.randrange(6):
        case 0:
            return line.rstrip(b"=")
        case 1:
            return line + chosen.choice((b" ", b"=", b"\t", b"\r", b"\0"))
        case 2:
            return line.replace(b"index ", b"index 0").replace(b"/", b"_").replace(b"+", b"-")
        case 3:
            return _stray_bits(line)
        case 4:
            return chosen.choice((b"0", b"+", b"-", b" ")) + line
        case _:
            return line.swapcase()


def _stray_bits(line: bytes) -> bytes:
    """Base64 whose unused last bits aren't zero; a lenient decoder gives the same bytes."""
    digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = line.rstrip(b"=")
    if body == line or not body or body[-1] not in digits:
        return line + b"="
    return body[:-1] + digits[digits.index(body[-1]) ^ 1 :][:1] + line[len(body) :]


def _flip(data: bytes, chosen: random.Random) -> bytes:
    place = chosen.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chosen.randrange(8)]) + data[place + 1 :]


def _passes(check: Callable[[], None]) -> bool:
    try:
        check()
    except AuditError:
        return False
    return True
