"""Writes a section of docs/measurements.md between its markers; everything outside of them stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "measurements.md"
_TITLE = """# Measurements

Every figure below was written here by the command named above it. Machines differ: compare ratios, not times.
"""


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Puts `text` between the markers of section `name`, or at the end of the page where they are missing."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = page.read_text(encoding="utf-8") if page.exists() else _TITLE
    before, found, rest = old.partition(begin)
    after = rest.partition(end)[2] if found else "\n"
    if not found:
        before = old.rstrip("\n") + "\n\n"
    page.parent.mkdir(exist_ok=True)
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")


def write_results(path: Path, results: dict[str, Any]) -> None:
    """The figures as JSON, for programs."""
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column reads from the left, the others from the right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def machine_words(machine: dict[str, str]) -> str:
    """The machine in one paragraph."""
    return (
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores, {machine['system']}, {machine['python']}; "
        f"{machine['packages']}. Load: {machine['load']}."
    )
