"""Erasure: patients' keys are destroyed and their payloads taken, while every leaf, node, checkpoint and proof stays as it is.

An approved request is carried out in these steps; each can be done again, so a crash anywhere is mended by doing what follows:

(1) the officers' signatures hold, over this request, to the letter;
(2) under the log's lock: no legal hold is in force on anyone concerned, and the duty to keep the newest payload has ended,
    or a law that the tenant names lets it be cut short; the keys found are noted (`running`);
(3) still under the lock: the wrapped keys are destroyed. From here on nobody can read what was under them;
(4) entries under way have a moment to arrive; then the payloads are taken, some at a time, for the log waits meanwhile. With
    the last of them, under the same lock, their number and digest are noted (`taken`), so that the entry is sure to fit;
(5) the erasure/v1 entry, whose id is the request's, goes into the log (`recorded`);
(6) the subjects are forgotten, and both stores leave no copy in their own files (`done`).

Keys of patients who come back are new ones: nothing links them to what was erased. What retention lets go is erased in the
same way; there single payloads go where their patient has newer ones.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import TypeVar

import msgspec

from audit.approvals import ERASE, RETENTION
from audit.commitments import digest
from audit.custody import (
    APPROVED,
    DONE,
    RECORDED,
    RUNNING,
    TAKEN,
    Asked,
    Body,
    Custody,
    advance,
    find,
    parse_body,
    record,
    signers_of,
    submit,
    written_request,
)
from audit.entry import format_time, read_header
from audit.entry_custody import ErasureEntry
from audit.errors import CustodyError, HoldError, StorageError
from audit.log import read_entry
from audit.merkle import LeafIndex
from audit.note import Signer
from audit.retention import Due, find_due
from audit.storage import Erasure, KeptPayload, Transaction
from audit.storage.vault_store import CustodyRequest
from audit.tombstones import digest_erased

KEYS_AT_A_TIME = 50
PAYLOADS_AT_A_TIME = 500
_SHORT_PAGE = 64
SCRUB_TRIES = 5
T = TypeVar("T")


def request_erasure(
    custody: Custody, patient_ids: Sequence[str], signer: Signer, reason: str, override: str | None = None
) -> CustodyRequest:
    """The new request to erase these patients, whose places in the list errors name.

    Raises:
        CustodyError: none given, or one of whom there is no record.
        HoldError, RetentionError: it would be refused as things are.
        ApprovalError: the key is no privacy officer's.
    """
    lookups = custody.lookups(patient_ids)
    keys = [custody.store.key(lookup) for lookup in lookups]
    missing = [str(place) for place, key in enumerate(keys, start=1) if key is None]
    if missing or not keys:
        message = f"line {', '.join(missing)}: no record of this patient" if missing else "expected a patient, got none"
        raise CustodyError(message)
    key_refs = [key.key_ref for key in keys if key is not None]
    _check_holds(custody, key_refs)
    custody.rule.check_ended(max(_times(custody, key_refs, ()), default=None), custody.clock(), override)
    return submit(custody, Asked(ERASE, reason, lookups, override), signer)


def request_retention(custody: Custody, signer: Signer, reason: str, limit: int) -> CustodyRequest | None:
    """The new request to let go of what is due, at most `limit` payloads; None where nothing is.

    Raises:
        ApprovalError: the key is no privacy officer's.
    """
    due = due_payloads(custody, limit)
    if not due.key_refs and not due.payloads:
        return None
    payloads = tuple((payload.key_ref, int(payload.index)) for payload in due.payloads)
    return submit(custody, Asked(RETENTION, reason, keys=due.key_refs, payloads=payloads), signer)


def due_payloads(custody: Custody, limit: int) -> Due:
    """What may go, at most `limit` payloads."""
    latest = custody.rule.latest_due(custody.clock())
    return find_due(kept_payloads(custody), latest, held_key_refs(custody), limit)


def kept_payloads(custody: Custody, key_ref: int = 0, page_size: int = 1000) -> Iterator[KeptPayload]:
    """Every payload that is still there, in order of key and index, from `key_ref` on; constant memory."""
    after = -1
    while page := custody.log.storage.kept_payloads(key_ref, after, page_size):
        yield from page
        key_ref, after = page[-1].key_ref, page[-1].index


def held_key_refs(custody: Custody) -> dict[int, str]:
    """The keys on which a hold is in force now, with its name."""
    now = custody.now()
    found = {}
    for hold in custody.store.holds():
        if hold.until is None or hold.until > now:
            key = custody.store.key(hold.lookup)
            if key is not None:
                found[key.key_ref] = hold.hold
    return found


def carry_out(custody: Custody, request_id: str) -> LeafIndex:
    """The index of the entry that records the erasure, from whatever state the request is in.

    Raises:
        ApprovalError: step 1.
        HoldError, RetentionError: step 2; nothing was touched.
        StorageError: a store can't be read, written or scrubbed; the request is carried on when this is called again.
        AppendError: step 5; as well.
        CustodyError: no such request, not approved yet, or another process is at it.
    """
    row = find(custody, request_id)
    if row.state not in (APPROVED, RUNNING, TAKEN, RECORDED):
        message = f"request {row.id}: expected an approved one, got one that is {row.state}"
        raise CustodyError(message)
    if row.state in (APPROVED, RUNNING):
        signers_of(custody, row)  # (1)
        row = _destroy(custody, row)  # (2), (3)
        time.sleep(custody.settle_s)
        row = _take(custody, row)  # (4)
    if row.state == TAKEN:
        row = _record(custody, row)  # (5)
    _forget(custody, row)  # (6)
    index = custody.log.index_of(row.id)
    if index is None:
        message = f"request {row.id}: the log doesn't have its entry"
        raise CustodyError(message)
    return index


def _destroy(custody: Custody, row: CustodyRequest) -> CustodyRequest:
    body, override = parse_body(row), written_request(row).override
    plan = body.plan if row.state == RUNNING else _plan(custody, row, body)
    left = {key_ref for key_ref in plan if custody.store.key_at(key_ref) is not None}
    concerned = [*left, *(key_ref for key_ref, _ in body.payloads)]
    size = custody.log.storage.newest_checkpoint().size
    times = _times(custody, left, (LeafIndex(index) for _, index in body.payloads))
    _check_holds(custody, concerned)
    custody.rule.check_ended(max(times, default=None), custody.clock(), override)
    with custody.log.storage.exclusive() as transaction:  # from here on only what came since has to be looked at
        _check_holds(custody, concerned)
        times += _times(custody, (), (index for index in _since(size, transaction) if _key_ref(custody, index) in left))
        met = custody.rule.check_ended(max(times, default=None), custody.clock(), override)
        if row.state == APPROVED:
            row = advance(custody, row, RUNNING, msgspec.structs.replace(body, plan=plan, retention=met))
        custody.store.destroy_keys(sorted(left), custody.now())
    custody.reached("destroyed")
    return row


def _plan(custody: Custody, row: CustodyRequest, body: Body) -> tuple[int, ...]:
    """The keys to destroy; a subject whose key another erasure destroyed has none."""
    if row.kind == RETENTION:
        return body.keys
    keys = [custody.store.key(lookup) for lookup in row.subjects]
    return tuple(key.key_ref for key in keys if key is not None)


def _take(custody: Custody, row: CustodyRequest) -> CustodyRequest:
    body = parse_body(row)
    erasure = Erasure(row.id, bytes.fromhex(body.erasure_salt))
    parts: list[tuple[Sequence[int], Sequence[tuple[int, int]]]] = [
        *((keys, ()) for keys in _parts(body.plan, KEYS_AT_A_TIME)),
        *(((), payloads) for payloads in _parts(body.payloads, PAYLOADS_AT_A_TIME)),
    ] or [((), ())]  # all of it may be gone already, by another erasure
    for place, (keys, payloads) in enumerate(parts, start=1):
        with custody.log.storage.exclusive() as transaction:
            if find(custody, row.id).state != RUNNING:
                message = f"request {row.id}: another process is at it"
                raise CustodyError(message)
            held = held_key_refs(custody) if payloads else {}
            indices = [LeafIndex(index) for key_ref, index in payloads if key_ref not in held]
            taken = transaction.erase(erasure, key_refs=keys, indices=indices)
            if place == len(parts):
                erased = digest_erased(erasure.salt, taken)
                row = advance(
                    custody, row, TAKEN, msgspec.structs.replace(body, payload_count=len(taken), erased=erased)
                )
        custody.reached("payloads")
    return row


def _record(custody: Custody, row: CustodyRequest) -> CustodyRequest:
    requester, approver = signers_of(custody, row)[:2]
    body, now = parse_body(row), custody.clock()
    entry = ErasureEntry(
        id=row.id,
        time=format_time(now),
        clock=custody.log.clock_status(now),
        tenant=custody.tenant,
        reason=written_request(row).reason,
        subjects=len(body.plan),
        payloads=body.payload_count,
        erased=body.erased,
        requested_by=custody.person(requester.name),
        approved_by=custody.person(approver.name),
        approval=digest(body.note.encode()),
        retention=body.retention,
    )
    record(custody, entry)
    custody.reached("logged")
    return advance(custody, row, RECORDED, body)


def _forget(custody: Custody, row: CustodyRequest) -> None:
    now = custody.now()
    for lookup in row.subjects:
        for hold in custody.store.holds_on(lookup):
            if hold.until is not None and hold.until <= now:
                custody.store.release_hold(hold.hold)
    row = advance(custody, row, RECORDED, parse_body(row).forgotten())
    custody.store.forget_subjects(row.id)
    custody.reached("forgotten")
    _scrub(custody.log.storage.scrub)
    _scrub(custody.store.scrub)
    advance(custody, row, DONE, parse_body(row))


def _scrub(scrub: Callable[[], None]) -> None:
    """Scrubs; someone who reads at that moment makes it fail, and is soon done."""
    for attempt in range(1, SCRUB_TRIES + 1):
        try:
            scrub()
        except StorageError:
            if attempt == SCRUB_TRIES:
                raise
        else:
            return


def _check_holds(custody: Custody, key_refs: Iterable[int]) -> None:
    held = held_key_refs(custody)
    found = {held[key_ref] for key_ref in key_refs if key_ref in held}
    if found:
        raise HoldError(tuple(sorted(found)))


def _times(custody: Custody, key_refs: Iterable[int], indices: Iterable[LeafIndex]) -> list[str]:
    """The newest time under each key that has payloads, and the time of each of these entries."""
    times = [read_header(read_entry(custody.log.storage, index)).time for index in indices]
    for key_ref in key_refs:
        own = takewhile(partial(_is_under, key_ref), kept_payloads(custody, key_ref, _SHORT_PAGE))
        times += [max((payload.time for payload in own), default="")]
    return [found for found in times if found]


def _is_under(key_ref: int, payload: KeptPayload) -> bool:
    return payload.key_ref == key_ref


def _since(size: int, transaction: Transaction) -> Iterator[LeafIndex]:
    """The entries beyond `size`."""
    return (LeafIndex(index) for index in range(size, transaction.newest_checkpoint().size))


def _key_ref(custody: Custody, index: LeafIndex) -> int | None:
    payload = custody.log.storage.payload(index)
    return None if payload is None else payload.key_ref


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))
