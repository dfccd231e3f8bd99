"""Custody requests: asked by one officer, approved by another, then carried out step by step, across any crash.

    requested -> approved -> running -> taken -> recorded -> done             withdrawn: from requested or approved

A request lies in the vault's store, its subjects as lookups and never as identifiers. What officers sign is made anew from
that row each time (`audit.approvals`), so a row that was changed no longer fits its signatures. Each subject is signed as a
digest under a salt of its own: where another request erased one of them, its lookup and salt go and the signatures still hold.
What is found on the way is sealed, with the state, under the log's index key: whoever writes in the vault alone can't move a
request on, or say what an erasure took.

`running` begins when an erasure can't be taken back, `taken` when its payloads are gone, `recorded` when the log has the
entry, and a request is `done` when no copy is left and its subjects are forgotten too.

What each kind does is in `erasure` and `holds`; a further kind is a module like these and a line in `audit.commands.custody`.
"""

import hmac
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from audit.approvals import (
    HOLD_PLACE,
    KINDS,
    SALT_BYTES,
    WITHDRAW,
    ApprovalRequest,
    Officer,
    check_approved,
    check_signed,
    countersign,
    parse_request,
    sign_request,
)
from audit.commitments import Digest, keyed_digest
from audit.custody_body import Asked, Body, blind, digest_asked, format_body, parse_body
from audit.entry import Entry, format_time, parse_entry
from audit.errors import ApprovalError, CustodyError, EntryConflictError, FormatError
from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.note import Signer, parse_note
from audit.retention import RetentionRule
from audit.storage import Storage
from audit.storage.vault_store import CustodyRequest, VaultStore
from audit.vault import Vault, patient_subject

REQUESTED, APPROVED, RUNNING, TAKEN, RECORDED, DONE, WITHDRAWN = (
    "requested",
    "approved",
    "running",
    "taken",
    "recorded",
    "done",
    "withdrawn",
)
UNFINISHED = (APPROVED, RUNNING, TAKEN, RECORDED)


@dataclass(frozen=True, slots=True)
class Custody:
    """What acts of custody need.

    `reached` is told each step once it is durable, at times under the log's lock: it must not append.
    An entry that was under way when its patient's key was destroyed has `settle_s` to arrive, so that its payload goes too.
    `previous` are the stores of the epochs before the log, the nearest first, as far as they are given.
    """

    log: AuditLog
    vault: Vault
    officers: tuple[Officer, ...]
    rule: RetentionRule
    clock: Callable[[], datetime]
    random_bytes: Callable[[int], bytes]
    settle_s: float
    reached: Callable[[str], None] = lambda _step: None
    previous: tuple[Storage, ...] = ()

    @property
    def tenant(self) -> str:
        return self.log.config.tenant

    @property
    def store(self) -> VaultStore:
        return self.vault.store

    def now(self) -> str:
        """The present time as entries write it."""
        return format_time(self.clock())

    def lookups(self, patient_ids: Iterable[str]) -> tuple[bytes, ...]:
        """What these patients are known by in the vault, in the order given."""
        return tuple(self.vault.lookup(patient_subject(patient_id)) for patient_id in patient_ids)

    def person(self, name: str) -> Digest:
        """An officer as entries name them."""
        return keyed_digest(self.log.keys.index_key, "officer", name.encode())


