"""Parsed Markdown as safe HTML for the page and as wrapped plain lines for the terminal.

Every run of text is escaped on its way into HTML; tags and attributes are only those written here.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable

from demo.markdown import Block, Heading, ListBlock, Paragraph, Rule, Run, Runs, Table, parse_markdown

_TAGS = {"bold": "strong", "italic": "em", "code": "code"}


def render_html(text: str, top_level: int = 4) -> str:
    """Safe HTML; the first level of headings becomes `<h{top_level}>`."""
    return "\n".join(_block_html(block, top_level) for block in parse_markdown(text))


def _block_html(block: Block, top_level: int) -> str:
    match block:
        case Heading(level, content):
            tag = f"h{min(6, max(top_level, top_level + level - 3))}"
            return f"<{tag}>{_runs_html(content)}</{tag}>"
        case Paragraph(content):
            return f"<p>{_runs_html(content)}</p>"
        case ListBlock(is_ordered, items):
            tag = "ol" if is_ordered else "ul"
            return f"<{tag}>{''.join(f'<li>{_runs_html(item)}</li>' for item in items)}</{tag}>"
        case Table(head, rows):
            return _table_html(head, rows)
        case Rule():
            return "<hr>"


def _table_html(head: tuple[Runs, ...], rows: tuple[tuple[Runs, ...], ...]) -> str:
    titles = "".join(f'<th scope="col">{_runs_html(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{_runs_html(cell)}</td>' for cell in row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Table">{table}</div>'


def _runs_html(runs: Runs) -> str:
    return "".join(map(_run_html, runs))


def _run_html(run: Run) -> str:
    text = html.escape(run.text)
    if run.href is not None:
        return f'<a href="{html.escape(run.href)}" rel="noopener noreferrer" target="_blank">{text}</a>'
    tag = _TAGS.get(run.look)
    return f"<{tag}>{text}</{tag}>" if tag else text


def render_lines(text: str, width: int) -> list[str]:
    """Plain lines of at most `width` characters, tables as aligned columns where they fit."""
    lines: list[str] = []
    for block in parse_markdown(text):
        if lines:
            lines.append("")
        lines += _block_lines(block, width)
    return lines


def _block_lines(block: Block, width: int) -> list[str]:
    match block:
        case Heading(_, content):
            return textwrap.wrap(_plain(content).upper(), width)
        case Paragraph(content):
            return textwrap.wrap(_plain(content), width)
        case ListBlock(is_ordered, items):
            marker: Callable[[int], str] = (lambda n: f"{n}. ") if is_ordered else (lambda _: "• ")
            wrapped = (_item_lines(marker(number), _plain(item), width) for number, item in enumerate(items, 1))
            return [line for item_lines in wrapped for line in item_lines]
        case Table(head, rows):
            return _table_lines([[_plain(cell) for cell in row] for row in (head, *rows)], width)
        case Rule():
            return ["-" * min(width, 20)]


def _item_lines(marker: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=marker, subsequent_indent=" " * len(marker))


def _table_lines(rows: list[list[str]], width: int) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if sum(widths) + 2 * (len(widths) - 1) > width:
        head, *body = rows
        pairs = (
            "; ".join(f"{title}: {cell}" if title else cell for title, cell in zip(head, row, strict=True))
            for row in body
        )
        return [line for pair in pairs for line in _item_lines("• ", pair, width)]
    aligned = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [aligned[0], "  ".join("-" * size for size in widths), *aligned[1:]]


def _plain(runs: Runs) -> str:
    return "".join(f"{run.text} ({run.href})" if run.href and run.href != run.text else run.text for run in runs)
