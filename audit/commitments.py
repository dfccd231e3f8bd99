"""What a leaf may say about values it must not hold. Pure.

A plain hash of a patient identifier, or of a laboratory value, is found by trying them all. So everything that depends on a
patient is HMAC-SHA-256 under that patient's key (`audit.vault.SubjectKey`), which leaves with the erasure. What is about
staff and operations stays under the tenant's index key, here: every use has a purpose of its own, so that no digest of one
use can be compared with one of another:

    digest = HMAC(K_index, purpose || 00 || data)      equal data, equal digest
"""

import hmac
from hashlib import sha256
from typing import NewType

from audit.errors import EntryError

# 64 lower-case hex digits, as they stand in entries.
Digest = NewType("Digest", str)
# 32 random bytes: the tenant's index key.
IndexKey = NewType("IndexKey", bytes)

INDEX_KEY_BYTES = 32


def digest(data: bytes) -> Digest:
    """SHA-256 of what isn't secret and isn't guessable: artefacts, manifests, ciphertexts."""
    return Digest(sha256(data).hexdigest())


def keyed_digest(key: IndexKey, purpose: str, data: bytes) -> Digest:
    """HMAC(key, purpose || 00 || data): the same data gives the same digest, for those who hold the key."""
    if len(key) != INDEX_KEY_BYTES:
        message = f"index key: expected {INDEX_KEY_BYTES} bytes, got {len(key)}"
        raise EntryError(message)
    return Digest(hmac.digest(key, purpose.encode("ascii") + b"\0" + data, "sha256").hex())
