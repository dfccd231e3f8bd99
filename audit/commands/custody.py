"""erase, hold, retention: what privacy officers ask for and approve; officer: the key that one signs with.

Patients' ids never stand on a command line, which other users and the shell's history see: they are read from a file or from
standard input, one a line, and errors name the line and not the id. Whoever signs names the file of their own key.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from audit import erasure, holds
from audit.access import Look, Visitor, record_access
from audit.approvals import ERASE, HOLD_PLACE, HOLD_RELEASE, KINDS, RETENTION, check_signed
from audit.commands.opening import ROLE
from audit.commands.running import INVALID, USAGE, VALID, Subparsers, guarded, index_argument
from audit.commitments import digest
from audit.custody import (
    DONE,
    RECORDED,
    REQUESTED,
    UNFINISHED,
    WITHDRAWN,
    Custody,
    approve,
    parse_body,
    signed_request,
    withdraw,
    written_request,
)
from audit.entry import format_time, parse_entry
from audit.entry_custody import ErasureEntry
from audit.errors import ApprovalError, AuditError, CustodyError, KeyFileError
from audit.keys import (
    KEY_DIRECTORY,
    WRAPPING_FILE,
    format_skey,
    make_signer,
    read_private,
    write_key_file,
)
from audit.merkle import LeafIndex
from audit.note import Signer, format_vkey
from audit.operators import operator_name
from audit.pkcs11 import make_signing_key
from audit.pkcs11_uri import format_uri, is_uri, parse_uri
from audit.retention import count_years
from audit.rewrapping import rewrap
from audit.storage import Query
from audit.storage.vault_store import CustodyRequest
from audit.verify import ERASURE_TYPE

OpenCustody = Callable[[argparse.Namespace], AbstractContextManager[Custody]]
ERASURES, HOLDS = (ERASE, RETENTION), (HOLD_PLACE, HOLD_RELEASE)
DEFAULT_LIMIT = 10_000
_SEED_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATIENT_ID = re.compile(r"[!-~]{1,255}")  # a FHIR id, or whatever else an EHR sends in its place


def add(subparsers: Subparsers, open_custody: OpenCustody) -> None:
    """Adds the verbs; `open_custody` opens what they act on from the parsed arguments, which name a tenant or none."""
    _add_erase(_group(subparsers, "erase", "forget patients: their keys and payloads"), open_custody)
    _add_hold(_group(subparsers, "hold", "legal holds"), open_custody)
    _add_retention(_group(subparsers, "retention", "what may go by its age"), open_custody)
    officer = _group(subparsers, "officer", "keys that officers sign with").add_parser("new", help="make a key")
    officer.add_argument("name", help="as it will stand in the configuration")
    officer.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="key file to make, 0600")
    officer.add_argument(
        "--uri", metavar="URI", help="make the key in this token (pkcs11:), and only its URI in the file"
    )
    officer.set_defaults(run=guarded(new_officer))


def new_officer(arguments: argparse.Namespace) -> int:
    """Makes the key file, and prints what the configuration needs."""
    if not _NAME.fullmatch(arguments.name):
        print("officer: expected a name of letters, digits and ._-", file=sys.stderr)
        return USAGE
    if arguments.uri is None:
        text = format_skey(arguments.name, os.urandom(_SEED_BYTES))
    else:
        text = format_uri(make_signing_key(parse_uri(arguments.uri), os.urandom))
    write_key_file(arguments.output, text, 0o600)
    vkey = format_vkey(make_signer(text, arguments.name).verifier_key)
    print(f'[[officers]]\nname = "{arguments.name}"\nvkey = "{vkey}"\nroles = ["privacy-officer"]')
    return VALID


def request_erasure(custody: Custody, arguments: argparse.Namespace) -> int:
    """Asks for an erasure; nothing is erased before another officer approves."""
    patients = read_patients(arguments.patients)
    row = erasure.request_erasure(custody, patients, _signer(arguments), arguments.reason, override=arguments.override)
    print(f"request {row.id}: {len(row.subjects)} patients; another officer has to approve it")
    return VALID


def approve_request(custody: Custody, arguments: argparse.Namespace) -> int:
    """Approves a request, and carries it out if that was the last approval it needs."""
    rotate: str | None = getattr(arguments, "rotate_wrapping_key", None)
    if rotate == "" and is_uri(read_private(_wrapping_file(custody))):
        raise KeyFileError("--rotate-wrapping-key: expected the URI of the new key, for the present one is in a token")
    patients = None if arguments.patients is None else custody.lookups(read_patients(arguments.patients))
    row = approve(custody, arguments.request, _signer(arguments), patients)
    if row.state == REQUESTED:
        print(f"request {row.id}: approved; more officers have to")
        return VALID
    _carry_out(custody, row)
    if rotate is not None:
        done = rewrap(
            custody.log.config.directory,
            lambda: nullcontext(custody.log),
            custody.clock(),
            custody.random_bytes,
            uri=rotate or None,
            reason="erasure",
        )
        print(f"wrapping key {done.key_id}: {done.keys} keys wrapped anew, the old one destroyed")
    return VALID


def withdraw_request(custody: Custody, arguments: argparse.Namespace) -> int:
    """Ends a request that hasn't begun."""
    withdraw(custody, arguments.request)
    print(f"request {arguments.request}: withdrawn")
    return VALID


