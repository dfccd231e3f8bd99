from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.entry import DecisionEntry, FeedbackEntry, Requester, format_time, parse_entry
from audit.keys import init_keys
from audit.log import AuditLog, LogConfig, create_log
from audit.merkle import LeafIndex
from audit.storage import Erasure
from audit.storage.sqlite import LOCK_FILE
from audit.vault import decision_subject, patient_subject
from cds_service.card_ids import card_uuid
from cds_service.cards import OVERRIDE_SYSTEM
from cds_service.decision import Context
from cds_service.errors import BadRequestError, NotRecordedError
from cds_service.feedback import FeedbackOutcome, FeedbackPayload, feedback_response, record_feedback
from cds_service.pipeline import answer
from cds_service.quirks import PROFILES
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CALLER, CLIENT
from tests.conftest import NOW, ORIGIN, TENANT, MakeDesk

SERVICE = "prevent-cvd"
EPIC = replace(CLIENT, quirks=PROFILES["epic"])
CANARY = "Canary comment: Mrs Zyxwvut refuses"
THEN = "2026-11-24T09:31:02Z"
FOREIGN = {"code": "d7ecf885", "system": "https://example.com/cds-hooks/override-reason-system"}
Shown = dict[str, Any]


@pytest.fixture
def show(make_desk: MakeDesk) -> Callable[[], Shown]:
    """Shows a card with suggestions and reasons, recorded like any other: show() gives its wire form."""
    desk = make_desk(new_uuid=lambda: str(uuid.uuid4()))

    def shown() -> Shown:
        body = patients.encoded(patients.call(patients.prefetch(NOW)))
        (card,) = json.loads(answer(body, desk.services[0], CALLER, desk))["cards"]
        found: Shown = card
        return found

    return shown


@pytest.fixture
def card(show: Callable[[], Shown]) -> Shown:
    return show()


def _context(log: AuditLog) -> Context:
    return Context(TENANT, "5a" * 32, "6b" * 32, log.keys.index_key)


def _record(
    log: AuditLog, *entries: Any, client: Any = CLIENT, service: str = SERVICE, now: datetime = NOW
) -> FeedbackOutcome:
    return _record_body(log, json.dumps({"feedback": entries}).encode(), client, service, now)


def _record_body(
    log: AuditLog, body: bytes, client: Any = CLIENT, service: str = SERVICE, now: datetime = NOW
) -> FeedbackOutcome:
    return record_feedback(body, service, client, log, _context(log), lambda: now)


