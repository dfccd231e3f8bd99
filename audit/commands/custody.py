"""erase, hold, retention: what privacy officers ask for and approve; officer: the key that one signs with.

What they look at is in `custody_lists`, what they give in `custody_arguments`.

Patients' ids never stand on a command line, which other users and the shell's history see: they are read from a file or from
standard input, one a line, and errors name the line and not the id. Whoever signs names the file of their own key.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import msgspec

from audit import erasure, holds
from audit.approvals import check_may_sign
from audit.commands.custody_arguments import (
    add_key,
    add_patients,
    add_previous,
    add_signature,
    read_patients,
    read_signer,
)
from audit.commands.custody_lists import AWAITED, ERASURES, list_holds, list_requests, plan_retention
from audit.commands.keys import token_uri
from audit.commands.running import INVALID, USAGE, VALID, guarded, index_argument
from audit.custody import APPROVED, DONE, REQUESTED, UNFINISHED, Custody, advance, approve, check_seal, find, withdraw
from audit.custody_body import parse_body
from audit.entry import format_time, parse_entry
from audit.entry_custody import ErasureEntry
from audit.errors import AuditError, CustodyError, KeyFileError
from audit.keys import KEY_DIRECTORY, OLD_WRAPPING_FILE, WRAPPING_FILE, format_skey, make_signer
from audit.note import format_vkey
from audit.pkcs11 import make_signing_key
from audit.pkcs11_uri import Pkcs11Uri, format_uri, is_uri
from audit.private_files import read_private, write_key_file
from audit.rewrapping import NEXT_WRAPPING_FILE, rewrap
from audit.storage.vault_store import CustodyRequest

OpenCustody = Callable[[argparse.Namespace], AbstractContextManager[Custody]]
DEFAULT_LIMIT = 10_000
_SEED_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def fill_officer(parser: argparse.ArgumentParser) -> None:
    """Adds its verb."""
    officer = _group(parser, "officer").add_parser("new", help="make a key")
    officer.add_argument("name", help="as it will stand in the configuration")
    officer.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="key file to make, 0600")
    officer.add_argument(
        "--uri",
        type=token_uri,
        metavar="URI",
        help="make the key in this token (pkcs11:), and only its URI in the file",
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
        text = format_uri(make_signing_key(arguments.uri, os.urandom))
    write_key_file(arguments.output, text, 0o600)
    vkey = format_vkey(make_signer(text, arguments.name).verifier_key)
    print(f'[[officers]]\nname = "{arguments.name}"\nvkey = "{vkey}"\nroles = ["privacy-officer"]')
    return VALID


def request_erasure(custody: Custody, arguments: argparse.Namespace) -> int:
    """Asks for an erasure; nothing is erased before another officer approves."""
    patients = read_patients(arguments.patients)
    row = erasure.request_erasure(
        custody, patients, read_signer(arguments), arguments.reason, override=arguments.override
    )
    print(f"request {row.id}: {len(row.subjects)} patients; another officer has to approve it")
    return VALID


def approve_request(custody: Custody, arguments: argparse.Namespace) -> int:
    """Approves a request, and carries it out if that was the last approval it needs."""
    rotate = _rotation(getattr(arguments, "rotate_wrapping_key", None))
    if rotate == "" and is_uri(read_private(_wrapping_file(custody))):
        raise KeyFileError("--rotate-wrapping-key: expected the URI of the new key, for the present one is in a token")
    patients = None if arguments.patients is None else custody.lookups(read_patients(arguments.patients))
    row = approve(custody, arguments.request, read_signer(arguments), patients, rotate=rotate)
    if row.state == REQUESTED:
        print(f"request {row.id}: approved; more officers have to")
        return VALID
    try:
        _carry_out(custody, row)
    except AuditError as exc:
        if row.kind not in ERASURES or find(custody, row.id).state != APPROVED:
            raise
        message = f"{exc}\nrequest {row.id}: the approval stands: {AWAITED}"
        raise CustodyError(message) from exc
    return VALID


def withdraw_request(custody: Custody, arguments: argparse.Namespace) -> int:
    """Ends a request that hasn't begun; one officer's key is enough."""
    withdraw(custody, arguments.request, read_signer(arguments))
    print(f"request {arguments.request}: withdrawn")
    return VALID


def resume(custody: Custody, arguments: argparse.Namespace) -> int:
    """Carries on with every approved request that isn't done; exit code 1 where one can't be.

    An approved erasure that hasn't begun was refused, by a hold say: beginning it now takes the key of an officer.
    """
    status = VALID
    may_begin = arguments.key is not None
    if may_begin:
        check_may_sign(read_signer(arguments), custody.officers)
    for row in custody.store.requests():
        try:
            if row.kind in ERASURES and row.state == APPROVED and not may_begin:
                message = f"approved, and not begun: {AWAITED}"
                raise CustodyError(message)
            if row.state in UNFINISHED:
                _carry_out(custody, row)
            elif row.state == DONE:
                _rotate(custody, row)
        except AuditError as exc:
            print(f"request {row.id}: {exc}", file=sys.stderr)
            status = INVALID
    return status


def place_hold(custody: Custody, arguments: argparse.Namespace) -> int:
    """Places a hold on each patient, and prints its name beside the patient's line."""
    patients = read_patients(arguments.patients)
    until = None if arguments.until is None else _end(arguments.until)
    row = holds.request_hold(custody, patients, read_signer(arguments), arguments.reason, until)
    names = parse_body(row).holds
    indices = holds.carry_out(custody, row.id)
    unique = list(dict.fromkeys(patients))
    for name, patient, index in zip(names, unique, indices, strict=True):
        print(f"hold {name}: on the patient of line {patients.index(patient) + 1}\nindex {index}")
    return VALID


