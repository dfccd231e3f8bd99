"""Each system call of the append path fails once. Bar: never an acknowledgement without durable data.

A process opens a log, and under strace appends three decisions with payloads, the first for a patient who has no key yet, and
closes the log. A first run lists the calls it makes on files and for random bytes, and how many. Then the process runs again
for every call of every kind, and that one call fails with EIO, with ENOSPC, with EINTR, or kills the process; calls are counted
in each thread, so a fault can meet several. Each time the log must open afterwards, hold every entry that was acknowledged,
verify in full, and take one more entry. From the trace it is seen, also, that no acknowledgement was spoken while a write to a
write-ahead log had not been synced since: a page cache that would still show the entry isn't taken for a disk. A process
refuses with an AuditError and goes on, or dies.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path

from audit.errors import AuditError
from audit.log import AuditLog, LogConfig
from benchmarks.drills import Figures
from benchmarks.drills.tracing import Fault, count_calls, read_calls, stop_until_traced, traced, wait_until_stopped
from benchmarks.drills.workload import decision, new_log, open_log, verify

ERRORS = ("error=EIO", "error=ENOSPC", "error=EINTR", "signal=KILL")
# What touches files, and the source of nonces. Not memory, threads, clocks: nothing durable hangs on them.
CALLS = frozenset(
    """access close dup fchmod fchown fcntl fdatasync flock fstat fsync ftruncate getdents64 getrandom link lseek lstat mkdir
    newfstatat openat pread64 pwrite64 read readlink rename renameat2 rmdir stat statx sync_file_range unlink unlinkat
    write writev""".split()  # noqa: SIM905 - a list of thirty names is longer than it is worth
)
_ENTRIES = 3
_DEADLINE_S = 5.0
_PATIENCE_S = 40.0
_AT_ONCE = 2
_SEED = 4711
_DIED = 1
# Whoever starts a process collects the exit codes of all that ended, and a code can be read once: two threads lose one.
_PROCESSES = threading.Lock()


@dataclass(slots=True)
class Outcome:
    """What a process did: the entries it acknowledged, what it refused and with which errors, and how it ended."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    unsynced: int = 0
    exit_code: int | None = None
    closed: bool = False


def run(workspace: Path, scale: float) -> Figures:
    """The figures of every case, or of a part of them chosen at random."""
    template = workspace / "template"
    _prepare(template)
    counts = _calls_made(workspace, template)
    faults = list(cases(counts))
    if scale < 1:
        faults = random.Random(_SEED).sample(faults, max(1, round(len(faults) * scale)))
    total: Counter[str] = Counter()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        numbered = enumerate(faults)
        for found in pool.map(lambda one: attack(workspace / f"case-{one[0]}", template, one[1]), numbered):
            total.update(found)
    kinds = sorted({fault.call for fault in faults})
    named = ("acknowledged", "refused", "killed", "died", "acknowledged_not_durable", "other_endings")
    figures: Figures = {"cases": len(faults), "kinds_of_call": len(kinds), "calls": " ".join(kinds)}
    return figures | {name: total[name] for name in named}


def cases(counts: Counter[str]) -> Iterator[Fault]:
    """Every fault: each error at each number of each kind of call."""
    for call in sorted(counts):
        for number in range(1, counts[call] + 1):
            yield from (Fault(call, error, number) for error in ERRORS)


def attack(folder: Path, template: Path, fault: Fault | None) -> Counter[str]:
    """What one case showed, in figures; the folder is removed."""
    shutil.copytree(template, folder / "log")
    try:
        outcome = _run_writer(folder, fault)
        return judge(_config(folder / "log"), outcome)
    finally:
        shutil.rmtree(folder)


def judge(config: LogConfig, outcome: Outcome) -> Counter[str]:
    """Holds what the process said against the log as it is found afterwards."""
    found = Counter(acknowledged=len(outcome.acknowledged), refused=len(outcome.refused))
    found["killed"] = outcome.exit_code == -9
    found["died"] = outcome.exit_code == _DIED
    # Neither an orderly end, nor the kill that was asked for, nor an error that ended the process.
    found["other_endings"] = not (found["killed"] or found["died"] or (outcome.exit_code == 0 and outcome.closed))
    found["acknowledged_not_durable"] = outcome.unsynced
    try:
        log = open_log(config)
        try:
            for entry_id, index in outcome.acknowledged.items():
                found["acknowledged_not_durable"] += log.index_of(entry_id) != index
            log.record(*decision(log))
        finally:
            log.close()
        verify(config)
    except AuditError:  # it must open again by itself
        found["other_endings"] += 1
    return found


