import random
from pathlib import Path

import pytest

from audit.entry import parse_entry
from audit.entry_custody import AccessEntry
from benchmarks.drills import ten_million
from benchmarks.drills.workload import new_log, open_log, verify


def test_ten_million_entries_as_a_few_are_a_log_that_holds(tmp_path: Path) -> None:
    figures = ten_million.run(tmp_path, 0.00005)
    assert (figures["entries"], figures["verified_entries"]) == (500, 501)
    assert 8 <= int(figures["proof_hashes"]) <= 9
    assert all(float(value) > 0 for name, value in figures.items() if name.startswith("append_per_s"))


def test_ten_million_entries_are_real_and_all_different() -> None:
    chosen = random.Random(1)
    entries = [parse_entry(ten_million.entry_bytes(ten_million._template(), n, chosen)) for n in range(2000)]
    assert all(isinstance(entry, AccessEntry) for entry in entries)
    assert len({entry.id for entry in entries}) == 2000
    assert [entry.time for entry in entries] == sorted(entry.time for entry in entries)
    assert [entry.id for entry in entries] == sorted(entry.id for entry in entries)


def test_ten_million_search_that_finds_nothing_is_no_figure(tmp_path: Path) -> None:
    config = new_log(tmp_path / "log")
    log = open_log(config)
    with pytest.raises(RuntimeError, match="nothing was found"):
        ten_million._found(log, ten_million.Query(status="never"))
    log.close()
    assert verify(config).entries == 0
