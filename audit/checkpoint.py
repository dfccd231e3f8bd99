r"""Checkpoints: the signed head of a log (C2SP tlog-checkpoint v1.0.0).

    hospital.example/cds-audit/north/1\n             origin
    20852163\n                                       tree size
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n   root hash
    [extension lines]

is the text of a signed note. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.encoding import format_base64, parse_base64, parse_decimal
from audit.errors import FormatError, SignatureError
from audit.merkle import EMPTY_ROOT, HASH_BYTES, Sha256, TreeSize
from audit.note import Signer, VerifierKey, open_note, sign_note


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree size and root hash, in the name of an origin."""

    origin: str
    size: TreeSize
    root: Sha256
    extensions: tuple[str, ...] = ()


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in `text`, the body of a note.

    Raises:
        FormatError: a line is missing or out of form, or the empty tree has another root.
    """
    if not text.endswith("\n"):
        raise FormatError("checkpoint: expected a final line feed")
    origin, *rest = text[:-1].split("\n")
    if len(rest) < 2:
        raise FormatError("checkpoint: expected origin, size and root")
    if not origin or "" in rest:
        raise FormatError("checkpoint: empty line")
    size = TreeSize(parse_decimal(rest[0], "checkpoint size"))
    root = Sha256(parse_base64(rest[1], "checkpoint root"))
    if len(root) != HASH_BYTES:
        message = f"checkpoint root: expected {HASH_BYTES} bytes, got {len(root)}"
        raise FormatError(message)
    if size == 0 and root != EMPTY_ROOT:
        raise FormatError("checkpoint: the empty tree has another root")
    return Checkpoint(origin, size, root, tuple(rest[2:]))


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """The text of `checkpoint`, to be signed as a note."""
    lines = (checkpoint.origin, str(checkpoint.size), format_base64(checkpoint.root), *checkpoint.extensions)
    return "".join(f"{line}\n" for line in lines)


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> bytes:
    """The signed note over `checkpoint`."""
    return sign_note(format_checkpoint(checkpoint), signers)


def open_checkpoint(
    data: bytes,
    log_keys: Sequence[VerifierKey],
    *,
    origin: str | None = None,
    witness_keys: Sequence[VerifierKey] = (),
    quorum: int = 0,
) -> Checkpoint:
    """The checkpoint in the signed note `data`.

    (1) every signature of a known key holds;
    (2) one of the log's own keys signed;
    (3) at least `quorum` different witnesses cosigned;
    (4) the text is a checkpoint of `origin`, where one is given.

    Raises:
        FormatError: not a note, or not a checkpoint.
        SignatureError: a step fails.
    """
    opened = open_note(data, [*log_keys, *witness_keys])  # (1)
    if not any(key in log_keys for key in opened.signed_by):  # (2)
        raise SignatureError("checkpoint isn't signed by the log")
    witnesses = {key.name for key in opened.signed_by if key in witness_keys}  # (3)
    if len(witnesses) < quorum:
        message = f"checkpoint: expected {quorum} witnesses, got {len(witnesses)}"
        raise SignatureError(message)
    checkpoint = parse_checkpoint(opened.text)  # (4)
    if origin is not None and checkpoint.origin != origin:
        message = f"checkpoint: expected origin {origin}, got {checkpoint.origin}"
        raise SignatureError(message)
    return checkpoint
