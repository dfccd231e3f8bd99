"""Rollback, fork, split view. Bar: refused to start; both checkpoints printed as proof.

One log is written by its rightful operator; then whoever holds everything, keys included, tries in turn:
- `backup`: the database of an earlier day is put back; the head file stays;
- `cut`: the newest entries, what they are found by, and their checkpoints are deleted from the database;
- `rewritten`: from the earlier day on, a longer history is written with the real keys, head file and all; a head that a
  witness cosigned before lies in the heads directory;
- `behind_witness`: database and head file are both of the earlier day; only the witness's head is newer;
- `forked`: another history of the same length beside the rightful head file;
- `split_view`: two continuations, each sound in itself, are shown to different people; the head that one was shown is held
  against the log that the other got.

Each time the log must refuse to open, and `bedside audit verify` must end with status 3; both must print both checkpoints,
each signed by the log's own key, so that whoever signed both is convicted by his own signatures. At last the log that nobody
touched must still open and verify.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from audit.checkpoint import open_checkpoint
from audit.commands import add_commands
from audit.cosignature import Cosigner, attach_cosignatures, format_lines
from audit.errors import ForkError, RollbackError
from audit.heads import keep_head
from audit.log import LogConfig
from audit.note import parse_note
from audit.storage.sqlite_schema import DATABASE_FILE
from audit.storage.sqlite_seal import seal_path
from benchmarks.drills import Figures
from benchmarks.drills.workload import decision, new_log, now, open_log, trust_of

ENTRIES = 100
_WITNESS = Cosigner("witness.example/w1", bytes(range(32)))
_ROLLBACK_OR_FORK = 3


@dataclass(frozen=True, slots=True)
class Days:
    """A log as it was on an earlier day, and as it is."""

    earlier: Path
    later: Path
    config: LogConfig
    entries: int

    @property
    def head(self) -> bytes:
        """The newest head of the rightful log, as a witness cosigned it."""
        note = (self.later / "head").read_bytes()
        line = _WITNESS.cosign(parse_note(note).text, int(now().timestamp()))
        return attach_cosignatures(note, format_lines([line]), _WITNESS.verifier_key).note


def run(workspace: Path, scale: float) -> Figures:
    """The figures of every attempt on a log of ENTRIES * scale entries."""
    days = live(workspace, max(4, round(ENTRIES * scale)))
    total: Counter[str] = Counter()
    for name, attempt in ATTEMPTS.items():
        folder = workspace / name
        shutil.copytree(days.later, folder)
        heads = attempt(days, folder)
        total.update(judge(replace(days.config, directory=folder), heads))
    total["untouched_refused"] = _is_refused(days.config)
    named = ("opened", "verified", "without_both_checkpoints", "untouched_refused")
    figures: Figures = {"cases": len(ATTEMPTS), "entries": days.entries}
    return figures | {name: total[name] for name in named}


def live(workspace: Path, entries: int) -> Days:
    """A log of `entries`, and a copy of it from when it had half of them."""
    config = new_log(workspace / "later")
    half = entries // 2
    _write(config, half)
    shutil.copytree(config.directory, workspace / "earlier")
    _write(config, entries - half)
    return Days(workspace / "earlier", config.directory, config, entries)


def judge(config: LogConfig, heads: list[Path]) -> Counter[str]:
    """Whether opening and verifying refuse it, and print both checkpoints with signatures that hold."""
    found: Counter[str] = Counter()
    try:
        open_log(config).close()
        found["opened"] += 1
    except (RollbackError, ForkError) as exc:
        found["without_both_checkpoints"] += not _shows_both(str(exc), exc, config)
        status, printed = _verify([str(config.directory), *(f"--head={head}" for head in heads)])
        found["verified"] += status != _ROLLBACK_OR_FORK
        found["without_both_checkpoints"] += printed.count(config.origin + "\n") < 2
    return found


def _shows_both(printed: str, error: RollbackError | ForkError, config: LogConfig) -> bool:
    keys = trust_of(config).log_keys
    first, second = (open_checkpoint(note, keys, origin=config.origin) for note in (error.known, error.found))
    notes = [note.decode() for note in (error.known, error.found)]
    return first != second and all(note in printed for note in notes)


def _verify(arguments: list[str]) -> tuple[int, str]:
    """Exit status of `bedside audit verify`, and what it printed."""
    parser = argparse.ArgumentParser()
    add_commands(parser)
    parsed = parser.parse_args(["verify", *arguments])
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        status: int = parsed.run(parsed)
    return status, printed.getvalue()


def _is_refused(config: LogConfig) -> int:
    open_log(config).close()
    status, _ = _verify([str(config.directory)])
    return int(status != 0)


def _write(config: LogConfig, count: int, status: str = "ok") -> None:
    log = open_log(config)
    for _ in range(count):
        log.record(*decision(log, payload=b"payload", status=status))
    log.close()


def _put_back(folder: Path, day: Path, *, head: bool) -> None:
    """The database (and vault) of a day; with `head`, everything."""
    for path in folder.glob("*.sqlite3*"):
        path.unlink()
    for path in day.iterdir():
        if path.is_file() and (head or ".sqlite3" in path.name):
            shutil.copyfile(path, folder / path.name)


def _backup(days: Days, folder: Path) -> list[Path]:
    _put_back(folder, days.earlier, head=False)
    return []


def _cut(days: Days, folder: Path) -> list[Path]:
    connection = apsw.Connection(str(folder / DATABASE_FILE))
    keep = days.entries - 1
    for statement in (
        "DELETE FROM entries WHERE idx >= ?",
        "DELETE FROM facts WHERE idx >= ?",
        "DELETE FROM payloads WHERE idx >= ?",
        "DELETE FROM checkpoints WHERE size > ?",
    ):
        connection.execute(statement, (keep,))
    connection.close()
    seal_path(folder / DATABASE_FILE).unlink()
    return []


def _rewritten(days: Days, folder: Path) -> list[Path]:
    _put_back(folder, days.earlier, head=True)
    _write(replace(days.config, directory=folder), days.entries, status="error")
    return _keep(days.head, folder)


def _behind_witness(days: Days, folder: Path) -> list[Path]:
    _put_back(folder, days.earlier, head=True)
    return _keep(days.head, folder)


def _forked(days: Days, folder: Path) -> list[Path]:
    _put_back(folder, days.earlier, head=True)
    _write(replace(days.config, directory=folder), days.entries - days.entries // 2, status="error")
    shutil.copyfile(days.later / "head", folder / "head")
    return []


def _split_view(days: Days, folder: Path) -> list[Path]:
    """The log in the folder goes on one way, and the head that comes from elsewhere another."""
    other = folder.with_name("other-view")
    shutil.copytree(days.later, other)
    for directory, status in ((folder, "ok"), (other, "error")):
        _write(replace(days.config, directory=directory), 3, status=status)
    _write(replace(days.config, directory=folder), 2, status="ok")
    return _keep((other / "head").read_bytes(), folder)


def _keep(head: bytes, folder: Path) -> list[Path]:
    """Lays the head where opening looks, and gives it for `verify`."""
    keep_head(folder / "heads", _WITNESS.verifier_key.name, head)
    return list((folder / "heads").iterdir())


ATTEMPTS: dict[str, Callable[[Days, Path], list[Path]]] = {
    "backup": _backup,
    "cut": _cut,
    "rewritten": _rewritten,
    "behind_witness": _behind_witness,
    "forked": _forked,
    "split_view": _split_view,
}
