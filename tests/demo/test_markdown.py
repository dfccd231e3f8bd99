from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.markdown import is_web_link, render_html, render_lines

_ALLOWED = re.compile(
    r"</?(?:p|ul|ol|li|strong|em|code|pre|blockquote|hr|br|h[4-6]|table|thead|tbody|tr|td|th)(?: /)?>"
    r'|<ol start="\d+">|<div class="scroll" tabindex="0" role="region" aria-label="Table">|</div>|<code class="[^"<>]*">'
    r'|<a href="https?://[^"<>]*" (?:title="[^"<>]*" )?rel="noopener noreferrer" target="_blank">|</a>'
    r'|<t[hd] style="text-align:(?:left|right|center)">'
)


@given(st.text(alphabet="ab *_`[]()!|\\#-1.\n<>&;:/\"'=~", max_size=300))
def test_markdown_html_has_only_known_tags(text: str) -> None:
    rest = _ALLOWED.sub("", render_html(text))
    assert "<" not in rest
    assert ">" not in rest


def test_markdown_html_escapes_markup_and_attributes() -> None:
    html = render_html('<script>alert(1)</script> [a"b](https://example.org/?x=1&y=2)')
    assert "&lt;script&gt;" in html
    assert 'href="https://example.org/?x=1&amp;y=2"' in html
    assert "a&quot;b" in html


@pytest.mark.parametrize(
    "target", ["javascript:alert(1)", "data:text/html,x", "//example.org", "ftp://example.org", "#x"]
)
def test_markdown_html_links_nothing_but_http(target: str) -> None:
    assert not is_web_link(target)
    assert "<a " not in render_html(f"[x]({target})")


def test_markdown_html_shows_no_images() -> None:
    assert "<img" not in render_html("![x](https://example.org/a.png)")


def test_markdown_headings_start_at_h4() -> None:
    assert render_html("# a") == "<h4>a</h4>\n"
    assert render_html("#### b") == "<h5>b</h5>\n"


def test_markdown_lines_are_wrapped_and_plain() -> None:
    lines = render_lines("**Risk** of " + "very " * 40 + "\n\n- a\n- b\n\nend [of](https://example.org/) it", 60)
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].startswith("Risk of very")
    assert lines[-5:] == ["", "• a", "• b", "", "end of (https://example.org/) it"]


def test_markdown_lines_of_a_table_are_rows() -> None:
    assert render_lines("| Test | Value |\n|---|---|\n| HbA1c | 7 % |", 60) == ["• Test  Value", "• HbA1c  7 %"]
