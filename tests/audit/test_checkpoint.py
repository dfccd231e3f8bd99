import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import Checkpoint, format_checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from audit.errors import AuditError, FormatError, SignatureError
from audit.keys import Ed25519Signer
from audit.merkle import EMPTY_ROOT, Sha256, TreeSize
from audit.note import parse_vkey

VECTORS = Path(__file__).parent.parent / "vectors" / "audit"
CASES = json.loads((VECTORS / "notes.json").read_text())

lines = st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=30)
checkpoints = st.builds(
    Checkpoint,
    lines,
    st.integers(1, 2**63 - 1).map(TreeSize),
    st.binary(min_size=32, max_size=32).map(Sha256),
    st.lists(lines, max_size=3).map(tuple),
)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["kind"] == "checkpoint"], ids=lambda case: case["name"]
)
def test_checkpoint_judges_foreign_checkpoints(case: dict) -> None:
    log_keys = [parse_vkey(vkey) for vkey in case["vkeys"]]
    witness_keys = [parse_vkey(vkey) for vkey in case["witnesses"]]

    def opened() -> Checkpoint:
        return open_checkpoint(case["note"].encode(), log_keys, witness_keys=witness_keys, quorum=len(witness_keys))

    if case["wantErr"]:
        with pytest.raises((FormatError, SignatureError)):
            opened()
    else:
        assert case["note"].startswith(format_checkpoint(opened()))


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "body"], ids=lambda case: case["name"])
def test_checkpoint_judges_foreign_bodies(case: dict) -> None:
    if case["wantErr"]:
        with pytest.raises(FormatError):
            parse_checkpoint(case["note"])
    else:
        assert format_checkpoint(parse_checkpoint(case["note"])) == case["note"]


@given(checkpoints)
def test_checkpoint_round_trips(checkpoint: Checkpoint) -> None:
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint


@given(st.text())
def test_checkpoint_parser_raises_nothing_foreign(text: str) -> None:
    with contextlib.suppress(AuditError):
        parse_checkpoint(text)


def test_checkpoint_of_another_origin_is_refused() -> None:
    signer = Ed25519Signer("example.com/log", bytes(32))
    note = sign_checkpoint(Checkpoint("example.com/log", TreeSize(0), EMPTY_ROOT), [signer])
    assert open_checkpoint(note, [signer.verifier_key], origin="example.com/log").size == 0
    with pytest.raises(SignatureError, match="expected origin"):
        open_checkpoint(note, [signer.verifier_key], origin="example.com/other")
