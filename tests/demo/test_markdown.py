from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.markdown import Heading, ListBlock, Paragraph, Run, Table, parse_markdown, parse_runs


def test_markdown_blocks_of_a_card() -> None:
    text = "# Risk\n\nIn words,\nplainly.\n- one\n  more\n- two\n\n| a | b |\n|---|:-:|\n| 1 | 2 |\nEnd"
    heading, words, items, table, end = parse_markdown(text)
    assert heading == Heading(1, (Run("Risk"),))
    assert words == Paragraph((Run("In words, plainly."),))
    assert items == ListBlock(False, ((Run("one more"),), (Run("two"),)))
    assert table == Table(((Run("a"),), (Run("b"),)), (((Run("1"),), (Run("2"),)),))
    assert end == Paragraph((Run("End"),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**bold** and _soft_", (Run("bold", "bold"), Run(" and "), Run("soft", "italic"))),
        (r"\*\*not bold\*\* \<b\> a\_b", (Run("**not bold** <b> a_b"),)),
        ("a &lt; b &#46; c", (Run("a < b . c"),)),
        ("snake_case_name", (Run("snake_case_name"),)),
        ("`a*b*`", (Run("a*b*", "code"),)),
        ("[x](https://example.org/?a=1&amp;b)", (Run("x", href="https://example.org/?a=1&b"),)),
        ("[x](javascript:alert)", (Run("[x](javascript:alert)"),)),
        ("[x](//example.org)", (Run("[x](//example.org)"),)),
        ("_model a\\_b version 1._", (Run("model a_b version 1.", "italic"),)),
        ("2 * 3 * 4", (Run("2 * 3 * 4"),)),
    ],
)
def test_markdown_runs(text: str, expected: tuple[Run, ...]) -> None:
    assert parse_runs(text) == expected


def test_markdown_escaped_bar_stays_in_its_cell() -> None:
    (table,) = parse_markdown("| a | b |\n|---|---|\n| x \\| y | z |")
    assert isinstance(table, Table)
    assert table.rows == (((Run("x | y"),), (Run("z"),)),)


@given(st.text(alphabet="ab *_`[]()|\\#-+1.\n<>&;:/", max_size=200))
def test_markdown_any_text_is_read(text: str) -> None:
    parse_markdown(text)
