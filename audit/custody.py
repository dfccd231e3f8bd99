"""Custody requests: asked by one officer, approved by another, then carried out step by step, across any crash.

    requested -> approved -> running -> taken -> recorded -> done             withdrawn: from requested or approved

A request lies in the vault's store, its subjects as lookups and never as identifiers. What officers sign is made anew from
that row each time (`audit.approvals`), so a row that was changed no longer fits its signatures. `running` begins when an
erasure can't be taken back, `taken` when its payloads are gone, `recorded` when the log has the entry, and a request is
`done` when no copy is left and its subjects are forgotten too.

What each kind does is in `erasure` and `holds`; a further kind is a module like these and a line in `audit.commands.custody`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

import msgspec

from audit.approvals import (
    KINDS,
    SALT_BYTES,
    ApprovalRequest,
    Officer,
    check_approved,
    check_signed,
    countersign,
    digest_subjects,
    parse_request,
    sign_request,
)
from audit.commitments import Digest, keyed_digest
from audit.entry import Entry, format_time, parse_entry
from audit.errors import ApprovalError, CustodyError, EntryConflictError, FormatError
from audit.fields import EntryId, Hex256, Timestamp
from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.note import Signer, parse_note
from audit.retention import RetentionRule
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
_Salt = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
UNFINISHED = (APPROVED, RUNNING, TAKEN, RECORDED)


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a request holds beside its subjects; hex where it is bytes.

    `note` is the signed text. `keys`, `payloads` (key and index of each), `holds` and `until` are what is asked for, signed by
    their digest. The rest is found on the way: `plan` the keys that an erasure began with, `retention` how it met the duty,
    `payload_count` and `erased` what its entry says of the payloads; `entry_ids` and `patients` what the entries of each
    hold say.
    """

    note: str
    salt: _Salt
    keys: tuple[int, ...] = ()
    payloads: tuple[tuple[int, int], ...] = ()
    holds: tuple[EntryId, ...] = ()
    until: Timestamp | None = None
    erasure_salt: _Salt = ""
    plan: tuple[int, ...] = ()
    retention: str = ""
    payload_count: int = 0
    erased: str = ""
    entry_ids: tuple[EntryId, ...] = ()
    patients: tuple[Hex256, ...] = ()

    def forgotten(self) -> "Body":
        """What stays once all is done: who signed what, and nothing by which a patient could be told."""
        return Body(note=self.note, salt="", retention=self.retention, payload_count=self.payload_count)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one officer asks for: about which subjects (lookups), on what else, and why; `reason` and `override` are codes."""

    kind: str
    reason: str
    subjects: tuple[bytes, ...] = ()
    override: str | None = None
    keys: tuple[int, ...] = ()
    payloads: tuple[tuple[int, int], ...] = ()
    holds: tuple[str, ...] = ()
    until: str | None = None
    entry_ids: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Custody:
    """What acts of custody need.

    `reached` is told each step once it is durable, at times under the log's lock: it must not append.
    An entry that was under way when its patient's key was destroyed has `settle_s` to arrive, so that its payload goes too.
    """

    log: AuditLog
    vault: Vault
    officers: tuple[Officer, ...]
    rule: RetentionRule
    clock: Callable[[], datetime]
    random_bytes: Callable[[int], bytes]
    settle_s: float
    reached: Callable[[str], None] = lambda _step: None

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
        subjects=_digest(row, body),
        reason=asked.reason,
        created=row.created,
        override=asked.override,
    )
    body = msgspec.structs.replace(body, note=sign_request(request, signer, custody.officers).decode())
    row = replace(row, body=format_body(body))
    row = replace(row, state=_state(custody, row))
    custody.store.put_request(row)
    custody.reached(row.state)
    return row


def approve(
    custody: Custody, request_id: str, signer: Signer, subjects: Sequence[bytes] | None = None
) -> CustodyRequest:
    """The request with one more officer's signature; `subjects` where the officer brings a list of their own to compare.

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
    return advance(custody, row, _state(custody, replace(row, body=format_body(body))), body)


def withdraw(custody: Custody, request_id: str) -> None:
    """Ends a request of which nothing has been carried out.

    Raises:
        CustodyError: no such request, or it is past that.
    """
    row = find(custody, request_id)
    if row.state not in (REQUESTED, APPROVED):
        message = f"request {request_id}: expected one that hasn't begun, got one that is {row.state}"
        raise CustodyError(message)
    advance(custody, row, WITHDRAWN, parse_body(row).forgotten())
    custody.store.forget_subjects(row.id)
    custody.store.scrub()


def find(custody: Custody, request_id: str) -> CustodyRequest:
    """The request; raises CustodyError where there is none."""
    row = custody.store.request(request_id)
    if row is None:
        message = f"request {request_id}: there is none"
        raise CustodyError(message)
    return row


def advance(custody: Custody, row: CustodyRequest, state: str, body: Body) -> CustodyRequest:
    """The request in its next state; raises CustodyError where another process was faster."""
    data = format_body(body)
    if not custody.store.set_request_state(row.id, row.state, state, data):
        message = f"request {row.id}: another process is at it"
        raise CustodyError(message)
    custody.reached(state)
    return replace(row, state=state, body=data)


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
        subjects=_digest(row, body),
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


def format_body(body: Body) -> bytes:
    """The JSON of `body`."""
    return msgspec.json.encode(body)


def parse_body(row: CustodyRequest) -> Body:
    """The body of `row`; raises CustodyError where it can't be read."""
    try:
        return msgspec.json.decode(row.body, type=Body)
    except msgspec.DecodeError:
        message = f"request {row.id}: unreadable"
        raise CustodyError(message) from None


def _state(custody: Custody, row: CustodyRequest) -> str:
    """The state of a request that hasn't begun: approved as soon as enough officers have signed."""
    note = parse_body(row).note.encode()
    signed = check_signed(note, signed_request(custody, row), custody.officers, at_least=1)
    return APPROVED if len(signed) >= KINDS[row.kind] else REQUESTED


def _digest(row: CustodyRequest, body: Body) -> Digest:
    """The digest of all that is asked for, each with a word of its own before it."""
    asked = [b"subject " + lookup for lookup in row.subjects]
    asked += [b"key %d" % key_ref for key_ref in body.keys]
    asked += [b"payload %d %d" % payload for payload in body.payloads]
    asked += [b"hold " + hold.encode() for hold in body.holds]
    if body.until is not None:
        asked.append(b"until " + body.until.encode())
    return digest_subjects(bytes.fromhex(body.salt), asked)
