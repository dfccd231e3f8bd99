from dataclasses import replace

import pytest

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.encoding import format_base64
from audit.entry_operations import KeyRotationEntry
from audit.errors import FormatError, SignatureError, VerificationError
from audit.key_history import KeyHistory, KeyPeriod, format_periods, key_periods, parse_periods
from audit.keys import Ed25519Signer
from audit.merkle import EMPTY_ROOT, LeafIndex, Sha256, TreeSize
from audit.note import Signature, Signer, format_note, format_vkey, parse_note

ORIGIN = "hospital.example/cds-audit/north/1"
A, B, C, STRANGER = (Ed25519Signer(ORIGIN, bytes([number]) * 32) for number in range(4))


def _note(size: int, *signers: Signer) -> bytes:
    root = EMPTY_ROOT if size == 0 else Sha256(bytes(32))
    return sign_checkpoint(Checkpoint(ORIGIN, TreeSize(size), root), signers)


def _entry(action: str, signer: Signer) -> KeyRotationEntry:
    key = signer.verifier_key
    return KeyRotationEntry(
        id="0" * 32,
        time="2026-03-01T08:00:00.000000Z",
        clock="synchronised",
        tenant="north",
        purpose="signing",
        action=action,
        key_id=key.key_id.hex(),
        vkey=format_vkey(key),
        reason="scheduled",
        operator=None,
    )


def _take(history: KeyHistory, index: int, action: str, signer: Signer) -> None:
    history.take(LeafIndex(index), _entry(action, signer))


@pytest.fixture
def history() -> KeyHistory:
    """Of one who trusts A alone, at size 3."""
    made = KeyHistory([A.verifier_key])
    for size in (0, 3):
        made.open(_note(size, A), ORIGIN)
    return made


@pytest.fixture
def rotating(history: KeyHistory) -> KeyHistory:
    """B was introduced at index 3."""
    _take(history, 3, "introduce", B)
    history.open(_note(4, A, B), ORIGIN)
    return history


@pytest.fixture
def rotated(rotating: KeyHistory) -> KeyHistory:
    """A was retired at index 6."""
    _take(rotating, 6, "retire", A)
    rotating.open(_note(7, A, B), ORIGIN)
    return rotating


def test_key_history_follows_from_the_first_key_to_the_next(rotated: KeyHistory) -> None:
    assert rotated.open(_note(8, B), ORIGIN).size == 8
    assert rotated.known == (A.verifier_key, B.verifier_key)


@pytest.mark.parametrize("signers", [(A,), (B,), (A, B)])
def test_key_history_takes_either_key_during_the_overlap(rotating: KeyHistory, signers: tuple[Signer, ...]) -> None:
    assert rotating.open(_note(5, *signers), ORIGIN).size == 5


def test_key_history_refuses_a_retired_key_alone(rotated: KeyHistory) -> None:
    with pytest.raises(SignatureError, match=f"aren't in force at its size .{A.verifier_key.key_id.hex()}."):
        rotated.open(_note(8, A), ORIGIN)


def test_key_history_lets_a_retired_key_sign_beside_its_successor(rotated: KeyHistory) -> None:
    rotated.open(_note(8, A, B), ORIGIN)


def test_key_history_refuses_the_retired_key_already_under_the_retirement(rotating: KeyHistory) -> None:
    _take(rotating, 6, "retire", A)
    with pytest.raises(SignatureError, match="aren't in force"):
        rotating.open(_note(7, A), ORIGIN)


def test_key_history_refuses_a_key_not_introduced_yet(history: KeyHistory) -> None:
    with pytest.raises(SignatureError, match="no signature of a trusted key"):
        history.open(_note(4, B), ORIGIN)


def test_key_history_refuses_an_introduction_that_only_the_new_key_signed(history: KeyHistory) -> None:
    _take(history, 3, "introduce", B)
    with pytest.raises(SignatureError, match="aren't in force"):
        history.open(_note(4, B), ORIGIN)


def test_key_history_waits_until_the_new_key_signs_too(history: KeyHistory) -> None:
    _take(history, 3, "introduce", B)
    history.open(_note(4, A), ORIGIN)
    with pytest.raises(SignatureError):
        history.open(_note(5, B), ORIGIN)


def test_key_history_refuses_a_key_used_before_its_introduction_though_it_was_given_as_trusted() -> None:
    history = KeyHistory([A.verifier_key, B.verifier_key])
    history.open(_note(2, A), ORIGIN)
    history.open(_note(3, B), ORIGIN)
    _take(history, 3, "introduce", B)
    with pytest.raises(
        VerificationError, match="checkpoint of size 3: signed only by a key introduced later"
    ) as caught:
        history.open(_note(4, A, B), ORIGIN)
    assert caught.value.index == 2


def test_key_history_refuses_two_keys_that_both_came_later() -> None:
    history = KeyHistory([A.verifier_key, B.verifier_key, C.verifier_key])
    history.open(_note(2, B, C), ORIGIN)
    _take(history, 2, "introduce", B)
    history.open(_note(3, A, B), ORIGIN)
    _take(history, 3, "introduce", C)
    with pytest.raises(VerificationError, match="checkpoint of size 2: signed only by a key introduced later"):
        history.open(_note(4, A, C), ORIGIN)


