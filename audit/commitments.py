"""What a leaf may say about values it must not hold: keyed digests and commitments. Pure.

A plain hash of a patient identifier, or of a laboratory value, is found by trying them all. So everything here is
HMAC-SHA-256 under a key that leaves with the erasure, and every use has a purpose of its own, so that no digest of
one use can be compared with one of another:

    digest      = HMAC(K, purpose || 00 || data)                         equal data, equal digest
    commitment  = HMAC(HMAC(K, purpose || 00 || data), entry id)         differs in every entry

Without K two entries about the same patient can't be linked; with it, one HMAC per entry finds them.
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
_PATIENT = "patient"


def digest(data: bytes) -> Digest:
    """SHA-256 of what isn't secret and isn't guessable: artefacts, manifests, ciphertexts."""
    return Digest(sha256(data).hexdigest())


def keyed_digest(key: IndexKey, purpose: str, data: bytes) -> Digest:
    """HMAC(key, purpose || 00 || data): the same data gives the same digest, for those who hold the key."""
    return Digest(_keyed(key, purpose, data).hex())


def commit(key: IndexKey, entry_id: str, purpose: str, data: bytes) -> Digest:
    """HMAC(HMAC(key, purpose || 00 || data), entry id): can be opened by showing the data and the key."""
    return Digest(hmac.digest(_keyed(key, purpose, data), entry_id.encode("ascii"), "sha256").hex())


def commit_patient(key: IndexKey, entry_id: str, patient_id: str) -> Digest:
    """The patient's commitment in one entry; it can't be linked to another entry's without the key."""
    return commit(key, entry_id, _PATIENT, patient_id.encode())


def _keyed(key: IndexKey, purpose: str, data: bytes) -> bytes:
    if len(key) != INDEX_KEY_BYTES:
        message = f"index key: expected {INDEX_KEY_BYTES} bytes, got {len(key)}"
        raise EntryError(message)
    return hmac.digest(key, purpose.encode("ascii") + b"\0" + data, "sha256")