def _overridden(card: Shown, **changes: Any) -> dict[str, Any]:
    return {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": THEN} | changes


def _accepted(card: Shown, *suggestions: str, **changes: Any) -> dict[str, Any]:
    chosen = [{"id": suggestion} for suggestion in suggestions]
    return {
        "card": card["uuid"],
        "outcome": "accepted",
        "acceptedSuggestions": chosen,
        "outcomeTimestamp": THEN,
    } | changes


def _entries(log: AuditLog) -> list[FeedbackEntry]:
    return [entry for entry in map(parse_entry, log.entries()) if isinstance(entry, FeedbackEntry)]


def _payload(log: AuditLog) -> FeedbackPayload:
    (entry,) = _entries(log)
    index = log.index_of(entry.id)
    assert index is not None
    return msgspec.msgpack.decode(log.payload(index), type=FeedbackPayload)


def _counts(outcome: FeedbackOutcome) -> tuple[int, int, int, int]:
    return outcome.recorded, outcome.repeated, outcome.unknown, len(outcome.refused)


def test_feedback_becomes_an_entry_linked_to_its_decision(audit_log: AuditLog, card: Shown) -> None:
    suggestion = card["suggestions"][0]["uuid"]
    assert _counts(_record(audit_log, _accepted(card, suggestion))) == (1, 0, 0, 0)
    (entry,) = _entries(audit_log)
    decision = parse_entry(audit_log.entry(LeafIndex(0)))
    assert (entry.decision, entry.card, entry.service.id) == (decision.id, card["uuid"], SERVICE)
    assert (entry.outcome, entry.accepted_suggestions) == ("accepted", (suggestion,))
    assert entry.requester == Requester(CLIENT.issuer, CLIENT.id, None, None)
    assert (entry.outcome_time, entry.override_reason, entry.payload) == ("2026-11-24T09:31:02.000000Z", None, None)


def test_feedback_batch_goes_into_one_commit_and_a_bad_entry_drops_no_other(
    audit_log: AuditLog, show: Callable[[], Shown]
) -> None:
    first, second = show(), show()
    before = audit_log.checkpoint()
    outcome = _record(
        audit_log,
        _overridden(first),
        "no object",
        {"card": first["uuid"], "outcome": "overridden"},
        _overridden(first, outcome="ignored"),
        _overridden(second),
    )
    assert _counts(outcome) == (2, 0, 0, 3)
    assert [refusal.index for refusal in outcome.refused] == [1, 2, 3]
    sizes = [int(note.split(b"\n")[1]) for note in (before, audit_log.checkpoint())]
    assert sizes == [2, 4]
    assert [entry.card for entry in _entries(audit_log)] == [first["uuid"], second["uuid"]]


def test_feedback_of_an_unheard_outcome_is_refused(audit_log: AuditLog, card: Shown) -> None:
    suggestion = card["suggestions"][0]["uuid"]
    outcome = _record(audit_log, _accepted(card, suggestion, outcome="Accepted"), _overridden(card))
    assert (outcome.recorded, [refusal.index for refusal in outcome.refused]) == (1, [0])


def test_feedback_of_an_overridden_card_accepts_nothing_and_needs_no_reason(audit_log: AuditLog, card: Shown) -> None:
    chosen = [{"id": card["suggestions"][0]["uuid"]}]
    said = {"acceptedSuggestions": chosen, "overrideReason": {"reason": {}, "userComment": ""}}
    assert _record(audit_log, _overridden(card, **said)).recorded == 1
    (entry,) = _entries(audit_log)
    assert (entry.accepted_suggestions, entry.override_reason, entry.payload) == ((), None, None)


def test_feedback_takes_a_thousand_entries_and_no_more(audit_log: AuditLog) -> None:
    entries = [{"card": "123456", "outcome": "overridden", "outcomeTimestamp": THEN}] * 1_000
    assert _record(audit_log, *entries).unknown == 1_000
    with pytest.raises(BadRequestError, match="1000 entries, got 1001"):
        _record(audit_log, *entries, entries[0])


def test_feedback_names_the_card_as_it_was_sent(audit_log: AuditLog, card: Shown) -> None:
    assert _record(audit_log, _overridden(card) | {"card": card["uuid"].upper()}).recorded == 1
    assert _entries(audit_log)[0].card == card["uuid"]


def test_feedback_accepted_in_part_keeps_the_known_suggestions(audit_log: AuditLog, card: Shown) -> None:
    suggestion = card["suggestions"][0]["uuid"]
    outcome = _record(audit_log, _accepted(card, "made-up", suggestion.upper(), str(uuid.uuid4())))
    assert (outcome.recorded, outcome.unknown_suggestions, outcome.refused) == (1, 2, ())
    assert _entries(audit_log)[0].accepted_suggestions == (suggestion,)


def test_feedback_accepted_with_nothing_of_the_card_is_refused(audit_log: AuditLog, card: Shown) -> None:
    outcome = _record(audit_log, _accepted(card, "made-up"), _accepted(card), _overridden(card))
    assert [refusal.index for refusal in outcome.refused] == [0, 1]
    assert (outcome.recorded, outcome.unknown_suggestions) == (1, 1)


@pytest.mark.parametrize("said", [{}, {"overrideReason": {"userComment": CANARY}}])
def test_feedback_repeated_is_recorded_once(said: dict[str, Any], audit_log: AuditLog, card: Shown) -> None:
    entry = _overridden(card, **said)
    assert _counts(_record(audit_log, entry, entry)) == (1, 1, 0, 0)
    same_moment = entry | {"outcomeTimestamp": "2026-11-24T11:31:02.000+02:00", "card": card["uuid"].upper()}
    assert _counts(_record(audit_log, same_moment)) == (0, 1, 0, 0)
    assert len(_entries(audit_log)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"outcomeTimestamp": "2026-11-24T09:31:03Z"},
        {"overrideReason": {"userComment": "another"}},
        {"overrideReason": {"reason": FOREIGN}},
    ],
)
def test_feedback_that_says_something_else_is_recorded_besides(
    change: dict[str, Any], audit_log: AuditLog, card: Shown
) -> None:
    assert _counts(_record(audit_log, _overridden(card), _overridden(card, **change))) == (2, 0, 0, 0)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-11-24T09:25:00Z", "2026-11-24T09:25:00.000000Z"),
        ("2026-11-24T09:31:02.123Z", "2026-11-24T09:31:02.123000Z"),
        ("2026-11-24T04:31:02-05:00", "2026-11-24T09:31:02.000000Z"),
        ("2026-11-25T09:35:00Z", "2026-11-25T09:35:00.000000Z"),
    ],
)
def test_feedback_is_taken_late_and_in_any_form_of_time(sent: str, kept: str, audit_log: AuditLog, card: Shown) -> None:
    outcome = _record(audit_log, _overridden(card, outcomeTimestamp=sent), now=NOW + timedelta(days=1))
    assert outcome.recorded == 1
    assert _entries(audit_log)[0].outcome_time == kept


