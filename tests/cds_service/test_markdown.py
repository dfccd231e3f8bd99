from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cds_service.markdown import MAX_CHARS, escape

RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
MARKUP = st.sampled_from("-+=*_#>|`~[]()!<&;:/1.)w\\ \t\n\"'@{}$^%a0")
TEXT = st.text(st.one_of(MARKUP, st.characters(exclude_categories=("Cs",))), max_size=80)


def _words(text: str) -> str:
    return "".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())


@given(TEXT)
@example("- item")
@example("12. item")
@example("---")
@example("<script>alert(1)</script>")
@example("[a](javascript:b)")
@example("&lt;b&gt;")
@example("| a |\n|---|")
@example("    code")
def test_markdown_escaped_text_renders_as_itself_in_one_paragraph(text: str) -> None:
    rendered = RENDERER.render(escape(text)).removesuffix("\n")
    if not _words(text):
        assert rendered in ("", "<p></p>")
        return
    assert rendered.startswith("<p>")
    assert rendered.endswith("</p>")
    inner = rendered[3:-4]
    assert "<" not in inner
    assert _words(html.unescape(inner)) == _words(text)


@given(TEXT)
def test_markdown_escaped_text_stays_one_item_of_a_list(text: str) -> None:
    if _words(text):
        rendered = RENDERER.render(f"- {escape(text)}\n- next")
        assert rendered.count("<li>") == 2
        assert rendered.count("<ul>") == 1
        assert "<ol" not in rendered


@given(TEXT)
def test_markdown_escaped_text_is_one_line(text: str) -> None:
    assert len(escape(text).splitlines()) <= 1


@pytest.mark.parametrize("text", ["http://evil.example", "HTTPS://evil.example", "www.evil.example"])
def test_markdown_escaped_text_has_no_bare_address(text: str) -> None:
    assert "://" not in escape(text)
    assert "www." not in escape(text)


@pytest.mark.parametrize("text", ["6.5 %", "-3 mmol/L", "151 mmHg", "10 mg/dL (2026)"])
def test_markdown_leaves_ordinary_values_as_they_are(text: str) -> None:
    assert escape(text) == text


def test_markdown_cuts_what_is_too_long() -> None:
    assert escape("x" * 1000) == "x" * MAX_CHARS
