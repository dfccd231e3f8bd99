import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.errors import AuditError, FormatError, ProofError, SignatureError
from audit.keys import Ed25519Signer
from audit.merkle import Frontier, LeafIndex, Sha256, TreeSize, extend, leaf_hash, prove_inclusion, root
from audit.proof import LogProof, check_proof, format_proof, parse_proof, proven_leaf

SIGNER = Ed25519Signer("example.com/log", bytes(range(32)))
ENTRIES = [b'{"number":%d}' % number for number in range(7)]

proofs = st.builds(
    LogProof,
    st.integers(0, 2**63 - 1).map(LeafIndex),
    st.lists(st.binary(min_size=32, max_size=32).map(Sha256), max_size=63).map(tuple),
    st.binary(),
    st.none() | st.binary(max_size=50),
)


def _proof(index: int, extra: bytes | None = None) -> LogProof:
    leaves = [leaf_hash(entry) for entry in ENTRIES]
    frontier, completed = extend(Frontier(), leaves)
    note = sign_checkpoint(Checkpoint("example.com/log", TreeSize(7), root(frontier)), [SIGNER])
    hashes = prove_inclusion(
        LeafIndex(index), TreeSize(7), lambda level, position: completed[((position + 1) << level) - 1][level]
    )
    return LogProof(LeafIndex(index), hashes, note, extra)


@given(proofs)
def test_proof_round_trips(proof: LogProof) -> None:
    assert parse_proof(format_proof(proof)) == proof


@given(st.binary() | st.binary().map(lambda tail: b"c2sp.org/tlog-proof@v1\n" + tail))
def test_proof_parser_raises_nothing_foreign(data: bytes) -> None:
    with contextlib.suppress(AuditError):
        parse_proof(data)


@pytest.mark.parametrize("index", range(7))
def test_proof_holds_for_its_entry_and_no_other(index: int) -> None:
    proof = _proof(index, extra=ENTRIES[index])
    assert proven_leaf(proof) == leaf_hash(ENTRIES[index])
    assert check_proof(proof, proven_leaf(proof), [SIGNER.verifier_key]).size == 7
    for other in set(range(7)) - {index}:
        with pytest.raises(ProofError):
            check_proof(proof, leaf_hash(ENTRIES[other]), [SIGNER.verifier_key])


@pytest.mark.parametrize("extra", [ENTRIES[4], leaf_hash(ENTRIES[4])], ids=["entry", "leaf hash"])
def test_proof_fails_with_any_flipped_bit(extra: bytes) -> None:
    data = format_proof(_proof(4, extra))
    for position in range(len(data)):
        for bit in range(8):
            flipped = data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
            with pytest.raises((FormatError, SignatureError, ProofError)):
                check_proof(parse_proof(flipped), leaf_hash(ENTRIES[4]), [SIGNER.verifier_key])


def test_proof_without_extra_needs_the_entry() -> None:
    with pytest.raises(ProofError, match="give the entry"):
        proven_leaf(_proof(2))


def test_proof_of_another_origin_is_refused() -> None:
    with pytest.raises(SignatureError):
        check_proof(_proof(2), leaf_hash(ENTRIES[2]), [SIGNER.verifier_key], origin="example.com/other")
