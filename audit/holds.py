"""Legal holds: while one is in force, no erasure and no retention rule touches what there is of a patient.

A privacy officer places a hold, on as many patients as are given; two release it. Placing acts first and is logged then: a
log that fails must not let evidence go. Releasing is logged first: what can't be recorded keeps its protection. Each hold is
one patient's, and its entries name the patient by the commitment under the patient's own key, which is made now if there is
none: a hold can come before the first decision. A hold may end by itself, on a day that its entry says.
"""

from collections.abc import Iterator, Sequence

from audit.approvals import HOLD_PLACE, HOLD_RELEASE
from audit.custody import (
    APPROVED,
    DONE,
    RECORDED,
    Custody,
    advance,
    check_seal,
    find,
    record,
    signers_of,
    submit,
    written_request,
)
from audit.custody_body import Asked, parse_body
from audit.entry import format_time
from audit.entry_custody import HoldEntry
from audit.errors import CustodyError
from audit.held import PLACE, RELEASE, logged_holds, names_on
from audit.merkle import LeafIndex
from audit.note import Signer
from audit.storage.vault_store import CustodyRequest, Hold
from audit.vault import patient_subject


def request_hold(
    custody: Custody, patient_ids: Sequence[str], signer: Signer, reason: str, until: str | None = None
) -> CustodyRequest:
    """The approved request to place a hold on each of these patients; `until` as entries write times.

    Raises:
        CustodyError: no patient given, or `until` is past.
        ApprovalError: the key is no privacy officer's.
    """
    if not patient_ids:
        raise CustodyError("expected a patient, got none")
    if until is not None and until <= custody.now():
        message = f"hold: expected an end to come, got {until}"
        raise CustodyError(message)
    subjects = [patient_subject(patient_id) for patient_id in dict.fromkeys(patient_ids)]
    names = tuple(custody.log.new_entry_id() for _ in subjects)
    keys = [custody.vault.key_for(subject) for subject in subjects]
    asked = Asked(
        HOLD_PLACE,
        reason,
        tuple(custody.vault.lookup(subject) for subject in subjects),
        holds=names,
        until=until,
        entry_ids=names,
        patients=tuple(key.commitment(name) for key, name in zip(keys, names, strict=True)),
    )
    return submit(custody, asked, signer)


def request_release(custody: Custody, holds: Sequence[str], signer: Signer, reason: str) -> CustodyRequest:
    """The new request to release these holds; a second officer has to approve it.

    Raises:
        CustodyError: none given, or no such hold.
        ApprovalError: the key is no privacy officer's.
    """
    found = _holds(custody, tuple(dict.fromkeys(holds)))
    entry_ids = tuple(custody.log.new_entry_id() for _ in found)
    asked = Asked(
        HOLD_RELEASE,
        reason,
        tuple(hold.lookup for hold in found),
        holds=tuple(hold.hold for hold in found),
        entry_ids=entry_ids,
        patients=tuple(_commitment(custody, hold, entry_id) for hold, entry_id in zip(found, entry_ids, strict=True)),
    )
    return submit(custody, asked, signer)


def carry_out(custody: Custody, request_id: str) -> tuple[LeafIndex, ...]:
    """The indices of the entries that record what was placed or released, from whatever state the request is in.

    Raises:
        ApprovalError: the signatures don't hold over this request.
        AppendError, StorageError: not done or not recorded; it is carried on when this is called again.
        CustodyError: no such request or hold, not approved yet, or another process is at it.
    """
    row = find(custody, request_id)
    if row.state not in (APPROVED, RECORDED):
        message = f"request {row.id}: expected an approved one, got one that is {row.state}"
        raise CustodyError(message)
    if row.state == APPROVED:
        row = _place(custody, row) if row.kind == HOLD_PLACE else _release(custody, row)
    indices = tuple(custody.log.index_of(entry_id) for entry_id in parse_body(row).entry_ids)
    custody.store.forget_subjects(row.id)
    custody.store.scrub()
    advance(custody, row, DONE, parse_body(row).forgotten())
    return tuple(index for index in indices if index is not None)


def _place(custody: Custody, row: CustodyRequest) -> CustodyRequest:
    signers_of(custody, row)
    check_seal(custody, row)
    body = parse_body(row)
    reason = written_request(row).reason
    for name, lookup in zip(body.holds, row.subjects, strict=True):
        custody.store.place_hold(Hold(name, lookup, row.created, body.until, reason))
        custody.reached("placed")
    _record(custody, row, PLACE)
    return advance(custody, row, RECORDED, body)


def _release(custody: Custody, row: CustodyRequest) -> CustodyRequest:
    signers_of(custody, row)
    check_seal(custody, row)
    _record(custody, row, RELEASE)
    body = parse_body(row)
    for name in body.holds:
        custody.store.release_hold(name)
        custody.reached("released")
    return advance(custody, row, RECORDED, body)


def _record(custody: Custody, row: CustodyRequest, action: str) -> None:
    """Logs what becomes of each hold; raises ApprovalError where the officers' signatures don't hold."""
    officers = signers_of(custody, row)
    body, now = parse_body(row), custody.clock()
    for entry_id, name, patient in zip(body.entry_ids, body.holds, body.patients, strict=True):
        entry = HoldEntry(
            id=entry_id,
            time=format_time(now),
            clock=custody.log.clock_status(now),
            tenant=custody.tenant,
            hold=name,
            action=action,
            patient=patient,
            reason=written_request(row).reason,
            until=body.until,
            requested_by=custody.person(officers[0].name),
            approved_by=custody.person(officers[1].name) if len(officers) > 1 else None,
        )
        record(custody, entry)
        custody.reached("logged")


def _holds(custody: Custody, names: Sequence[str]) -> list[Hold]:
    known = {hold.hold: hold for hold in custody.store.holds()}
    lost = {name: entry for name, entry in logged_holds(custody).items() if name in names and name not in known}
    known |= {hold.hold: hold for hold in _found_again(custody, lost)}
    missing = [name for name in names if name not in known]
    if missing or not names:
        message = f"hold {missing[0]}: there is none" if missing else "expected a hold, got none"
        raise CustodyError(message)
    return [known[name] for name in names]


def _commitment(custody: Custody, hold: Hold, entry_id: str) -> str:
    """The patient in the entry of a release; a hold keeps the patient's key, unless it has ended by itself."""
    key = custody.store.key(hold.lookup)
    if key is None:
        message = f"hold {hold.hold}: it has ended, and what there was of the patient is erased"
        raise CustodyError(message)
    return custody.vault.key_at(key.key_ref).commitment(entry_id)


def _found_again(custody: Custody, lost: dict[str, HoldEntry]) -> Iterator[Hold]:
    """The holds that only the log has, each on whom the key tells; every key is tried, some 50 µs each."""
    after = 0
    while lost and (keys := custody.store.keys_not_under("", after=after)):
        for key in keys:
            for name in names_on(custody.vault.key_at(key.key_ref), lost):
                entry = lost[name]
                yield Hold(name, key.lookup, entry.time, entry.until, entry.reason)
        after = keys[-1].key_ref
