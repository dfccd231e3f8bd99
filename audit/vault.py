"""The vault: one key for each patient, so that destroying it forgets the patient in a log that never changes.

    K_patient   32 random bytes, stored only as the tenant's wrapping key made them; the wrapping is bound to tenant and lookup
    lookup      HMAC(K_index, "subject" || 00 || subject)
    subject     "patient:<id>"; "decision:<entry id>" where only the decision is known, and not whose it is

What a leaf says that depends on the patient is under K_patient, also against those who hold the index key:

    commitment  HMAC(K_patient, entry id)                                                      the patient, in one entry
    commit      HMAC(HKDF(K_patient, "bedside commitment/v1" LF purpose LF entry id), data)    differs in every entry
    digest      HMAC(HKDF(K_patient, "bedside digest/v1" LF purpose), data)                    the same for the same data
    payload     `audit.payloads`

HKDF is RFC 5869 with SHA-256 and no salt. No key is kept in memory between calls: once destroyed, it is gone everywhere. A
key is durable before it is used, so a payload never lacks its key; a key without an entry does no harm.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from audit.commitments import Digest, keyed_digest
from audit.entry import format_time
from audit.errors import ErasedError, PayloadError
from audit.keys import KeyRing
from audit.payloads import NONCE_BYTES, PayloadContext, SealedPayload, seal_payload
from audit.storage.vault_store import Rewrapped, VaultStore, WrappedKey
from audit.wrapping import KeyWrapper

SUBJECT_KEY_BYTES = 32
REWRAP_BATCH = 500


def patient_subject(patient_id: str) -> str:
    """The subject that is this patient of the tenant."""
    return f"patient:{patient_id}"


def decision_subject(entry_id: str) -> str:
    """The subject that is this decision, for what is said about it where its patient isn't known."""
    return f"decision:{entry_id}"


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """One subject's key and its ref; `wrapping_key` names the key that new entries say theirs is wrapped under."""

    ref: int
    key: bytes = field(repr=False)
    wrapping_key: str

    def commitment(self, entry_id: str) -> Digest:
        """The subject in one entry: whoever has the key can tell, and nobody can link it to another entry without."""
        return Digest(hmac.digest(self.key, entry_id.encode("ascii"), "sha256").hex())

    def commit(self, entry_id: str, purpose: str, data: bytes) -> Digest:
        """A commitment to `data` in one entry; equal data has another in every entry."""
        return self._hmac(f"bedside commitment/v1\n{purpose}\n{entry_id}", data)

    def digest(self, purpose: str, data: bytes) -> Digest:
        """The same for the same data of this subject, wherever it comes."""
        return self._hmac(f"bedside digest/v1\n{purpose}", data)

    def seal(self, context: PayloadContext, plaintext: bytes, nonce: bytes) -> SealedPayload:
        """As `seal_payload`, under this key."""
        return seal_payload(self, context, plaintext, nonce, key_id=self.wrapping_key)

    def _hmac(self, info: str, data: bytes) -> Digest:
        key = HKDF(SHA256(), SUBJECT_KEY_BYTES, salt=None, info=info.encode("ascii")).derive(self.key)
        return Digest(hmac.digest(key, data, "sha256").hex())