def submit(custody: Custody, asked: Asked, signer: Signer) -> CustodyRequest:
    """The new request, signed by the officer who asks.

    Raises:
        ApprovalError: the key is no privacy officer's.
        FormatError: the reason or the override is no code.
    """
    subjects = tuple(dict.fromkeys(asked.subjects))
    body = Body(
        note="",
        salt=custody.random_bytes(SALT_BYTES).hex(),
        subjects=tuple(blind(custody.random_bytes(SALT_BYTES), lookup) for lookup in subjects),
        keys=asked.keys,
        payloads=asked.payloads,
        holds=asked.holds,
        until=asked.until,
        erasure_salt=custody.random_bytes(SALT_BYTES).hex(),
        entry_ids=asked.entry_ids,
        patients=asked.patients,
    )
    row = CustodyRequest(custody.log.new_entry_id(), asked.kind, b"", REQUESTED, custody.now(), subjects)
    request = ApprovalRequest(
        kind=asked.kind,
        request_id=row.id,
        tenant=custody.tenant,
        subjects=digest_asked(row, body),
        reason=asked.reason,
        created=row.created,
        override=asked.override,
    )
    body = msgspec.structs.replace(body, note=sign_request(request, signer, custody.officers).decode())
    row = replace(row, state=_state(custody, replace(row, body=format_body(body))))
    row = replace(row, body=_sealed(custody, row, row.state, body))
    custody.store.put_request(row)
    custody.reached(row.state)
    return row


def approve(
    custody: Custody,
    request_id: str,
    signer: Signer,
    subjects: Sequence[bytes] | None = None,
    *,
    rotate: str | None = None,
) -> CustodyRequest:
    """The request with one more officer's signature; `subjects` where the officer brings a list of their own to compare.

    With `rotate` (a token's URI, or "") an erasure is to be followed by another wrapping key.

    Raises:
        ApprovalError: signed already by this officer, no privacy officer's key, or another list of subjects.
        CustodyError: no such request, or not one that waits for approval.
    """
    row = find(custody, request_id)
    if row.state != REQUESTED:
        message = f"request {request_id}: expected one that waits for approval, got one that is {row.state}"
        raise CustodyError(message)
    if subjects is not None and set(subjects) != set(row.subjects):
        message = f"request {request_id}: it isn't about the patients given"
        raise ApprovalError(message)
    body = parse_body(row)
    note = countersign(body.note.encode(), signed_request(custody, row), signer, custody.officers)
    body = msgspec.structs.replace(body, note=note.decode())
    if rotate is not None:
        body = msgspec.structs.replace(body, rotate=rotate, rotate_from=custody.log.keys.wrapper.key_id)
    return advance(custody, row, _state(custody, replace(row, body=format_body(body))), body)


def withdraw(custody: Custody, request_id: str, signer: Signer) -> None:
    """Ends a request of which nothing has been carried out; any one privacy officer may.

    Raises:
        ApprovalError: the key is no privacy officer's.
        CustodyError: no such request, or it is past that: it has begun, the log tells of it, or a hold was placed.
    """
    row = find(custody, request_id)
    if row.state not in (REQUESTED, APPROVED):
        message = f"request {request_id}: expected one that hasn't begun, got one that is {row.state}"
        raise CustodyError(message)
    body = parse_body(row)
    if any(custody.log.index_of(entry_id) is not None for entry_id in (row.id, *body.entry_ids)):
        message = f"request {request_id}: the log tells of it already; `resume` completes it"
        raise CustodyError(message)
    if row.kind == HOLD_PLACE and any(hold.hold in body.holds for hold in custody.store.holds()):
        message = f"request {request_id}: its hold is in force already; `resume` completes it"
        raise CustodyError(message)
    withdrawal = sign_request(replace(signed_request(custody, row), kind=WITHDRAW), signer, custody.officers)
    end(custody, row, msgspec.structs.replace(body, withdrawal=withdrawal.decode()))
    custody.store.scrub()


def end(custody: Custody, row: CustodyRequest, body: Body) -> None:
    """Has the request forget its subjects, and be withdrawn. `scrub` must follow."""
    advance(custody, row, WITHDRAWN, body.forgotten(), forget=row.subjects)


def find(custody: Custody, request_id: str) -> CustodyRequest:
    """The request; raises CustodyError where there is none."""
    row = custody.store.request(request_id)
    if row is None:
        message = f"request {request_id}: there is none"
        raise CustodyError(message)
    return row


