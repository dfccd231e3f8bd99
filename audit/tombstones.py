"""What is left of payloads that an erasure took: a row that names the erasure, held against the erasure's signed entry.

The entry says how many payloads were taken, and which, as a digest that tells nothing without the salt beside the rows:

    erased = SHA-256(salt || u64be index || ... )     the indices in rising order

So nobody who can write in the store alone can make a payload vanish and call it erased: the erasure would have to be in the
signed log, and its number and digest would have to fit.

An erasure that took payloads of earlier epochs too can't be written into their logs, which are closed. Its salt in the log
where it is recorded goes on with what it took there, and so the entry's digest is over that as well:

    salt = 32 random bytes || for each earlier epoch: SHA-256(origin) || u64be count || erased, under the 32 bytes alone

The earlier log is then verified together with the later one (`find_taken`). Pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from audit.commitments import Digest
from audit.entry_custody import ErasureEntry
from audit.errors import VerificationError
from audit.merkle import LeafIndex
from audit.storage import Erasure

_PART = "payload"
SALT_BYTES = 32
_COUNT_BYTES = 8
_DIGEST_BYTES = 32
_PART_BYTES = _DIGEST_BYTES + _COUNT_BYTES + _DIGEST_BYTES


@dataclass(frozen=True, slots=True)
class TakenPart:
    """What the erasure `id`, recorded in a later log, took from the log of the origin with this SHA-256."""

    id: str
    origin: bytes
    count: int
    erased: Digest

    @classmethod
    def of(cls, erasure: Erasure, origin: str, indices: Sequence[LeafIndex]) -> "TakenPart":
        """The part that these payloads of the log `origin` are."""
        return cls(erasure.id, sha256(origin.encode()).digest(), len(indices), digest_erased(erasure.salt, indices))

    def __bytes__(self) -> bytes:
        return self.origin + self.count.to_bytes(_COUNT_BYTES, "big") + bytes.fromhex(self.erased)


def find_taken(erasures: Iterable[Erasure], origin: str) -> Iterator[TakenPart]:
    """What these erasures took from the earlier log `origin`; they are those of a later log, which was verified."""
    name = sha256(origin.encode()).digest()
    for erasure in erasures:
        for start in range(SALT_BYTES, len(erasure.salt) - _PART_BYTES + 1, _PART_BYTES):
            part = erasure.salt[start : start + _PART_BYTES]
            if part.startswith(name):
                count = int.from_bytes(part[_DIGEST_BYTES:-_DIGEST_BYTES], "big")
                yield TakenPart(erasure.id, name, count, Digest(part[-_DIGEST_BYTES:].hex()))


def digest_erased(salt: bytes, indices: Iterable[LeafIndex]) -> Digest:
    """The digest of the entries whose payload an erasure took; `indices` rise."""
    return Digest(sha256(salt + b"".join(index.to_bytes(8, "big") for index in indices)).hexdigest())


class Tombstones:
    """The tombstones of one log, taken in order beside its entries; memory for each erasure, not for each tombstone."""

    def __init__(self, erasures: Iterable[Erasure], later: Iterable[TakenPart] = ()) -> None:
        self._later = {part.id: (part.count, part.erased) for part in later}
        self._open = {erasure.id: _Taken(erasure.salt) for erasure in erasures}

    def take(self, index: LeafIndex, erasure: str) -> None:
        """Counts a payload that its store says was taken by `erasure`.

        Raises:
            VerificationError: the store knows no such erasure, or it was recorded before this entry was there.
        """
        taken = self._open.get(erasure)
        if taken is None:
            raise VerificationError(_PART, "missing", index)
        taken.add(index)

    def check_entry(self, index: LeafIndex, entry: ErasureEntry) -> None:
        """Returns if the payloads that are gone are those that this entry says were taken.

        Raises:
            VerificationError: they aren't.
        """
        taken = self._open.pop(entry.id, None)
        if taken is None:
            raise VerificationError("erasure", "the store has no salt for it", index)
        if taken.count < entry.payloads:
            message = f"it took {entry.payloads} payloads, and {taken.count} are gone"
            raise VerificationError("erasure", message, index)
        first = index if taken.first is None else taken.first
        if taken.count > entry.payloads:
            message = f"missing: {taken.count} are said to be taken by erasure {entry.id}, which took {entry.payloads}"
            raise VerificationError(_PART, message, first)
        if taken.digest() != entry.erased:
            message = f"missing: erasure {entry.id} took as many payloads, and others"
            raise VerificationError(_PART, message, first)

    def finish(self) -> None:
        """Returns if every erasure that took a payload is in the log or one of the later ones; call it after the last entry.

        Raises:
            VerificationError: one isn't; one that was cut short is completed by `bedside audit erase resume`.
        """
        missing = [
            (taken.first, name)
            for name, taken in self._open.items()
            if taken.first is not None and (taken.count, taken.digest()) != self._later.get(name)
        ]
        if missing:
            first, name = min(missing)
            raise VerificationError(_PART, f"missing: erasure {name} isn't in the log, or not completed", first)


class _Taken:
    """How many payloads one erasure took, and which; memory doesn't grow with them."""

    def __init__(self, salt: bytes) -> None:
        self.count = 0
        self.first: LeafIndex | None = None
        self._hasher = sha256(salt)

    def add(self, index: LeafIndex) -> None:
        self.count += 1
        self.first = index if self.first is None else self.first
        self._hasher.update(index.to_bytes(8, "big"))

    def digest(self) -> str:
        return self._hasher.hexdigest()