@pytest.mark.parametrize(
    "sent", ["2026-11-24T09:24:59Z", "2026-11-24T09:35:01Z", "1970-01-01T00:00:00Z", "9999-01-01T00:00:00Z"]
)
def test_feedback_of_a_time_before_the_card_or_to_come_is_refused(sent: str, audit_log: AuditLog, card: Shown) -> None:
    outcome = _record(audit_log, _overridden(card, outcomeTimestamp=sent), _overridden(card))
    assert (outcome.recorded, [refusal.index for refusal in outcome.refused]) == (1, [0])
    assert outcome.refused[0].reason == (
        "outcomeTimestamp: expected a time since the card was shown, and no later than now"
    )


@pytest.mark.parametrize(
    "twice",
    [
        ('"outcome": "overridden"', '"outcome": "accepted", "outcome": "overridden"'),
        ('"code": "d7ecf885"', '"code": "a", "code": "d7ecf885"'),
        ('"vendor": {}', '"vendor": {"x": 1, "x": 2}'),
    ],
)
def test_feedback_entry_in_which_a_member_stands_twice_is_refused(
    twice: tuple[str, str], audit_log: AuditLog, card: Shown
) -> None:
    entry = json.dumps(_overridden(card, overrideReason={"reason": FOREIGN}, vendor={}))
    assert twice[0] in entry
    entries = [entry.replace(*twice), json.dumps(_overridden(card))]
    outcome = _record_body(audit_log, f'{{"feedback": [{", ".join(entries)}]}}'.encode())
    assert (outcome.recorded, [refusal.reason for refusal in outcome.refused]) == (1, ["a member was sent twice"])


@pytest.mark.parametrize(
    "body",
    ['{"feedback": %s, "feedback": %s}', '{"feedback": [], "feedback": %s}', '{"a": %s, "a": 0, "feedback": %s}'],
)
def test_feedback_body_in_which_a_member_stands_twice_is_refused(body: str, audit_log: AuditLog, card: Shown) -> None:
    entries = json.dumps([_overridden(card)])
    with pytest.raises(BadRequestError, match=r"^body is no feedback: a member was sent twice$"):
        _record_body(audit_log, body.replace("%s", entries).encode())


