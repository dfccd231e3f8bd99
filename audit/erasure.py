"""Erasure: patients' keys are destroyed and their payloads taken, while every leaf, node, checkpoint and proof stays as it is.

An approved request is carried out in these steps; each can be done again, so a crash anywhere is mended by doing what follows:

(1) the officers' signatures hold, over this request and the keys it is about, to the letter;
(2) under the log's lock: no legal hold is in force on anyone concerned, by the vault or by the log, and the duty to keep the
    newest payload has ended, or a law that the tenant names lets it be cut short; what was found is noted (`running`);
(3) still under the lock: the wrapped keys are destroyed. From here on nobody can read what was under them;
(4) entries under way have a moment to arrive; then the payloads are taken, those of earlier epochs first, some at a time, for
    the log waits meanwhile. With the last of them, under the same lock, their number and digest are noted (`taken`), so that
    the entry is sure to fit;
(5) the erasure/v1 entry, whose id is the request's, goes into the log (`recorded`);
(6) the subjects are forgotten, here and in every other request, and both stores leave no copy in their own files (`done`).

Keys of patients who come back are new ones: nothing links them to what was erased. What retention lets go is erased in the
same way; there single payloads go where their patient has newer ones.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from audit.approvals import ERASE, RETENTION
from audit.commitments import digest
from audit.custody import (
    APPROVED,
    DONE,
    RECORDED,
    REQUESTED,
    RUNNING,
    TAKEN,
    Custody,
    advance,
    check_seal,
    find,
    forget_in,
    record,
    signers_of,
    submit,
    written_request,
)
from audit.custody_body import Asked, Body, parse_body
from audit.custody_epochs import Epoch, EpochPayload, check_reach, epoch_of, epochs, kept_payloads, kept_under
from audit.entry import format_time, read_header
from audit.entry_custody import ErasureEntry
from audit.errors import CustodyError, PayloadError, StorageError
from audit.held import check_not_held, held_key_refs, logged_holds, placed_since
from audit.log import read_entry
from audit.merkle import LeafIndex
from audit.note import Signer
from audit.payloads import PayloadContext, open_payload
from audit.retention import Due, find_due
from audit.storage import Erasure, Transaction
from audit.storage.vault_store import CustodyRequest, WrappedKey
from audit.tombstones import TakenPart, digest_erased
from audit.vault import patient_subject

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
        CustodyError: none given, or one of whom there is no record; records may lie in an epoch that isn't given.
        PayloadError: a key was altered.
        HoldError, RetentionError: it would be refused as things are.
        ApprovalError: the key is no privacy officer's.
    """
    keys = [custody.vault.find(patient_subject(patient_id)) for patient_id in patient_ids]
    missing = [str(place) for place, key in enumerate(keys, start=1) if key is None]
    if missing or not keys:
        message = f"line {', '.join(missing)}: no record of this patient" if missing else "expected a patient, got none"
        raise CustodyError(message)
    key_refs = tuple(dict.fromkeys(key.ref for key in keys if key is not None))
    lookups = custody.lookups(patient_ids)
    check_reach(custody, _keys_there(custody, key_refs).values())
    for key_ref in key_refs:
        _check_opens(custody, key_ref)
    check_not_held(custody, key_refs, lookups, logged_holds(custody))
    custody.rule.check_ended(max(_times(custody, key_refs), default=None), custody.clock(), override)
    return submit(custody, Asked(ERASE, reason, lookups, override, keys=key_refs), signer)


