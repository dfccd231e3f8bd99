r"""Four eyes: what officers sign before patients' keys and payloads are destroyed, or a hold on them ends.

A request and its approvals are one signed note (`audit.note`), a signature line from each officer over the same text:

    bedside-approval/v1\n
    <kind>\n                     erase, retention, hold-place, hold-release; withdraw, of any of these
    <request id>\n               32 hex digits; also the id of the entry that records what was done
    <tenant>\n
    <subject digest>\n           64 hex digits: SHA-256 over a salt and what is asked for, never an identifier
    <reason>\n                   a code
    <created>\n                  2026-11-24T05:54:35.000000Z
    <retention override>\n       the code of the law by which the retention duty may be cut short, or -

An officer's key signs nothing else, and no checkpoint begins like this, so no signature of one use can serve another. A
further kind is a line in `KINDS`. Pure.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from audit.commitments import Digest
from audit.errors import ApprovalError, AuditError, FormatError
from audit.note import ED25519, Note, Signer, VerifierKey, format_note, open_note, parse_note, sign_note

ERASE, RETENTION, HOLD_PLACE, HOLD_RELEASE = "erase", "retention", "hold-place", "hold-release"
WITHDRAW = "withdraw"
# How many officers each kind takes; a hold only keeps, so one may place it, and so does a withdrawal.
KINDS = {ERASE: 2, RETENTION: 2, HOLD_PLACE: 1, HOLD_RELEASE: 2, WITHDRAW: 1}
ROLES = ("privacy-officer", "reviewer", "auditor", "administrator")
PRIVACY_OFFICER = ROLES[0]
SALT_BYTES = 32
_HEADER = "bedside-approval/v1"
_NOTHING = "-"
_CODE = r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}"
_TEXT = re.compile(
    rf"""{_HEADER}\n
    (?P<kind>{"|".join(KINDS)})\n
    (?P<request_id>[0-9a-f]{{32}})\n
    (?P<tenant>{_CODE})\n
    (?P<subjects>[0-9a-f]{{64}})\n
    (?P<reason>{_CODE})\n
    (?P<created>[0-9]{{4}}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{{6}}Z)\n
    (?P<override>{_CODE}|{_NOTHING})\n""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Officer:
    """A person who may decide, known by a key of their own; `vkey` bears the same name.

    Roles: a reviewer searches and doesn't decrypt, a privacy officer decrypts with a reason and decides here, an auditor
    exports and verifies, an administrator sees no payload.
    """

    name: str
    vkey: VerifierKey
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """What is asked for; `override` is the code of a law, None where the retention duty has to have ended."""

    kind: str
    request_id: str
    tenant: str
    subjects: Digest
    reason: str
    created: str
    override: str | None = None


def check_officers(officers: Sequence[Officer]) -> None:
    """Returns if everyone is there once, with a key and a name nobody else has.

    Raises:
        ApprovalError: otherwise; nobody could tell two such officers apart.
    """
    for officer in officers:
        if officer.vkey.name != officer.name or officer.vkey.key_type != ED25519:
            message = f"officer {officer.name}: expected an Ed25519 key of that name, got one of {officer.vkey.name}"
            raise ApprovalError(message)
        unknown = sorted(set(officer.roles) - set(ROLES))
        if unknown:
            message = f"officer {officer.name}: expected roles of {', '.join(ROLES)}, got {unknown[0]!r}"
            raise ApprovalError(message)
    for what, values in (
        ("name", [officer.name for officer in officers]),
        ("key", [officer.vkey.public_key for officer in officers]),
    ):
        if len(set(values)) != len(values):
            message = f"officers: two have one {what}"
            raise ApprovalError(message)


def digest_subjects(salt: bytes, subjects: Iterable[bytes]) -> Digest:
    """SHA-256(salt || u32be length || subject, for each of the sorted subjects).

    The salt goes with the erasure, so that not even who holds the index key can tell afterwards whom it was about.
    """
    hasher = sha256(salt)
    for subject in sorted(subjects):
        hasher.update(len(subject).to_bytes(4, "big") + subject)
    return Digest(hasher.hexdigest())


