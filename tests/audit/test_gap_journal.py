import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from audit.errors import StorageError
from audit.gap_journal import GapJournal, NotedGap, leftovers

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


@pytest.mark.parametrize("content", [b"", b" " * 256, b"{", b'{"since":1}'])
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
