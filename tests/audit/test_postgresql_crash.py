"""Processes and servers that die while a log in PostgreSQL is written."""

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit.entry import parse_entry
from audit.entry_operations import GapEntry
from audit.errors import AppendError
from audit.log import LogConfig
from audit.storage.opening import open_scan
from audit.verify import Trust, verify_log

pytestmark = pytest.mark.parametrize("store", ["postgresql"], indirect=True)
WRITER = Path(__file__).parent / "writer.py"
ROOT = Path(__file__).parent.parent.parent
# Takes the log's lock, says so, and holds it until it is killed.
HOLDER = """
import sys, time
from pathlib import Path
from audit.storage.opening import open_storage
storage = open_storage(Path(sys.argv[1]))
with storage.exclusive() as transaction:
    print("held", flush=True)
    while True:
        transaction.index_of("00")  # so that the server doesn't end it for idling
        time.sleep(0.1)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts Python with these arguments, its output in a file or a pipe; ended with the test at the latest."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one(*arguments: str | Path, output: Path | None = None) -> subprocess.Popen[bytes]:
        sink = subprocess.PIPE if output is None else output.open("ab")
        command = [sys.executable, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=sink, env={"PYTHONPATH": str(ROOT)}))
        if output is not None:
            sink.close()
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _grown(output: Path, lines: int) -> None:
    """Returns when there are so many more lines."""
    wanted = output.read_bytes().count(b"\n") + lines
    until = time.monotonic() + 20
    while output.read_bytes().count(b"\n") < wanted:
        assert time.monotonic() < until, "the writer wrote nothing"
        time.sleep(0.01)


def _acknowledged(*outputs: Path) -> dict[int, str]:
    lines = [line.split() for output in outputs for line in output.read_text().splitlines()]
    places = {int(index): entry_id for index, entry_id in lines}
    assert len(places) == len(lines), "an index was given twice"
    return places


def _check(configs: list[LogConfig], keys, acknowledged: dict[int, str]) -> list:
    """The entries, after each acknowledged one was found at its place, and each host's head in the log."""
    scan = open_scan(configs[0].directory)
    entries = [parse_entry(stored.entry) for stored in scan.entries()]
    assert {index: entries[index].id for index in acknowledged} == acknowledged
    heads = tuple(config.head_file.read_bytes() for config in configs)
    assert verify_log(scan, Trust((keys.signer.verifier_key,), configs[0].origin, heads)).entries == len(entries)
    scan.close()
    return entries


def test_postgresql_two_hosts_write_one_order(make_log, start, second_host, tmp_path) -> None:
    config, keys = make_log()
    other = second_host(config)
    outputs = [tmp_path / "first", tmp_path / "second.out"]
    writers = [
        start(WRITER, one.directory, "3", output=output) for one, output in zip((config, other), outputs, strict=True)
    ]
    for output in outputs:
        _grown(output, 60)
    for writer in writers:
        writer.kill()
        writer.wait()
    acknowledged = _acknowledged(*outputs)
    _check([config, other], keys, acknowledged)
    owners = [index in _acknowledged(outputs[0]) for index in sorted(acknowledged)]
    assert sum(one != two for one, two in itertools.pairwise(owners)) > 5, "they took turns"


def test_postgresql_goes_on_when_the_process_that_held_the_lock_was_killed(
    make_log, open_log, make_entry, start, second_host
) -> None:
    config, keys = make_log()
    log = open_log(config)
    log.append(*make_entry(log))
    holder = start("-c", HOLDER, second_host(config).directory)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    receipts = []
    appending = threading.Thread(target=lambda: receipts.append(log.append(*make_entry(log))))
    appending.start()
    time.sleep(0.2)
    assert receipts == []
    holder.kill()
    begin = time.monotonic()
    appending.join()
    assert time.monotonic() - begin < 1.0
    assert receipts[0].index == 1
    assert len(_check([config], keys, {1: receipts[0].entry_id})) == 2


def test_postgresql_killed_and_restarted_under_load_loses_nothing_acknowledged(
    make_log, open_log, make_entry, postgresql, tmp_path
) -> None:
    config, keys = make_log()
    log = open_log(config)
    acknowledged: dict[int, str] = {}
    refused: list[AppendError] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            try:
                receipt = log.append(*make_entry(log))
                acknowledged[receipt.index] = receipt.entry_id
            except AppendError as exc:
                refused.append(exc)
                time.sleep(0.02)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        _wait_for_more(acknowledged, 20)
        postgresql.stop(signal.SIGKILL)
        time.sleep(0.05)
        postgresql.start()
    _wait_for_more(acknowledged, 20)
    stop.set()
    for thread in threads:
        thread.join()
    log.close()
    assert len(refused) >= 2
    entries = _check([config], keys, acknowledged)
    told = sum(entry.unacknowledged for entry in entries if isinstance(entry, GapEntry))
    assert 2 <= told <= len(refused)


def test_postgresql_stopped_fails_closed_in_time_and_tells_of_the_gap(
    make_log, open_log, make_entry, postgresql
) -> None:
    config, keys = make_log(deadline_s=0.25)
    log = open_log(config)
    items = [make_entry(log) for _ in range(4)]
    log.append(*items[0])
    postgresql.stop()
    try:
        _fails_in_time(log, items[1])
    finally:
        postgresql.start()
    _until_appended(log, items[2])
    entries = _check([config], keys, {})
    assert [entry.unacknowledged for entry in entries if isinstance(entry, GapEntry)] == [1]


def test_postgresql_that_hangs_fails_closed_in_time_and_is_used_again(
    make_log, open_log, make_entry, postgresql
) -> None:
    config, keys = make_log(deadline_s=0.25)
    log = open_log(config)
    items = [make_entry(log) for _ in range(3)]
    log.append(*items[0])
    postgresql.pause()
    try:
        _fails_in_time(log, items[1])
    finally:
        postgresql.resume()
    _until_appended(log, items[2])
    assert len(_check([config], keys, {})) >= 3


def _wait_for_more(acknowledged: dict[int, str], count: int) -> None:
    wanted, until = len(acknowledged) + count, time.monotonic() + 20
    while len(acknowledged) < wanted:
        assert time.monotonic() < until, "nothing was acknowledged"
        time.sleep(0.01)


def _fails_in_time(log, item) -> None:
    begin = time.monotonic()
    with pytest.raises(AppendError):
        log.append(*item)
    assert time.monotonic() - begin < 0.75  # the deadline, on a busy machine


def _until_appended(log, item) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            log.append(*item)
            return
        except AppendError:
            assert time.monotonic() < until
