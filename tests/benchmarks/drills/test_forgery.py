"""The forgery drill finds nothing, and would find it if there were."""

import json
import shutil
from pathlib import Path

from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.note import parse_note
from benchmarks.drills import forgery
from benchmarks.drills.foreign_vectors import VECTORS, judge_vectors


def test_forgery_of_changed_proofs_is_never_accepted() -> None:
    found = forgery.fuzz("test", 3000)
    assert found["accepted"] == 0
    assert found["refused"] + found["respelled"] == 3000
    assert min(found[f"{kind}_cases"] for kind in ("inclusion", "consistency", "receipt", "checkpoint")) > 100


def test_forgery_counts_what_a_weaker_verifier_accepts(monkeypatch) -> None:
    monkeypatch.setattr(forgery, "check_inclusion", lambda *_: None)
    assert forgery.fuzz("test", 300)["accepted"] > 50
    monkeypatch.undo()
    monkeypatch.setattr(forgery, "open_checkpoint", lambda data, *_, **__: _trusting(data))
    assert forgery.fuzz("test", 300)["accepted"] > 0


def _trusting(data: bytes) -> Checkpoint:
    """A verifier that looks at no signature."""
    return parse_checkpoint(parse_note(data).text)


def test_forgery_judges_every_foreign_vector_as_its_source() -> None:
    figures = judge_vectors()
    assert figures["vectors_judged_otherwise"] == 0
    assert (figures["vectors_ed25519"], figures["vectors_ed25519_accepted"]) == (914, 208)
    assert (figures["vectors_inclusion"], figures["vectors_consistency"], figures["vectors_notes"]) == (98, 98, 42)
    assert figures["vectors_witness"] == 9


def test_forgery_counts_vectors_judged_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    shutil.copytree(VECTORS, folder)
    path = folder / "notes.json"
    cases = json.loads(path.read_text())
    for case in cases:
        case["wantErr"] = not case["wantErr"]
    path.write_text(json.dumps(cases))
    assert judge_vectors(folder)["vectors_judged_otherwise"] == 42
