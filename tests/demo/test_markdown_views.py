from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from demo.markdown_views import render_html, render_lines

_ALLOWED = re.compile(
    r"</?(?:p|ul|ol|li|strong|em|code|hr|h[4-6]|table|thead|tbody|tr|td)>"
    r'|<th scope="col">|</th>|<div class="scroll" tabindex="0" role="region" aria-label="Table">|</div>'
    r'|<a href="https?://[^"<>]*" rel="noopener noreferrer" target="_blank">|</a>'
)


@given(st.text(alphabet="ab *_`[]()|\\#-1.\n<>&;:/\"'=", max_size=300))
def test_markdown_views_html_has_only_our_tags(text: str) -> None:
    rest = _ALLOWED.sub("", render_html(text))
    assert "<" not in rest
    assert ">" not in rest


def test_markdown_views_html_escapes_markup_and_attributes() -> None:
    html = render_html('<script>alert(1)</script> [a"b](https://example.org/?x=1&y=2)')
    assert "&lt;script&gt;" in html
    assert 'href="https://example.org/?x=1&amp;y=2"' in html
    assert "a&quot;b" in html


def test_markdown_views_html_does_not_link_what_is_not_http() -> None:
    assert "<a " not in render_html('[x](javascript:alert(1)) [y](data:text/html,x) [z](https://a"onclick=x)')


def test_markdown_views_lines_are_wrapped_and_plain() -> None:
    lines = render_lines("**Risk** of " + "very " * 40 + "\n\n- a\n- b\n\n1. c", 60)
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].startswith("Risk of very")
    assert lines[-4:] == ["• a", "• b", "", "1. c"]


def test_markdown_views_lines_of_a_table_are_aligned_or_listed() -> None:
    table = "| Test | Value |\n|---|---|\n| HbA1c | 7 % |"
    assert render_lines(table, 60) == ["Test   Value", "-----  -----", "HbA1c  7 %"]
    assert render_lines(table, 10) == ["• Test:", "  HbA1c;", "  Value: 7", "  %"]
