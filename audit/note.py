r"""Signed notes and verifier keys (C2SP signed-note v1.0.0, cosignature/v1 of C2SP tlog-cosignature).

A note is a text, an empty line, and one line per signature:

    This is an example message.\n
    \n
    \xe2\x80\x94 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1T...neyaQM=\n        em dash, name, b64(key id || signature)

and a verifier key ("vkey") is name, key id and typed public key:

    example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k

A new signature type is one row in `KEY_TYPES`. Pure.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.encoding import format_base64, parse_base64
from audit.errors import FormatError, SignatureError

ED25519 = 0x01
ED25519_COSIGNATURE = 0x04

# Go's golang.org/x/mod/sumdb/note stops at 100; the specification asks for at least 16.
MAX_SIGNATURES = 100
KEY_ID_BYTES = 4
_SIGNATURE_PREFIX = "\u2014 "


def check_ed25519(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Returns if the RFC 8032 signature holds.

    Raises:
        SignatureError: it doesn't, or the public key isn't a point.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as exc:
        raise SignatureError("ed25519 signature doesn't verify") from exc


def check_cosignature(public_key: bytes, signature: bytes, message: bytes) -> None:
    r"""Returns if a witness signed `message`, a checkpoint, at the time that heads `signature`.

        u64be(time) || Ed25519("cosignature/v1\n" "time <decimal>\n" <checkpoint text>)

    Raises:
        SignatureError: it didn't.
    """
    (time,) = struct.unpack(">Q", signature[:8])
    check_ed25519(public_key, signature[8:], b"cosignature/v1\ntime %d\n%s" % (time, message))


@dataclass(frozen=True, slots=True)
class KeyType:
    """How signatures of one type are checked; `check(public_key, signature, text)` raises SignatureError."""

    label: str
    public_key_bytes: int
    signature_bytes: int
    check: Callable[[bytes, bytes, bytes], None]


KEY_TYPES = {
    ED25519: KeyType("Ed25519", 32, 64, check_ed25519),
    ED25519_COSIGNATURE: KeyType("Ed25519 cosignature/v1", 32, 8 + 64, check_cosignature),
}


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A name and the public key that signs under it."""

    name: str
    key_type: int
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || LF || type || public key)[:4]."""
        typed = bytes([self.key_type]) + self.public_key
        return sha256(self.name.encode() + b"\n" + typed).digest()[:KEY_ID_BYTES]


class Signer(Protocol):
    """Signs texts; a file holds the key today, an HSM may tomorrow."""

    @property
    def verifier_key(self) -> VerifierKey: ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: `value` is what follows the key id."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends with LF, and its signature lines; nothing here is checked."""

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A text and the trusted keys that signed it, in the order of their lines, each once."""

    text: str
    signed_by: tuple[VerifierKey, ...]


def parse_vkey(text: str) -> VerifierKey:
    """The verifier key behind `name+hex8(key id)+b64(type || public key)`.

    Raises:
        FormatError: malformed, of unknown type, or with a key id that isn't its own.
    """
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise FormatError("verifier key: expected name+id+key")
    name, key_id, encoded = parts
    _check_name(name)
    typed = parse_base64(encoded, "verifier key")
    if not typed or typed[0] not in KEY_TYPES:
        raise FormatError("verifier key: unknown signature type")
    if len(typed) - 1 != KEY_TYPES[typed[0]].public_key_bytes:
        raise FormatError("verifier key: wrong length")
    key = VerifierKey(name, typed[0], typed[1:])
    if key.key_id.hex() != key_id:
        message = f"verifier key: expected id {key.key_id.hex()}, got {key_id[:16]!r}"
        raise FormatError(message)
    return key


def format_vkey(key: VerifierKey) -> str:
    """`name+hex8(key id)+b64(type || public key)`."""
    return f"{key.name}+{key.key_id.hex()}+{format_base64(bytes([key.key_type]) + key.public_key)}"


def parse_note(data: bytes) -> Note:
    """The note in `data`; text and signatures part at the last empty line.

    Raises:
        FormatError: not UTF-8, control characters, or a signature line out of form.
    """
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise FormatError("note: expected UTF-8") from exc
    if any(character < " " and character != "\n" for character in whole):
        raise FormatError("note: control character")
    head, separator, tail = whole.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise FormatError("note: expected text, empty line, signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        message = f"note: expected at most {MAX_SIGNATURES} signatures, got {len(lines)}"
        raise FormatError(message)
    return Note(head + "\n", tuple(_parse_signature(line) for line in lines))


def format_note(note: Note) -> bytes:
    """The bytes of `note`.

    Raises:
        FormatError: the text doesn't end with LF, or a name is out of form.
    """
    if not note.text.endswith("\n"):
        raise FormatError("note: expected a text that ends with a line feed")
    lines = "".join(_format_signature(signature) for signature in note.signatures)
    return f"{note.text}\n{lines}".encode()


def sign_note(text: str, signers: Iterable[Signer]) -> bytes:
    """The bytes of a note over `text` with one line per signer, in order."""
    message = text.encode()
    keys_and_values = [(signer.verifier_key, signer.sign(message)) for signer in signers]
    return format_note(Note(text, tuple(Signature(key.name, key.key_id, value) for key, value in keys_and_values)))


def open_note(data: bytes, keys: Sequence[VerifierKey]) -> OpenedNote:
    """The text in `data` and which of `keys` signed it.

    (1) parse;
    (2) skip signatures whose name and key id belong to no key of ours: rotation and witnesses need that;
    (3) a signature that claims to be of one of our keys must hold;
    (4) at least one must be there.

    Raises:
        FormatError: step 1.
        SignatureError: step 3 or 4.
    """
    note = parse_note(data)  # (1)
    known = {(key.name, key.key_id): key for key in keys}
    message = note.text.encode()
    signed_by: list[VerifierKey] = []
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:  # (2)
            continue
        key_type = KEY_TYPES[key.key_type]
        if len(signature.value) != key_type.signature_bytes:
            raise SignatureError("signature has another length than its type")
        key_type.check(key.public_key, signature.value, message)  # (3)
        if key not in signed_by:
            signed_by.append(key)
    if not signed_by:  # (4)
        raise SignatureError("no signature of a trusted key")
    return OpenedNote(note.text, tuple(signed_by))


def _parse_signature(line: str) -> Signature:
    if not line.startswith(_SIGNATURE_PREFIX):
        raise FormatError("signature line: expected em dash and space")
    name, separator, encoded = line[len(_SIGNATURE_PREFIX) :].partition(" ")
    if not separator:
        raise FormatError("signature line: expected name and signature")
    _check_name(name)
    data = parse_base64(encoded, "signature line")
    if len(data) <= KEY_ID_BYTES:
        raise FormatError("signature line: too short")
    return Signature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


def _format_signature(signature: Signature) -> str:
    _check_name(signature.name)
    return f"{_SIGNATURE_PREFIX}{signature.name} {format_base64(signature.key_id + signature.value)}\n"


def _check_name(name: str) -> None:
    if "+" in name or name.split() != [name]:
        raise FormatError("key name: expected no space, no plus, and at least one character")
