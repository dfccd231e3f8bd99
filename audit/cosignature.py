r"""Cosignatures: what a witness signs of another's checkpoint, and when (C2SP tlog-cosignature, cosignature/v1).

    signature = u64be(time) || Ed25519("cosignature/v1\n" "time <decimal seconds>\n" <checkpoint text>)
    line      = \xe2\x80\x94 SP <witness name> SP b64(key id || signature) LF       key id over key type 04

It says: at that time this was the largest tree of its origin that the witness had seen, and consistent with all it had
seen before. How such a line is checked stands in `note.KEY_TYPES`, beside the other types. Pure.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.encoding import MAX_DECIMAL
from audit.errors import FormatError, SignatureError
from audit.note import (
    ED25519_COSIGNATURE,
    KEY_TYPES,
    Note,
    Signature,
    VerifierKey,
    format_note,
    open_note,
    parse_note,
)

_TIME_BYTES = 8


class Cosigner:
    """A witness's key, held in memory."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._verifier_key = VerifierKey(name, ED25519_COSIGNATURE, self._key.public_key().public_bytes_raw())

    @property
    def verifier_key(self) -> VerifierKey:
        return self._verifier_key

    def cosign(self, text: str, time_s: int) -> Signature:
        """The cosignature over `text`, a checkpoint, at `time_s` (POSIX seconds).

        Raises:
            FormatError: the time is negative or beyond 63 bits.
        """
        if not 0 <= time_s <= MAX_DECIMAL:
            raise FormatError("cosignature time: expected POSIX seconds below 2^63")
        signed = self._key.sign(b"cosignature/v1\ntime %d\n%s" % (time_s, text.encode()))
        return Signature(self._verifier_key.name, self._verifier_key.key_id, struct.pack(">Q", time_s) + signed)


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint with its witness's cosignatures, and the time of the newest of them (POSIX seconds)."""

    note: bytes
    time_s: int


def format_lines(signatures: Sequence[Signature]) -> bytes:
    """The lines of `signatures`, as a witness answers with them; raises FormatError."""
    return format_note(Note("\n", tuple(signatures)))[2:]


def parse_lines(data: bytes) -> tuple[Signature, ...]:
    """The signatures in `data`, lines as a witness answers with them; raises FormatError."""
    note = parse_note(b"\n\n" + data)
    if note.text != "\n":
        raise FormatError("cosignatures: expected signature lines and nothing else")
    return note.signatures


def attach_cosignatures(checkpoint: bytes, lines: bytes, key: VerifierKey) -> Cosigned:
    """The signed note `checkpoint` with those of `lines` that are of the witness `key`.

    (1) lines of other keys are left out, as the specification asks;
    (2) lines that are in the note already aren't added again;
    (3) one that claims to be of the witness must hold, and there must be one.

    Raises:
        FormatError: the checkpoint or a line is out of form.
        SignatureError: step 3.
    """
    note = parse_note(checkpoint)
    own = [one for one in parse_lines(lines) if (one.name, one.key_id) == (key.name, key.key_id)]  # (1)
    fresh = tuple(one for one in dict.fromkeys(own) if one not in note.signatures)  # (2)
    if not own:
        message = f"cosignature: expected one of {key.name}, got none"
        raise SignatureError(message)
    whole = format_note(Note(note.text, (*note.signatures, *fresh)))
    return Cosigned(whole, cosigned_time_s(whole, key))  # (3)


def cosigned_time_s(note: bytes, key: VerifierKey) -> int:
    """When the witness `key` last cosigned `note`, in POSIX seconds; all its cosignatures in it must hold.

    Raises:
        FormatError: not a note.
        SignatureError: it has none of this witness, or a wrong one.
    """
    open_note(note, [key])
    return max(_time_s(one) for one in parse_note(note).signatures if (one.name, one.key_id) == (key.name, key.key_id))


def check_witness_key(key: VerifierKey) -> None:
    """Returns if `key` is of the type that cosigns; raises FormatError."""
    if key.key_type != ED25519_COSIGNATURE:
        expected, got = KEY_TYPES[ED25519_COSIGNATURE].label, KEY_TYPES[key.key_type].label
        message = f"witness key {key.name}: expected {expected}, got {got}"
        raise FormatError(message)


def _time_s(signature: Signature) -> int:
    time_s: int = struct.unpack(">Q", signature.value[:_TIME_BYTES])[0]
    return time_s
