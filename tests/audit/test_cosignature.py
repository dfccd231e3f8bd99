import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import Checkpoint, format_checkpoint, open_checkpoint, sign_checkpoint
from audit.cosignature import (
    Cosigner,
    attach_cosignatures,
    check_witness_key,
    cosigned_time_s,
    format_lines,
    parse_lines,
)
from audit.errors import AuditError, FormatError, SignatureError
from audit.keys import Ed25519Signer
from audit.merkle import Sha256, TreeSize
from audit.note import format_vkey, parse_note, parse_vkey

VECTORS = Path(__file__).parent.parent / "vectors" / "audit"
# A published test key of a witness (transparency-dev/tessera, "Wit1").
WIT1 = Cosigner("Wit1", base64.b64decode("AeadRiG7XM4XiieCHzD8lxysXMwcViy5nYsoXURWGrlE")[1:])
TIME_S = 1764000000
LOG = Ed25519Signer("log.example/1", bytes(32))
WITNESS = Cosigner("witness.example/w1", bytes(range(32)))
OTHER = Cosigner("witness.example/w2", bytes(range(1, 33)))
CHECKPOINT = Checkpoint("log.example/1", TreeSize(7), Sha256(bytes(32)))
NOTE = sign_checkpoint(CHECKPOINT, [LOG])
TEXT = format_checkpoint(CHECKPOINT)


def test_cosignature_is_the_one_in_the_foreign_vector() -> None:
    cases = json.loads((VECTORS / "notes.json").read_text())
    note = parse_note(next(case["note"] for case in cases if case["name"] == "cosigned 2 of 2").encode())
    assert format_vkey(WIT1.verifier_key) == "Wit1+9b3fb2d5+BFhZSmQj9+SoL+p/nN0Hh76xXmF7QcHfytUrI1XfSClk"
    assert WIT1.cosign(note.text, TIME_S) == note.signatures[1]


def test_cosignature_covers_time_and_text_by_the_letter_of_the_specification() -> None:
    value = WITNESS.cosign(TEXT, TIME_S).value
    assert value[:8] == TIME_S.to_bytes(8, "big")
    key = Ed25519PublicKey.from_public_bytes(WITNESS.verifier_key.public_key)
    key.verify(value[8:], f"cosignature/v1\ntime {TIME_S}\n{TEXT}".encode())


@pytest.mark.parametrize("time_s", [-1, 2**63])
def test_cosignature_refuses_a_time_out_of_range(time_s: int) -> None:
    with pytest.raises(FormatError):
        WITNESS.cosign(TEXT, time_s)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5))
def test_cosignature_lines_round_trip(times: list[int]) -> None:
    signatures = tuple(WITNESS.cosign(TEXT, time_s) for time_s in times)
    assert parse_lines(format_lines(signatures)) == signatures


@given(st.binary(max_size=200))
def test_cosignature_lines_from_strangers_raise_errors_of_ours(data: bytes) -> None:
    try:
        attach_cosignatures(NOTE, data, WITNESS.verifier_key)
    except AuditError:
        return
    pytest.fail("accepted")


def test_cosignature_lines_with_anything_between_them_are_refused() -> None:
    line = format_lines([WITNESS.cosign(TEXT, TIME_S)])
    for data in (b"", b"\n" + line, line + b"\n" + line, b"text\n\n" + line, line[:-1]):
        with pytest.raises(FormatError):
            parse_lines(data)


def test_cosignature_attached_counts_for_a_quorum() -> None:
    cosigned = attach_cosignatures(NOTE, format_lines([WITNESS.cosign(TEXT, TIME_S)]), WITNESS.verifier_key)
    assert cosigned.time_s == TIME_S
    opened = open_checkpoint(
        cosigned.note, [LOG.verifier_key], witness_keys=[WITNESS.verifier_key], origin="log.example/1", quorum=1
    )
    assert opened == CHECKPOINT


def test_cosignature_of_another_witness_is_left_out() -> None:
    lines = format_lines([OTHER.cosign(TEXT, TIME_S), WITNESS.cosign(TEXT, TIME_S)])
    cosigned = attach_cosignatures(NOTE, lines, WITNESS.verifier_key)
    assert [one.name for one in parse_note(cosigned.note).signatures] == ["log.example/1", "witness.example/w1"]
    with pytest.raises(SignatureError, match=r"expected one of witness\.example/w1"):
        attach_cosignatures(NOTE, format_lines([OTHER.cosign(TEXT, TIME_S)]), WITNESS.verifier_key)


def test_cosignature_attached_twice_stands_once_and_the_newest_time_counts() -> None:
    first = attach_cosignatures(NOTE, format_lines([WITNESS.cosign(TEXT, TIME_S)]), WITNESS.verifier_key)
    lines = format_lines([WITNESS.cosign(TEXT, TIME_S), WITNESS.cosign(TEXT, TIME_S + 5)])
    again = attach_cosignatures(first.note, lines, WITNESS.verifier_key)
    assert len(parse_note(again.note).signatures) == 3
    assert again.time_s == TIME_S + 5


def test_cosignature_over_another_checkpoint_is_refused() -> None:
    other = format_checkpoint(Checkpoint("log.example/1", TreeSize(8), Sha256(bytes(32))))
    with pytest.raises(SignatureError):
        attach_cosignatures(NOTE, format_lines([WITNESS.cosign(other, TIME_S)]), WITNESS.verifier_key)


@given(st.data())
def test_cosignature_with_one_flipped_bit_fails(data: st.DataObject) -> None:
    line = bytearray(format_lines([WITNESS.cosign(TEXT, TIME_S)]))
    position = data.draw(st.integers(0, len(line) - 1))
    line[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(AuditError):
        attach_cosignatures(NOTE, bytes(line), WITNESS.verifier_key)


def test_cosignature_time_of_a_note_without_one_is_an_error() -> None:
    with pytest.raises(SignatureError):
        cosigned_time_s(NOTE, WITNESS.verifier_key)


def test_cosignature_key_of_a_log_is_no_witness_key() -> None:
    check_witness_key(parse_vkey(format_vkey(WITNESS.verifier_key)))
    with pytest.raises(FormatError, match="expected Ed25519 cosignature/v1"):
        check_witness_key(LOG.verifier_key)