@pytest.mark.parametrize("sent", ["2026-11-24T09:31:02", "yesterday", "0001-01-01T00:00:00+05:00", 17, None])
def test_feedback_without_a_moment_is_refused(sent: object, audit_log: AuditLog, card: Shown) -> None:
    outcome = _record(audit_log, _overridden(card, outcomeTimestamp=sent), _overridden(card))
    assert (outcome.recorded, [refusal.index for refusal in outcome.refused]) == (1, [0])


def test_feedback_reason_that_was_offered_is_kept_by_its_code(audit_log: AuditLog, card: Shown) -> None:
    offered = card["overrideReasons"][1]
    reason = {
        "code": offered["code"],
        "system": offered["system"],
    }  # without display, as in the specification's example
    _record(audit_log, _overridden(card, overrideReason={"reason": reason}))
    (entry,) = _entries(audit_log)
    assert (entry.override_reason, entry.payload) == (offered["code"], None)


@pytest.mark.parametrize(
    "reason",
    [
        FOREIGN,
        {"code": "Zyxwvut-1931", "system": OVERRIDE_SYSTEM},
        {"code": "already-discussed", "system": "https://another.example"},
        {"display": CANARY},
    ],
)
def test_feedback_reason_that_was_not_offered_is_in_the_payload_alone(
    reason: dict[str, str], audit_log: AuditLog, card: Shown
) -> None:
    _record(audit_log, _overridden(card, overrideReason={"reason": reason}))
    assert _entries(audit_log)[0].override_reason == "other"
    assert msgspec.to_builtins(_payload(audit_log).reasons) == (
        {"code": None, "system": None, "display": None} | reason,
    )


def test_feedback_comment_is_nowhere_in_clear(audit_log: AuditLog, card: Shown) -> None:
    _record(audit_log, _overridden(card, overrideReason={"userComment": CANARY, "reason": FOREIGN}))
    assert _payload(audit_log).comment == CANARY
    for file in Path(audit_log.config.directory).rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert b"Zyxwvut" not in data, file
            assert FOREIGN["code"].encode() not in data, file


def _index(log: AuditLog, entry: FeedbackEntry) -> LeafIndex:
    index = log.index_of(entry.id)
    assert index is not None
    return index


def test_feedback_comment_is_under_the_key_of_the_decisions_patient(audit_log: AuditLog, card: Shown) -> None:
    _record(audit_log, _overridden(card, overrideReason={"userComment": CANARY}))
    (entry,) = _entries(audit_log)
    key = audit_log.vault.find(patient_subject(patients.PATIENT_ID))
    assert key is not None
    assert audit_log.payload_key(_index(audit_log, entry)) == audit_log.payload_key(LeafIndex(0)) == key
    assert audit_log.storage.payloads_under(key.ref) == [0, _index(audit_log, entry)]


def test_feedback_on_a_failed_models_card_is_under_the_patients_key_too(
    make_desk: MakeDesk, prevent: ReleasedModel, audit_log: AuditLog
) -> None:
    def failing(*_arguments: Any) -> Any:
        raise ZeroDivisionError

    desk = make_desk(models={"prevent_cvd": replace(prevent, interpret=failing)})
    body = patients.encoded(patients.call(patients.prefetch(NOW)))
    (failed,) = json.loads(answer(body, desk.services[0], CALLER, desk))["cards"]
    _record(audit_log, _overridden(failed, overrideReason={"userComment": CANARY}))
    (entry,) = _entries(audit_log)
    expected = audit_log.vault.find(patient_subject(patients.PATIENT_ID))
    assert audit_log.payload_key(_index(audit_log, entry)) == expected


