"""The commands still run, and the page holds what they measured."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import RESULTS, format_results, main
from benchmarks.populations import RESULTS as POPULATIONS
from benchmarks.populations import format_results as format_populations
from benchmarks.report import PAGE, write_section


def test_main_measures_both_servers_and_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--smallest", "--dry"]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "| 1000, 1, floor |",
        "| 1000, 1, bedside |",
        "| 50, 2, bedside ÷ floor |",
        "| append |",
        "resident MiB",
    ):
        assert expected in printed


def test_main_wrote_the_figures_on_the_page() -> None:
    assert format_results(json.loads(RESULTS.read_text(encoding="utf-8"))) in PAGE.read_text(encoding="utf-8")


def test_populations_wrote_the_counts_on_the_page() -> None:
    assert format_populations(json.loads(POPULATIONS.read_text(encoding="utf-8"))) in PAGE.read_text(encoding="utf-8")


def test_populations_had_no_failure() -> None:
    runs = json.loads(POPULATIONS.read_text(encoding="utf-8"))["runs"]
    outcomes = [what for run in runs.values() for tally in run.values() for what in tally["outcomes"]]
    assert outcomes
    assert not [what for what in outcomes if what.startswith("failed")]


def test_report_replaces_its_section_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- a: begin -->\nold\n<!-- a: end -->\n\nafter\n", encoding="utf-8")
    write_section("a", "new", page)
    write_section("b", "second", page)
    first, second = "<!-- a: begin -->\nnew\n<!-- a: end -->", "<!-- b: begin -->\nsecond\n<!-- b: end -->"
    assert page.read_text(encoding="utf-8") == f"before\n\n{first}\n\nafter\n\n{second}\n"
