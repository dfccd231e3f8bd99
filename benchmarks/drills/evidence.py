"""The bars of the signed log, what the drills showed of each, and the page that tells it.

A bar holds when every figure it needs was measured and lies on the right side of its bound. A bar that becomes stricter, or
a new one, is an edit to `BARS`; figures without a bound need nothing here and appear under their drill.
"""

from __future__ import annotations

import json
import operator
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import apsw

from benchmarks.drills import DRILLS, Figures
from benchmarks.machine import describe
from benchmarks.report import ROOT, table

EVIDENCE = ROOT / "docs" / "audit-evidence.json"
PAGE = ROOT / "docs" / "audit-evidence.md"
_POSTGRESQL = Path("/usr/lib/postgresql")
_COMPARE = {"=": operator.eq, "≤": operator.le, "<": operator.lt, "≥": operator.ge}


class Record(TypedDict):
    """What one run of a drill left."""

    figures: Figures
    seconds: float
    command: str
    machine: dict[str, str | float]


Evidence = dict[str, Record]


@dataclass(frozen=True, slots=True)
class Need:
    """A figure, as `drill.figure`, and the bound it must keep."""

    figure: str
    comparison: str
    bound: int | float | bool

    @property
    def drill(self) -> str:
        return self.figure.partition(".")[0]

    def value(self, evidence: Mapping[str, Record]) -> int | float | str | bool | None:
        """What was measured; None where nothing was."""
        record = evidence.get(self.drill)
        return None if record is None else record["figures"].get(self.figure.partition(".")[2])

    def holds(self, value: int | float | str | bool) -> bool:
        return bool(_COMPARE[self.comparison](value, self.bound))


@dataclass(frozen=True, slots=True)
class Bar:
    """What must hold under a fault."""

    fault: str
    bar: str
    needs: tuple[Need, ...]

    @property
    def drills(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need.drill for need in self.needs))

    def met(self, evidence: Mapping[str, Record]) -> bool | None:
        """Whether it holds; None while a figure is missing."""
        found = [(need, need.value(evidence)) for need in self.needs]
        if any(value is not None and not need.holds(value) for need, value in found):
            return False
        return None if any(value is None for _, value in found) else True


def _needs(*rows: tuple[str, str, int | float | bool]) -> tuple[Need, ...]:
    return tuple(Need(*row) for row in rows)


def _both(drill: str, *rows: tuple[str, str, int | float | bool]) -> tuple[Need, ...]:
    """The same needs of both stores."""
    return _needs(
        *(
            (f"{drill}.{store}_{figure}", sign, bound)
            for store in ("sqlite", "postgresql")
            for figure, sign, bound in rows
        )
    )


BARS = (
    Bar(
        "1,000 random kill -9 of writers under load",
        "0 acknowledged entries lost, 0 duplicate indices, restart < 2 s per million entries",
        _both(
            "crash", ("kills", "≥", 1000), ("lost", "=", 0), ("duplicate_indices", "=", 0), ("receipts_broken", "=", 0)
        )
        + _needs(("ten_million.restart_s_per_million", "<", 2)),
    ),
    Bar(
        "each system call of the append fails once: EIO, ENOSPC, EINTR, SIGKILL",
        "never an acknowledgement without durable data",
        _needs(
            ("faults.cases", "≥", 100), ("faults.acknowledged_not_durable", "=", 0), ("faults.other_endings", "=", 0)
        ),
    ),
    Bar(
        "truncation and bit flips: every byte of a 1,000-entry log, its tiles, proofs, checkpoints",
        "100 % detected; the first bad index named",
        _needs(
            ("tamper.entries", "≥", 1000),
            ("tamper.undetected", "=", 0),
            ("tamper.wrong_index_named", "=", 0),
        ),
    ),
    Bar(
        "disk full, read-only, fsync error",
        "fails closed within 250 ms; gap entry afterwards; no corruption",
        _needs(
            ("disk_full.slowest_refusal_ms", "≤", 250),
            ("disk_full.acknowledged_while_broken", "=", 0),
            ("disk_full.acknowledged_not_durable", "=", 0),
            ("disk_full.gap_entries_missing", "=", 0),
            ("disk_full.corrupt", "=", 0),
        ),
    ),
    Bar(
        "clock back 1 h",
        "order by index unaffected; alarm",
        _needs(("clock.out_of_order", "=", 0), ("clock.alarms_missing", "=", 0)),
    ),
    Bar(
        "rollback, fork, split view",
        "refused to start; both checkpoints printed as proof",
        _needs(("rollback.cases", "≥", 4), ("rollback.opened", "=", 0), ("rollback.without_both_checkpoints", "=", 0)),
    ),
    Bar(
        "proof forgery: RFC 6962 and C2SP vectors, Ed25519 edge cases, 10^6 fuzzed proofs",
        "0 accepted",
        _needs(
            ("forgery.fuzzed", "≥", 1_000_000),
            ("forgery.accepted", "=", 0),
            ("forgery.vectors_judged_otherwise", "=", 0),
        ),
    ),
    Bar(
        "overload, 10,000/s offered",
        "bounded queue, explicit shed, recovers < 5 s",
        _needs(
            ("overload.offered_per_s", "≥", 10_000),
            ("overload.waiting_above_bound", "=", 0),
            ("overload.silent", "=", 0),
            ("overload.acknowledged_not_durable", "=", 0),
            ("overload.recovery_s", "<", 5),
        ),
    ),
    Bar(
        "throughput: 4 processes, 2 KB leaves, 2 cores",
        "≥ 2,000 durable decisions/s; added p99 ≤ 10 ms at 500/s on a disk with fsync ≤ 5 ms",
        _both("throughput", ("saturation_per_s", "≥", 2000), ("saturation_lost", "=", 0), ("at_500_p99_ms", "≤", 10)),
    ),
    Bar(
        "erasure of 1,000 of 10,000 patients",
        "no plaintext or key left on disk; others readable; proofs unchanged",
        _needs(
            ("erasure.erased", "≥", 1000),
            ("erasure.found_on_disk", "=", 0),
            ("erasure.others_unreadable", "=", 0),
            ("erasure.proofs_changed", "=", 0),
            ("erasure.erased_readable", "=", 0),
            ("erasure.tombstones_missing", "=", 0),
            ("erasure.postgresql_found_on_disk", "=", 0),
            ("erasure.postgresql_proofs_changed", "=", 0),
        ),
    ),
    Bar(
        "canary identifiers in requests",
        "0 in leaves, tiles, exports without identifiers, logs, metrics, errors",
        _needs(("canary.requests", "≥", 1), ("canary.found", "=", 0), ("canary.payloads_with_canary", "≥", 1)),
    ),
    Bar(
        "ten million entries",
        "append rate still flat",
        _needs(
            ("ten_million.entries", "≥", 10_000_000),
            ("ten_million.append_last_to_first", "≥", 0.7),
            ("ten_million.verified_entries", "≥", 10_000_000),
        ),
    ),
    Bar(
        "two hosts write one log in one PostgreSQL; one is killed in mid-batch",
        "one total order, no fork, nothing lost",
        _needs(
            ("two_hosts.kills_in_mid_batch", "≥", 50),
            ("two_hosts.lost", "=", 0),
            ("two_hosts.duplicate_indices", "=", 0),
            ("two_hosts.receipts_broken", "=", 0),
            ("two_hosts.heads_in_the_log", "=", 2),
        ),
    ),
    Bar(
        "checkpoints, tiles and receipts read by an implementation that isn't ours, and one of others by ours",
        "all read; none accepted that was tampered with",
        _needs(
            ("interoperation.go_entries", "≥", 10_000),
            ("interoperation.tampered", "≥", 100),
            ("interoperation.tampered_accepted_by_go", "=", 0),
            ("interoperation.foreign_checkpoints_accepted", "=", 16),
        ),
    ),
)