def test_feedback_on_a_decision_without_a_payload_is_under_a_key_of_that_decision(
    audit_log: AuditLog, card: Shown
) -> None:
    decision = parse_entry(audit_log.entry(LeafIndex(0)))
    assert isinstance(decision, DecisionEntry)
    entry_id = audit_log.new_entry_id()
    shown = msgspec.structs.replace(decision.cards[0], uuid=card_uuid(entry_id, 0))
    audit_log.record(msgspec.structs.replace(decision, id=entry_id, cards=(shown,), payload=None))
    said = _overridden({"uuid": shown.uuid}, overrideReason={"userComment": CANARY})
    assert _counts(_record(audit_log, said, said)) == (1, 1, 0, 0)
    assert _payload(audit_log).comment == CANARY
    (entry,) = _entries(audit_log)
    expected = audit_log.vault.find(decision_subject(entry_id))
    assert audit_log.payload_key(_index(audit_log, entry)) == expected


@pytest.mark.parametrize("payload_too", [False, True])
def test_feedback_about_an_erased_patient_keeps_the_codes_alone(
    payload_too: bool, audit_log: AuditLog, card: Shown
) -> None:
    key = audit_log.payload_key(LeafIndex(0))
    assert key is not None
    audit_log.vault.store.destroy_keys([key.ref], format_time(NOW))
    if payload_too:
        with audit_log.storage.exclusive() as transaction:
            transaction.erase(Erasure("ab" * 16, b"\x05" * 32), key_refs=[key.ref])
    said = _overridden(card, overrideReason={"userComment": CANARY, "reason": FOREIGN})
    assert _counts(_record(audit_log, said, said)) == (1, 1, 0, 0)
    (entry,) = _entries(audit_log)
    assert (entry.outcome, entry.override_reason, entry.payload) == ("overridden", "other", None)
    assert audit_log.storage.payload(_index(audit_log, entry)) is None
    assert audit_log.vault.find(patient_subject(patients.PATIENT_ID)) is None


def test_feedback_is_not_acknowledged_while_the_vault_cannot_be_read(audit_log: AuditLog, card: Shown) -> None:
    vault = audit_log.config.directory / "vault.sqlite3"
    vault.rename(vault.with_name("aside"))
    with pytest.raises(NotRecordedError):
        _record(audit_log, _overridden(card))
    vault.with_name("aside").rename(vault)
    assert _record(audit_log, _overridden(card)).recorded == 1


OFFERED = {"code": "value-wrong", "system": OVERRIDE_SYSTEM}


@pytest.mark.parametrize(
    "said",
    [
        {"overrideReasons": [OFFERED]},
        {"overrideReasons": [{"reason": OFFERED, "userComment": CANARY}]},
        {"overrideReasons": [FOREIGN, {"code": "value-wrong", "display": "A value used here is wrong"}]},
        {"extension": {"reason": OFFERED}},
        {"overrideReason": {"extension": [{"valueCoding": OFFERED}]}},
        {"overrideReason": None, "overrideReasons": [{"extension": {"com.example": {"coding": [OFFERED]}}}]},
    ],
)
def test_feedback_plural_override_reasons_are_read_from_clients_that_send_them(
    said: dict[str, Any], audit_log: AuditLog, card: Shown
) -> None:
    assert _record(audit_log, _overridden(card, **said), client=EPIC).recorded == 1
    (entry,) = _entries(audit_log)
    assert entry.override_reason == "value-wrong"


def test_feedback_plural_override_reasons_are_ignored_from_others(audit_log: AuditLog, card: Shown) -> None:
    outcome = _record(audit_log, _overridden(card, overrideReasons=[OFFERED], extension={"reason": OFFERED}))
    assert outcome.recorded == 1
    (entry,) = _entries(audit_log)
    assert (entry.override_reason, entry.payload) == (None, None)


def test_feedback_extension_of_a_plural_client_is_sealed_whole(audit_log: AuditLog, card: Shown) -> None:
    _record(audit_log, _overridden(card, extension={"note": CANARY}), client=EPIC)
    assert _entries(audit_log)[0].override_reason is None
    assert json.loads(_payload(audit_log).extension) == [{"note": CANARY}]


