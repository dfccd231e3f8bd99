"""Disk full, read-only, fsync error. Bar: fails closed within 250 ms; a gap entry afterwards; no corruption.

A process appends decisions with payloads, deadline 250 ms as in service, while its disk breaks in turn:
- `tmpfs_full`, `ext4_full`: a small file system of its own is filled to the last byte, and freed again;
- `fsync_error`, `write_error`, `read_only`: under strace every fdatasync fails with EIO, every write with ENOSPC, every call
  that changes a file with EROFS, until strace lets go;
- `ext4_aborted`: the kernel turns the file system read-only under the open log, as it does after an error of the disk; then
  the process ends, the file system is mounted anew, and another process goes on. Here not even the gap journal can be
  written, and the count of what was refused dies with the process: this case's gap is not asked for.

While it is broken nothing may be acknowledged, and each refusal is timed. Afterwards the next append must be acknowledged, the
log must hold gap entries that count exactly the refusals, every acknowledged entry must be there, and it must verify in full.
File systems need root; without it these cases are left out, and the figures say how many ran.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from audit.entry import parse_entry
from audit.entry_operations import GapEntry
from audit.log import LogConfig, read_entries
from audit.storage.opening import open_storage
from benchmarks.drills import DrillSkippedError, Figures
from benchmarks.drills.appender import Appender, Attempt
from benchmarks.drills.tracing import failing
from benchmarks.drills.workload import new_log, verify

ATTEMPTS = 200
_BYTES = 24 << 20
_BALLAST = "ballast"
_DEADLINE_S = 0.25
# Not openat and write: the process would lose its own pipes and devices with them.
_CHANGES = "pwrite64,ftruncate,unlink,rename,mkdir"


@dataclass(slots=True)
class Case:
    """What one broken disk showed."""

    before: list[Attempt] = field(default_factory=list)
    broken: list[Attempt] = field(default_factory=list)
    after: list[Attempt] = field(default_factory=list)
    told: int | None = None  # what the gap entries count


def run(workspace: Path, scale: float) -> Figures:
    """The figures of every case that this machine lets be made, ATTEMPTS * scale attempts in each."""
    attempts = max(5, round(ATTEMPTS * scale))
    figures: Figures = {"cases": 0, "cases_left_out": 0}
    total: Counter[str] = Counter()
    slowest_s = 0.0
    for name, attack in CASES.items():
        folder = workspace / name
        folder.mkdir()
        try:
            found, slowest = attack(folder, attempts)
        except DrillSkippedError:
            figures["cases_left_out"] = int(figures["cases_left_out"]) + 1
            continue
        total.update(found)
        slowest_s = max(slowest_s, slowest)
        figures["cases"] = int(figures["cases"]) + 1
        figures[f"{name}_refused"] = found["refused"]
    if not figures["cases"]:
        raise DrillSkippedError("neither file systems can be made nor calls be made to fail")
    figures["slowest_refusal_ms"] = round(1e3 * slowest_s, 1)
    named = ("acknowledged_while_broken", "acknowledged_not_durable", "gap_entries_missing", "corrupt")
    return figures | {name: total[name] for name in named}


def judge(config: LogConfig, case: Case, *, gap_expected: bool = True) -> tuple[Counter[str], float]:
    """Holds what was said against the log as it is found; and the slowest refusal in seconds."""
    refused = [attempt for attempt in (*case.before, *case.broken, *case.after) if attempt.index is None]
    acknowledged = {a.entry_id: a.index for a in (*case.before, *case.broken, *case.after) if a.index is not None}
    found = Counter(refused=len(refused))
    found["acknowledged_while_broken"] = sum(attempt.index is not None for attempt in case.broken)
    found["corrupt"] += any(attempt.index is None for attempt in case.after[-1:]) + (not case.after)
    storage = open_storage(config.directory)
    try:
        for entry_id, index in acknowledged.items():
            found["acknowledged_not_durable"] += storage.index_of(entry_id) != index
        entries = [parse_entry(data) for data in read_entries(storage)]
    finally:
        storage.close()
    told = sum(entry.unacknowledged for entry in entries if isinstance(entry, GapEntry))
    found["gap_entries_missing"] += gap_expected and told != len(refused)
    found["corrupt"] += verify(config).entries != len(entries)
    return found, max((attempt.seconds for attempt in refused), default=0.0)


def _fill(folder: Path) -> None:
    """Leaves no byte free."""
    with (folder / _BALLAST).open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1 << 9, 1):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def _full(make: Callable[[Path, int], Iterator[Path]]) -> Callable[[Path, int], tuple[Counter[str], float]]:
    """The case of a file system that is filled and freed."""

    def attack(folder: Path, attempts: int) -> tuple[Counter[str], float]:
        with contextmanager(make)(folder, _BYTES) as disk:
            config, case = new_log(disk / "log", deadline_s=_DEADLINE_S), Case()
            with Appender(config) as appender:
                case.before = appender.append(5)
                _fill(disk)
                case.broken = _until_refused(appender, case, attempts)
                (disk / _BALLAST).unlink()
                case.after = appender.append(5)
            return judge(config, case)

    return attack


def _until_refused(appender: Appender, case: Case, attempts: int) -> list[Attempt]:
    """A full disk shows when the pages that are left in the files have been used up: appends until then still hold."""
    for _ in range(5_000):
        (attempt,) = appender.append(1)
        if attempt.index is None:
            return [attempt, *appender.append(attempts)]
        case.before.append(attempt)
    raise DrillSkippedError("the file system doesn't fill up")


def _traced(calls: str, error: str) -> Callable[[Path, int], tuple[Counter[str], float]]:
    """The case of calls that fail until the tracer lets go."""

    def attack(folder: Path, attempts: int) -> tuple[Counter[str], float]:
        config, case = new_log(folder / "log", deadline_s=_DEADLINE_S), Case()
        with Appender(config) as appender:
            case.before = appender.append(5)
            with failing(appender.pid, calls, error):
                case.broken = appender.append(attempts)
            case.after = appender.append(5)
        return judge(config, case)

    return attack


def _aborted(folder: Path, attempts: int) -> tuple[Counter[str], float]:
    """The case of a file system that the kernel turns read-only."""
    with contextmanager(_ext4)(folder, _BYTES) as disk:
        config, case = new_log(disk / "log", deadline_s=_DEADLINE_S), Case()
        with Appender(config) as appender:
            case.before = appender.append(5)
            _command("mount", "-o", "remount,abort", str(disk))
            case.broken = appender.append(attempts)
        _command("umount", str(disk))
        _command("mount", "-o", "loop", str(_image(folder)), str(disk))
        with Appender(config) as appender:
            case.after = appender.append(5)
        return judge(config, case, gap_expected=False)


def _tmpfs(folder: Path, size_bytes: int) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    _command("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(disk))
    try:
        yield disk
    finally:
        _command("umount", str(disk))


def _ext4(folder: Path, size_bytes: int) -> Iterator[Path]:
    disk, image = folder / "disk", _image(folder)
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(size_bytes)
    _command("mkfs.ext4", "-q", "-m", "0", str(image))
    _command("mount", "-o", "loop", str(image), str(disk))
    try:
        yield disk
    finally:
        _command("umount", str(disk))


def _image(folder: Path) -> Path:
    return folder / "image"


def _command(*words: str) -> None:
    """Runs it; without root, or where the machine has none of these, the case is left out."""
    if os.geteuid() != 0:
        raise DrillSkippedError("mounting needs root")
    for _ in range(50):
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        except FileNotFoundError as exc:
            message = f"{words[0]} is not installed"
            raise DrillSkippedError(message) from exc
        if done.returncode == 0:
            return
        if words[0] != "umount":
            break
        time.sleep(0.1)  # a process that just ended may hold the file system a moment longer
    raise DrillSkippedError(done.stderr.strip())


CASES: dict[str, Callable[[Path, int], tuple[Counter[str], float]]] = {
    "tmpfs_full": _full(_tmpfs),
    "ext4_full": _full(_ext4),
    "fsync_error": _traced("fdatasync,fsync", "EIO"),
    "write_error": _traced("pwrite64", "ENOSPC"),
    "read_only": _traced(_CHANGES, "EROFS"),
    "ext4_aborted": _aborted,
}
