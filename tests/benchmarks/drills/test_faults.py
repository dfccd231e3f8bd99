import shutil
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.drills import DrillSkippedError, faults
from benchmarks.drills.faults import Outcome
from benchmarks.drills.tracing import Call, Fault, count_calls, read_calls
from benchmarks.drills.workload import new_log
from tests.programs import need

TRACE = """\
7 pwrite64(8</log/log.sqlite3-wal>, "7\\177"..., 24, 0) = 24
9 write(3</log/spoken>, "refused AppendError\\n", 20) = 20
7 fdatasync(8</log/log.sqlite3-wal> <unfinished ...>
9 fcntl(8</log/log.sqlite3-wal>, F_GETFD) = 1
7 <... fdatasync resumed>)          = 0
9 write(3</log/spoken>, "acknowledged 2 0f"..., 40) = 40
"""


@pytest.fixture
def template(tmp_path: Path) -> Path:
    need("strace")
    faults._prepare(tmp_path / "template")
    return tmp_path / "template"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("fdatasync", "error=EIO", 1), {"refused": 2, "acknowledged": 1}),
        (Fault("pwrite64", "error=ENOSPC", 7), {}),
        (Fault("pwrite64", "signal=KILL", 5), {"killed": 1}),
        (Fault("getrandom", "error=EIO", 1), {"died": 1, "acknowledged": 0}),
    ],
    ids=str,
)
def test_faults_lose_nothing_that_was_acknowledged(template: Path, tmp_path: Path, capfd, fault, expected) -> None:
    found = faults.attack(tmp_path / "case", template, fault)
    assert (found["acknowledged_not_durable"], found["other_endings"]) == (0, 0)
    assert {name: found[name] for name in expected} == expected
    assert (found["refused"], found["killed"], found["died"]) != (0, 0, 0)
    assert not (tmp_path / "case").exists()


def test_faults_are_made_of_every_call_that_appending_makes(template: Path, tmp_path: Path) -> None:
    counts = faults._calls_made(tmp_path, template)
    assert {"pwrite64", "pread64", "fdatasync", "fsync", "flock", "ftruncate", "unlink", "rename"} <= set(counts)
    listed = list(faults.cases(counts))
    assert len(listed) == 4 * sum(counts.values())
    assert len(set(listed)) == len(listed)


def test_faults_count_what_was_acknowledged_and_is_not_there(tmp_path: Path) -> None:
    config = new_log(tmp_path / "log")
    good = Outcome({}, [], 0, 0, closed=True)
    assert faults.judge(config, good)["acknowledged_not_durable"] == 0
    lying = Outcome({"ab" * 16: 0}, [], 0, 0, closed=True)
    assert faults.judge(config, lying)["acknowledged_not_durable"] == 1
    for other in (Outcome({}, [], 0, None), Outcome({}, [], 0, 0, closed=False), Outcome({}, [], 0, -11)):
        assert faults.judge(config, other)["other_endings"] == 1
    shutil.copyfile(config.directory / "log.vkey", config.directory / "log.sqlite3")
    assert faults.judge(config, good)["other_endings"] == 1


def test_faults_see_an_acknowledgement_before_the_sync(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(TRACE)
    assert faults.count_unsynced(trace) == 0
    trace.write_text(TRACE.replace("resumed>)          = 0", "resumed>) = -1 EIO (Input/output error) (INJECTED)"))
    assert faults.count_unsynced(trace) == 1
    trace.write_text("".join(line for line in TRACE.splitlines(keepends=True) if "fdatasync" not in line))
    assert faults.count_unsynced(trace) == 1


def test_tracing_reads_calls_that_another_thread_interrupted(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(TRACE)
    calls = list(read_calls(trace))
    assert [call.name for call in calls] == ["pwrite64", "write", "fcntl", "fdatasync", "write"]
    assert calls[3] == Call(7, "fdatasync", "/log/log.sqlite3-wal", calls[3].arguments, succeeded=True)
    assert count_calls(trace) == Counter(write=2, pwrite64=1, fcntl=1, fdatasync=1)


def test_tracing_without_strace_is_skipped(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    faults._prepare(tmp_path / "template")
    with pytest.raises(DrillSkippedError, match="strace is not installed"):
        faults._calls_made(tmp_path, tmp_path / "template")
