import errno
import logging
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.errors import StorageError
from audit.gap_journal import GapJournal, NotedGap, leftovers
from audit.log import AuditLog
from audit.merkle import LeafIndex

NOW = datetime(2026, 3, 2, tzinfo=UTC)
GAP = NotedGap("2026-03-01T08:00:00.000000Z", "storage", 12)

CHILD = """
import sys
from pathlib import Path
from audit.gap_journal import GapJournal, NotedGap
journal = GapJournal(Path(sys.argv[1]), "child")
journal.note(NotedGap("2026-03-01T08:00:00.000000Z", "storage", 12))
print("noted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child(tmp_path: Path):
    """A process that noted a gap and lives."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "noted\n"
        yield process
        process.kill()


def test_gap_journal_of_a_killed_process_is_found(tmp_path: Path, child) -> None:
    assert list(leftovers(tmp_path)) == []
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    (left,) = leftovers(tmp_path)
    assert left.gap == GAP
    assert list(leftovers(tmp_path)) == []  # one opener alone may write it
    left.forget()
    assert list((tmp_path / "gaps").iterdir()) == []


def test_gap_journal_closed_with_a_gap_is_found(tmp_path: Path) -> None:
    journal = GapJournal(tmp_path, "a")
    journal.note(GAP)
    journal.close(keep=True)
    (left,) = leftovers(tmp_path)
    assert left.gap == GAP
    left.forget()


def test_gap_journal_without_a_gap_leaves_no_file(tmp_path: Path) -> None:
    journal = GapJournal(tmp_path, "a")
    journal.note(GAP)
    journal.note(None)
    journal.close(keep=False)
    assert list((tmp_path / "gaps").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b" " * 256])
def test_gap_journal_of_a_process_that_left_nothing_is_removed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gaps").mkdir()
    (tmp_path / "gaps" / "dead.gap").write_bytes(content)
    assert list(leftovers(tmp_path)) == []
    assert list((tmp_path / "gaps").iterdir()) == []


def test_gap_journal_takes_its_room_beforehand(tmp_path: Path) -> None:
    journal = GapJournal(tmp_path, "a")
    before = (tmp_path / "gaps" / "a.gap").stat()
    journal.note(GAP)
    after = (tmp_path / "gaps" / "a.gap").stat()
    assert (before.st_size, before.st_ino) == (after.st_size, after.st_ino) == (256, before.st_ino)
    journal.close(keep=False)


def test_gap_journal_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "gaps").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="gap journal"):
        GapJournal(tmp_path, "a")


NOTED = b'{"reason":"storage","since":"2026-03-01T08:00:00.000000Z","unacknowledged":12}'


@pytest.mark.parametrize(
    ("part", "flipped"),
    [
        (b"2026", b"r026"),
        (b'storage"', b'storage!"'),
        (b"12}", b"-2}"),
        (b"12}", b"12"),
        (b"storage", b"stor\xe1ge"),
        (b"since", b"sinde"),
        (NOTED, b"\x00" * 256),
    ],
)
def test_gap_journal_file_with_a_flipped_bit_is_set_aside_and_blocks_nothing(
    make_log, open_log, make_entry, caplog, part: bytes, flipped: bytes
) -> None:
    config, _ = make_log()
    dead = config.directory / "gaps" / "dead.gap"
    dead.parent.mkdir()
    dead.write_bytes(NOTED.replace(part, flipped).ljust(256))
    with caplog.at_level(logging.ERROR):
        log = open_log(config)
    assert [log.append(*make_entry(log)).index for _ in range(2)] == [0, 1]
    assert (dead.exists(), dead.with_suffix(".unreadable").exists()) == (False, True)
    assert [(one.getMessage(), one.file) for one in caplog.records] == [
        ("gap file can't be read; set aside", "dead.gap")
    ]


def test_gap_journal_that_cannot_be_made_leaves_the_files_of_the_dead_to_the_next_start(
    make_log, open_log, make_entry
) -> None:
    config, _ = make_log()
    dead = config.directory / "gaps" / "dead.gap"
    dead.parent.mkdir()
    dead.write_bytes(NOTED.ljust(256))
    open_now = len(os.listdir("/proc/self/fd"))
    used = b"\xab" * 10
    (config.directory / "gaps" / f"{used.hex()}.gap").write_bytes(b"")  # so that no journal of this name can be made
    for _ in range(5):
        with pytest.raises(StorageError, match="gap journal"):
            AuditLog.open(config, clock=lambda: NOW, random_bytes=lambda count: used[:count])
    assert len(os.listdir("/proc/self/fd")) == open_now
    log = open_log(config)
    assert log.append(*make_entry(log)).index == 1
    assert b'"unacknowledged":12' in log.entry(LeafIndex(0))


def test_gap_journal_that_cannot_be_filled_leaves_no_descriptor_open(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "pwrite", _no_space)
    open_now = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageError, match="No space left"):
        GapJournal(tmp_path, "a")
    assert len(os.listdir("/proc/self/fd")) == open_now


def _no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