def format_request(request: ApprovalRequest) -> str:
    """The text that officers sign.

    Raises:
        FormatError: a field is out of form.
    """
    fields = (request.kind, request.request_id, request.tenant, request.subjects, request.reason, request.created)
    text = "".join(f"{field}\n" for field in (_HEADER, *fields, request.override or _NOTHING))
    parse_request(text)
    return text


def parse_request(text: str) -> ApprovalRequest:
    """The request behind `text`.

    Raises:
        FormatError: any other form.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise FormatError("approval: expected the eight lines of bedside-approval/v1, each in its form")
    fields = found.groupdict()
    override = None if fields["override"] == _NOTHING else fields["override"]
    return ApprovalRequest(
        kind=fields["kind"],
        request_id=fields["request_id"],
        tenant=fields["tenant"],
        subjects=Digest(fields["subjects"]),
        reason=fields["reason"],
        created=fields["created"],
        override=override,
    )


def sign_request(request: ApprovalRequest, signer: Signer, officers: Sequence[Officer]) -> bytes:
    """The note that asks for `request`, signed by one officer.

    Raises:
        ApprovalError: the key is no privacy officer's.
        FormatError: a field is out of form.
    """
    check_may_sign(signer, officers)
    return sign_note(format_request(request), [signer])


def countersign(note: bytes, request: ApprovalRequest, signer: Signer, officers: Sequence[Officer]) -> bytes:
    """`note` with one more officer's signature below; what is signed is made anew from `request`, not taken from the note.

    Raises:
        ApprovalError: the key is no privacy officer's, or signed already; or the note isn't about this request, or not signed.
    """
    names = {officer.name for officer in check_signed(note, request, officers, at_least=1)}
    check_may_sign(signer, officers)
    if signer.verifier_key.name in names:
        message = f"approval: {signer.verifier_key.name} signed already, another officer has to approve"
        raise ApprovalError(message)
    own = parse_note(sign_note(format_request(request), [signer])).signatures
    earlier = parse_note(note)
    return format_note(Note(earlier.text, earlier.signatures + own))


def check_signed(
    note: bytes, request: ApprovalRequest, officers: Sequence[Officer], *, at_least: int
) -> tuple[Officer, ...]:
    """The officers who signed, in the order of their lines: the requester first.

    (1) the registered officers can be told apart;
    (2) every signature that claims to be a privacy officer's holds; others don't count;
    (3) the text is that of this request, to the letter;
    (4) they are enough, each name and each key counted once.

    Raises:
        ApprovalError: a step fails.
    """
    check_officers(officers)  # (1)
    able = {officer.vkey: officer for officer in officers if PRIVACY_OFFICER in officer.roles}
    try:
        opened = open_note(note, list(able))  # (2)
        text = format_request(request)
    except AuditError as exc:
        message = f"approval: {exc}"
        raise ApprovalError(message) from exc
    if opened.text != text:  # (3)
        raise ApprovalError("approval: it is of another request")
    signed = tuple(able[key] for key in opened.signed_by)
    different = min(len({officer.name for officer in signed}), len({officer.vkey.public_key for officer in signed}))
    if different < at_least:  # (4)
        message = f"approval: expected {at_least} privacy officers, got {different}"
        raise ApprovalError(message)
    return signed


def check_approved(note: bytes, request: ApprovalRequest, officers: Sequence[Officer]) -> tuple[Officer, ...]:
    """As `check_signed`, by as many officers as the kind of request takes."""
    return check_signed(note, request, officers, at_least=KINDS[request.kind])


def check_may_sign(signer: Signer, officers: Sequence[Officer]) -> None:
    """Returns if it is a registered privacy officer's key; raises ApprovalError."""
    key = signer.verifier_key
    found = [officer for officer in officers if officer.vkey == key]
    if not found:
        message = f"approval: the key of {key.name} belongs to no registered officer"
        raise ApprovalError(message)
    if PRIVACY_OFFICER not in found[0].roles:
        message = (
            f"approval: expected a {PRIVACY_OFFICER}, got {key.name}, {', '.join(found[0].roles) or 'without a role'}"
        )
        raise ApprovalError(message)
