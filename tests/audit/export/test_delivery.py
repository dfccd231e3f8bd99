"""At least once: what was acknowledged isn't sent again, what wasn't is, and nothing is left out, whatever dies when."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from audit.errors import ForkError, RollbackError
from audit.export.cursor import DIRECTORY, Cursor
from audit.export.delivery import AppendedFile, deliver, write_file
from audit.export.errors import DeliveryError, ExportError
from audit.export.records import LogRecord, read_records
from audit.log import AuditLog
from audit.merkle import LeafIndex
from tests.audit.export.examples import EXAMPLES, ORIGIN

FIRST, PLACE = LeafIndex(0), "lines somewhere"


@dataclass
class Recorder:
    """Keeps the indices it takes; fails at those in `failing`, once each."""

    taken: list[int] = field(default_factory=list)
    failing: set[int] = field(default_factory=set)

    def send(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            if record.index in self.failing:
                self.failing.discard(record.index)
                raise DeliveryError("as the test wants it")
            self.taken.append(int(record.index))


def _deliver(log: AuditLog, destination: Recorder | AppendedFile, start: int = 0, batch: int = 4) -> int:
    with Cursor(log.config.directory, "siem", ORIGIN, PLACE) as cursor:
        return deliver(log.storage, destination, cursor, start=LeafIndex(start), proofs=False, batch=batch)


def _index_line(record: LogRecord) -> bytes:
    return f"{record.index} {record.leaf_hex}\n".encode()


def test_everything_is_delivered_once_and_what_comes_later_later(full_log: AuditLog, make_entry) -> None:
    recorder = Recorder()
    assert _deliver(full_log, recorder) == len(EXAMPLES)
    assert _deliver(full_log, recorder) == 0
    full_log.append(*make_entry(full_log))
    assert _deliver(full_log, recorder) == 1
    assert recorder.taken == list(range(len(EXAMPLES) + 1))


def test_a_batch_that_failed_is_sent_again_whole(full_log: AuditLog) -> None:
    recorder = Recorder(failing={6})
    with pytest.raises(DeliveryError):
        _deliver(full_log, recorder)
    assert _deliver(full_log, recorder) == len(EXAMPLES) - 4
    assert recorder.taken == [0, 1, 2, 3, 4, 5, *range(4, len(EXAMPLES))]


def test_a_start_applies_to_a_new_cursor_only(full_log: AuditLog) -> None:
    recorder = Recorder()
    _deliver(full_log, recorder, start=10)
    _deliver(full_log, recorder, start=0)
    assert recorder.taken == list(range(10, len(EXAMPLES)))


def test_two_destinations_have_a_cursor_each(full_log: AuditLog) -> None:
    recorder = Recorder()
    _deliver(full_log, recorder)
    with Cursor(full_log.config.directory, "other", ORIGIN, PLACE) as cursor:
        assert cursor.next is None


def test_a_cursor_is_held_by_one_process(full_log: AuditLog) -> None:
    directory = full_log.config.directory
    with Cursor(directory, "siem", ORIGIN, PLACE), pytest.raises(ExportError, match="another export holds it"):
        Cursor(directory, "siem", ORIGIN, PLACE)
    with Cursor(directory, "siem", ORIGIN, PLACE):
        pass


def test_a_cursor_of_another_log_is_refused(full_log: AuditLog) -> None:
    _deliver(full_log, Recorder())
    with pytest.raises(ExportError, match="expected one of another/log"):
        Cursor(full_log.config.directory, "siem", "another/log", PLACE)


def test_a_cursor_delivers_to_no_other_destination(full_log: AuditLog) -> None:
    _deliver(full_log, Recorder())
    for other in ("lines elsewhere", "rows somewhere"):
        with pytest.raises(ExportError, match="another's; take another name"):
            Cursor(full_log.config.directory, "siem", ORIGIN, other)


def test_a_log_that_was_rolled_back_is_not_exported(full_log: AuditLog) -> None:
    _deliver(full_log, Recorder())
    path = full_log.config.directory / DIRECTORY / "siem.json"
    state = json.loads(path.read_text())
    lines = state["head"].split("\n")
    lines[1] = str(int(lines[1]) + 1)  # as if one entry more had been exported
    path.write_text(json.dumps(state | {"head": "\n".join(lines)}))
    recorder = Recorder()
    with pytest.raises(RollbackError):
        _deliver(full_log, recorder)
    assert recorder.taken == []


def test_a_log_that_was_rewritten_is_not_exported(full_log: AuditLog) -> None:
    _deliver(full_log, Recorder())
    path = full_log.config.directory / DIRECTORY / "siem.json"
    state = json.loads(path.read_text())
    lines = state["head"].split("\n")
    lines[2] = "A" * 43 + "="
    path.write_text(json.dumps(state | {"head": "\n".join(lines)}))
    with pytest.raises(ForkError):
        _deliver(full_log, Recorder())


@pytest.mark.parametrize("content", [b"", b"{}", b'{"origin":"x","next":1,"head":"no"}', b'{"next":1}', b"\xff"])
def test_a_cursor_that_cannot_be_read_stops_the_export(full_log: AuditLog, content: bytes) -> None:
    folder = full_log.config.directory / DIRECTORY
    folder.mkdir()
    (folder / "siem.json").write_bytes(content)
    with pytest.raises(ExportError, match="can't be read"):
        _deliver(full_log, Recorder())


@pytest.mark.parametrize("name", ["", "../head", "a/b", ".hidden", "x" * 101])
def test_a_name_leads_nowhere_else(full_log: AuditLog, name: str) -> None:
    with pytest.raises(ExportError, match="as name"):
        Cursor(full_log.config.directory, name, ORIGIN, PLACE)


def test_records_carry_proofs_that_hold(full_log: AuditLog) -> None:
    from audit.proof import check_proof, parse_proof

    key = full_log.keys.signers[0].verifier_key
    for record in read_records(full_log.storage, FIRST, proofs=True):
        assert record.proof is not None
        checkpoint = check_proof(parse_proof(record.proof), record.leaf, [key], origin=ORIGIN)
        assert checkpoint.size == record.tree_size == len(EXAMPLES)


def test_an_appended_file_loses_a_line_that_was_cut_short_and_nothing_else(full_log: AuditLog, tmp_path: Path) -> None:
    path = tmp_path / "siem.log"
    destination = AppendedFile(path, _index_line)
    _deliver(full_log, destination)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    (full_log.config.directory / DIRECTORY / "siem.json").unlink()
    _deliver(full_log, destination, start=len(EXAMPLES) - 1)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("left", [None, 0, 100])
def test_a_file_that_is_gone_or_was_cut_is_not_gone_on_with(
    full_log: AuditLog, tmp_path: Path, make_entry, left: int | None
) -> None:
    path = tmp_path / "siem.log"
    destination = AppendedFile(path, _index_line)
    _deliver(full_log, destination)
    whole = path.read_bytes()
    path.unlink() if left is None else os.truncate(path, left)
    full_log.append(*make_entry(full_log))
    with pytest.raises(
        ExportError, match=f"expected the {len(whole)} bytes that were exported before, got {left or 0}"
    ):
        _deliver(full_log, destination)
    assert (path.stat().st_size if path.exists() else None) == left
    path.write_bytes(whole)
    assert _deliver(full_log, destination) == 1


def test_a_written_file_is_complete_or_absent(full_log: AuditLog, tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"

    def fails_late(record: LogRecord) -> bytes:
        if record.index == 9:
            raise ExportError("as the test wants it")
        return _index_line(record)

    with pytest.raises(ExportError):
        write_file(path, read_records(full_log.storage, FIRST), fails_late)
    assert [found.name for found in tmp_path.iterdir()] == ["log"]
    assert write_file(path, read_records(full_log.storage, LeafIndex(3)), _index_line) == len(EXAMPLES) - 3
    assert path.read_bytes().count(b"\n") == len(EXAMPLES) - 3


_EXPORTER = """
import sys
from pathlib import Path
from audit.export.cursor import Cursor
from audit.export.delivery import AppendedFile, deliver
from audit.merkle import LeafIndex
from audit.storage.opening import open_storage
directory, out = Path(sys.argv[1]), Path(sys.argv[2])
storage = open_storage(directory)
lines = lambda record: f"{record.index} {record.leaf_hex}\\n".encode()
print("begun", flush=True)
with Cursor(directory, "siem", sys.argv[3], "lines somewhere") as cursor:
    deliver(storage, AppendedFile(out, lines), cursor, start=LeafIndex(0), proofs=False, batch=1)
print("done", flush=True)
"""


def test_killed_at_any_moment_it_repeats_and_never_skips(full_log: AuditLog, tmp_path: Path, make_entry) -> None:
    for _ in range(60):
        full_log.append(*make_entry(full_log))
    out, size = tmp_path / "siem.log", len(EXAMPLES) + 60
    kills = 0
    for attempt in range(40):
        process = subprocess.Popen(
            [sys.executable, "-c", _EXPORTER, str(full_log.config.directory), str(out), ORIGIN],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        seen = out.stat().st_size if out.exists() else 0
        for _ in range(10_000):  # until it has written a few lines more, or is done
            if process.poll() is not None or (out.exists() and out.stat().st_size > seen + 70 * (5 + attempt)):
                break
            os.sched_yield()
        finished = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
        kills += not finished
        if finished:
            break
    lines = out.read_text().splitlines()
    indices = [int(line.split()[0]) for line in lines]
    assert sorted(set(indices)) == list(range(size))
    assert kills >= 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(indices))