def advance(
    custody: Custody, row: CustodyRequest, state: str, body: Body, forget: Collection[bytes] = ()
) -> CustodyRequest:
    """The request in its next state, without the subjects `forget`; raises CustodyError where another process was faster."""
    data = _sealed(custody, row, state, body)
    if not custody.store.set_request_state(row.id, row.state, state, data, tuple(forget)):
        message = f"request {row.id}: another process is at it"
        raise CustodyError(message)
    custody.reached(state)
    left = tuple(lookup for lookup in row.subjects if lookup not in forget)
    return replace(row, state=state, body=data, subjects=left)


def forget_in(custody: Custody, row: CustodyRequest, lookups: Collection[bytes]) -> None:
    """Has a request that waits forget these of its subjects, or end where it is about nobody else. `scrub` must follow.

    Raises:
        CustodyError: another process was faster.
    """
    gone = {lookup for lookup in row.subjects if lookup in lookups}
    if not gone:
        return
    body = parse_body(row)
    if len(gone) == len(row.subjects):
        end(custody, row, body)
        return
    known = iter(row.subjects)
    subjects = tuple(("", made) if salt and next(known) in gone else (salt, made) for salt, made in body.subjects)
    advance(custody, row, row.state, msgspec.structs.replace(body, subjects=subjects), forget=gone)


def check_seal(custody: Custody, row: CustodyRequest) -> None:
    """Returns if this state and what was found on the way are what a custodian wrote.

    Raises:
        CustodyError: somebody changed the row who has not the log's keys, or it is of an older version.
    """
    if not hmac.compare_digest(row.body, _sealed(custody, row, row.state, parse_body(row))):
        message = f"request {row.id}: what the vault says of it was changed; restore the vault, or ask for it anew"
        raise CustodyError(message)


def signers_of(custody: Custody, row: CustodyRequest) -> tuple[Officer, ...]:
    """The officers who signed, as many as it takes; raises ApprovalError."""
    return check_approved(parse_body(row).note.encode(), signed_request(custody, row), custody.officers)


def signed_request(custody: Custody, row: CustodyRequest) -> ApprovalRequest:
    """What has to be signed for this row; reason and override alone are the signed text's own."""
    body = parse_body(row)
    written = written_request(row)
    return ApprovalRequest(
        kind=row.kind,
        request_id=row.id,
        tenant=custody.tenant,
        subjects=digest_asked(row, body),
        reason=written.reason,
        created=row.created,
        override=written.override,
    )


def written_request(row: CustodyRequest) -> ApprovalRequest:
    """What the row's note says, unchecked; raises CustodyError where it says nothing."""
    try:
        return parse_request(parse_note(parse_body(row).note.encode()).text)
    except FormatError as exc:
        message = f"request {row.id}: unreadable"
        raise CustodyError(message) from exc


def record(custody: Custody, entry: Entry) -> LeafIndex:
    """The index of `entry`, also where it was logged before at another time: an act is recorded once.

    Raises:
        EntryConflictError: its id is taken by an entry that says something else.
        AppendError: no acknowledgement; `resume` tries again.
    """
    try:
        return custody.log.record(entry).index
    except EntryConflictError:
        found = custody.log.index_of(entry.id)
        if found is None:
            raise
    logged = parse_entry(custody.log.entry(found))
    if msgspec.structs.replace(logged, time=entry.time, clock=entry.clock) != entry:
        message = f"entry id {entry.id}: taken by an entry that says something else"
        raise EntryConflictError(message)
    return found


def _state(custody: Custody, row: CustodyRequest) -> str:
    """The state of a request that hasn't begun: approved as soon as enough officers have signed."""
    note = parse_body(row).note.encode()
    signed = check_signed(note, signed_request(custody, row), custody.officers, at_least=1)
    return APPROVED if len(signed) >= KINDS[row.kind] else REQUESTED


def _sealed(custody: Custody, row: CustodyRequest, state: str, body: Body) -> bytes:
    """The body as it is stored in this state, with a seal over both."""
    bare = msgspec.structs.replace(body, seal="")
    data = f"{row.id}\n{row.kind}\n{state}\n".encode() + format_body(bare)
    return format_body(msgspec.structs.replace(bare, seal=keyed_digest(custody.log.keys.index_key, "custody", data)))
