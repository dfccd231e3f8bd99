"""Processes that share a log, and are killed at any moment."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit.entry import parse_entry
from audit.storage.sqlite_scan import SqliteScan
from audit.verify import Trust, verify_log

WRITER = Path(__file__).parent / "writer.py"
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def start() -> Iterator[Callable[[Path, Path], subprocess.Popen[bytes]]]:
    """Starts a writer that appends to the log in a directory, and its acknowledgements to a file."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one(directory: Path, output: Path) -> subprocess.Popen[bytes]:
        with output.open("ab") as file:
            command = [sys.executable, str(WRITER), str(directory), "3"]
            started.append(subprocess.Popen(command, stdout=file, env={"PYTHONPATH": str(ROOT)}))
        return started[-1]

    yield start_one
    for writer in started:
        _kill(writer)


def _kill(writer: subprocess.Popen[bytes]) -> None:
    writer.kill()
    writer.wait()


def _wait_for_output(output: Path, size: int) -> None:
    until = time.monotonic() + 20
    while output.stat().st_size <= size:
        assert time.monotonic() < until, "the writer wrote nothing"
        time.sleep(0.01)


def _acknowledged(*outputs: Path) -> dict[int, str]:
    lines = [line.split() for output in outputs for line in output.read_text().splitlines()]
    places = {int(index): entry_id for index, entry_id in lines}
    assert len(places) == len(lines), "an index was given twice"
    return places


def _check(config, keys, acknowledged: dict[int, str]) -> int:
    head = (config.directory / "head").read_bytes()
    scan = SqliteScan(config.directory)
    stored = {entry.summary.index: parse_entry(entry.entry).id for entry in scan.entries()}
    assert {index: stored.get(index) for index in acknowledged} == acknowledged
    assert len(set(stored.values())) == len(stored)
    report = verify_log(scan, Trust((keys.signer.verifier_key,), config.origin, (head,)))
    scan.close()
    return report.entries


def test_crash_of_writers_loses_no_acknowledged_entry(make_log, open_log, make_entry, start, tmp_path) -> None:
    config, keys = make_log()
    outputs = [tmp_path / "first", tmp_path / "second"]
    for output in outputs:
        output.touch()
    for _ in range(10):
        sizes = [output.stat().st_size for output in outputs]
        writers = [start(config.directory, output) for output in outputs]
        for output, size in zip(outputs, sizes, strict=True):
            _wait_for_output(output, size)
        time.sleep(random.uniform(0, 0.1))
        for writer in writers:
            _kill(writer)
    acknowledged = _acknowledged(*outputs)
    assert len(acknowledged) >= 20
    entries = _check(config, keys, acknowledged)
    log = open_log(config)
    assert log.append(*make_entry(log)).index == entries


def test_crash_of_one_writer_lets_the_other_go_on(make_log, start, tmp_path) -> None:
    config, keys = make_log()
    first, second = tmp_path / "first", tmp_path / "second"
    writers = [start(config.directory, first), start(config.directory, second)]
    for output in (first, second):
        _wait_for_output(output, 0)
    _kill(writers[0])
    _wait_for_output(second, second.stat().st_size)
    _kill(writers[1])
    _check(config, keys, _acknowledged(first, second))
