from pathlib import Path

from benchmarks.drills.go_reader import LIBRARY
from benchmarks.drills.interoperation import run
from tests.programs import need, need_library


def test_interoperation_drill_finds_both_readers_agree(tmp_path: Path) -> None:
    need("go")
    need_library(LIBRARY, "golang-golang-x-mod-dev")
    figures = run(tmp_path, 0.01)
    assert figures == {
        "go_entries": 101,
        "go_bundles": 1,
        "go_tiles": 1,
        "go_proofs": 202,
        "go_receipts": 6,
        "tampered": 20,
        "tampered_accepted_by_go": 0,
        "foreign_checkpoints_accepted": 16,
    }
