r"""The body of `add-checkpoint`, by which a log asks a witness for its cosignature (C2SP tlog-witness).

    old 20852014\n                                       size that the witness cosigned last, 0 if none
    PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n       consistency proof from there, at most 63 hashes
    \n
    <signed checkpoint>

A witness that cosigned another size last answers 409 with that size, `20852014\n` of type text/x.tlog.size. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.encoding import format_base64, parse_base64, parse_decimal
from audit.errors import FormatError
from audit.merkle import HASH_BYTES, Sha256, TreeSize

PATH = "add-checkpoint"
SIZE_TYPE = "text/x.tlog.size"
MAX_PROOF_HASHES = 63
# A proof of 63 hashes takes 2.8 KiB. A checkpoint with a hundred signatures of today takes 15; one of ML-DSA-44 takes 3.3.
MAX_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A checkpoint, a whole signed note, and why it follows from the tree of `old_size`."""

    old_size: TreeSize
    proof: tuple[Sha256, ...]
    checkpoint: bytes


def parse_add_checkpoint(data: bytes) -> AddCheckpoint:
    """The request in `data`; the note in it isn't looked at.

    Raises:
        FormatError: a line is out of form, or there are too many.
    """
    head, separator, checkpoint = data.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as exc:
        raise FormatError("add-checkpoint: expected ascii before the checkpoint") from exc
    if not separator or not first.startswith("old "):
        raise FormatError("add-checkpoint: expected an old size, a proof, an empty line and a checkpoint")
    if len(lines) > MAX_PROOF_HASHES:
        message = f"add-checkpoint: expected at most {MAX_PROOF_HASHES} hashes, got {len(lines)}"
        raise FormatError(message)
    old_size = TreeSize(parse_decimal(first.removeprefix("old "), "old size"))
    return AddCheckpoint(old_size, tuple(_parse_hash(line) for line in lines), checkpoint)


def format_add_checkpoint(request: AddCheckpoint) -> bytes:
    """The body of `request`."""
    head = "".join(f"{line}\n" for line in (f"old {request.old_size}", *_lines(request.proof)))
    return head.encode() + b"\n" + request.checkpoint


def parse_size(data: bytes) -> TreeSize:
    """The size in the body of a 409; raises FormatError."""
    if not data.endswith(b"\n"):
        raise FormatError("size: expected a final line feed")
    return TreeSize(parse_decimal(data[:-1].decode("ascii", "replace"), "size"))


def format_size(size: TreeSize) -> bytes:
    """The body of a 409."""
    return b"%d\n" % size


def _parse_hash(line: str) -> Sha256:
    value = parse_base64(line, "consistency proof")
    if len(value) != HASH_BYTES:
        message = f"consistency proof: expected {HASH_BYTES} bytes, got {len(value)}"
        raise FormatError(message)
    return Sha256(value)


def _lines(proof: Sequence[Sha256]) -> list[str]:
    return [format_base64(value) for value in proof]
