"""A card's Markdown, read into blocks and runs of text: what a page and a terminal need, and nothing that could act.

The subset of GitHub-flavoured Markdown (https://github.github.com/gfm/): headings, paragraphs, flat lists, tables,
rules, bold, italics, code, http(s) links, backslash escapes and entities. Raw HTML stays text; anything else of Markdown
is shown as it is written. `markdown_views` makes pages and terminal lines of it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

MAX_CHARS = 40_000  # far beyond any card; a longer text is cut

_HEADING = re.compile(r" {0,3}(#{1,6})\s+(\S.*)")
_ITEM = re.compile(r"\s*(?:[-*+]|(\d{1,9})[.)])\s+(.*)")
_RULE = re.compile(r"\s{0,3}([-*_])(?:\s*\1){2,}\s*")
_DELIMITER = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*")
_CELL_BORDER = re.compile(r"(?<!\\)\|")
_INLINE = re.compile(
    r"\\([!-/:-@\[-`{-~])"  # 1 escaped punctuation
    r"|`([^`\n]+)`"  # 2 code
    r"|\[((?:\\.|[^\[\]\\])+)\]\(([^()\s]+)\)"  # 3, 4 link
    r"|\*\*(?=\S)((?:\\.|[^*\\])+)(?<=\S)\*\*"  # 5 bold
    r"|(?<!\w)([*_])(?=\S)((?:\\.|[^*_\\])+)(?<=\S)\6(?!\w)"  # 6, 7 italics
)


@dataclass(frozen=True, slots=True)
class Run:
    """Text of one look; `href` is set for links and is always http(s)."""

    text: str
    look: Literal["plain", "bold", "italic", "code"] = "plain"
    href: str | None = None


Runs: TypeAlias = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """`level` is 1 to 6, as written."""

    level: int
    content: Runs


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines joined by blanks."""

    content: Runs


@dataclass(frozen=True, slots=True)
class ListBlock:
    """A flat list."""

    ordered: bool
    items: tuple[Runs, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Every row has as many cells as `head`."""

    head: tuple[Runs, ...]
    rows: tuple[tuple[Runs, ...], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A thematic break."""


Block: TypeAlias = Heading | Paragraph | ListBlock | Table | Rule


def parse_markdown(text: str) -> tuple[Block, ...]:
    """The blocks of `text`; never fails."""
    blocks: list[Block] = []
    lines = text[:MAX_CHARS].replace("\r\n", "\n").expandtabs(4).split("\n")
    position = 0
    while position < len(lines):
        if not lines[position].strip():
            position += 1
            continue
        block, position = _parse_block(lines, position)
        blocks.append(block)
    return tuple(blocks)


def _parse_block(lines: Sequence[str], start: int) -> tuple[Block, int]:
    line = lines[start]
    if heading := _HEADING.fullmatch(line):
        return Heading(len(heading[1]), parse_runs(heading[2].rstrip(" #"))), start + 1
    if _RULE.fullmatch(line):
        return Rule(), start + 1
    if _starts_table(lines, start):
        return _parse_table(lines, start)
    if _ITEM.fullmatch(line):
        return _parse_list(lines, start)
    return _parse_paragraph(lines, start)


def _starts_table(lines: Sequence[str], start: int) -> bool:
    if start + 1 >= len(lines) or "|" not in lines[start] or not _DELIMITER.fullmatch(lines[start + 1]):
        return False
    return len(_cells(lines[start])) == len(_cells(lines[start + 1]))


def _parse_table(lines: Sequence[str], start: int) -> tuple[Block, int]:
    head = tuple(map(parse_runs, _cells(lines[start])))
    rows: list[tuple[Runs, ...]] = []
    position = start + 2
    while position < len(lines) and "|" in lines[position]:
        cells = [*_cells(lines[position]), *[""] * len(head)][: len(head)]
        rows.append(tuple(map(parse_runs, cells)))
        position += 1
    return Table(head, tuple(rows)), position


def _cells(line: str) -> list[str]:
    bare = line.strip().removeprefix("|")
    if bare.endswith("|") and not bare.endswith("\\|"):
        bare = bare[:-1]
    return [cell.strip() for cell in _CELL_BORDER.split(bare)]


def _parse_list(lines: Sequence[str], start: int) -> tuple[Block, int]:
    items: list[str] = []
    first = _ITEM.fullmatch(lines[start])
    assert first is not None
    position = start
    while position < len(lines) and lines[position].strip():
        item = _ITEM.fullmatch(lines[position])
        if item is not None and (item[1] is None) == (first[1] is None):
            items.append(item[2])
        elif item is None and not _ends_paragraph(lines, position):
            items[-1] += " " + lines[position].strip()
        else:
            break
        position += 1
    return ListBlock(first[1] is not None, tuple(map(parse_runs, items))), position


def _parse_paragraph(lines: Sequence[str], start: int) -> tuple[Block, int]:
    position = start + 1
    while position < len(lines) and not _ends_paragraph(lines, position) and not _ITEM.fullmatch(lines[position]):
        position += 1
    return Paragraph(parse_runs(" ".join(line.strip() for line in lines[start:position]))), position


def _ends_paragraph(lines: Sequence[str], position: int) -> bool:
    line = lines[position]
    if not line.strip() or _HEADING.fullmatch(line) or _RULE.fullmatch(line):
        return True
    return _starts_table(lines, position)


def parse_runs(text: str) -> Runs:
    """The runs of one line; a link that is not http(s) is shown as written."""
    return tuple(_merged(_runs(text)))


def _runs(text: str) -> Iterator[Run]:
    position = 0
    for found in _INLINE.finditer(text):
        yield Run(html.unescape(text[position : found.start()]))
        yield _inline(found)
        position = found.end()
    yield Run(html.unescape(text[position:]))


def _inline(found: re.Match[str]) -> Run:
    if found[1] is not None:
        return Run(found[1])
    if found[2] is not None:
        return Run(found[2], "code")
    if found[3] is not None:
        target = html.unescape(found[4])
        return Run(_flat(found[3]), href=target) if is_web_link(target) else Run(html.unescape(found[0]))
    return Run(_flat(found[5]), "bold") if found[5] is not None else Run(_flat(found[7]), "italic")


def _flat(text: str) -> str:
    return "".join(run.text for run in _runs(text))


def _merged(runs: Iterable[Run]) -> Iterator[Run]:
    last = Run("")
    for run in runs:
        if run.look == last.look == "plain" and run.href is None and last.href is None:
            last = Run(last.text + run.text)
            continue
        if last.text:
            yield last
        last = run
    if last.text:
        yield last


def is_web_link(target: str) -> bool:
    return target.startswith(("https://", "http://")) and not re.search(r"[\s\x00-\x1f\"'<>\\]", target)
