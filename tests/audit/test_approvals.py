import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.approvals import (
    KINDS,
    ApprovalRequest,
    Officer,
    check_approved,
    check_officers,
    check_signed,
    countersign,
    digest_subjects,
    format_request,
    parse_request,
    sign_request,
)
from audit.commitments import Digest
from audit.errors import ApprovalError, FormatError
from audit.keys import Ed25519Signer
from audit.note import Note, Signature, format_note, parse_note, sign_note

REQUEST = ApprovalRequest(
    kind="erase",
    request_id="5a" * 16,
    tenant="north",
    subjects=Digest("ab" * 32),
    reason="gdpr-17",
    created="2026-03-01T08:00:00.000000Z",
)
SIGNERS = {name: Ed25519Signer(name, os.urandom(32)) for name in ("ada", "ben", "cleo", "dan")}
ADA, BEN, CLEO, DAN = (SIGNERS[name] for name in ("ada", "ben", "cleo", "dan"))
OFFICERS = tuple(
    Officer(name, signer.verifier_key, ("auditor",) if name == "cleo" else ("privacy-officer",))
    for name, signer in SIGNERS.items()
    if name != "dan"
)


def _names(officers: tuple[Officer, ...]) -> list[str]:
    return [officer.name for officer in officers]


def test_approvals_the_text_is_what_the_format_says() -> None:
    assert format_request(replace(REQUEST, override="de-630f-bgb")) == (
        f"bedside-approval/v1\nerase\n{'5a' * 16}\nnorth\n{'ab' * 32}\ngdpr-17\n2026-03-01T08:00:00.000000Z\nde-630f-bgb\n"
    )
    assert format_request(REQUEST).endswith("Z\n-\n")


_codes = st.text("ab9._:+-", max_size=20).map("x".__add__)


@given(
    st.builds(
        ApprovalRequest,
        kind=st.sampled_from(sorted(KINDS)),
        request_id=st.binary(min_size=16, max_size=16).map(bytes.hex),
        tenant=_codes,
        subjects=st.binary(min_size=32, max_size=32).map(bytes.hex),
        reason=_codes,
        created=st.just(REQUEST.created),
        override=st.none() | _codes,
    )
)
def test_approvals_formatted_parse_back(request: ApprovalRequest) -> None:
    assert parse_request(format_request(request)) == request


@given(st.text() | st.integers(0, 400).map(lambda place: format_request(REQUEST)[:place] + "\n"))
def test_approvals_parsing_raises_nothing_else(text: str) -> None:
    try:
        assert format_request(parse_request(text)) == text
    except FormatError:
        assert text != format_request(REQUEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "delete"},
        {"request_id": "5A" * 16},
        {"tenant": "no rth"},
        {"tenant": "north\nx"},
        {"subjects": "ab"},
        {"reason": ""},
        {"created": "yesterday"},
        {"override": "a\nb"},
    ],
)
def test_approvals_out_of_form_are_not_written(changes: dict[str, str]) -> None:
    with pytest.raises(FormatError):
        format_request(replace(REQUEST, **changes))


def test_approvals_by_two_officers_hold() -> None:
    note = countersign(sign_request(REQUEST, ADA, OFFICERS), REQUEST, BEN, OFFICERS)
    assert _names(check_approved(note, REQUEST, OFFICERS)) == ["ada", "ben"]


def test_approvals_by_one_officer_are_too_few() -> None:
    with pytest.raises(ApprovalError, match="expected 2 privacy officers, got 1"):
        check_approved(sign_request(REQUEST, ADA, OFFICERS), REQUEST, OFFICERS)


def test_approvals_a_hold_takes_one_officer_and_its_release_two() -> None:
    place, release = replace(REQUEST, kind="hold-place"), replace(REQUEST, kind="hold-release")
    assert _names(check_approved(sign_request(place, ADA, OFFICERS), place, OFFICERS)) == ["ada"]
    with pytest.raises(ApprovalError, match="expected 2"):
        check_approved(sign_request(release, ADA, OFFICERS), release, OFFICERS)


def test_approvals_by_the_same_officer_twice_are_refused() -> None:
    note = sign_request(REQUEST, ADA, OFFICERS)
    with pytest.raises(ApprovalError, match="ada signed already"):
        countersign(note, REQUEST, ADA, OFFICERS)


def test_approvals_of_the_same_line_twice_count_once() -> None:
    note = parse_note(sign_request(REQUEST, ADA, OFFICERS))
    doubled = format_note(Note(note.text, note.signatures * 2))
    with pytest.raises(ApprovalError, match="got 1"):
        check_approved(doubled, REQUEST, OFFICERS)


def test_approvals_one_key_under_two_names_is_one_officer() -> None:
    seed = os.urandom(32)
    first, second = Ed25519Signer("ada", seed), Ed25519Signer("eve", seed)
    officers = tuple(Officer(one.verifier_key.name, one.verifier_key, ("privacy-officer",)) for one in (first, second))
    with pytest.raises(ApprovalError, match="two have one key"):
        check_approved(sign_note(format_request(REQUEST), [first, second]), REQUEST, officers)


