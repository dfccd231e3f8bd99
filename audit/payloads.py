"""Payloads: what replay needs and a leaf may not hold, encrypted apart from the log.

    sealed bytes = 02 || u64be key ref || nonce[12] || AES-256-GCM(key, nonce, plaintext, aad)
    key          = HKDF-SHA-256(K_patient, info = "bedside payload/v2" LF entry id)
    aad          = entry id LF type LF tenant

K_patient is the patient's key in the vault, under the key ref; when it is destroyed nobody can read the payload any more,
while the log stays as it is. The entry holds SHA-256 of the sealed bytes, so a payload that was changed, moved to another
entry or removed shows. `key_id` in the entry is the wrapping key of the time, the same for many patients: a name of the
patient's key there would link a patient's entries. Pure.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from audit.commitments import Digest, digest
from audit.entry import PayloadReference
from audit.errors import PayloadError

PAYLOAD_KEY_BYTES = 32
NONCE_BYTES = 12  # NIST SP 800-38D §8.2; each derived key seals one entry's payload, so a random nonce can't collide
_HEADER = struct.Struct(">BQ")
_VERSION = 2
_TAG_BYTES = 16
_MIN_BYTES = _HEADER.size + NONCE_BYTES + _TAG_BYTES
# Holds a 1,000-Observation bundle many times over; SQLite would take up to 1 GB.
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SealedPayload:
    """Sealed bytes, their SHA-256, the vault's key they are under, and the id of the key that this one is wrapped under."""

    sealed: bytes
    sha256: Digest
    key_ref: int
    key_id: str

    @property
    def reference(self) -> PayloadReference:
        """What the entry says of this payload."""
        return PayloadReference(sha256=self.sha256, key_id=self.key_id)


@dataclass(frozen=True, slots=True)
class PayloadContext:
    """The entry a payload belongs to; sealed in, so that no payload opens under another entry."""

    entry_id: str
    entry_type: str
    tenant: str

    @property
    def aad(self) -> bytes:
        return f"{self.entry_id}\n{self.entry_type}\n{self.tenant}".encode("ascii")


class PayloadKey(Protocol):
    """A patient's key and the ref under which the vault has it (`audit.vault.SubjectKey`)."""

    @property
    def ref(self) -> int: ...

    @property
    def key(self) -> bytes: ...


def seal_payload(
    key: PayloadKey, context: PayloadContext, plaintext: bytes, nonce: bytes, *, key_id: str
) -> SealedPayload:
    """`plaintext` sealed for one entry; `nonce` is 12 fresh random bytes, `key_id` names the wrapping key.

    Raises:
        PayloadError: more than 64 MiB, or a nonce of another length.
    """
    if len(plaintext) > MAX_PAYLOAD_BYTES:
        message = f"payload: expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(plaintext)}"
        raise PayloadError(message)
    if len(nonce) != NONCE_BYTES:
        message = f"payload nonce: expected {NONCE_BYTES} bytes, got {len(nonce)}"
        raise PayloadError(message)
    ciphertext = AESGCM(_entry_key(key.key, context)).encrypt(nonce, plaintext, context.aad)
    sealed = _HEADER.pack(_VERSION, key.ref) + nonce + ciphertext
    return SealedPayload(sealed, digest(sealed), key.ref, key_id)


def open_payload(
    key_at: Callable[[int], PayloadKey], context: PayloadContext, reference: PayloadReference, sealed: bytes
) -> bytes:
    """The plaintext of `sealed`, the payload that an entry refers to; `key_at` is the vault's.

    Raises:
        ErasedError: the key was destroyed.
        PayloadError: not the bytes the entry names, of another version, altered, or `key_at` has no such key.
    """
    check_payload(reference, sealed)
    key = key_at(read_key_ref(sealed))
    nonce, ciphertext = sealed[_HEADER.size : _HEADER.size + NONCE_BYTES], sealed[_HEADER.size + NONCE_BYTES :]
    try:
        return AESGCM(_entry_key(key.key, context)).decrypt(nonce, ciphertext, context.aad)
    except InvalidTag as exc:
        raise PayloadError("payload: altered, or sealed for another entry or under another key") from exc


def check_payload(reference: PayloadReference, sealed: bytes) -> None:
    """Returns if `sealed` is the payload that an entry refers to; raises PayloadError."""
    if digest(sealed) != reference.sha256:
        raise PayloadError("payload: not the one the entry names")


def read_key_ref(sealed: bytes) -> int:
    """The vault's key that `sealed` is under.

    Raises:
        PayloadError: no sealed payload of this version.
    """
    if len(sealed) < _MIN_BYTES or sealed[0] != _VERSION:
        raise PayloadError("payload: unknown version or too short")
    key_ref: int = _HEADER.unpack_from(sealed)[1]
    return key_ref


def _entry_key(key: bytes, context: PayloadContext) -> bytes:
    info = b"bedside payload/v2\n" + context.entry_id.encode("ascii")
    return HKDF(algorithm=SHA256(), length=PAYLOAD_KEY_BYTES, salt=None, info=info).derive(key)
