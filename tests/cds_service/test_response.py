from __future__ import annotations

import json

from audit.committer import LogReceipt
from audit.merkle import LeafIndex, Sha256, TreeSize
from cds_service.cards import Card, Link
from cds_service.response import RECEIPT_KEY, receipt_json, response_bytes
from cds_service.suggestions import Action
from tests.cds_service.patients import empty_members

RECEIPT = LogReceipt("tests.example/log", LeafIndex(7), TreeSize(8), Sha256(b"\x01" * 32), "ab" * 16, "proof\n")
ABOUT = Link("About", "https://cds.example.org/models/x", "absolute")
CARD = Card("u1", "Summary", "Detail", "info", {"label": "Source"}, (), (), (ABOUT,))
LAUNCH = "https://app.example.org/launch"


def test_response_carries_the_receipt() -> None:
    body = json.loads(response_bytes((CARD,), RECEIPT, None))
    assert body["extension"] == {
        RECEIPT_KEY: {"origin": "tests.example/log", "index": 7, "entryId": "ab" * 16, "proof": "proof\n"}
    }
    assert body["extension"][RECEIPT_KEY] == receipt_json(RECEIPT)
    assert empty_members(body) == []


def test_response_has_no_smart_link_unless_configured() -> None:
    (card,) = json.loads(response_bytes((CARD,), RECEIPT, None))["cards"]
    assert card["links"] == [ABOUT.to_json()]


def test_response_smart_link_leads_with_a_context_that_matches_the_receipt() -> None:
    (card,) = json.loads(response_bytes((CARD,), RECEIPT, LAUNCH))["cards"]
    smart, about = card["links"]
    assert (smart["type"], smart["url"], about) == ("smart", LAUNCH, ABOUT.to_json())
    assert isinstance(smart["appContext"], str)
    assert json.loads(smart["appContext"]) == {
        "card": "u1",
        "entryId": "ab" * 16,
        "index": 7,
        "origin": "tests.example/log",
    }


def test_response_without_guidance_is_an_empty_array() -> None:
    assert json.loads(response_bytes((), RECEIPT, None))["cards"] == []


def test_response_without_system_actions_has_no_such_member() -> None:
    assert json.loads(response_bytes((CARD,), RECEIPT, None)).keys() == {"cards", "extension"}


def test_response_system_actions_stand_beside_the_cards() -> None:
    action = Action("File it", {"resourceType": "RiskAssessment", "status": "final"})
    body = json.loads(response_bytes((), RECEIPT, None, system_actions=(action,)))
    assert body["systemActions"] == [action.to_json()]
    assert body["extension"].keys() == {RECEIPT_KEY}
    assert body["cards"] == []


def test_response_is_the_recorded_card_for_a_client_without_quirks() -> None:
    (card,) = json.loads(response_bytes((CARD,), RECEIPT, None))["cards"]
    assert card == CARD.to_json()