def release_hold(custody: Custody, arguments: argparse.Namespace) -> int:
    """Asks for the release of holds; they hold on until another officer approves."""
    row = holds.request_release(custody, arguments.hold, read_signer(arguments), arguments.reason)
    print(f"request {row.id}: {len(arguments.hold)} holds; another officer has to approve it")
    return VALID


def apply_retention(custody: Custody, arguments: argparse.Namespace) -> int:
    """Asks for the erasure of what is due; another officer approves it like any other."""
    row = erasure.request_retention(custody, read_signer(arguments), arguments.reason, arguments.limit)
    if row is None:
        print("nothing is due")
        return VALID
    body = parse_body(row)
    print(
        f"request {row.id}: {len(body.keys)} keys with all that is under them, {len(body.payloads)} payloads besides;"
        " another officer has to approve it"
    )
    return VALID


def _carry_out(custody: Custody, row: CustodyRequest) -> None:
    """Does what was approved, and prints where the log says so."""
    if row.kind in ERASURES:
        index = erasure.carry_out(custody, row.id)
        entry = parse_entry(custody.log.entry(index))
        row = find(custody, row.id)
        if isinstance(entry, ErasureEntry):
            earlier = parse_body(row).earlier_count
            more = f", {earlier} of earlier epochs" if earlier else ""
            print(f"erased: {entry.subjects} keys, {entry.payloads} payloads{more}\nindex {index}")
        _rotate(custody, row)
        return
    for index in holds.carry_out(custody, row.id):
        print(f"index {index}")


def _rotate(custody: Custody, row: CustodyRequest) -> None:
    """Replaces the wrapping key where the approval asked for it, to the end, also where that was begun before."""
    body = parse_body(row)
    if body.rotate is None:
        return
    check_seal(custody, row)
    keys = custody.log.config.directory / KEY_DIRECTORY
    begun = (keys / OLD_WRAPPING_FILE).exists() or (keys / NEXT_WRAPPING_FILE).exists()
    if begun or custody.log.keys.wrapper.key_id == body.rotate_from:
        done = rewrap(
            custody.log.config.directory,
            lambda: nullcontext(custody.log),
            custody.clock(),
            custody.random_bytes,
            uri=body.rotate or None,
            reason="erasure",
        )
        print(f"wrapping key {done.key_id}: {done.keys} keys wrapped anew, the old one destroyed")
    custody.reached("rotated")
    advance(custody, row, DONE, msgspec.structs.replace(body, rotate=None, rotate_from=""))


