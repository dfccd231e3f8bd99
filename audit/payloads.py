"""Payloads: what replay needs and a leaf may not hold, encrypted apart from the log.

    sealed bytes = 01 || nonce[12] || AES-256-GCM(key, nonce, plaintext, aad)
    key          = HKDF-SHA-256(payload key, info = "bedside payload/v1" LF entry id)
    aad          = entry id LF type LF tenant

The entry holds SHA-256 of the sealed bytes and the key id, so a payload that was changed, moved to another entry or
removed shows. `key_id` is "tenant:" and 8 hex digits of the key's digest; a key per patient will bring a prefix of
its own, and then destroying that key forgets the payload while the log stays as it is. Pure.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import NewType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from audit.commitments import Digest, digest
from audit.entry import PayloadReference
from audit.errors import PayloadError

PayloadKey = NewType("PayloadKey", bytes)

PAYLOAD_KEY_BYTES = 32
NONCE_BYTES = 12  # NIST SP 800-38D §8.2; each key seals one payload, so a random nonce can't collide
_VERSION = b"\x01"
_TAG_BYTES = 16
# Holds a 1,000-Observation bundle many times over; SQLite would take up to 1 GB.
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SealedPayload:
    """Sealed bytes, their SHA-256, and the key they were sealed under."""

    sealed: bytes
    sha256: Digest
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


def key_id_of(key: PayloadKey) -> str:
    """`tenant:` and the first 8 hex digits of SHA-256 over a label and the key."""
    return "tenant:" + sha256(b"bedside payload key id\n" + key).hexdigest()[:8]


def seal_payload(key: PayloadKey, context: PayloadContext, plaintext: bytes, nonce: bytes) -> SealedPayload:
    """`plaintext` sealed for one entry; `nonce` is 12 fresh random bytes.

    Raises:
        PayloadError: more than 64 MiB, or a nonce of another length.
    """
    if len(plaintext) > MAX_PAYLOAD_BYTES:
        message = f"payload: expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(plaintext)}"
        raise PayloadError(message)
    if len(nonce) != NONCE_BYTES:
        message = f"payload nonce: expected {NONCE_BYTES} bytes, got {len(nonce)}"
        raise PayloadError(message)
    ciphertext = AESGCM(_entry_key(key, context)).encrypt(nonce, plaintext, context.aad)
    sealed = _VERSION + nonce + ciphertext
    return SealedPayload(sealed, digest(sealed), key_id_of(key))


def open_payload(key: PayloadKey, context: PayloadContext, reference: PayloadReference, sealed: bytes) -> bytes:
    """The plaintext of `sealed`, the payload that an entry refers to.

    Raises:
        PayloadError: not the bytes the entry names, sealed under another key, of another version, or altered.
    """
    if reference.key_id != key_id_of(key):
        message = f"payload: expected key {key_id_of(key)}, got {reference.key_id}"
        raise PayloadError(message)
    if digest(sealed) != reference.sha256:
        raise PayloadError("payload: not the one the entry names")
    if len(sealed) < len(_VERSION) + NONCE_BYTES + _TAG_BYTES or not sealed.startswith(_VERSION):
        raise PayloadError("payload: unknown version or too short")
    nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return AESGCM(_entry_key(key, context)).decrypt(nonce, ciphertext, context.aad)
    except InvalidTag as exc:
        raise PayloadError("payload: altered, or sealed for another entry") from exc


def _entry_key(key: PayloadKey, context: PayloadContext) -> bytes:
    info = b"bedside payload/v1\n" + context.entry_id.encode("ascii")
    return HKDF(algorithm=SHA256(), length=PAYLOAD_KEY_BYTES, salt=None, info=info).derive(key)
