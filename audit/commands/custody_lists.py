"""What privacy officers look at: requests and who signed them, holds, and what is due. Each look is an entry of the log."""

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace

from audit.access import Look, Visitor, record_access
from audit.approvals import ERASE, HOLD_PLACE, HOLD_RELEASE, KINDS, RETENTION, WITHDRAW, check_signed
from audit.commands.custody_arguments import read_patients
from audit.commands.opening import ROLE
from audit.commands.running import INVALID, VALID
from audit.commitments import digest
from audit.custody import APPROVED, DONE, RECORDED, WITHDRAWN, Custody, check_seal, signed_request, written_request
from audit.custody_body import parse_body
from audit.custody_epochs import kept_payloads
from audit.entry import parse_entry
from audit.entry_custody import ErasureEntry
from audit.errors import ApprovalError, AuditError
from audit.held import find_differences, held_key_refs
from audit.merkle import LeafIndex
from audit.operators import operator_name
from audit.retention import count_years
from audit.storage import Query
from audit.storage.vault_store import CustodyRequest
from audit.verify import ERASURE_TYPE

ERASURES, HOLDS = (ERASE, RETENTION), (HOLD_PLACE, HOLD_RELEASE)
AWAITED = (
    "`erase resume --key FILE` carries it out once nothing is against it, `erase withdraw REQUEST --key FILE` ends it"
)


def list_requests(custody: Custody, _arguments: argparse.Namespace) -> int:
    """Prints each request and who signed; exit code 1 where the log has an erasure that nobody is seen to have approved."""
    status = VALID
    rows = [row for row in custody.store.requests() if row.kind in ERASURES]
    _note_look(custody, "erasures", len(rows))
    for row in rows:
        print(f"{row.id}  {row.created}  {row.kind:<9}  {row.state:<9}  {written_request(row).reason}")
        if row.state == APPROVED:
            print(f"    not carried out: {AWAITED}")
        if parse_body(row).rotate is not None:
            print("    the wrapping key is to be replaced after it: `erase resume` does that where it wasn't done")
        try:
            print(f"    {_signed(custody, row)}")
            check_seal(custody, row)
        except AuditError as exc:
            print(f"    {exc}")
            status = INVALID
    known = {row.id for row in rows}
    for index, entry_id in _recorded(custody):
        if entry_id not in known:
            print(f"{entry_id}\n    index {index}: nobody asked for this erasure here")
            status = INVALID
    return status


def list_holds(custody: Custody, arguments: argparse.Namespace) -> int:
    """Prints each hold; with a file of patients, those on them, by line. Exit code 1 where log and vault differ."""
    lines: dict[bytes, int] = {}
    if arguments.patients is not None:
        lookups = custody.lookups(read_patients(arguments.patients))
        lines = {lookup: number for number, lookup in reversed(list(enumerate(lookups, start=1)))}
    now = custody.now()
    found = [hold for hold in custody.store.holds() if arguments.patients is None or hold.lookup in lines]
    _note_look(custody, "holds", len(found))
    for hold in found:
        line = f"  line {lines[hold.lookup]}" if hold.lookup in lines else ""
        ended = "  ended" if hold.until is not None and hold.until <= now else ""
        print(f"{hold.hold}  {hold.placed}  until {hold.until or 'released'}  {hold.reason}{ended}{line}")
    for row in custody.store.requests():
        if row.kind in HOLDS and row.state not in (DONE, WITHDRAWN):
            print(f"request {row.id}  {row.created}  {row.kind}  {row.state}")
    differences = find_differences(custody)
    for difference in differences:
        print(f"{difference.hold}  {difference.text}")
    return INVALID if differences else VALID


def plan_retention(custody: Custody, _arguments: argparse.Namespace) -> int:
    """Prints how many payloads there are of each year, how many may go, and how many a hold keeps though they might."""
    latest = custody.rule.latest_due(custody.clock())
    counts = count_years(kept_payloads(custody), latest, held_key_refs(custody))
    _note_look(custody, "retention", sum(count.payloads for count in counts))
    print(f"kept for {custody.rule.years:g} years; due up to {latest}\nyear  payloads       due      held")
    for count in counts:
        print(f"{count.year}  {count.payloads:>8}  {count.due:>8}  {count.held:>8}")
    return VALID


def _note_look(custody: Custody, asked: str, results: int) -> None:
    """Records a look at what is in custody, before anything is shown."""
    visitor = Visitor(operator_name(os.getuid()), ROLE, "custody")
    record_access(custody.log, visitor, Look("search", results, asked=asked), custody.clock())


def _recorded(custody: Custody) -> Iterator[tuple[LeafIndex, str]]:
    """Every erasure in the log, the newest first."""
    before: int | None = None
    while found := custody.log.find(Query(type=ERASURE_TYPE, before=before)):
        yield from ((one.index, one.entry_id) for one in found)
        before = found[-1].index


def _signed(custody: Custody, row: CustodyRequest) -> str:
    """Who signed the request; of a finished one also the index of its entry, which has to name these approvals.

    Raises:
        ApprovalError: the signatures don't hold, are too few for what was done, or the entry names others.
    """
    note = parse_body(row).note.encode()
    written = written_request(row)
    if (written.request_id, written.kind, written.tenant) != (row.id, row.kind, custody.tenant):
        raise ApprovalError("the signed text is of another request")
    forgotten = not parse_body(row).salt  # what was asked for can't be told any more, who signed can
    request = written if forgotten else signed_request(custody, row)
    finished = row.state in (RECORDED, DONE)
    signed = check_signed(note, request, custody.officers, at_least=KINDS[row.kind] if finished else 1)
    text = "signed by " + ", ".join(officer.name for officer in signed)
    withdrawal = parse_body(row).withdrawal
    if withdrawal:
        (officer, *_) = check_signed(withdrawal.encode(), replace(request, kind=WITHDRAW), custody.officers, at_least=1)
        text += f"; withdrawn by {officer.name}"
    elif row.state == WITHDRAWN:
        text += "; ended, for all of its patients were erased by another request"
    if not finished:
        return text
    index = custody.log.index_of(row.id)
    entry = None if index is None else parse_entry(custody.log.entry(LeafIndex(index)))
    if not isinstance(entry, ErasureEntry) or entry.approval != digest(note):
        raise ApprovalError("the log has no entry of an erasure with these approvals")
    earlier = parse_body(row).earlier_count
    more = f", {earlier} of earlier epochs" if earlier else ""
    return f"{text}; index {index}: {entry.subjects} keys, {entry.payloads} payloads{more}"