_HEAD = """# The signed log under attack

Written by `make drill`; every line can be had again by the command beside it. A drill is in `benchmarks/drills/<name>.py`,
and its first paragraph says what it does and what it samples. Machines differ: the disk's fsync is given with each drill.

## Bars
"""


def load_evidence(path: Path) -> Evidence:
    """The records so far, by drill."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def save_evidence(path: Path, evidence: Evidence) -> None:
    ordered = {name: evidence[name] for name in DRILLS if name in evidence}
    path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def broken_bars(drill: str, figures: Figures, *, full: bool = True) -> list[str]:
    """What one drill's figures break, in words; of a part of the full bar only what must never happen."""
    evidence: Evidence = {drill: Record(figures=figures, seconds=0.0, command="", machine={})}
    found = [(need, need.value(evidence)) for bar in BARS for need in bar.needs if full or need.comparison == "="]
    return [_seen(need, value) for need, value in found if value is not None and not need.holds(value)]


def machine() -> dict[str, str | float]:
    """Where the drill ran: cores, processor, versions; nothing that names the machine."""
    known = describe()
    return {
        "date": known["date"],
        "cores": known["cores"],
        "processor": known["processor"],
        "python": known["python"],
        "sqlite": apsw.sqlitelibversion(),
        "postgresql": _postgresql_version(),
    }


def render(evidence: Evidence) -> str:
    """The page."""
    rows = [
        (
            bar.fault,
            bar.bar,
            {True: "yes", False: "**no**", None: "not yet shown"}[bar.met(evidence)],
            "<br>".join(_seen(need, need.value(evidence)) for need in bar.needs),
            f'`make drill DRILL="{" ".join(bar.drills)}"`',
        )
        for bar in BARS
    ]
    bars = table(("fault", "bar", "met", "seen (needed)", "command"), rows).replace("---:|", "---|")
    parts = [_HEAD + "\n" + bars, "## Drills"]
    parts += [_drill_section(name, evidence[name]) for name in DRILLS if name in evidence]
    return "\n\n".join(parts) + "\n"


def _drill_section(name: str, record: Record) -> str:
    place = record["machine"]
    words = (
        f"`{record['command']}`, {record['seconds']} s, {place['date']}, {place['cores']} cores ({place['processor']}), "
        f"{place['python']}, SQLite {place['sqlite']}, PostgreSQL {place['postgresql']}, fsync {place['fsync_ms']} ms."
    )
    rows = [(f"`{figure}`", _value(value)) for figure, value in record["figures"].items()]
    return f"### {name}\n\n{words}\n\n" + table(("figure", "value"), rows)


def _seen(need: Need, value: float | str | bool | None) -> str:
    figure = need.figure.partition(".")[2].replace("_", " ")
    return f"{figure}: {'?' if value is None else _value(value)} ({need.comparison} {_value(need.bound)})"


def _value(value: float | str | bool) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.3g}" if abs(value) < 1 else f"{value:,.3f}".rstrip("0").rstrip(".")
    return value


def _postgresql_version() -> str:
    """As the newest server installed by Debian's package says it; "none" where there is none."""
    servers = sorted(_POSTGRESQL.glob("*/bin/postgres"))
    if not servers:
        return "none"
    return subprocess.run([servers[-1], "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