def test_approvals_two_keys_under_one_name_are_refused() -> None:
    first, second = Ed25519Signer("ada", os.urandom(32)), Ed25519Signer("ada", os.urandom(32))
    officers = tuple(Officer("ada", one.verifier_key, ("privacy-officer",)) for one in (first, second))
    with pytest.raises(ApprovalError, match="two have one name"):
        check_approved(sign_note(format_request(REQUEST), [first, second]), REQUEST, officers)


def test_approvals_under_another_name_than_the_keys_are_refused() -> None:
    with pytest.raises(ApprovalError, match="expected an Ed25519 key of that name"):
        check_officers([Officer("eve", ADA.verifier_key, ("privacy-officer",))])


def test_approvals_roles_that_nobody_knows_are_refused() -> None:
    with pytest.raises(ApprovalError, match="'king'"):
        check_officers([Officer("ada", ADA.verifier_key, ("king",))])


@pytest.mark.parametrize(
    ("signer", "reason"), [(CLEO, "expected a privacy-officer, got cleo"), (DAN, "no registered officer")]
)
def test_approvals_by_others_are_refused(signer: Ed25519Signer, reason: str) -> None:
    note = sign_request(REQUEST, ADA, OFFICERS)
    with pytest.raises(ApprovalError, match=reason):
        countersign(note, REQUEST, signer, OFFICERS)
    with pytest.raises(ApprovalError, match=reason):
        sign_request(REQUEST, signer, OFFICERS)
    with pytest.raises(ApprovalError, match="got 1"):
        check_approved(sign_note(format_request(REQUEST), [ADA, signer]), REQUEST, OFFICERS)


def test_approvals_by_a_key_of_that_name_that_is_another_are_refused() -> None:
    forger = Ed25519Signer("ben", os.urandom(32))
    with pytest.raises(ApprovalError, match="no registered officer"):
        countersign(sign_request(REQUEST, ADA, OFFICERS), REQUEST, forger, OFFICERS)
    with pytest.raises(ApprovalError, match="got 1"):
        check_approved(sign_note(format_request(REQUEST), [ADA, forger]), REQUEST, OFFICERS)


def test_approvals_forged_under_the_officers_own_key_id_are_refused() -> None:
    note = parse_note(sign_request(REQUEST, ADA, OFFICERS))
    forged = Signature("ben", BEN.verifier_key.key_id, note.signatures[0].value)
    with pytest.raises(ApprovalError, match="doesn't verify"):
        check_approved(format_note(Note(note.text, (*note.signatures, forged))), REQUEST, OFFICERS)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "retention"},
        {"request_id": "5b" * 16},
        {"tenant": "south"},
        {"subjects": "ac" * 32},
        {"reason": "other"},
        {"created": "2026-03-01T08:00:00.000001Z"},
        {"override": "de-630f-bgb"},
    ],
)
def test_approvals_of_another_request_are_refused(changes: dict[str, str]) -> None:
    other = replace(REQUEST, **changes)
    note = sign_note(format_request(other), [ADA, BEN])
    check_approved(note, other, OFFICERS)
    with pytest.raises(ApprovalError, match="another request"):
        check_approved(note, REQUEST, OFFICERS)
    with pytest.raises(ApprovalError, match="another request"):
        countersign(note, REQUEST, BEN, OFFICERS)


def test_approvals_moved_from_another_request_are_refused() -> None:
    theirs = parse_note(sign_request(replace(REQUEST, request_id="5b" * 16), BEN, OFFICERS)).signatures
    note = parse_note(sign_request(REQUEST, ADA, OFFICERS))
    with pytest.raises(ApprovalError, match="doesn't verify"):
        check_approved(format_note(Note(note.text, note.signatures + theirs)), REQUEST, OFFICERS)


@given(st.integers(0), st.integers(0, 7))
def test_approvals_one_flipped_bit_is_refused(place: int, bit: int) -> None:
    note = bytearray(sign_note(format_request(REQUEST), [ADA, BEN]))
    note[place % len(note)] ^= 1 << bit
    with pytest.raises(ApprovalError):
        check_approved(bytes(note), REQUEST, OFFICERS)


def test_approvals_that_are_no_note_are_refused() -> None:
    with pytest.raises(ApprovalError):
        check_signed(b"approved, regards, ben", REQUEST, OFFICERS, at_least=1)


def test_approvals_subjects_are_digested_with_a_salt_whatever_their_order() -> None:
    one, two = os.urandom(32), os.urandom(32)
    assert digest_subjects(b"s" * 32, [one, two]) == digest_subjects(b"s" * 32, [two, one])
    assert digest_subjects(b"s" * 32, [one, two]) != digest_subjects(b"t" * 32, [one, two])
    assert digest_subjects(b"s" * 32, [b"a", b"bc"]) != digest_subjects(b"s" * 32, [b"ab", b"c"])