def resume(custody: Custody, _arguments: argparse.Namespace) -> int:
    """Carries on with every approved request that isn't done; exit code 1 where one can't be."""
    status = VALID
    for row in custody.store.requests():
        if row.state in UNFINISHED:
            try:
                _carry_out(custody, row)
            except AuditError as exc:
                print(f"request {row.id}: {exc}", file=sys.stderr)
                status = INVALID
    return status


def list_requests(custody: Custody, _arguments: argparse.Namespace) -> int:
    """Prints each request and who signed; exit code 1 where the log has an erasure that nobody is seen to have approved."""
    status = VALID
    rows = [row for row in custody.store.requests() if row.kind in ERASURES]
    _note_look(custody, "erasures", len(rows))
    for row in rows:
        print(f"{row.id}  {row.created}  {row.kind:<9}  {row.state:<9}  {written_request(row).reason}")
        try:
            print(f"    {_signed(custody, row)}")
        except AuditError as exc:
            print(f"    {exc}")
            status = INVALID
    known = {row.id for row in rows}
    for index, entry_id in _recorded(custody):
        if entry_id not in known:
            print(f"{entry_id}\n    index {index}: nobody asked for this erasure here")
            status = INVALID
    return status


def place_hold(custody: Custody, arguments: argparse.Namespace) -> int:
    """Places a hold on each patient, and prints its name beside the patient's line."""
    patients = read_patients(arguments.patients)
    until = None if arguments.until is None else _end(arguments.until)
    row = holds.request_hold(custody, patients, _signer(arguments), arguments.reason, until)
    names = parse_body(row).holds
    indices = holds.carry_out(custody, row.id)
    unique = list(dict.fromkeys(patients))
    for name, patient, index in zip(names, unique, indices, strict=True):
        print(f"hold {name}: on the patient of line {patients.index(patient) + 1}\nindex {index}")
    return VALID


def release_hold(custody: Custody, arguments: argparse.Namespace) -> int:
    """Asks for the release of holds; they hold on until another officer approves."""
    row = holds.request_release(custody, arguments.hold, _signer(arguments), arguments.reason)
    print(f"request {row.id}: {len(arguments.hold)} holds; another officer has to approve it")
    return VALID


def list_holds(custody: Custody, arguments: argparse.Namespace) -> int:
    """Prints each hold; with a file of patients, those on them, by line."""
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
    return VALID


def plan_retention(custody: Custody, _arguments: argparse.Namespace) -> int:
    """Prints how many payloads there are of each year, how many may go, and how many a hold keeps though they might."""
    latest = custody.rule.latest_due(custody.clock())
    counts = count_years(erasure.kept_payloads(custody), latest, erasure.held_key_refs(custody))
    _note_look(custody, "retention", sum(count.payloads for count in counts))
    print(f"kept for {custody.rule.years:g} years; due up to {latest}\nyear  payloads       due      held")
    for count in counts:
        print(f"{count.year}  {count.payloads:>8}  {count.due:>8}  {count.held:>8}")
    return VALID


def apply_retention(custody: Custody, arguments: argparse.Namespace) -> int:
    """Asks for the erasure of what is due; another officer approves it like any other."""
    row = erasure.request_retention(custody, _signer(arguments), arguments.reason, arguments.limit)
    if row is None:
        print("nothing is due")
        return VALID
    body = parse_body(row)
    print(
        f"request {row.id}: {len(body.keys)} keys with all that is under them, {len(body.payloads)} payloads besides;"
        " another officer has to approve it"
    )
    return VALID


def read_patients(path: Path) -> list[str]:
    """The ids in a file, `-` for standard input, one a line.

    Raises:
        CustodyError: a line that holds no id, or several; it names the line.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except UnicodeDecodeError:
        raise CustodyError("patients: expected UTF-8") from None
    patients = text.splitlines()
    for number, patient in enumerate(patients, start=1):
        if not _PATIENT_ID.fullmatch(patient):
            message = f"line {number}: expected one patient id without spaces"
            raise CustodyError(message)
    return patients


def _wrapping_file(custody: Custody) -> Path:
    return custody.log.config.directory / KEY_DIRECTORY / WRAPPING_FILE


def _signer(arguments: argparse.Namespace) -> Signer:
    """The officer's key; one in a token (PKCS#11) says whose it is by `--officer`."""
    text = read_private(arguments.key)
    if is_uri(text) and not arguments.officer:
        raise KeyFileError("--officer: expected your name, for the key is in a token")
    return make_signer(text, arguments.officer or "")


