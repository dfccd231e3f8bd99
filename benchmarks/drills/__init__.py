"""Drills: each attacks the signed log as one of its bars says, and counts what got through.

A drill is a module here with `run(workspace, scale) -> Figures` and a docstring that says which bar it shows; it is named
in `DRILLS`, and its bar in `evidence`. `scale=1` is the full bar; tests run the same code at a small scale.

    make drill                        every drill that this machine has the programs for
    make drill DRILL="crash faults"   some of them

writes docs/audit-evidence.json and, from it, docs/audit-evidence.md. Nothing imports this package.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Protocol, TypeAlias, cast

Figures: TypeAlias = dict[str, int | float | str | bool]

# In the order of the page.
DRILLS = (
    "crash",
    "faults",
    "tamper",
    "disk_full",
    "clock",
    "rollback",
    "forgery",
    "overload",
    "throughput",
    "erasure",
    "canary",
    "ten_million",
    "two_hosts",
    "interoperation",
)


class Drill(Protocol):
    """What a drill's module has."""

    def run(self, workspace: Path, scale: float) -> Figures: ...


class DrillSkippedError(Exception):
    """What the drill needs isn't on the machine; the message says what."""


def available() -> tuple[str, ...]:
    """The drills whose module is there."""
    return tuple(name for name in DRILLS if importlib.util.find_spec(f"{__name__}.{name}") is not None)


def load(name: str) -> Drill:
    """The drill of this name; ImportError where there is none."""
    return cast("Drill", importlib.import_module(f"{__name__}.{name}"))
