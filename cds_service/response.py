"""The answer's bytes: cards, and the receipt that proves the decision was recorded before it was sent.

The receipt is a C2SP `.tlog-proof`: anyone with the log's public key verifies it offline. It rides whole in the response's
`extension` and, in short form, in the smart link's `appContext`, so that the app can find and check the entry.

Here too a card takes the form that a client's quirks ask for. What it says is never touched: the log and the replay know
one form, and every client reads the same words.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import msgspec

from audit.committer import LogReceipt
from cds_service.cards import Card, Link
from cds_service.quirks import Quirk
from cds_service.suggestions import Action

RECEIPT_KEY = "org.bedside.receipt"
TOPIC_SYSTEM = "urn:bedside:card"  # a topic's code made here is no longer of the manifest's code system
MAX_TOPIC_CHARS = 100
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9]+")

# What 1.0 defines, https://cds-hooks.hl7.org/1.0/#cds-service-response. A card's `uuid` goes as well: nothing of 1.0 can
# name it, for there is no feedback, and a smart link's `appContext` tells the app which card it was.
_CARD_1_0 = ("summary", "detail", "indicator", "source", "suggestions", "selectionBehavior", "links")
_SOURCE_1_0 = ("label", "url", "icon")
_SUGGESTION_1_0 = ("label", "uuid", "actions")
_LINK_1_0 = ("label", "url", "type", "appContext")


def response_bytes(
    cards: tuple[Card, ...],
    receipt: LogReceipt,
    smart_launch_url: str | None,
    *,
    quirks: frozenset[Quirk] = frozenset(),
    system_actions: tuple[Action, ...] = (),
) -> bytes:
    """The 200 answer for `cards`, recorded as `receipt`; `system_actions` only for a client that takes them."""
    extension: dict[str, Any] = {RECEIPT_KEY: receipt_json(receipt)}
    body: dict[str, Any] = {
        "cards": [_card_json(_with_reasons_link(card, receipt, smart_launch_url), quirks) for card in cards],
        "extension": extension,
    }
    if system_actions:
        actions = [action.to_json() for action in system_actions]
        if Quirk.CDS_HOOKS_1_0 not in quirks:
            body["systemActions"] = actions
        if Quirk.SYSTEM_ACTIONS_IN_EXTENSION in quirks:
            extension["systemActions"] = actions
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


def _card_json(card: Card, quirks: frozenset[Quirk]) -> dict[str, Any]:
    if Quirk.NO_APP_CONTEXT in quirks:
        card = replace(card, links=tuple(replace(link, app_context=None) for link in card.links))
    form = card.to_json()
    if Quirk.ALPHANUMERIC_TOPIC in quirks:
        form["source"] = _with_plain_topic(form["source"], card.kind)
    return _form_of_1_0(form) if Quirk.CDS_HOOKS_1_0 in quirks else form


def _with_plain_topic(source: dict[str, Any], kind: str) -> dict[str, Any]:
    """The source with a topic of letters and digits, the same for every card of this kind and for no other."""
    topic = source.get("topic", {})
    code = _plain(kind or topic.get("code", ""))
    rest = {name: value for name, value in source.items() if name != "topic"}
    return {**rest, "topic": {**topic, "system": TOPIC_SYSTEM, "code": code}} if code else rest


def _plain(text: str) -> str:
    """The letters and digits of `text`; the end of a long one gives way to a digest, which keeps it apart from others."""
    plain = _NOT_PLAIN.sub("", text)
    if len(plain) <= MAX_TOPIC_CHARS:
        return plain
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return plain[: MAX_TOPIC_CHARS - len(digest)] + digest


def _form_of_1_0(form: dict[str, Any]) -> dict[str, Any]:
    card = _only(form, _CARD_1_0)
    card["source"] = _only(card["source"], _SOURCE_1_0)
    if "suggestions" in card:
        card["suggestions"] = [_only(suggestion, _SUGGESTION_1_0) for suggestion in card["suggestions"]]
        card["selectionBehavior"] = "at-most-one"
    if "links" in card:
        card["links"] = [_only(link, _LINK_1_0) for link in card["links"]]
    return card


def _only(members: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    return {name: members[name] for name in known if name in members}
