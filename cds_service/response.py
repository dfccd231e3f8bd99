"""The answer's bytes: cards, and the receipt that proves the decision was recorded before it was sent.

The receipt is a C2SP `.tlog-proof`: anyone with the log's public key verifies it offline. It rides whole in the response's
`extension` and, in short form, in the smart link's `appContext`, so that the app can find and check the entry.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec

from audit.committer import LogReceipt
from cds_service.cards import Card, Link

RECEIPT_KEY = "org.bedside.receipt"


def response_bytes(cards: tuple[Card, ...], receipt: LogReceipt, smart_launch_url: str | None) -> bytes:
    """The 200 answer for `cards`, recorded as `receipt`."""
    body = {
        "cards": [_with_reasons_link(card, receipt, smart_launch_url).to_json() for card in cards],
        "extension": {RECEIPT_KEY: receipt_json(receipt)},
    }
    return msgspec.json.encode(body)


def receipt_json(receipt: LogReceipt) -> dict[str, Any]:
    """The receipt as shown to the client; `proof` alone is enough to verify it."""
    return {
        "origin": receipt.origin,
        "index": int(receipt.index),
        "entryId": receipt.entry_id,
        "proof": receipt.proof_text,
    }


def _with_reasons_link(card: Card, receipt: LogReceipt, smart_launch_url: str | None) -> Card:
    if smart_launch_url is None:
        return card
    context = {"card": card.uuid, "entryId": receipt.entry_id, "index": int(receipt.index), "origin": receipt.origin}
    link = Link("Reasons behind this card", smart_launch_url, "smart", json.dumps(context, sort_keys=True))
    return replace(card, links=(link, *card.links))
