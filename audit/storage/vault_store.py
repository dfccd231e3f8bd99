"""What a vault asks of its store: wrapped patient keys, and the legal holds and custody requests that decide over them.

A vault is apart from the log, for the log only grows and a vault must forget. `vault_sqlite` is the embedded default,
`vault_postgresql` serves several hosts; another store is one module with this protocol, and passes
tests/audit/test_vault_store.py unchanged. Nothing here is in clear: a subject is known by `lookup` alone, 32 bytes of
HMAC under the log's index key, and its key by what the wrapping key made of it.

    patient_keys      key_ref (never given twice), lookup, wrapped, wrapping_key, created
    holds             hold, lookup, placed, until (or null), reason
    requests          id, kind, body, state, created
    request_subjects  id, lookup
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

LOOKUP_BYTES = 32


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """One subject's key as stored; `wrapping_key` is the id of the key it is wrapped under, `created` an entry time."""

    key_ref: int
    lookup: bytes
    wrapped: bytes
    wrapping_key: str
    created: str


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """The key `key_ref`, wrapped as `before` until now and as `after` from now on."""

    key_ref: int
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold on one subject, in force until it is released, or until `until` where that is given.

    Several holds may share a subject; a hold on several subjects is a hold of its own for each. `reason` is a code.
    """

    hold: str
    lookup: bytes
    placed: str
    until: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class CustodyRequest:
    """A request that officers decide on; what `body`, `kind` and `state` mean is their module's business."""

    id: str
    kind: str
    body: bytes
    state: str
    created: str
    subjects: tuple[bytes, ...]


class VaultStore(Protocol):
    """A vault's store, open: safe in many threads and beside other processes.

    Whatever writes returns only when it is durable. Every method raises StorageError where the store fails. Times are
    entry times (`audit.entry.format_time`), whose text order is their order.
    """

    def key(self, lookup: bytes) -> WrappedKey | None: ...

    def key_at(self, key_ref: int) -> WrappedKey | None: ...

    def newest_key_ref(self) -> int:
        """A number that no key_ref given so far exceeds, those of destroyed keys included; 0 before the first."""
        ...

    def keep_key(self, lookup: bytes, wrapped: bytes, wrapping_key: str, created: str) -> WrappedKey:
        """The key of this subject: the one given, or the one that was there before, whoever was faster."""
        ...

    def destroy_keys(self, key_refs: Sequence[int], now: str) -> tuple[int, ...]:
        """Deletes these keys, all or none; those of them that were there, in order. `scrub` must follow.

        Raises:
            HoldError: a hold is in force at `now` on one of the subjects; looked at in the same transaction.
        """
        ...

    def keys_not_under(self, wrapping_key: str, *, after: int = 0, limit: int = 1000) -> list[WrappedKey]:
        """The first `limit` keys beyond key_ref `after` that another key wraps; of "", every key."""
        ...

    def replace_wrapped(self, rewrapped: Sequence[Rewrapped], wrapping_key: str) -> int:
        """How many keys are now wrapped under `wrapping_key`; one that isn't as `before` says any more is left alone."""
        ...

    def place_hold(self, hold: Hold) -> None:
        """Raises StorageError where the name is taken by another hold; placing the same again changes nothing."""
        ...

    def release_hold(self, hold: str) -> Hold | None:
        """The hold that is now gone, None if there was none."""
        ...

    def holds_on(self, lookup: bytes) -> list[Hold]:
        """Every hold on this subject, also those past their `until`, by name."""
        ...

    def holds(self) -> list[Hold]:
        """Every hold, by name."""
        ...

    def put_request(self, request: CustodyRequest) -> None:
        """Raises StorageError where the id is taken."""
        ...

    def request(self, request_id: str) -> CustodyRequest | None: ...

    def requests(self, state: str | None = None) -> list[CustodyRequest]:
        """Every request, or those in one state, by time and id."""
        ...

    def set_request_state(
        self, request_id: str, before: str, after: str, body: bytes | None = None, forget: Sequence[bytes] = ()
    ) -> bool:
        """Whether the request went from one state to the other; not if another was faster. `body` replaces the old one.

        The two states may be the same: then only the body changes. In the same transaction the request loses the subjects
        `forget`; `scrub` must follow.
        """
        ...

    def forget_subjects(self, request_id: str) -> None:
        """The request stays and no longer tells whom it was about. `scrub` must follow."""
        ...

    def scrub(self) -> None:
        """Leaves no copy of what was deleted or replaced in the store's own files: write-ahead logs, free pages."""
        ...

    def close(self) -> None: ...