def request_retention(custody: Custody, signer: Signer, reason: str, limit: int) -> CustodyRequest | None:
    """The new request to let go of what is due, at most `limit` payloads; None where nothing is.

    Raises:
        ApprovalError: the key is no privacy officer's.
        CustodyError: records may lie in an epoch that isn't given.
    """
    due = due_payloads(custody, limit)
    if not due.key_refs and not due.payloads:
        return None
    payloads = tuple(
        (payload.key_ref, int(payload.index), payload.epoch)
        for payload in due.payloads
        if isinstance(payload, EpochPayload)
    )
    keys = _keys_there(custody, due.key_refs)
    check_reach(custody, keys.values())
    lookups = tuple(key.lookup for key in keys.values())
    return submit(custody, Asked(RETENTION, reason, lookups, keys=tuple(keys), payloads=payloads), signer)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The keys whose payloads stay: held, or not there, so that nobody can tell whether they are held."""

    custody: Custody
    held: dict[int, str]

    def __contains__(self, key_ref: object) -> bool:
        return key_ref in self.held or not isinstance(key_ref, int) or self.custody.store.key_at(key_ref) is None


def due_payloads(custody: Custody, limit: int) -> Due:
    """What may go, at most `limit` payloads."""
    latest = custody.rule.latest_due(custody.clock())
    return find_due(kept_payloads(custody), latest, _Kept(custody, held_key_refs(custody)), limit)


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
    check_seal(custody, row)
    if row.state in (APPROVED, RUNNING):
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
    keys = _keys_to_destroy(custody, row, body)
    size = custody.log.storage.newest_checkpoint().size
    concerned = {*body.keys, *(key_ref for key_ref, _, _ in body.payloads)}
    check_not_held(custody, concerned, row.subjects, logged_holds(custody))
    times = _concerned_times(custody, body, keys)
    custody.rule.check_ended(max(times, default=None), custody.clock(), override)
    with custody.log.storage.exclusive() as transaction:  # from here on only what came since has to be looked at
        check_not_held(custody, concerned, row.subjects, placed_since(custody, size))
        times += _entry_times(
            custody, (index for index in _since(size, transaction) if _key_ref(custody, index) in keys)
        )
        met = custody.rule.check_ended(max(times, default=None), custody.clock(), override)
        if row.state == APPROVED or keys:
            found = msgspec.structs.replace(
                body,
                plan=tuple(keys) if row.state == APPROVED else body.plan,
                size=transaction.newest_checkpoint().size,
                retention=met,
                earlier=tuple(epoch.origin for epoch in epochs(custody)[1:]),
            )
            row = advance(custody, row, RUNNING, found)
        custody.store.destroy_keys(sorted(keys), custody.now())
    custody.reached("destroyed")
    return row


def _keys_to_destroy(custody: Custody, row: CustodyRequest, body: Body) -> dict[int, WrappedKey]:
    """The keys that are still there of those that officers signed; one that another erasure destroyed has no payload.

    Raises:
        CustodyError: a key is gone and what is under it isn't, the plan names others than were signed, or an epoch isn't given.
    """
    keys = _keys_there(custody, body.keys)
    check_reach(custody, keys.values())
    if row.state == RUNNING:
        if not set(body.plan) <= set(body.keys):
            message = f"request {row.id}: its plan names keys that its officers didn't sign"
            raise CustodyError(message)
        given = tuple(epoch.origin for epoch in epochs(custody)[1:])
        if body.parts is None and given != body.earlier:
            message = f"request {row.id}: expected the epochs {', '.join(body.earlier)} (--previous)"
            raise CustodyError(message)
        return keys
    for key_ref in body.keys:
        if key_ref not in keys and next(kept_under(custody, key_ref, 1), None) is not None:
            message = (
                f"key {key_ref}: gone, and payloads under it aren't; another erasure runs, or the vault was altered"
            )
            raise CustodyError(message)
    return keys


def _keys_there(custody: Custody, key_refs: Iterable[int]) -> dict[int, WrappedKey]:
    found = ((key_ref, custody.store.key_at(key_ref)) for key_ref in key_refs)
    return {key_ref: key for key_ref, key in found if key is not None}


def _check_opens(custody: Custody, key_ref: int) -> None:
    """Returns if the key is the one that its payloads are under: refs could have been exchanged."""
    payload = next(kept_under(custody, key_ref, 1), None)
    if payload is None:
        return
    storage = epoch_of(custody, payload.epoch).storage
    header, stored = read_header(read_entry(storage, payload.index)), storage.payload(payload.index)
    if header.payload is not None and stored is not None and stored.sealed is not None:
        try:
            context = PayloadContext(header.id, header.type, header.tenant)
            open_payload(custody.vault.key_at, context, header.payload, stored.sealed)
        except PayloadError as exc:
            message = f"key {key_ref}: doesn't open what is under it; the vault or the log's store was altered"
            raise CustodyError(message) from exc


def _take(custody: Custody, row: CustodyRequest) -> CustodyRequest:
    body = parse_body(row)
    if body.parts is None:
        parts = [_take_earlier(custody, row, epoch) for epoch in epochs(custody)[1:]]
        found = msgspec.structs.replace(
            body, parts=b"".join(map(bytes, parts)).hex(), earlier_count=sum(part.count for part in parts)
        )
        row = advance(custody, row, RUNNING, found)
        body = found
    erasure = Erasure(row.id, bytes.fromhex(body.erasure_salt + (body.parts or "")))
    own = epochs(custody)[0].number
    parts_of = _portions(body, own)
    for place, (keys, payloads) in enumerate(parts_of, start=1):
        with custody.log.storage.exclusive() as transaction:
            taken = _erase(custody, row, erasure, transaction, keys, payloads)
            if place == len(parts_of):
                erased = digest_erased(erasure.salt, taken)
                found = msgspec.structs.replace(body, payload_count=len(taken), erased=erased)
                row = advance(custody, row, TAKEN, found)
        custody.reached("payloads")
    return row


def _take_earlier(custody: Custody, row: CustodyRequest, epoch: Epoch) -> TakenPart:
    """What was taken from a closed log; the salt of its tombstones is the request's alone."""
    body = parse_body(row)
    erasure = Erasure(row.id, bytes.fromhex(body.erasure_salt))
    taken: Sequence[LeafIndex] = ()
    for keys, payloads in _portions(body, epoch.number):
        with epoch.storage.exclusive() as transaction:
            taken = _erase(custody, row, erasure, transaction, keys, payloads)
        custody.reached("earlier")
    _scrub(epoch.storage.scrub)
    return TakenPart.of(erasure, epoch.origin, taken)


