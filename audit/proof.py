r"""Offline proofs of inclusion in one file (C2SP tlog-proof@v1): the receipt of a decision.

    c2sp.org/tlog-proof@v1\n
    extra <b64>\n                       optional, not authenticated
    index 5\n
    <b64 hash>\n                        leaf sibling first, any number
    \n
    <signed checkpoint, verbatim>

The format leaves `extra` to the application. Ours carries what the proof is about, so that a receipt stands alone:
either the 32 bytes of the leaf hash, or the entry itself (which starts with "{" and is never 32 bytes long). Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.checkpoint import Checkpoint, open_checkpoint
from audit.encoding import format_base64, parse_base64, parse_decimal
from audit.errors import FormatError, ProofError
from audit.merkle import HASH_BYTES, LeafIndex, Sha256, check_inclusion, leaf_hash
from audit.note import VerifierKey

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63


@dataclass(frozen=True, slots=True)
class LogProof:
    """A proof as it stands in the file; `checkpoint` is the signed note, not yet opened."""

    index: LeafIndex
    hashes: tuple[Sha256, ...]
    checkpoint: bytes
    extra: bytes | None = None


def parse_proof(data: bytes) -> LogProof:
    """The proof in `data`.

    Raises:
        FormatError: a line is missing or out of form; the checkpoint is not looked at.
    """
    head, separator, checkpoint = data.partition(b"\n\n")
    if not separator:
        raise FormatError("proof: expected an empty line before the checkpoint")
    try:
        header, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as exc:
        raise FormatError("proof: expected ASCII before the checkpoint") from exc
    if header != HEADER:
        message = f"proof: expected {HEADER}"
        raise FormatError(message)
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = parse_base64(lines.pop(0).removeprefix("extra "), "proof extra")
    if not lines or not lines[0].startswith("index "):
        raise FormatError("proof: expected an index line")
    index = parse_decimal(lines[0].removeprefix("index "), "proof index")
    return LogProof(LeafIndex(index), _parse_hashes(lines[1:]), checkpoint, extra)


def format_proof(proof: LogProof) -> bytes:
    """The bytes of a .tlog-proof file."""
    lines = [HEADER]
    if proof.extra is not None:
        lines.append(f"extra {format_base64(proof.extra)}")
    lines.append(f"index {proof.index}")
    lines.extend(format_base64(value) for value in proof.hashes)
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + proof.checkpoint


def check_proof(
    proof: LogProof, leaf: Sha256, log_keys: Sequence[VerifierKey], *, origin: str | None = None
) -> Checkpoint:
    """The checkpoint under which `leaf` is proven to stand at the proof's index.

    (1) the checkpoint is signed by the log, and of `origin` where one is given;
    (2) the leaf is included in the checkpoint's tree at the index;
    (3) the extra data, where it says what the leaf is, says the same.

    Raises:
        FormatError, SignatureError: step 1.
        ProofError: step 2 or 3.
    """
    checkpoint = open_checkpoint(proof.checkpoint, log_keys, origin=origin)  # (1)
    check_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)  # (2)
    if proof.extra is not None and proven_leaf(proof) != leaf:  # (3)
        raise ProofError("proof is about another leaf than its extra data")
    return checkpoint


def proven_leaf(proof: LogProof) -> Sha256:
    """The leaf hash that the extra data of one of our receipts names.

    Raises:
        ProofError: there is no extra data; the entry has to come from elsewhere.
    """
    if proof.extra is None:
        raise ProofError("proof doesn't say what it is about: give the entry")
    return Sha256(proof.extra) if len(proof.extra) == HASH_BYTES else leaf_hash(proof.extra)


def _parse_hashes(lines: Sequence[str]) -> tuple[Sha256, ...]:
    if len(lines) > MAX_HASHES:
        message = f"proof: expected at most {MAX_HASHES} hashes, got {len(lines)}"
        raise FormatError(message)
    hashes = tuple(Sha256(parse_base64(line, "proof hash")) for line in lines)
    if any(len(value) != HASH_BYTES for value in hashes):
        message = f"proof hash: expected {HASH_BYTES} bytes"
        raise FormatError(message)
    return hashes