def test_feedback_about_unknown_cards_is_counted_and_not_recorded(audit_log: AuditLog, card: Shown) -> None:
    others = ["123456", "", "0c8b6f0e-9b5c-4b39-8d4f-f7a2a5a3a7b1", f"{{{card['uuid']}}}", card["uuid"] + "\n"]
    beside = card_uuid(parse_entry(audit_log.entry(LeafIndex(0))).id, 1)
    outcome = _record(audit_log, *({**_overridden(card), "card": other} for other in (*others, beside)))
    assert _counts(outcome) == (0, 0, 6, 0)
    assert _entries(audit_log) == []


def test_feedback_about_another_services_card_is_unknown(audit_log: AuditLog, card: Shown) -> None:
    assert _counts(_record(audit_log, _overridden(card), service="icu-mortality")) == (0, 0, 1, 0)
    assert _entries(audit_log) == []


def test_feedback_about_another_clients_card_is_unknown(audit_log: AuditLog, card: Shown) -> None:
    other = replace(CLIENT, id="west-ehr")
    assert _counts(_record(audit_log, _overridden(card), client=other)) == (0, 0, 1, 0)
    assert _entries(audit_log) == []


def test_feedback_about_another_tenants_card_is_unknown(audit_log: AuditLog, card: Shown, tmp_path: Path) -> None:
    folder = tmp_path / "south"
    folder.mkdir()
    create_log(config := LogConfig(folder, ORIGIN, "south", deadline_s=5.0), init_keys(folder, ORIGIN, os.urandom))
    south = AuditLog.open(config, clock=lambda: NOW)
    try:
        assert _counts(_record(south, _overridden(card))) == (0, 0, 1, 0)
        assert list(south.entries()) == []
    finally:
        south.close()


def test_feedback_about_a_feedbacks_own_entry_is_unknown(audit_log: AuditLog, card: Shown) -> None:
    _record(audit_log, _overridden(card))
    named = str(uuid.UUID(hex=_entries(audit_log)[0].id))
    assert _counts(_record(audit_log, _overridden(card) | {"card": named})) == (0, 0, 1, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"feedback": null}',
        b'{"feedback": {}}',
        b'{"feedback": []}',
        b'{"feedback": [1, "two", null]}',
        b'{"feedback": [{"card": "\xff"}]}',
        b'{"feedback": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_feedback_that_is_none_is_a_bad_request(body: bytes, audit_log: AuditLog) -> None:
    with pytest.raises(BadRequestError):
        record_feedback(body, SERVICE, CLIENT, audit_log, _context(audit_log), lambda: NOW)


def test_feedback_refusals_hold_no_values(audit_log: AuditLog, card: Shown) -> None:
    bad = [
        _overridden(card, outcome="Zyxwvut"),
        _overridden(card, outcomeTimestamp="Zyxwvut"),
        _overridden(card, overrideReason="Zyxwvut"),
        _overridden(card, overrideReason={"reason": {"code": {"Zyxwvut": 1}}}),
        {"Zyxwvut": "Zyxwvut"},
    ]
    outcome = _record(audit_log, *bad, _overridden(card))
    assert len(outcome.refused) == len(bad)
    assert "Zyxwvut" not in json.dumps(feedback_response(outcome))
    with pytest.raises(BadRequestError) as caught:
        _record(audit_log, *bad)
    assert "Zyxwvut" not in str(caught.value)


def test_feedback_that_the_log_does_not_take_is_not_acknowledged(audit_log: AuditLog, card: Shown) -> None:
    audit_log.close()
    with pytest.raises(NotRecordedError):
        _record(audit_log, _overridden(card))


def test_feedback_response_names_the_counts_and_what_was_refused(audit_log: AuditLog, card: Shown) -> None:
    outcome = _record(audit_log, _overridden(card), _overridden(card), {}, _overridden(card) | {"card": "123456"})
    reason = "object missing required field `card`"
    assert feedback_response(outcome)["extension"]["org.bedside.feedback"] == {
        "recorded": 1,
        "repeated": 1,
        "unknown": 1,
        "unknownSuggestions": 0,
        "refused": [{"index": 2, "reason": reason}],
    }
    nothing_refused = feedback_response(replace(outcome, refused=()))
    assert "refused" not in nothing_refused["extension"]["org.bedside.feedback"]