def _portions(body: Body, epoch: int) -> list[tuple[Sequence[int], Sequence[tuple[int, int]]]]:
    """What goes at a time: the keys, then the single payloads of this epoch."""
    payloads = [(key_ref, index) for key_ref, index, number in body.payloads if number == epoch]
    return [
        *((keys, ()) for keys in _parts(body.keys, KEYS_AT_A_TIME)),
        *(((), some) for some in _parts(payloads, PAYLOADS_AT_A_TIME)),
    ] or [((), ())]  # all of it may be gone already, by another erasure


def _erase(
    custody: Custody,
    row: CustodyRequest,
    erasure: Erasure,
    transaction: Transaction,
    keys: Sequence[int],
    payloads: Sequence[tuple[int, int]],
) -> Sequence[LeafIndex]:
    """All that this erasure has taken from the log so far, with these; what came to be held since stays."""
    if find(custody, row.id).state != RUNNING:
        message = f"request {row.id}: another process is at it"
        raise CustodyError(message)
    held = held_key_refs(custody) if payloads else {}
    indices = [LeafIndex(index) for key_ref, index in payloads if key_ref not in held]
    return transaction.erase(erasure, key_refs=keys, indices=indices)


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
    _forget_elsewhere(custody, row)
    row = advance(custody, row, RECORDED, parse_body(row).forgotten(), forget=row.subjects)
    custody.reached("forgotten")
    _scrub(custody.log.storage.scrub)
    _scrub(custody.store.scrub)
    advance(custody, row, DONE, parse_body(row))


def _forget_elsewhere(custody: Custody, row: CustodyRequest) -> None:
    """Has other requests that wait forget these subjects, except who came back and has a key again.

    One under way forgets its own when it is done.
    """
    gone = {lookup for lookup in row.subjects if custody.store.key(lookup) is None}
    for other in custody.store.requests():
        if other.id != row.id and other.state in (REQUESTED, APPROVED):
            forget_in(custody, other, gone)


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


def _concerned_times(custody: Custody, body: Body, keys: Collection[int]) -> list[str]:
    """The times of what goes; under a key that is destroyed already only what wasn't still under way then."""
    own = epochs(custody)[0].number
    times = _times(custody, keys)
    for key_ref in body.keys:
        if key_ref not in keys:
            kept = kept_under(custody, key_ref, _SHORT_PAGE)
            times += [payload.time for payload in kept if payload.epoch != own or payload.index < body.size]
    for _, index, epoch in body.payloads:
        times.append(read_header(read_entry(epoch_of(custody, epoch).storage, LeafIndex(index))).time)
    return times


def _times(custody: Custody, key_refs: Iterable[int]) -> list[str]:
    """The newest time under each key that has payloads."""
    times = []
    for key_ref in key_refs:
        own = kept_under(custody, key_ref, _SHORT_PAGE)
        times += [max((payload.time for payload in own), default="")]
    return [found for found in times if found]


def _entry_times(custody: Custody, indices: Iterable[LeafIndex]) -> list[str]:
    return [read_header(read_entry(custody.log.storage, index)).time for index in indices]


def _since(size: int, transaction: Transaction) -> Iterator[LeafIndex]:
    """The entries beyond `size`."""
    return (LeafIndex(index) for index in range(size, transaction.newest_checkpoint().size))


def _key_ref(custody: Custody, index: LeafIndex) -> int | None:
    payload = custody.log.storage.payload(index)
    return None if payload is None else payload.key_ref


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))