def _rotation(given: Pkcs11Uri | bool | None) -> str | None:
    """The URI of the wrapping key to come, "" for one in a file, None for none."""
    if given is None or given is False:
        return None
    return "" if given is True else format_uri(given)


def _wrapping_file(custody: Custody) -> Path:
    return custody.log.config.directory / KEY_DIRECTORY / WRAPPING_FILE


def _end(day: date) -> str:
    """The first moment after the day."""
    return format_time(datetime.combine(day + timedelta(days=1), time(), UTC))


def _group(parser: argparse.ArgumentParser, name: str) -> Any:
    return parser.add_subparsers(dest=f"{name}_verb", required=True, metavar="VERB")


def fill_erase(parser: argparse.ArgumentParser, open_custody: OpenCustody) -> None:
    """Adds its verbs; `open_custody` opens what they act on from the parsed arguments, which name a tenant or none."""
    group = _group(parser, "erase")
    request = _add(group, "request", request_erasure, open_custody, "ask for patients to be forgotten")
    add_patients(request)
    add_signature(request)
    add_previous(request)
    request.add_argument("--override", metavar="LAW", help="the law by which the retention duty may be cut short")
    _add_approve(group, open_custody).add_argument(
        "--rotate-wrapping-key",
        nargs="?",
        const=True,
        type=token_uri,
        metavar="URI",
        help="then wrap all keys anew and destroy the wrapping key, for the erased keys' copies in backups (URI: in a token)",
    )
    withdraw_parser = _add(group, "withdraw", withdraw_request, open_custody, "end a request that hasn't begun")
    withdraw_parser.add_argument("request", metavar="REQUEST")
    add_key(withdraw_parser)
    _add(group, "list", list_requests, open_custody, "every request, and who signed")
    resume_parser = _add(group, "resume", resume, open_custody, "carry on with what was approved and isn't done")
    add_key(resume_parser, required=False)
    add_previous(resume_parser)


def fill_hold(parser: argparse.ArgumentParser, open_custody: OpenCustody) -> None:
    """Adds its verbs; `open_custody` as for `erase`."""
    group = _group(parser, "hold")
    place = _add(group, "place", place_hold, open_custody, "keep what there is of patients, come what may")
    add_patients(place)
    add_signature(place)
    place.add_argument("--until", type=date.fromisoformat, metavar="DATE", help="last day, UTC (default: released)")
    release = _add(group, "release", release_hold, open_custody, "ask for holds to end")
    release.add_argument("hold", nargs="+", metavar="HOLD")
    add_signature(release)
    _add_approve(group, open_custody)
    listed = _add(group, "list", list_holds, open_custody, "every hold")
    listed.add_argument("--patients", type=Path, metavar="FILE", help="only those on these patients, one id a line")


def fill_retention(parser: argparse.ArgumentParser, open_custody: OpenCustody) -> None:
    """Adds its verbs; `open_custody` as for `erase`."""
    group = _group(parser, "retention")
    add_previous(_add(group, "plan", plan_retention, open_custody, "what there is of each year, and what may go"))
    apply = _add(group, "apply", apply_retention, open_custody, "ask for what may go to be erased")
    add_signature(apply, default_reason="retention")
    add_previous(apply)
    apply.add_argument(
        "--limit", type=index_argument, default=DEFAULT_LIMIT, metavar="N", help=f"payloads (default {DEFAULT_LIMIT})"
    )


def _add_approve(group: Any, open_custody: OpenCustody) -> argparse.ArgumentParser:
    parser = _add(group, "approve", approve_request, open_custody, "approve a request, and carry it out")
    parser.add_argument("request", metavar="REQUEST")
    add_key(parser)
    add_previous(parser)
    parser.add_argument("--patients", type=Path, metavar="FILE", help="refuse unless it is about these, one id a line")
    return parser


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
