"""The table of docs/conformance.md: `python -m tests.conformance.table` prints it.

The tests of an item are found by their names, `test_<number>_…`, in the sources.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.conformance.items import ITEMS, SECTIONS, Item
from tests.conformance.not_tested import NOT_TESTED

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "conformance.md"
_NAME = re.compile(r"test_(\d+|k_\d_\d)_\w+")
_HEAD = """\
# Conformance

What a CDS service has to do by CDS Hooks 1.0, 2.0.1 and 3.0, how Bedside does it, and the tests that show it, over a
running server. Levels: M must, C must under a condition, S should, P practice that the text doesn't name.

Besides these, every answer that any test of the suite receives is held to the rules of `tests/conformance/response_rules.py`,
and so are 10,000 calls that are nearly right (`test_fuzz.py`).

This page is printed by `python -m tests.conformance.table`; a test holds it to the sources.
"""


def names_by_item() -> dict[str, tuple[str, ...]]:
    """Item to the names of its tests, each with its module."""
    found: dict[str, list[str]] = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = _NAME.fullmatch(node.name) if isinstance(node, ast.FunctionDef) else None
            if name is not None:
                found.setdefault(_item(name[1]), []).append(f"{path.stem}::{name[0]}")
    return {number: tuple(names) for number, names in found.items()}


def _item(text: str) -> str:
    return text if text.isdigit() else f"K {text[2:].replace('_', '.')}"


def page() -> str:
    """The whole page."""
    tests = names_by_item()
    sections = [_section(title, _within(*span), tests) for title, span in SECTIONS.items()]
    sections.append(_section("K. Versions", [item for item in ITEMS if not item.number.isdigit()], tests))
    reasons = [f"- **{number}**: {reason}." for number, reason in NOT_TESTED.items()]
    return "\n".join([_HEAD, *sections, "## Not tested here\n", *reasons, ""])


def _within(first: int, last: int) -> list[Item]:
    return [item for item in ITEMS if item.number.isdigit() and first <= int(item.number) <= last]


def _section(title: str, items: list[Item], tests: dict[str, tuple[str, ...]]) -> str:
    lines = [f"## {title}\n", "| item | level | what | how it is met | tests |", "|---|---|---|---|---|"]
    for item in items:
        names = ", ".join(f"`{name.partition('::')[2]}`" for name in tests.get(item.number, ()))
        lines.append(f"| {item.number} | {item.level} | {item.what} | {item.met} | {names} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