RACER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from audit.log import AuditLog, LogConfig
from cds_service.decision import Context
from cds_service.feedback import record_feedback
from tests.cds_service.callers import CLIENT
from tests.conftest import NOW

directory, origin, tenant, service = sys.argv[1:]
log = AuditLog.open(LogConfig(Path(directory), origin, tenant, deadline_s=20.0), clock=lambda: datetime.now(UTC))
context = Context(tenant, "5a" * 32, "6b" * 32, log.keys.index_key)
print("ready", flush=True)
outcome = record_feedback(sys.stdin.buffer.read(), service, CLIENT, log, context, lambda: NOW)
log.close()
print(outcome.recorded, outcome.repeated)
"""


def test_feedback_with_very_many_reasons_takes_no_time_that_grows_with_their_square(
    audit_log: AuditLog, card: Shown
) -> None:
    """As many as fit into a body, which only a client whose extensions are searched can send; compared in pairs, minutes."""
    reasons = [{"code": str(number)} for number in range(100_000)]
    started = time.process_time()
    assert _record(audit_log, _overridden(card, extension={"reasons": reasons}), client=EPIC).recorded == 1
    assert time.process_time() - started < 20
    assert _entries(audit_log)[0].override_reason == "other"


def test_feedback_of_two_processes_at_once_is_recorded_once(audit_log: AuditLog, card: Shown) -> None:
    # Both look for what is there, then wait for the log's lock: whoever comes second meets entries with other bytes.
    comment = {"userComment": "sealed under another nonce by each"}
    entries = [
        _overridden(card, outcomeTimestamp=f"2026-11-24T09:31:0{second}Z", overrideReason=comment)
        for second in range(9)
    ]
    command = [sys.executable, "-c", RACER, str(audit_log.config.directory), ORIGIN, TENANT, SERVICE]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    with (audit_log.config.directory / LOCK_FILE).open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for racer, batch in zip(racers, (entries[:6], entries[3:]), strict=True):
            assert racer.stdin is not None
            racer.stdin.write(json.dumps({"feedback": batch}) + "\n")
            racer.stdin.close()
        time.sleep(0.7)
    results = []
    for racer in racers:
        assert racer.stdout is not None
        results.append(tuple(map(int, racer.stdout.read().split())))
        assert racer.wait(60) == 0
        racer.stdout.close()
    assert sorted(results) == [(3, 3), (6, 0)]
    assert len(_entries(audit_log)) == 9


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = ("card", "outcome", "outcomeTimestamp", "acceptedSuggestions", "overrideReason", "overrideReasons", "extension")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_feedback_of_any_form_has_an_outcome_or_is_a_bad_request(
    data: st.DataObject, audit_log: AuditLog, card: Shown
) -> None:
    near = _overridden(card, overrideReason={"reason": FOREIGN}) | data.draw(
        st.dictionaries(st.sampled_from(NAMES), json_values, max_size=2)
    )
    entries = data.draw(st.lists(st.just(near) | json_values, max_size=4))
    body = data.draw(
        st.one_of(json_values, st.just({"feedback": entries})).map(lambda value: json.dumps(value).encode())
        | st.binary()
    )
    client = data.draw(st.sampled_from([CLIENT, EPIC]))
    try:
        outcome = record_feedback(body, SERVICE, client, audit_log, _context(audit_log), lambda: NOW)
    except BadRequestError:
        return
    counted = outcome.recorded + outcome.repeated + outcome.unknown + len(outcome.refused)
    assert counted == len(json.loads(body)["feedback"])
    assert all(feedback_response(outcome)["extension"]["org.bedside.feedback"][name] >= 0 for name in ("unknown",))