def _carry_out(custody: Custody, row: CustodyRequest) -> None:
    """Does what was approved, and prints where the log says so."""
    if row.kind in ERASURES:
        index = erasure.carry_out(custody, row.id)
        entry = parse_entry(custody.log.entry(index))
        if isinstance(entry, ErasureEntry):
            print(f"erased: {entry.subjects} keys, {entry.payloads} payloads\nindex {index}")
        return
    for index in holds.carry_out(custody, row.id):
        print(f"index {index}")


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
    if not finished:
        return text
    index = custody.log.index_of(row.id)
    entry = None if index is None else parse_entry(custody.log.entry(LeafIndex(index)))
    if not isinstance(entry, ErasureEntry) or entry.approval != digest(note):
        raise ApprovalError("the log has no entry of an erasure with these approvals")
    return f"{text}; index {index}: {entry.subjects} keys, {entry.payloads} payloads"


def _end(day: date) -> str:
    """The first moment after the day."""
    return format_time(datetime.combine(day + timedelta(days=1), time(), UTC))


def _group(subparsers: Subparsers, name: str, text: str) -> Any:
    parser = subparsers.add_parser(name, help=text)
    return parser.add_subparsers(dest=f"{name}_verb", required=True, metavar="VERB")


def _add_erase(group: Any, open_custody: OpenCustody) -> None:
    request = _add(group, "request", request_erasure, open_custody, "ask for patients to be forgotten")
    _add_patients(request)
    _add_signature(request)
    request.add_argument("--override", metavar="LAW", help="the law by which the retention duty may be cut short")
    _add_approve(group, open_custody).add_argument(
        "--rotate-wrapping-key",
        nargs="?",
        const="",
        metavar="URI",
        help="then wrap all keys anew and destroy the wrapping key, for the erased keys' copies in backups (URI: in a token)",
    )
    withdraw_parser = _add(group, "withdraw", withdraw_request, open_custody, "end a request that hasn't begun")
    withdraw_parser.add_argument("request", metavar="REQUEST")
    _add(group, "list", list_requests, open_custody, "every request, and who signed")
    _add(group, "resume", resume, open_custody, "carry on with what was approved and isn't done")


def _add_hold(group: Any, open_custody: OpenCustody) -> None:
    place = _add(group, "place", place_hold, open_custody, "keep what there is of patients, come what may")
    _add_patients(place)
    _add_signature(place)
    place.add_argument("--until", type=date.fromisoformat, metavar="DATE", help="last day, UTC (default: released)")
    release = _add(group, "release", release_hold, open_custody, "ask for holds to end")
    release.add_argument("hold", nargs="+", metavar="HOLD")
    _add_signature(release)
    _add_approve(group, open_custody)
    listed = _add(group, "list", list_holds, open_custody, "every hold")
    listed.add_argument("--patients", type=Path, metavar="FILE", help="only those on these patients, one id a line")


def _add_retention(group: Any, open_custody: OpenCustody) -> None:
    _add(group, "plan", plan_retention, open_custody, "what there is of each year, and what may go")
    apply = _add(group, "apply", apply_retention, open_custody, "ask for what may go to be erased")
    _add_signature(apply, default_reason="retention")
    apply.add_argument(
        "--limit", type=index_argument, default=DEFAULT_LIMIT, metavar="N", help=f"payloads (default {DEFAULT_LIMIT})"
    )


def _add_approve(group: Any, open_custody: OpenCustody) -> argparse.ArgumentParser:
    parser = _add(group, "approve", approve_request, open_custody, "approve a request, and carry it out")
    parser.add_argument("request", metavar="REQUEST")
    _add_key(parser)
    parser.add_argument("--patients", type=Path, metavar="FILE", help="refuse unless it is about these, one id a line")
    return parser


def _add_patients(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("patients", type=Path, metavar="FILE", help="patient ids, one a line; - for standard input")


def _add_signature(parser: argparse.ArgumentParser, default_reason: str | None = None) -> None:
    _add_key(parser)
    required = default_reason is None
    parser.add_argument("--reason", default=default_reason, required=required, metavar="CODE", help="why, for the log")


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="your key, or the pkcs11: URI of it")
    parser.add_argument("--officer", metavar="NAME", help="your name, where your key is in a token")


def _add(
    group: Any, name: str, verb: Callable[[Custody, argparse.Namespace], int], open_custody: OpenCustody, text: str
) -> argparse.ArgumentParser:
    def run(arguments: argparse.Namespace) -> int:
        with open_custody(arguments) as custody:
            return verb(custody, arguments)

    parser: argparse.ArgumentParser = group.add_parser(name, help=text)
    parser.add_argument("--tenant", metavar="NAME", help="whose; default: audit.tenant")
    parser.set_defaults(run=guarded(run))
    return parser
