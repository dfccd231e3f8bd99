"""docs/conformance.md says what the sources say, and every item is tested or has its reason."""

from __future__ import annotations

import re

import pytest

from tests.conformance.items import ITEMS, SECTIONS
from tests.conformance.not_tested import NOT_TESTED
from tests.conformance.table import FOLDER, PAGE, names_by_item, page

NUMBERS = [*(str(number) for number in range(1, 92)), "K 1.0", "K 2.0", "K 3.0"]


def test_table_has_every_item_once_and_in_order() -> None:
    assert [item.number for item in ITEMS] == NUMBERS
    spans = list(SECTIONS.values())
    assert [number for first, last in spans for number in range(first, last + 1)] == list(range(1, 92))


@pytest.mark.parametrize("number", NUMBERS)
def test_table_every_item_is_tested_or_listed(number: str) -> None:
    assert names_by_item().get(number) or NOT_TESTED.get(number)


def test_table_no_test_is_of_an_item_that_is_none() -> None:
    assert set(names_by_item()) | set(NOT_TESTED) <= set(NUMBERS)


def test_table_each_test_on_the_page_is_in_the_sources() -> None:
    sources = "".join(path.read_text("utf-8") for path in FOLDER.glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", PAGE.read_text("utf-8"))
    assert len(named) > 150
    assert [name for name in named if f"def {name}(" not in sources] == []


def test_table_is_the_page() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m tests.conformance.table > docs/conformance.md"
