"""What a ward sees of a decision and what it doesn't: shadow runs, findings shown a moment ago, services switched off."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.entry import DecisionEntry, parse_entry
from audit.merkle import LeafIndex
from cds_service.card_ids import find_decision
from cds_service.desk import Caller, Desk, Quiet
from cds_service.pipeline import answer
from cds_service.replay import read_recorded, replay
from cds_service.response import RECEIPT_KEY
from cds_service.ward import Ward
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CALLER, caller
from tests.conftest import NOW, TENANT, MakeDesk

HOUR = Quiet(timedelta(hours=1), per_user=False)


def _body(user: str = "Practitioner/1", **prefetched: Any) -> bytes:
    context = {"userId": user, "patientId": patients.PATIENT_ID}
    return patients.encoded(patients.call(patients.prefetch(NOW) | prefetched, context=context))


def _call(desk: Desk, body: bytes | None = None, who: Caller = CALLER) -> tuple[dict[str, Any], DecisionEntry]:
    """The answer, and what the log holds of it."""
    answered = json.loads(answer(body or _body(), desk.services[0], who, desk))
    index = LeafIndex(answered["extension"][RECEIPT_KEY]["index"])
    entry = parse_entry(desk.books[TENANT].log.entry(index))
    assert isinstance(entry, DecisionEntry)
    return answered, entry


def _after(desk: Desk, minutes: float) -> Desk:
    return replace(desk, clock=lambda: NOW + timedelta(minutes=minutes))


def _replayed(desk: Desk, entry: DecisionEntry, models: dict[str, ReleasedModel]) -> str:
    log = desk.books[TENANT].log
    index = log.index_of(entry.id)
    assert index is not None
    recorded = read_recorded(log, index)
    assert recorded is not None
    return replay(recorded, models).outcome


@pytest.mark.parametrize("where", ["model", "client"])
def test_ward_shadow_runs_and_records_and_shows_nothing(
    where: str, make_desk: MakeDesk, models: dict[str, ReleasedModel]
) -> None:
    shadow = frozenset({"prevent_cvd"})
    desk = make_desk(shadow_models=shadow) if where == "model" else make_desk()
    who = CALLER if where == "model" else caller(shadow_models=shadow, takes_system_actions=True)
    answered, entry = _call(desk, who=who)
    assert answered["cards"] == []
    assert "systemActions" not in answered
    assert entry.model is not None
    assert (entry.status, entry.model.status, entry.cards) == ("answered", "shadow", ())
    assert entry.output is not None
    assert _replayed(desk, entry, models) == "reproduced"


def test_ward_shadow_for_one_client_is_shown_to_another(make_desk: MakeDesk) -> None:
    desk = make_desk()
    _call(desk, who=caller(shadow_models=frozenset({"prevent_cvd"})))
    answered, entry = _call(desk)
    assert len(answered["cards"]) == len(entry.cards) == 1


def test_ward_the_same_finding_is_not_shown_again_within_the_time(
    make_desk: MakeDesk, models: dict[str, ReleasedModel]
) -> None:
    desk = make_desk(quiet=HOUR)
    first, _ = _call(desk)
    again, entry = _call(_after(desk, 59))
    assert len(first["cards"]) == 1
    assert again["cards"] == []
    assert (entry.status, entry.cards) == ("quieted", ())
    assert entry.output is not None
    assert _replayed(desk, entry, models) == "reproduced"


def test_ward_the_same_finding_is_shown_again_after_the_time(make_desk: MakeDesk) -> None:
    desk = make_desk(quiet=HOUR)
    _call(desk)
    assert len(_call(_after(desk, 61))[0]["cards"]) == 1


def test_ward_what_was_quieted_does_not_prolong_the_silence(make_desk: MakeDesk) -> None:
    desk = make_desk(quiet=HOUR)
    for minutes, shown in ((0, 1), (40, 0), (61, 1), (100, 0)):
        assert len(_call(_after(desk, minutes))[0]["cards"]) == shown, minutes


def test_ward_a_changed_finding_is_shown_at_once(make_desk: MakeDesk) -> None:
    desk = make_desk(quiet=HOUR)
    _call(desk)
    higher = patients.bundle(patients.observation(1, "8480-6", 175.0, "mm[Hg]", NOW))
    assert len(_call(_after(desk, 1), _body(blood_pressure=higher))[0]["cards"]) == 1
    assert len(_call(_after(desk, 2))[0]["cards"]) == 1  # and back again is a change too


def test_ward_what_could_not_be_had_is_a_change(make_desk: MakeDesk) -> None:
    """The same estimate, now less certain."""
    desk = make_desk(quiet=HOUR)
    _call(desk)
    lacking = patients.prefetch(NOW)
    del lacking["hba1c"]
    assert len(_call(_after(desk, 1), patients.encoded(patients.call(lacking)))[0]["cards"]) == 1


def test_ward_after_something_critical_or_a_failure_the_old_finding_is_news_again(make_desk: MakeDesk) -> None:
    desk = make_desk(quiet=HOUR)
    service = desk.services[0]

    def interpreted(**changes: Any) -> Desk:
        def interpret(assessment: Any, manifest: Any) -> Any:
            if changes.get("fails"):
                raise RuntimeError("canary")
            return replace(service.model.interpret(assessment, manifest), **changes)

        return replace(desk, services=(replace(service, model=replace(service.model, interpret=interpret)),))

    minute = 0
    for other in (interpreted(urgency="critical"), interpreted(fails=True)):
        assert len(_call(_after(desk, minute))[0]["cards"]) == 1
        assert _call(_after(desk, minute + 1))[0]["cards"] == []
        assert [len(_call(_after(other, minute + more))[0]["cards"]) for more in (2, 3)] == [1, 1]
        minute += 4
    assert len(_call(_after(desk, minute))[0]["cards"]) == 1


def test_ward_one_clients_card_silences_no_other_client(make_desk: MakeDesk) -> None:
    """Two EHRs of one tenant may each have a Patient/1, and they are not one person."""
    desk = make_desk(quiet=HOUR)
    _call(desk)
    assert len(_call(_after(desk, 1), who=caller(id="west-ehr"))[0]["cards"]) == 1


def test_ward_a_quiet_finding_is_still_filed(make_desk: MakeDesk) -> None:
    desk = make_desk(quiet=HOUR)
    filing = caller(takes_system_actions=True)
    _call(desk, who=filing)
    answered, entry = _call(_after(desk, 1), who=filing)
    assert answered["cards"] == []
    assert len(answered["systemActions"]) == len(entry.system_actions) == 1


def test_ward_an_answer_too_late_for_its_deadline_counts_as_not_shown(make_desk: MakeDesk) -> None:
    desk = make_desk(quiet=HOUR)
    late = caller(deadline_s=1e-6)
    assert [len(_call(_after(desk, minute), who=late)[0]["cards"]) for minute in (0, 1)] == [1, 1]
    assert [len(_call(_after(desk, minute))[0]["cards"]) for minute in (2, 3)] == [1, 0]


def test_ward_a_switch_thrown_during_a_call_holds_for_it(make_desk: MakeDesk, ward: Ward) -> None:
    desk = make_desk()
    service = desk.services[0]

    def interpret(assessment: Any, manifest: Any) -> Any:
        ward.set_switch("model", "prevent_cvd", tenant=TENANT, off=True, reason="safety", moment=NOW)
        return service.model.interpret(assessment, manifest)

    during = replace(desk, services=(replace(service, model=replace(service.model, interpret=interpret)),))
    answered, entry = _call(during)
    assert answered["cards"] == []
    assert (entry.status, entry.cards) == ("switched-off", ())


def test_ward_silence_is_for_the_patient_or_for_each_user(make_desk: MakeDesk) -> None:
    desk = make_desk(quiet=HOUR)
    _call(desk)
    assert _call(_after(desk, 1), _body("Practitioner/2"))[0]["cards"] == []
    each = replace(desk, quiet=Quiet(timedelta(hours=1), per_user=True))
    assert len(_call(_after(each, 2), _body("Practitioner/2"))[0]["cards"]) == 1
    assert _call(_after(each, 3), _body("Practitioner/2"))[0]["cards"] == []


def test_ward_without_a_time_everything_is_shown(make_desk: MakeDesk) -> None:
    desk = make_desk()
    assert [len(_call(desk)[0]["cards"]) for _ in range(3)] == [1, 1, 1]


def test_ward_a_store_that_fails_hides_nothing(make_desk: MakeDesk, tmp_path: Path) -> None:
    desk = make_desk(quiet=HOUR)
    _call(desk)
    with closing(sqlite3.connect(tmp_path / "ward.sqlite3")) as other:
        other.execute("DROP TABLE shown")
    assert len(_call(_after(desk, 1))[0]["cards"]) == 1


@pytest.mark.parametrize(
    ("scope", "name", "off"),
    [
        ("service", "prevent-cvd", True),
        ("model", "prevent_cvd", True),
        ("tenant", TENANT, True),
        ("service", "icu-mortality", False),
        ("model", "icu_mortality", False),
    ],
)
def test_ward_a_switch_stops_what_it_names_and_nothing_else(
    scope: str, name: str, off: bool, make_desk: MakeDesk, ward: Ward
) -> None:
    desk = make_desk()
    ward.set_switch(scope, name, tenant=TENANT, off=True, reason="safety", moment=NOW)  # type: ignore[arg-type]
    answered, entry = _call(desk)
    assert (answered["cards"] == []) is off
    assert entry.status == ("switched-off" if off else "answered")
    assert (entry.inputs is None) is off  # the model did not run
    ward.set_switch(scope, name, tenant=TENANT, off=False, reason="safety", moment=NOW)  # type: ignore[arg-type]
    assert len(_call(desk)[0]["cards"]) == 1


def test_ward_system_actions_only_for_clients_that_take_them(make_desk: MakeDesk) -> None:
    desk = make_desk()
    assert "systemActions" not in _call(desk)[0]
    answered, entry = _call(desk, who=caller(takes_system_actions=True))
    (action,) = answered["systemActions"]
    assert (action["type"], action["resource"]["resourceType"]) == ("create", "RiskAssessment")
    assert len(answered["cards"]) == 1
    assert len(entry.system_actions) == 1


def test_ward_an_abstention_takes_no_system_action(make_desk: MakeDesk) -> None:
    answered, _ = _call(make_desk(), _body(blood_pressure=None), caller(takes_system_actions=True))
    assert "systemActions" not in answered


def test_ward_who_asked_is_in_the_log(make_desk: MakeDesk) -> None:
    _, entry = _call(make_desk())
    assert (entry.requester.issuer, entry.requester.subject) == (CALLER.client.issuer, CALLER.client.id)


def test_ward_a_card_names_its_decision(make_desk: MakeDesk) -> None:
    desk = make_desk()
    answered, entry = _call(desk)
    found = find_decision(desk.books[TENANT].log, answered["cards"][0]["uuid"])
    assert found is not None
    assert found.entry == entry
