from __future__ import annotations

from typing import Any

import pytest

from demo.cards import parse_cards
from demo.errors import CdsServiceError

CARD: dict[str, Any] = {"summary": "Risk 5 %", "indicator": "info", "source": {"label": "x"}}


@pytest.mark.parametrize(
    "change",
    [
        {"summary": None},
        {"summary": "x" * 140},
        {"indicator": "hard-stop"},
        {"source": {}},
        {"source": "x"},
        {"suggestions": {}},
        {"links": [{"label": "x"}]},
        {"overrideReasons": [{"code": "x"}]},
        {"detail": 5},
    ],
)
def test_cards_unreadable_card_is_named_and_the_others_stay(change: dict[str, Any]) -> None:
    cards, problems = parse_cards({"cards": [CARD | change, CARD]})
    assert len(cards) == 1
    assert problems[0].startswith("card 1: ")


@pytest.mark.parametrize("body", [{}, {"cards": None}, {"cards": {}}])
def test_cards_response_without_an_array_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(CdsServiceError):
        parse_cards(body)


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("10-year risk 12.4 %", True),
        ("Risk 12%", True),
        ("About 12 in 100 will", True),
        ("10-year cardiovascular risk not calculated: age below 30", False),
    ],
)
def test_cards_state_a_risk_when_the_summary_has_a_figure(summary: str, expected: bool) -> None:
    cards, _ = parse_cards({"cards": [CARD | {"summary": summary}]})
    assert cards[0].states_a_risk is expected