def test_key_history_with_every_key_trusted_follows_as_with_the_first() -> None:
    history = KeyHistory([A.verifier_key, B.verifier_key])
    history.open(_note(3, A, B), ORIGIN)  # both sign from the moment the key file is there
    _take(history, 3, "introduce", B)
    history.open(_note(4, A, B), ORIGIN)
    _take(history, 4, "retire", A)
    history.open(_note(5, A, B), ORIGIN)
    with pytest.raises(SignatureError):
        history.open(_note(6, A), ORIGIN)


def test_key_history_follows_several_rotations(rotated: KeyHistory) -> None:
    _take(rotated, 8, "introduce", C)
    rotated.open(_note(9, B, C), ORIGIN)
    _take(rotated, 9, "retire", B)
    rotated.open(_note(10, B, C), ORIGIN)
    rotated.open(_note(11, C), ORIGIN)
    with pytest.raises(SignatureError):
        rotated.open(_note(12, B), ORIGIN)


def test_key_history_does_not_let_a_retired_key_introduce(rotated: KeyHistory) -> None:
    _take(rotated, 8, "introduce", STRANGER)
    rotated.open(_note(9, B), ORIGIN)
    with pytest.raises(SignatureError):
        rotated.open(_note(10, A, STRANGER), ORIGIN)


def test_key_history_refuses_the_retirement_of_the_last_key(history: KeyHistory) -> None:
    _take(history, 3, "retire", A)
    with pytest.raises(SignatureError, match="aren't in force"):
        history.open(_note(4, A), ORIGIN)


def test_key_history_refuses_a_wrong_signature_of_a_retired_key_beside_a_good_one(rotated: KeyHistory) -> None:
    note = parse_note(_note(8, A, B))
    broken = replace(note.signatures[0], value=bytes(64))
    with pytest.raises(SignatureError, match="doesn't verify"):
        rotated.open(format_note(replace(note, signatures=(broken, note.signatures[1]))), ORIGIN)


def test_key_history_passes_over_signatures_and_keys_of_types_it_does_not_know(history: KeyHistory) -> None:
    # type 06 of C2SP's signed-note is ML-DSA-44, with 1,312-byte keys and 2,420-byte signatures
    unknown = format_base64(b"\x06" + bytes(1312))
    history.take(LeafIndex(3), replace_vkey(_entry("introduce", B), f"{ORIGIN}+01020304+{unknown[:400]}"))
    note = parse_note(_note(4, A))
    line = Signature(ORIGIN, b"\x01\x02\x03\x04", bytes(2420))
    assert history.open(format_note(replace(note, signatures=(line, *note.signatures))), ORIGIN).size == 4
    assert history.known == (A.verifier_key,)


def test_key_history_never_takes_a_witness_key_for_a_log_key(history: KeyHistory) -> None:
    witness = replace(B.verifier_key, key_type=4)
    history.take(LeafIndex(3), replace_vkey(_entry("introduce", B), format_vkey(witness)))
    assert history.known == (A.verifier_key,)


def test_key_history_opens_heads_with_the_keys_of_their_size(rotated: KeyHistory) -> None:
    assert rotated.open_head(_note(8, B), ORIGIN).size == 8
    with pytest.raises(SignatureError):
        rotated.open_head(_note(8, A), ORIGIN)


def test_key_history_keeps_to_the_origin(history: KeyHistory) -> None:
    with pytest.raises(SignatureError, match="expected origin elsewhere"):
        history.open(_note(4, A), "elsewhere")


def test_key_periods_say_from_which_size_to_which() -> None:
    entries = [(LeafIndex(3), _entry("introduce", B)), (LeafIndex(6), _entry("retire", A))]
    periods = key_periods(A.verifier_key, entries)
    assert periods == (KeyPeriod(A.verifier_key, 0, 6), KeyPeriod(B.verifier_key, 4, None))
    first, second = (format_vkey(signer.verifier_key) for signer in (A, B))
    assert format_periods(periods) == f"{first} 0 6\n{second} 4 -\n"


def test_key_periods_round_trip_and_a_key_alone_is_always_in_force() -> None:
    periods = (KeyPeriod(A.verifier_key, 0, 6), KeyPeriod(B.verifier_key, 4, None))
    assert parse_periods("# comment\n" + format_periods(periods)) == periods
    assert parse_periods(format_vkey(A.verifier_key)) == (KeyPeriod(A.verifier_key, 0, None),)


@pytest.mark.parametrize("tail", [" 0", " 0 x", " 01 2", " 0 2 3", " - -"])
def test_key_periods_out_of_form_are_refused(tail: str) -> None:
    for text in ("", "# nothing\n", format_vkey(A.verifier_key) + tail):
        with pytest.raises(FormatError):
            parse_periods(text)


def replace_vkey(entry: KeyRotationEntry, vkey: str) -> KeyRotationEntry:
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return KeyRotationEntry(**(fields | {"vkey": vkey}))
