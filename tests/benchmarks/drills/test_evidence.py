"""The page says what the records say, and every bar has its row."""

from pathlib import Path

import pytest

import benchmarks.drills.__main__ as runner
from benchmarks.drills import DRILLS, DrillSkippedError, Figures
from benchmarks.drills.__main__ import main
from benchmarks.drills.evidence import (
    BARS,
    EVIDENCE,
    PAGE,
    Evidence,
    Need,
    Record,
    broken_bars,
    load_evidence,
    render,
    save_evidence,
)

PLACE: dict[str, str | float] = {
    "date": "2026-11-24",
    "cores": "2",
    "processor": "one",
    "python": "CPython 3.11",
    "sqlite": "3.53.0",
    "postgresql": "15.1",
    "fsync_ms": 1.5,
}


def _record(figures: Figures) -> Record:
    return Record(figures=figures, seconds=2.0, command="make drill DRILL=clock", machine=PLACE)


def test_evidence_page_is_what_the_records_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(load_evidence(EVIDENCE))


def test_evidence_has_a_row_for_every_bar() -> None:
    page = render({})
    assert len(BARS) == 14
    for bar in BARS:
        assert f"| {bar.fault} | {bar.bar} | not yet shown |" in page
        assert set(bar.drills) <= set(DRILLS)


def test_evidence_tells_met_broken_and_not_shown_apart() -> None:
    (bar,) = [bar for bar in BARS if bar.drills == ("clock",)]
    good: Evidence = {"clock": _record({"out_of_order": 0, "alarms_missing": 0})}
    bad: Evidence = {"clock": _record({"out_of_order": 0, "alarms_missing": 1})}
    half: Evidence = {"clock": _record({"out_of_order": 0})}
    assert [bar.met(found) for found in (good, bad, half, {})] == [True, False, None, None]
    assert "| yes | out of order: 0 (= 0)<br>alarms missing: 0 (= 0) |" in render(good)
    assert "| **no** |" in render(bad)
    assert broken_bars("clock", {"out_of_order": 0, "alarms_missing": 1}) == ["alarms missing: 1 (= 0)"]


def test_evidence_of_a_part_is_held_to_what_must_never_happen() -> None:
    assert broken_bars("forgery", {"fuzzed": 10, "accepted": 1}, full=False) == ["accepted: 1 (= 0)"]


@pytest.mark.parametrize(("comparison", "inside", "outside"), [("=", 5, 6), ("≤", 5, 6), ("<", 4, 5), ("≥", 5, 4)])
def test_evidence_compares_as_the_bar_says(comparison: str, inside: int, outside: int) -> None:
    need = Need("clock.figure", comparison, 5)
    assert need.holds(inside)
    assert not need.holds(outside)


def test_evidence_keeps_the_order_of_the_drills(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    save_evidence(path, {"canary": _record({"found": 0}), "crash": _record({"sqlite_lost": 0})})
    assert list(load_evidence(path)) == ["crash", "canary"]


def test_main_writes_what_a_full_drill_showed(monkeypatch, tmp_path: Path) -> None:
    _stand_in(monkeypatch, tmp_path, {"out_of_order": 0, "alarms_missing": 0})
    assert main(["clock", "--workspace", str(tmp_path)]) == 0
    found = load_evidence(tmp_path / "evidence.json")
    assert found["clock"]["figures"] == {"out_of_order": 0, "alarms_missing": 0}
    assert (tmp_path / "evidence.md").read_text(encoding="utf-8") == render(found)


def test_main_writes_nothing_of_a_part_and_ends_with_1_where_a_bar_breaks(monkeypatch, tmp_path: Path, capsys) -> None:
    _stand_in(monkeypatch, tmp_path, {"out_of_order": 3})
    assert main(["clock", "--scale", "0.1", "--workspace", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "clock.out_of_order = 3" in printed.out
    assert "NOT MET: out of order: 3 (= 0)" in printed.err
    assert list(tmp_path.iterdir()) == []


def test_main_goes_on_after_a_drill_that_failed_or_was_skipped(monkeypatch, tmp_path: Path, capsys) -> None:
    _stand_in(monkeypatch, tmp_path, DrillSkippedError("no such program"))
    assert main(["clock", "--workspace", str(tmp_path)]) == 0
    assert "clock: skipped, no such program" in capsys.readouterr().err
    _stand_in(monkeypatch, tmp_path, ValueError("broken"))
    assert main(["clock", "--workspace", str(tmp_path)]) == 1
    assert "ValueError: broken" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_main_knows_only_drills_that_are_there(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "no drill nonsense; there are" in capsys.readouterr().err


def _stand_in(monkeypatch, folder: Path, outcome: Figures | Exception) -> None:
    """Every drill gives `outcome` at once, and the page lies in `folder`."""

    class Drill:
        def run(self, workspace: Path, scale: float) -> Figures:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

    monkeypatch.setattr(runner, "load", lambda _: Drill())
    monkeypatch.setattr(runner, "EVIDENCE", folder / "evidence.json")
    monkeypatch.setattr(runner, "PAGE", folder / "evidence.md")
