from __future__ import annotations

import json
import uuid

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.entry import format_time
from audit.entry_operations import GapEntry
from audit.log import AuditLog
from audit.merkle import LeafIndex
from cds_service.card_ids import MAX_CARDS, card_uuid, find_decision
from cds_service.pipeline import answer
from tests.cds_service import patients
from tests.cds_service.callers import CALLER
from tests.conftest import NOW, TENANT, MakeDesk

ENTRY_ID = "0123456789ab4def8123456789abcdef"


@given(st.uuids(version=4), st.integers(0, MAX_CARDS - 1))
def test_card_ids_are_uuids_of_version_4_and_differ_by_number(entry_id: uuid.UUID, number: int) -> None:
    made = uuid.UUID(card_uuid(entry_id.hex, number))
    assert (made.version, made.variant) == (4, uuid.RFC_4122)
    assert made.int ^ entry_id.int == number


@pytest.mark.parametrize("number", [-1, MAX_CARDS])
def test_card_ids_beyond_the_last_digit_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="card number"):
        card_uuid(ENTRY_ID, number)


def _shown(make_desk: MakeDesk) -> str:
    desk = make_desk()
    body = patients.encoded(patients.call(patients.prefetch(NOW)))
    (card,) = json.loads(answer(body, desk.services[0], CALLER, desk))["cards"]
    text: str = card["uuid"]
    return text


def test_card_ids_lead_to_their_decision(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    cards = [_shown(make_desk) for _ in range(3)]
    for index, card in enumerate(cards):
        found = find_decision(audit_log, card)
        assert found is not None
        assert (found.index, found.number, found.entry.cards[0].uuid) == (index, 0, card)
        assert find_decision(audit_log, card.upper()) == found


def test_card_ids_of_several_cards_lead_to_one_decision(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    first = find_decision(audit_log, _shown(make_desk))
    assert first is not None
    entry_id = audit_log.new_entry_id()
    uuids = [card_uuid(entry_id, number) for number in range(MAX_CARDS)]
    cards = tuple(msgspec.structs.replace(first.entry.cards[0], uuid=one) for one in uuids)
    index = audit_log.record(msgspec.structs.replace(first.entry, id=entry_id, cards=cards, payload=None)).index
    for number, one in enumerate(uuids):
        found = find_decision(audit_log, one)
        assert found is not None
        assert (found.index, found.number) == (index, number)


def test_card_ids_of_cards_that_were_not_shown_lead_nowhere(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    found = find_decision(audit_log, _shown(make_desk))
    assert found is not None
    for number in range(1, MAX_CARDS):
        assert find_decision(audit_log, card_uuid(found.entry.id, number)) is None


def test_card_ids_of_other_kinds_of_entries_lead_nowhere(audit_log: AuditLog) -> None:
    now = format_time(NOW)
    entry_id = audit_log.new_entry_id()
    gap = GapEntry(
        id=entry_id, time=now, clock="ok", tenant=TENANT, since=now, until=now, reason="test", unacknowledged=0
    )
    audit_log.record(gap)
    assert audit_log.index_of(entry_id) == LeafIndex(0)
    assert find_decision(audit_log, card_uuid(entry_id, 0)) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=50))
def test_card_ids_that_are_none_lead_nowhere(text: str, audit_log: AuditLog) -> None:
    assert find_decision(audit_log, text) is None
