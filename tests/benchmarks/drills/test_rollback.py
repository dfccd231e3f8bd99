from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.drills import rollback
from benchmarks.drills.rollback import ATTEMPTS


def test_rollback_of_any_kind_is_refused_with_both_checkpoints(tmp_path: Path) -> None:
    figures = rollback.run(tmp_path, 0.06)
    assert figures == {
        "cases": 6,
        "entries": 6,
        "opened": 0,
        "verified": 0,
        "without_both_checkpoints": 0,
        "untouched_refused": 0,
    }


@pytest.mark.parametrize("name", ["rewritten", "behind_witness", "split_view"])
def test_rollback_that_only_an_outsider_can_tell_opens_without_his_head(tmp_path: Path, name: str) -> None:
    """So these cases test the head from elsewhere and nothing easier."""
    days = rollback.live(tmp_path, 6)
    folder = tmp_path / "attempt"
    rollback.shutil.copytree(days.later, folder)
    for head in ATTEMPTS[name](days, folder):
        head.unlink()
    assert rollback.judge(replace(days.config, directory=folder), [])["opened"] == 1
