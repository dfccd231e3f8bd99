import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import ProofError
from audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    LeafIndex,
    NodeReader,
    Sha256,
    TreeSize,
    check_consistency,
    check_inclusion,
    extend,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    read_frontier,
    root,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "audit"
LARGEST = 100
LEAVES = [leaf_hash(b"%d" % number) for number in range(LARGEST)]


def _lines(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (VECTORS / name).read_text().splitlines()]


def _hashes(values: list[str] | None) -> list[bytes]:
    return [base64.b64decode(value) for value in values or []]


def _naive_root(leaves: list[Sha256]) -> Sha256:
    """MTH, written down from RFC 6962 §2.1 and nothing else."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(_naive_root(leaves[:split]), _naive_root(leaves[split:]))


ROOTS = [_naive_root(LEAVES[:size]) for size in range(LARGEST + 1)]


def _reader(leaves: list[Sha256]) -> NodeReader:
    _, completed = extend(Frontier(), leaves)

    def node(level: int, position: int) -> Sha256:
        return completed[((position + 1) << level) - 1][level]

    return node


NODE = _reader(LEAVES)


@pytest.mark.parametrize("case", _lines("merkle_inclusion.jsonl"), ids=lambda case: case["_src"])
def test_merkle_judges_foreign_inclusion_proofs(case: dict) -> None:
    def check() -> None:
        check_inclusion(
            base64.b64decode(case["leafHash"]),
            case["leafIdx"],
            case["treeSize"],
            _hashes(case["proof"]),
            base64.b64decode(case["root"]),
        )

    if case["wantErr"]:
        with pytest.raises(ProofError):
            check()
    else:
        check()


@pytest.mark.parametrize("case", _lines("merkle_consistency.jsonl"), ids=lambda case: case["_src"])
def test_merkle_judges_foreign_consistency_proofs(case: dict) -> None:
    def check() -> None:
        check_consistency(
            case["size1"],
            case["size2"],
            _hashes(case["proof"]),
            base64.b64decode(case["root1"]),
            base64.b64decode(case["root2"]),
        )

    if case["wantErr"]:
        with pytest.raises(ProofError):
            check()
    else:
        check()


def test_merkle_equals_the_certificate_transparency_reference_tree() -> None:
    tree = json.loads((VECTORS / "rfc6962_tree.json").read_text())
    leaves = [leaf_hash(bytes.fromhex(text)) for text in tree["leaf_inputs_hex"]]
    assert [leaf.hex() for leaf in leaves] == tree["node_hashes_hex_by_level"][0]
    for level, hashes in enumerate(tree["node_hashes_hex_by_level"]):
        assert [_reader(leaves)(level, position).hex() for position in range(len(hashes))] == hashes
    roots = next(value for key, value in tree.items() if key.startswith("roots"))
    assert [root(extend(Frontier(), leaves[:size])[0]).hex() for size in range(9)] == roots


def test_merkle_frontier_gives_the_root_of_every_size() -> None:
    for size in range(LARGEST + 1):
        assert root(extend(Frontier(), LEAVES[:size])[0]) == ROOTS[size]
        assert root(read_frontier(TreeSize(size), NODE)) == ROOTS[size]


def test_merkle_proves_every_leaf_of_every_size() -> None:
    for size in range(1, LARGEST + 1):
        for index in range(size):
            proof = prove_inclusion(LeafIndex(index), TreeSize(size), NODE)
            check_inclusion(LEAVES[index], LeafIndex(index), TreeSize(size), proof, ROOTS[size])
            assert len(proof) <= (size - 1).bit_length()


def test_merkle_proves_consistency_between_all_sizes() -> None:
    for new in range(LARGEST + 1):
        for old in range(new + 1):
            proof = prove_consistency(TreeSize(old), TreeSize(new), NODE)
            check_consistency(TreeSize(old), TreeSize(new), proof, ROOTS[old], ROOTS[new])


def test_merkle_refuses_proofs_that_cannot_exist() -> None:
    with pytest.raises(ProofError):
        prove_inclusion(LeafIndex(5), TreeSize(5), NODE)
    with pytest.raises(ProofError):
        prove_consistency(TreeSize(6), TreeSize(5), NODE)
    with pytest.raises(ProofError):
        check_consistency(TreeSize(0), TreeSize(5), [], ROOTS[1], ROOTS[5])


@given(st.data())
def test_merkle_inclusion_fails_with_any_flipped_bit(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, LARGEST))
    index = data.draw(st.integers(0, size - 1))
    parts = [LEAVES[index], ROOTS[size], *prove_inclusion(LeafIndex(index), TreeSize(size), NODE)]
    leaf, expected, *proof = _flip_one_bit(parts, data)
    with pytest.raises(ProofError):
        check_inclusion(leaf, LeafIndex(index), TreeSize(size), proof, expected)


@given(st.data())
def test_merkle_consistency_fails_with_any_flipped_bit(data: st.DataObject) -> None:
    new = data.draw(st.integers(2, LARGEST))
    old = data.draw(st.integers(1, new))
    parts = [ROOTS[old], ROOTS[new], *prove_consistency(TreeSize(old), TreeSize(new), NODE)]
    old_root, new_root, *proof = _flip_one_bit(parts, data)
    with pytest.raises(ProofError):
        check_consistency(TreeSize(old), TreeSize(new), proof, old_root, new_root)


@given(st.data())
def test_merkle_inclusion_holds_at_one_index_only(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, LARGEST))
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, 2 * LARGEST).filter(lambda number: number != index))
    proof = prove_inclusion(LeafIndex(index), TreeSize(size), NODE)
    with pytest.raises(ProofError):
        check_inclusion(LEAVES[index], LeafIndex(other), TreeSize(size), proof, ROOTS[size])


@given(st.integers(0, 60), st.integers(0, 60), st.lists(st.binary(min_size=31, max_size=33), max_size=8))
def test_merkle_checks_raise_nothing_but_proof_errors(first: int, second: int, proof: list[bytes]) -> None:
    for check in (
        lambda: check_inclusion(LEAVES[0], LeafIndex(first), TreeSize(second), proof, ROOTS[second]),
        lambda: check_consistency(TreeSize(first), TreeSize(second), proof, ROOTS[first], ROOTS[second]),
    ):
        try:
            check()
        except ProofError:
            continue
        assert first in (0, second) or not proof


def _flip_one_bit(parts: list[Sha256], data: st.DataObject) -> list[bytes]:
    part = data.draw(st.integers(0, len(parts) - 1))
    bit = data.draw(st.integers(0, 255))
    flipped = (int.from_bytes(parts[part]) ^ (1 << bit)).to_bytes(32)
    return [flipped if place == part else value for place, value in enumerate(parts)]
