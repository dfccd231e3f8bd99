"""Section H of the checklist: what became of the cards."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import requests

from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.hospital import RISK, Hospital
from tests.conformance.response_rules import check_feedback

Json = dict[str, Any]
COUNTS = ("recorded", "repeated", "unknown", "unknownSuggestions")
NO_CARD = "2b7c6d1e-6f0b-4b7a-9f6e-0d1f6a6b7c01"


def _shown(hospital: Hospital, client: str = "spec", service: str = RISK) -> Json:
    """A card with suggestions that was shown just now."""
    body = calls.call(prefetch=calls.prefetched(cholesterol=patients.bundle()))
    (card,) = hospital.cards(body, client, service)
    return card


def _accepted(card: Json, /, **changes: Any) -> Json:
    entry = {
        "card": card["uuid"],
        "outcome": "accepted",
        "acceptedSuggestions": [{"id": card["suggestions"][0]["uuid"]}],
        "outcomeTimestamp": _moment(),
    }
    return entry | changes


def _overridden(card: Json, /, **changes: Any) -> Json:
    return {
        "card": card["uuid"],
        "outcome": "overridden",
        "overrideReason": {"reason": card["overrideReasons"][0], "userComment": "clinician knows better"},
        "outcomeTimestamp": _moment(),
    } | changes


def _moment(minutes: float = 0, zone: timezone = UTC, precision: str = "milliseconds") -> str:
    """So many minutes from now, as clients write it."""
    moment = datetime.now(zone) + timedelta(minutes=minutes)
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def _counts(answer: requests.Response) -> tuple[int, ...]:
    assert answer.status_code == 200, answer.text
    assert check_feedback(answer.status_code, answer.headers, answer.content) == []
    counted = answer.json()["extension"]["org.bedside.feedback"]
    return tuple(counted[name] for name in COUNTS)


def test_65_feedback_is_taken(hospital: Hospital) -> None:
    assert _counts(hospital.feedback(_accepted(_shown(hospital)))) == (1, 0, 0, 0)


def test_65_feedback_to_an_unknown_service_is_not_found(hospital: Hospital) -> None:
    assert hospital.feedback(_accepted(_shown(hospital)), service="none").status_code == 404


def test_66_a_batch_is_of_several_cards_and_may_repeat_one(hospital: Hospital) -> None:
    first, second = _shown(hospital), _shown(hospital)
    later = _accepted(first, outcomeTimestamp=_moment(1))
    assert _counts(hospital.feedback(_accepted(first), _overridden(second), later)) == (3, 0, 0, 0)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"feedback": {}}', b'{"feedback": []}', b'{"feedback": [7]}', b"{"]
)
def test_66_a_body_that_is_no_feedback_is_refused(body: bytes, hospital: Hospital) -> None:
    answer = hospital.send("POST", f"/cds-services/{RISK}/feedback", body)
    assert answer.status_code == 400


@pytest.mark.parametrize("reason", [None, {"userComment": "x"}, {"reason": {"code": "y", "system": "urn:z"}}])
def test_67_an_override_may_come_with_or_without_reason(reason: Json | None, hospital: Hospital) -> None:
    entry = _overridden(_shown(hospital), overrideReason=reason)
    kept = {name: value for name, value in entry.items() if value is not None}
    assert _counts(hospital.feedback(kept)) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"card": None},
        {"card": 7},
        {"outcome": None},
        {"outcome": "ignored"},
        {"outcomeTimestamp": None},
        {"outcomeTimestamp": "yesterday"},
        {"outcomeTimestamp": "2026-11-24T10:20:30"},
        {"acceptedSuggestions": None},
        {"acceptedSuggestions": []},
        {"acceptedSuggestions": [{}]},
    ],
)
def test_67_an_entry_that_lacks_something_is_refused(change: Json, hospital: Hospital) -> None:
    entry = {name: value for name, value in _accepted(_shown(hospital), **change).items() if value is not None}
    assert hospital.feedback(entry).status_code == 400


@pytest.mark.parametrize("moment", ["2020-11-24T10:20:30Z", "2999-11-24T10:20:30Z"])
def test_67_a_time_before_the_card_or_to_come_is_not_taken(moment: str, hospital: Hospital) -> None:
    answer = hospital.feedback(_accepted(_shown(hospital), outcomeTimestamp=moment))
    assert _counts(answer) == (0, 0, 0, 0)
    (refused,) = answer.json()["extension"]["org.bedside.feedback"]["refused"]
    assert refused["reason"].startswith("outcomeTimestamp: expected a time since the card was shown")


def test_67_a_member_that_stands_twice_in_an_entry_is_refused(hospital: Hospital) -> None:
    text = json.dumps({"feedback": [_accepted(_shown(hospital))]})
    twice = text.replace('"outcome": "accepted"', '"outcome": "overridden", "outcome": "accepted"')
    assert hospital.send("POST", f"/cds-services/{RISK}/feedback", twice.encode()).status_code == 400


def test_67_a_bad_entry_does_not_cost_the_others(hospital: Hospital) -> None:
    good = _accepted(_shown(hospital))
    answer = hospital.feedback({"card": 7}, good)
    assert _counts(answer) == (1, 0, 0, 0)
    (refused,) = answer.json()["extension"]["org.bedside.feedback"]["refused"]
    assert refused["index"] == 0


@pytest.mark.parametrize(
    ("zone", "precision"), [(UTC, "milliseconds"), (UTC, "seconds"), (timezone(timedelta(hours=-5)), "microseconds")]
)
def test_68_fractions_and_offsets_are_taken(zone: timezone, precision: str, hospital: Hospital) -> None:
    entry = _accepted(_shown(hospital), outcomeTimestamp=_moment(0, zone, precision))
    assert _counts(hospital.feedback(entry)) == (1, 0, 0, 0)


@pytest.mark.parametrize("minutes", [-4.5, 4.5])
def test_68_clocks_may_differ_by_minutes(minutes: float, hospital: Hospital) -> None:
    assert _counts(hospital.feedback(_accepted(_shown(hospital), outcomeTimestamp=_moment(minutes)))) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    "members",
    [
        {"overrideReasons": [{"code": "contraindicated", "system": "urn:bedside:override-reason"}]},
        {"overrideReasons": [{"reason": {"code": "x"}, "userComment": "y"}]},
        {"extension": {"com.epic.reason": {"code": "x", "display": "y"}}},
    ],
)
def test_68_what_epic_sends_instead_of_a_reason_is_taken(members: Json, hospital: Hospital) -> None:
    entry = _overridden(_shown(hospital, "epic")) | members
    del entry["overrideReason"]
    assert _counts(hospital.feedback(entry, client="epic")) == (1, 0, 0, 0)


@pytest.mark.parametrize("card", ["123456", NO_CARD, "x" * 500, ""])
def test_69_an_unknown_card_does_not_cost_the_others(card: str, hospital: Hospital) -> None:
    good = _accepted(_shown(hospital))
    assert _counts(hospital.feedback(_accepted(_shown(hospital), card=card), good)) == (1, 0, 1, 0)


def test_69_an_unknown_suggestion_is_counted(hospital: Hospital) -> None:
    card = _shown(hospital)
    entry = _accepted(card, acceptedSuggestions=[{"id": NO_CARD}, {"id": card["suggestions"][0]["uuid"]}])
    assert _counts(hospital.feedback(entry)) == (1, 0, 0, 1)


def test_69_what_comes_twice_is_recorded_once(hospital: Hospital) -> None:
    """To either of the two workers."""
    entry = _accepted(_shown(hospital))
    assert _counts(hospital.feedback(entry)) == (1, 0, 0, 0)
    assert {_counts(hospital.feedback(entry)) for _ in range(6)} == {(0, 1, 0, 0)}


def test_70_feedback_on_another_services_or_tenants_card_is_not_taken(hospital: Hospital) -> None:
    of_ours, of_south = _shown(hospital), _shown(hospital, "south")
    assert _counts(hospital.feedback(_accepted(of_ours), service="prevent-cvd")) == (0, 0, 1, 0)
    assert _counts(hospital.feedback(_accepted(of_south))) == (0, 0, 1, 0)
    assert _counts(hospital.feedback(_accepted(of_ours), client="south")) == (0, 0, 1, 0)
    assert _counts(hospital.feedback(_accepted(of_south), client="south")) == (1, 0, 0, 0)


def test_71_feedback_asks_who_calls(hospital: Hospital) -> None:
    entry, path = _accepted(_shown(hospital)), f"/cds-services/{RISK}/feedback"
    assert hospital.feedback(entry, client=None).status_code == 401
    assert hospital.feedback(entry, token=hospital.token("/cds-services")).status_code == 401
    for audience in (path, f"/cds-services/{RISK}"):
        assert hospital.feedback(entry, token=hospital.token(audience)).status_code == 200


def test_71_a_token_for_feedback_is_none_for_a_call(hospital: Hospital) -> None:
    token = hospital.token(f"/cds-services/{RISK}/feedback")
    assert hospital.call(calls.call(), token=token).status_code == 401


def test_72_feedback_is_linked_to_the_decision_and_silence_counts_as_nothing(hospital: Hospital) -> None:
    def counts() -> tuple[int, int, int]:
        report = hospital.run("report", "feedback", "--service", RISK, "--json")
        assert report.returncode == 0, report.stderr
        rows = [row for row in json.loads(report.stdout)["models"] if row["model"] == "prevent_cvd"]
        return tuple(sum(_count(row[name]) for row in rows) for name in ("shown", "accepted", "overridden"))  # type: ignore[return-value]

    shown, accepted, overridden = counts()
    _shown(hospital)
    hospital.feedback(_overridden(_shown(hospital), outcomeTimestamp=datetime.now(UTC).isoformat()))
    assert counts() == (shown + 2, accepted, overridden + 1)


def _count(value: Any) -> int:
    return int(value["count"] if isinstance(value, dict) else value)
