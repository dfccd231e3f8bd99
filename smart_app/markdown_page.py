"""A model card's Markdown as accessible HTML: headings with anchors, tables that scroll by themselves and name their rows.

Uses markdown-it-py with raw HTML off, so that a card's text can never become markup; the drawings are put under their headings
as they come, so whoever makes them escapes them (`model_artifacts.plot_axes`). Must not read files or know Flask.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
_NOT_IN_ANCHOR = re.compile(r"[^a-z0-9]+")
NOTHING_DRAWN: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Page:
    """The HTML before and from the first second-level heading, and those headings as (anchor, words) in their order."""

    lead: str
    body: str
    contents: tuple[tuple[str, str], ...]


def render_page(text: str, drawings: Mapping[str, str] = NOTHING_DRAWN) -> Page:
    """The page for a card's Markdown.

    `drawings` maps a third-level heading to HTML that goes right under it; the table that follows is then folded, as the
    drawing's numbers in words.
    """
    tokens = _markdown.parse(text)
    headings = _anchor_headings(tokens)
    _name_rows(tokens)
    drawn = _draw(_wrap_tables(tokens), drawings)
    first = next((place for place, token in enumerate(drawn) if token.tag == "h2"), len(drawn))
    return Page(_render(drawn[:first]), _render(drawn[first:]), headings)


def _render(tokens: list[Token]) -> str:
    html: str = _markdown.renderer.render(tokens, _markdown.options, {})
    return html


def anchor(heading: str) -> str:
    """A heading's fragment: "Evaluation figures" gives "evaluation-figures"."""
    return _NOT_IN_ANCHOR.sub("-", heading.lower()).strip("-")


def _anchor_headings(tokens: Sequence[Token]) -> tuple[tuple[str, str], ...]:
    """Gives every heading an anchor of its own; sections come first, so that a link to one never leads elsewhere."""
    pairs = [(opening, inline.content) for opening, inline in pairwise(tokens) if opening.type == "heading_open"]
    taken: set[str] = set()
    for opening, words in sorted(pairs, key=lambda pair: pair[0].tag != "h2"):
        own = wanted = anchor(words)
        for number in range(2, len(pairs) + 2):
            if own not in taken:
                break
            own = f"{wanted}-{number}"
        taken.add(own)
        opening.attrSet("id", own)
    return tuple((str(opening.attrGet("id")), words) for opening, words in pairs if opening.tag == "h2")


def _name_rows(tokens: Sequence[Token]) -> None:
    """Heads get their scope, and the first cell of a body row becomes its head."""
    first = last = False
    for token in tokens:
        if token.type == "tr_open":
            first = True
        elif token.type == "th_open":
            token.attrSet("scope", "col")
            first = False
        elif token.type == "td_open":
            if first:
                token.tag = "th"
                token.attrSet("scope", "row")
            last, first = first, False
        elif token.type == "td_close" and last:
            token.tag, last = "th", False


def _wrap_tables(tokens: Sequence[Token]) -> list[Token]:
    """Each table in a region of its own that a keyboard can scroll, named by the heading above it."""
    wrapped: list[Token] = []
    heading = ""
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[position + 1].content
        if token.type == "table_open":
            attributes = {"class": "table", "role": "region", "tabindex": "0", "aria-label": f"Table: {heading}"}
            wrapped.append(Token("table_region_open", "div", 1, attrs=dict(attributes), block=True))
        wrapped.append(token)
        if token.type == "table_close":
            wrapped.append(Token("table_region_close", "div", -1, block=True))
    return wrapped


def _draw(tokens: Sequence[Token], drawings: Mapping[str, str]) -> list[Token]:
    """The drawings under their headings, and the table after each folded."""
    drawn: list[Token] = []
    heading, open_fold = "", False
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[position + 1].content if token.tag == "h3" else ""
        fold = token.type == "table_region_open" and heading in drawings
        if fold:
            drawn.append(_html('<details class="numbers">\n<summary>The numbers as a table</summary>\n'))
            heading, open_fold = "", True
        drawn.append(token)
        if token.type == "heading_close" and heading in drawings:
            drawn.append(_html(drawings[heading]))
        if token.type == "table_region_close" and open_fold:
            drawn.append(_html("</details>\n"))
            open_fold = False
    return drawn


def _html(content: str) -> Token:
    return Token("html_block", "", 0, content=content, block=True)