def _prepare(template: Path) -> None:
    """A log that has lived a little."""
    config = new_log(template)
    log = open_log(config)
    for _ in range(2):
        log.record(*decision(log, payload=b"payload"))
    log.close()


def _calls_made(workspace: Path, template: Path) -> Counter[str]:
    folder = workspace / "first"
    shutil.copytree(template, folder / "log")
    outcome = _run_writer(folder, None)
    if len(outcome.acknowledged) != _ENTRIES or not outcome.closed:
        message = f"without a fault: {outcome}"
        raise RuntimeError(message)
    made = count_calls(folder / "trace")
    return Counter({call: count for call, count in made.items() if call in CALLS})


def _run_writer(folder: Path, fault: Fault | None) -> Outcome:
    """Runs a writer on the log in `folder` with a fault; the trace stays in `folder`."""
    spoken, trace = folder / "spoken", folder / "trace"
    spoken.touch()
    context = ForkServerContext()
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_write, args=(_config(folder / "log"), spoken), daemon=True)
    with _PROCESSES:
        process.start()
    assert process.pid is not None
    try:
        wait_until_stopped(process.pid)
        with traced(process.pid, trace, fault=fault):
            wait([process.sentinel], _PATIENCE_S)
    finally:
        with _PROCESSES:
            hung = process.exitcode is None
            if hung:
                process.kill()
                process.join()
    outcome = _read_outcome(spoken, trace)
    outcome.exit_code = None if hung else process.exitcode
    return outcome


def _write(config: LogConfig, spoken: Path) -> None:
    """The body of the writer: it says what it was acknowledged by one write for each line."""
    log = open_log(config)
    descriptor = os.open(spoken, os.O_WRONLY | os.O_APPEND)
    stop_until_traced()
    try:
        for number in range(_ENTRIES):
            _append(log, descriptor, f"new-{number == 0}")
        log.close()
        os.write(descriptor, b"closed\n")
    except (
        OSError
    ):  # no AuditError: whoever gets it, from the source of nonces or from a file that is closed, dies of it
        os._exit(_DIED)


def _append(log: AuditLog, descriptor: int, patient: str) -> None:
    try:
        receipt = log.record(*decision(log, payload=b"payload", patient=patient))
    except AuditError as exc:
        os.write(descriptor, f"refused {type(exc).__name__}\n".encode())
    else:
        os.write(descriptor, f"acknowledged {receipt.index} {receipt.entry_id}\n".encode())


def _read_outcome(spoken: Path, trace: Path) -> Outcome:
    outcome = Outcome()
    for line in spoken.read_text("ascii").splitlines():
        match line.split():
            case ["acknowledged", index, entry_id]:
                outcome.acknowledged[entry_id] = int(index)
            case ["refused", error]:
                outcome.refused.append(error)
            case ["closed"]:
                outcome.closed = True
    outcome.unsynced = count_unsynced(trace)
    return outcome


def count_unsynced(trace: Path) -> int:
    """How often the process acknowledged while a write-ahead log held a write that had not been synced."""
    dirty: set[str] = set()
    unsynced = 0
    for call in read_calls(trace):
        if call.name in ("write", "pwrite64") and "acknowledged " in call.arguments:
            unsynced += bool(dirty)
        elif call.name == "pwrite64" and call.path.endswith("-wal"):
            dirty.add(call.path)
        elif call.name in ("fsync", "fdatasync") and call.succeeded:
            dirty.discard(call.path)
    return unsynced


def _config(directory: Path) -> LogConfig:
    return replace(_TEMPLATE, directory=directory)


_TEMPLATE = LogConfig(Path(), "drill.example/cds-audit/north/1", "north", deadline_s=_DEADLINE_S)
