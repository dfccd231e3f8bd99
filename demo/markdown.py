"""A card's Markdown as safe HTML for the page and as wrapped plain lines for the terminal.

markdown-it-py parses (https://github.github.com/gfm/); raw HTML stays text, images stay text, and only http(s) links remain.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

MAX_CHARS = 40_000  # far beyond any card; a longer text is cut
FIRST_HEADING = 4  # cards stand under the page's h1 to h3
_BULLET = "• "


def is_web_link(target: str) -> bool:
    """Whether `target` is an absolute http(s) URL without anything that could leave an attribute."""
    return target.startswith(("https://", "http://")) and not re.search(r"[\s\x00-\x1f\"'<>\\]", target)


def render_html(text: str) -> str:
    """Safe HTML; headings become h4 and below."""
    html: str = _parser.render(text[:MAX_CHARS])
    return html


def render_lines(text: str, width: int) -> list[str]:
    """Plain lines of at most `width` characters; list items with a mark, a table row as one item."""
    lines: list[str] = []
    previous = ""
    for kind, words in _blocks(_parser.parse(text[:MAX_CHARS])):
        if lines and not (kind == previous == "item"):
            lines.append("")
        mark = _BULLET if kind == "item" else ""
        lines += textwrap.wrap(words, width, initial_indent=mark, subsequent_indent=" " * len(mark))
        previous = kind
    return lines


def _blocks(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Each run of text with the kind of block it stands in: heading, item (of a list or table) or paragraph."""
    depth = 0
    row: list[str] = []
    for index, token in enumerate(tokens):
        depth += {"list_item_open": 1, "list_item_close": -1}.get(token.type, 0)
        if token.type in ("fence", "code_block"):
            yield "paragraph", token.content
        elif token.type == "tr_close":
            yield "item", "  ".join(row)
            row = []
        elif token.type == "inline":
            opened = tokens[index - 1].type
            if opened in ("th_open", "td_open"):
                row.append(_plain(token))
            elif opened == "heading_open":
                yield "heading", _plain(token).upper()
            else:
                yield ("item" if depth else "paragraph"), _plain(token)


def _plain(inline: Token) -> str:
    parts, target = [], ""
    for token in inline.children or ():
        if token.type == "link_open":
            target = str(token.attrGet("href"))
        elif token.type == "link_close":
            parts.append(f" ({target})")
        else:
            parts.append("\n" if token.type in ("softbreak", "hardbreak") else token.content)
    return "".join(parts)


class _Renderer(RendererHTML):
    """Headings one page level down, links that open beside the chart, tables that scroll on a narrow screen."""

    def heading_open(self, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
        return f"<h{_level(tokens[index])}>"

    def heading_close(self, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
        return f"</h{_level(tokens[index])}>\n"

    def link_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        tokens[index].attrSet("rel", "noopener noreferrer")
        tokens[index].attrSet("target", "_blank")
        return self.renderToken(tokens, index, options, env)

    def table_open(self, _tokens: Sequence[Token], _index: int, _options: Any, _env: Any) -> str:
        return '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>\n'

    def table_close(self, _tokens: Sequence[Token], _index: int, _options: Any, _env: Any) -> str:
        return "</table></div>\n"


def _level(token: Token) -> int:
    return min(6, max(FIRST_HEADING, FIRST_HEADING + int(token.tag[1]) - 3))


def _make_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table").disable("image")
    setattr(parser, "validateLink", is_web_link)  # noqa: B010 - the library's documented hook, typed as a method
    return parser


_parser = _make_parser()
