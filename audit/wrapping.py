"""Key wrapping: patient keys are stored only under a wrapping key, which lies in a file or never leaves its token.

    wrapped = 01 || nonce[12] || AES-256-GCM(wrapping key, nonce, key, aad = "bedside wrapped key/v1" LF context)

`context` names whose key it is, so that a wrapped key opens in its own place only. A token's wrapper has the same two
methods and makes the same bytes (`audit.pkcs11`). Pure, save for the nonce's randomness, which is handed in.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit.errors import KeyFileError, PayloadError

WRAPPING_KEY_BYTES = 32
NONCE_BYTES = 12  # random nonces: NIST SP 800-38D §8.3 allows 2^32 keys under one wrapping key
_TAG_BYTES = 16
_VERSION = b"\x01"
_LABEL = b"bedside wrapped key/v1\n"


class KeyWrapper(Protocol):
    """Wraps keys under one wrapping key."""

    @property
    def key_id(self) -> str:
        """`wrap:` and 8 hex digits that tell one wrapping key from another."""
        ...

    def wrap(self, key: bytes, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The key; raises PayloadError where it was wrapped under another key, for another context, or altered."""
        ...


class FileWrapper:
    """Wraps under a key held in memory."""

    def __init__(self, key: bytes, random_bytes: Callable[[int], bytes]) -> None:
        """Raises KeyFileError where `key` isn't 32 bytes long."""
        if len(key) != WRAPPING_KEY_BYTES:
            message = f"wrapping key: expected {WRAPPING_KEY_BYTES} bytes, got {len(key)}"
            raise KeyFileError(message)
        self._cipher = AESGCM(key)
        self._random_bytes = random_bytes
        self._key_id = "wrap:" + sha256(b"bedside wrapping key id\n" + key).hexdigest()[:8]

    @property
    def key_id(self) -> str:
        return self._key_id

    def wrap(self, key: bytes, context: bytes) -> bytes:
        nonce = self._random_bytes(NONCE_BYTES)
        return join_wrapped(nonce, self._cipher.encrypt(nonce, key, associated_data(context)))

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        nonce, ciphertext = split_wrapped(wrapped)
        try:
            return self._cipher.decrypt(nonce, ciphertext, associated_data(context))
        except InvalidTag as exc:
            raise PayloadError("wrapped key: altered, of another owner, or under another wrapping key") from exc


class OverlappingWrapper:
    """While keys are wrapped anew: wraps under the new wrapping key, and still unwraps what is under the old one."""

    def __init__(self, new: KeyWrapper, old: KeyWrapper) -> None:
        self._new = new
        self._old = old

    @property
    def key_id(self) -> str:
        return self._new.key_id

    def wrap(self, key: bytes, context: bytes) -> bytes:
        return self._new.wrap(key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        try:
            return self._new.unwrap(wrapped, context)
        except PayloadError:
            return self._old.unwrap(wrapped, context)


def associated_data(context: bytes) -> bytes:
    """What a wrapped key is bound to."""
    return _LABEL + context


def join_wrapped(nonce: bytes, ciphertext: bytes) -> bytes:
    """The bytes of a wrapped key."""
    return _VERSION + nonce + ciphertext


def split_wrapped(wrapped: bytes) -> tuple[bytes, bytes]:
    """Nonce and ciphertext; raises PayloadError where the form isn't ours."""
    start = len(_VERSION) + NONCE_BYTES
    if len(wrapped) < start + _TAG_BYTES or not wrapped.startswith(_VERSION):
        raise PayloadError("wrapped key: unknown version or too short")
    return wrapped[len(_VERSION) : start], wrapped[start:]
