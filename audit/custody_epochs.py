"""The log and the epochs before it, as acts of custody see them: every payload under a patient's key, wherever it lies.

A patient's key serves every epoch, so what has to be kept, and what has to go, may lie in logs that are closed. Their stores
are given (`Custody.previous`), held against the chain of first entries, and asked for where a key is older than those at hand.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from audit.checkpoint import parse_checkpoint
from audit.custody import Custody
from audit.encoding import parse_decimal
from audit.entry import parse_entry
from audit.entry_operations import EpochEntry
from audit.errors import CustodyError, FormatError
from audit.log import FIRST
from audit.merkle import LeafIndex
from audit.note import parse_note
from audit.storage import KeptPayload, Storage
from audit.storage.vault_store import WrappedKey

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch: its number (0 where the origin has none), its origin and its store."""

    number: int
    origin: str
    storage: Storage


@dataclass(frozen=True, slots=True)
class EpochPayload(KeptPayload):
    """A payload, and the number of the epoch in whose store it lies."""

    epoch: int


def epochs(custody: Custody) -> tuple[Epoch, ...]:
    """The log's own epoch, then those before it as far as they are given.

    Raises:
        CustodyError: one given isn't the one that the next began from.
    """
    found = [_epoch(custody.log.storage)]
    for storage in custody.previous:
        _check_link(found[-1].storage, storage)
        found.append(_epoch(storage))
    return tuple(found)


def check_reach(custody: Custody, keys: Iterable[WrappedKey]) -> None:
    """Returns if no record under these keys can lie in an epoch that isn't given.

    Raises:
        CustodyError: a key is older than the oldest epoch at hand, which isn't the first.
    """
    oldest = epochs(custody)[-1]
    first = _first(oldest.storage)
    if first is None or first.previous is None:
        return
    if any(key.created < first.time for key in keys):
        message = (
            f"key: older than the epoch {oldest.origin}; records under it may lie in the one before, whose directory"
            " has to be given (--previous)"
        )
        raise CustodyError(message)


def kept_payloads(custody: Custody, key_ref: int = 0, page_size: int = _PAGE) -> Iterator[EpochPayload]:
    """Every payload that is still there, by key, from `key_ref` on, in all epochs at hand; constant memory."""
    streams = (_kept(epoch, key_ref, page_size) for epoch in epochs(custody))
    return heapq.merge(*streams, key=lambda payload: (payload.key_ref, payload.epoch, payload.index))


def kept_under(custody: Custody, key_ref: int, page_size: int = _PAGE) -> Iterator[EpochPayload]:
    """Those under one key."""
    return takewhile(partial(_is_under, key_ref), kept_payloads(custody, key_ref, page_size))


def epoch_of(custody: Custody, number: int) -> Epoch:
    """The epoch with this number; raises CustodyError where it isn't given."""
    for epoch in epochs(custody):
        if epoch.number == number:
            return epoch
    message = f"epoch {number}: expected its directory (--previous)"
    raise CustodyError(message)


def _kept(epoch: Epoch, key_ref: int, page_size: int) -> Iterator[EpochPayload]:
    after = -1
    while page := epoch.storage.kept_payloads(key_ref, after, page_size):
        yield from (EpochPayload(one.key_ref, one.index, one.time, epoch.number) for one in page)
        key_ref, after = page[-1].key_ref, page[-1].index


def _is_under(key_ref: int, payload: KeptPayload) -> bool:
    return payload.key_ref == key_ref


def _epoch(storage: Storage) -> Epoch:
    origin = parse_checkpoint(parse_note(storage.newest_checkpoint().note).text).origin
    try:
        number = parse_decimal(origin.rpartition("/")[2], "epoch number")
    except FormatError:
        number = 0
    return Epoch(number, origin, storage)


def _first(storage: Storage) -> EpochEntry | None:
    entry = storage.entry(LeafIndex(FIRST))
    parsed = None if entry is None else parse_entry(entry)
    return parsed if isinstance(parsed, EpochEntry) else None


def _check_link(storage: Storage, before: Storage) -> None:
    first = _first(storage)
    note = None if first is None or first.previous is None else first.previous.encode()
    if note is None or before.checkpoint(parse_checkpoint(parse_note(note).text).size) != note:
        raise CustodyError("--previous: expected the epoch that the log, or the one before in this list, began from")