class Vault:
    """The keys of one tenant's subjects; safe in many threads, and beside other processes."""

    def __init__(
        self,
        store: VaultStore,
        keys: Callable[[], KeyRing],
        tenant: str,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """Takes over `store`; `keys` gives the wrapping key in force, and the index key, which never changes."""
        self._store = store
        self._keys = keys
        self._index_key = keys().index_key
        self._tenant = tenant
        self._clock = clock
        self._random_bytes = random_bytes

    @property
    def store(self) -> VaultStore:
        return self._store

    def lookup(self, subject: str) -> bytes:
        """Under what the store has this subject's key, its holds and the requests about it."""
        return bytes.fromhex(keyed_digest(self._index_key, "subject", subject.encode()))

    def find(self, subject: str) -> SubjectKey | None:
        """The subject's key, None if it has none.

        Raises:
            StorageError: the vault can't be read.
            PayloadError: the key was altered, or its wrapping key isn't here.
        """
        found = self._store.key(self.lookup(subject))
        return None if found is None else self._open(found)

    def key_for(self, subject: str) -> SubjectKey:
        """The subject's key, made and durable now if it had none; two that make it at once get the same.

        Raises:
            As `find`.
        """
        lookup = self.lookup(subject)
        found = self._store.key(lookup)
        return self._open(self._make(lookup) if found is None else found)

    def key_at(self, key_ref: int) -> SubjectKey:
        """The key with this ref.

        Raises:
            ErasedError: it was destroyed.
            PayloadError: as `find`, or this vault never had such a key.
            StorageError: the vault can't be read.
        """
        found = self._store.key_at(key_ref)
        if found is not None:
            return self._open(found)
        if 0 < key_ref <= self._store.newest_key_ref():
            message = f"erased: key {key_ref} was destroyed"
            raise ErasedError(message)
        message = f"key {key_ref}: this vault never had it; it isn't the log's, or is an old copy"
        raise PayloadError(message)

    def seal(self, key: SubjectKey, context: PayloadContext, plaintext: bytes) -> SealedPayload:
        """As `SubjectKey.seal`, with a fresh nonce."""
        return key.seal(context, plaintext, self._random_bytes(NONCE_BYTES))

    def rewrap(self, old: KeyWrapper, new: KeyWrapper, batch: int = REWRAP_BATCH) -> int:
        """How many keys went from `old` to `new`, batch by batch beside running writers; stopped, it goes on when run again.

        No copy under `old` remains in the store afterwards. Writers must know both keys by then (`OverlappingWrapper`); `old`
        may go once a later run finds nothing left.

        Raises:
            PayloadError: keys that `old` doesn't open, all others being done.
            StorageError: the vault can't be read or written.
        """
        done, after = 0, 0
        strays: list[int] = []
        while found := self._store.keys_not_under(new.key_id, after=after, limit=batch):
            rewrapped = []
            for stored in found:
                try:
                    rewrapped.append(self._rewrapped(stored, old, new))
                except PayloadError:
                    strays.append(stored.key_ref)
            done += self._store.replace_wrapped(rewrapped, new.key_id)
            after = found[-1].key_ref
        if done:
            self._store.scrub()
        if strays:
            message = f"{len(strays)} keys: not under {old.key_id}, or altered; the first is key {strays[0]}"
            raise PayloadError(message)
        return done

    def close(self) -> None:
        self._store.close()

    def _make(self, lookup: bytes) -> WrappedKey:
        wrapper, context = self._keys().wrapper, self._context(lookup)
        key = self._random_bytes(SUBJECT_KEY_BYTES)
        wrapped = wrapper.wrap(key, context)
        kept = self._store.keep_key(lookup, wrapped, wrapper.key_id, format_time(self._clock()))
        following = self._keys().wrapper
        if kept.wrapped != wrapped or following.key_id == wrapper.key_id:
            return kept
        # The wrapping key was replaced meanwhile: whoever rewraps may have read past this row before it was there.
        again = following.wrap(key, context)
        self._store.replace_wrapped([Rewrapped(kept.key_ref, wrapped, again)], following.key_id)
        return self._store.key(lookup) or kept

    def _open(self, stored: WrappedKey) -> SubjectKey:
        # Asked for after the row was read: a key that the row was wrapped under meanwhile is known by now.
        wrapper = self._keys().wrapper
        key = wrapper.unwrap(stored.wrapped, self._context(stored.lookup))
        return SubjectKey(stored.key_ref, key, wrapper.key_id)

    def _rewrapped(self, stored: WrappedKey, old: KeyWrapper, new: KeyWrapper) -> Rewrapped:
        context = self._context(stored.lookup)
        return Rewrapped(stored.key_ref, stored.wrapped, new.wrap(old.unwrap(stored.wrapped, context), context))

    def _context(self, lookup: bytes) -> bytes:
        """Whose key it is, so that a wrapped key opens nobody else's entries."""
        return f"{self._tenant}\n{lookup.hex()}".encode("ascii")
