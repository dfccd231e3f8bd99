from pathlib import Path

import pytest

from benchmarks.drills import disk_full
from benchmarks.drills.appender import Appender, Attempt
from benchmarks.drills.disk_full import Case, judge
from benchmarks.drills.workload import new_log
from tests.programs import need

NEVER = ("acknowledged_while_broken", "acknowledged_not_durable", "gap_entries_missing", "corrupt")


def test_disk_that_breaks_costs_no_entry_and_leaves_its_gap(tmp_path: Path) -> None:
    need("strace")
    figures = disk_full.run(tmp_path, 0.01)
    assert int(figures["cases"]) + int(figures["cases_left_out"]) == len(disk_full.CASES)
    assert int(figures["cases"]) >= 3  # file systems need root
    assert {figures[name] for name in NEVER} == {0}
    assert float(figures["slowest_refusal_ms"]) > 0


def _honest(tmp_path: Path):
    config = new_log(tmp_path / "log")
    with Appender(config) as appender:
        case = Case(before=appender.append(2), after=appender.append(1))
    return config, case


@pytest.mark.parametrize(
    ("lie", "figure"),
    [
        (lambda case: case.broken.append(case.before.pop()), "acknowledged_while_broken"),
        (lambda case: case.before.append(Attempt("ab" * 16, 0, 0.1)), "acknowledged_not_durable"),
        (lambda case: case.broken.append(Attempt("ab" * 16, None, 0.1)), "gap_entries_missing"),
        (lambda case: case.after.append(Attempt("ab" * 16, None, 0.1)), "corrupt"),
    ],
)
def test_disk_full_counts_what_must_not_happen(tmp_path: Path, lie, figure: str) -> None:
    config, case = _honest(tmp_path)
    found, slowest = judge(config, case)
    assert ([found[name] for name in NEVER], slowest) == ([0, 0, 0, 0], 0.0)
    lie(case)
    assert judge(config, case)[0][figure] == 1
