"""A model card's Markdown as accessible HTML: headings with anchors, tables that scroll by themselves and name their rows.

Uses markdown-it-py with raw HTML off, so that a card's text can never become markup. Must not read files or know Flask.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
_NOT_IN_ANCHOR = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Page:
    """The HTML before and from the first second-level heading, and those headings as (anchor, words) in their order."""

    lead: str
    body: str
    contents: tuple[tuple[str, str], ...]


def render_page(text: str) -> Page:
    """The page for a card's Markdown."""
    tokens = _markdown.parse(text)
    headings = _anchor_headings(tokens)
    _name_rows(tokens)
    wrapped = _wrap_tables(tokens)
    first = next((place for place, token in enumerate(wrapped) if token.tag == "h2"), len(wrapped))
    return Page(_render(wrapped[:first]), _render(wrapped[first:]), headings)


def _render(tokens: list[Token]) -> str:
    html: str = _markdown.renderer.render(tokens, _markdown.options, {})
    return html


def anchor(heading: str) -> str:
    """A heading's fragment: "Evaluation figures" gives "evaluation-figures"."""
    return _NOT_IN_ANCHOR.sub("-", heading.lower()).strip("-")


def _anchor_headings(tokens: Sequence[Token]) -> tuple[tuple[str, str], ...]:
    contents = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor(inline.content))
            if opening.tag == "h2":
                contents.append((anchor(inline.content), inline.content))
    return tuple(contents)


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
