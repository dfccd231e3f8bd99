import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import AuditError, FormatError, SignatureError
from audit.keys import Ed25519Signer
from audit.note import (
    Note,
    Signature,
    check_ed25519,
    format_note,
    format_vkey,
    open_note,
    parse_note,
    parse_vkey,
    sign_note,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "audit"
CASES = json.loads((VECTORS / "notes.json").read_text())
CCTV = json.loads((VECTORS / "cctv_ed25519vectors.json").read_text())
SIGNER = Ed25519Signer("example.com/log", bytes(range(32)))

names = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="+"), min_size=1)
texts = st.text(st.characters(codec="utf-8", min_codepoint=0x20), max_size=80).map(lambda text: text + "\n")


def _of_kind(kind: str) -> list[dict]:
    return [case for case in CASES if case["kind"] == kind]


def test_note_vectors_are_all_used() -> None:
    assert {case["kind"] for case in CASES} == {"note", "vkey", "checkpoint", "body"}  # the last two: test_checkpoint


@pytest.mark.parametrize("case", _of_kind("note"), ids=lambda case: case["name"])
def test_note_judges_foreign_notes(case: dict) -> None:
    keys = [parse_vkey(vkey) for vkey in case["vkeys"]]
    if case["wantErr"]:
        with pytest.raises((FormatError, SignatureError)):
            open_note(case["note"].encode(), keys)
    else:
        opened = open_note(case["note"].encode(), keys)
        assert case["note"].startswith(opened.text)
        assert set(opened.signed_by) <= set(keys)
        assert format_note(parse_note(case["note"].encode())) == case["note"].encode()


@pytest.mark.parametrize("case", _of_kind("vkey"), ids=lambda case: case["name"])
def test_note_judges_foreign_verifier_keys(case: dict) -> None:
    (vkey,) = case["vkeys"]
    if case["wantErr"]:
        with pytest.raises(FormatError):
            parse_vkey(vkey)
    else:
        assert format_vkey(parse_vkey(vkey)) == vkey


def test_note_accepts_the_ed25519_edge_cases_that_go_accepts() -> None:
    accepted = []
    for case in CCTV:
        try:
            check_ed25519(bytes.fromhex(case["key"]), bytes.fromhex(case["sig"]), case["msg"].encode())
        except SignatureError:
            continue
        accepted.append(case["number"])
    refused_by_go = {"non_canonical_R", "low_order_residue"}
    assert accepted == [case["number"] for case in CCTV if not refused_by_go & set(case["flags"] or [])]
    assert len(accepted) == 208


@given(texts, st.lists(st.tuples(names, st.binary(min_size=4, max_size=4), st.binary(min_size=1)), min_size=1))
def test_note_round_trips(text: str, lines: list[tuple[str, bytes, bytes]]) -> None:
    note = Note(text, tuple(Signature(*line) for line in lines))
    assert parse_note(format_note(note)) == note


@given(texts)
def test_note_signed_is_opened(text: str) -> None:
    opened = open_note(sign_note(text, [SIGNER]), [SIGNER.verifier_key])
    assert (opened.text, opened.signed_by) == (text, (SIGNER.verifier_key,))


def test_note_fails_with_any_flipped_bit() -> None:
    data = sign_note("example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", [SIGNER])
    for position in range(len(data)):
        for bit in range(8):
            flipped = data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
            with pytest.raises((FormatError, SignatureError)):
                open_note(flipped, [SIGNER.verifier_key])


def test_note_ignores_keys_it_does_not_know_and_refuses_a_wrong_known_one() -> None:
    other = Ed25519Signer("example.com/other", bytes(32))
    both = sign_note("text\n", [other, SIGNER])
    assert open_note(both, [SIGNER.verifier_key]).signed_by == (SIGNER.verifier_key,)
    wrong = parse_note(both)
    broken = Note(
        wrong.text, (Signature(other.verifier_key.name, other.verifier_key.key_id, bytes(64)), wrong.signatures[1])
    )
    with pytest.raises(SignatureError):
        open_note(format_note(broken), [SIGNER.verifier_key, other.verifier_key])


@given(st.binary())
def test_note_parser_raises_nothing_foreign(data: bytes) -> None:
    with contextlib.suppress(AuditError):
        parse_note(data)


@given(st.text())
def test_note_verifier_key_parser_raises_nothing_foreign(text: str) -> None:
    with contextlib.suppress(AuditError):
        parse_vkey(text)
