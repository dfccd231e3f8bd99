"""Card ids that lead back to their decision: feedback names a card, and the log is asked for the entry without a further table.

A card's `uuid` is its decision's entry id as a UUID, the last hex digit XORed with the card's number in the answer. An entry
id is itself a UUID of version 4, so a card's is one too. Pure arithmetic finds the id; the entry itself then has to hold the
card.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

from audit.entry import DecisionEntry, parse_entry
from audit.errors import EntryError
from audit.log import AuditLog
from audit.merkle import LeafIndex

MAX_CARDS = 16
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class FoundCard:
    """A card that was shown: its decision's place and entry, and the card's number in the answer."""

    index: LeafIndex
    entry: DecisionEntry
    number: int


def card_uuid(entry_id: str, number: int) -> str:
    """The id of card `number` (0 to 15) of the decision `entry_id` (32 hex digits)."""
    if not 0 <= number < MAX_CARDS:
        message = f"card number: expected 0 to {MAX_CARDS - 1}, got {number}"
        raise ValueError(message)
    return str(uuid.UUID(int=int(entry_id, 16) ^ number))


def find_decision(log: AuditLog, card: str) -> FoundCard | None:
    """The decision that showed `card`, None if this log has none."""
    if not _UUID.fullmatch(card):
        return None
    wanted = uuid.UUID(card)
    for number in range(MAX_CARDS):
        index = log.index_of(uuid.UUID(int=wanted.int ^ number).hex)
        if index is None:
            continue
        try:
            entry = parse_entry(log.entry(index))
        except EntryError:  # of a kind that a later release writes
            continue
        if isinstance(entry, DecisionEntry) and any(shown.uuid == str(wanted) for shown in entry.cards):
            return FoundCard(index, entry, number)
    return None
