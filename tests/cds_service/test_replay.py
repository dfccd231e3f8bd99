from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from audit.entry import DecisionEntry
from audit.errors import PayloadError
from audit.log import AuditLog
from audit.merkle import LeafIndex
from cds_service.decision import ReplayPayload, StoredArray, leaf_action, leaf_card, leaf_inputs
from cds_service.pipeline import answer
from cds_service.replay import Recorded, read_recorded, replay
from model_artifacts.archive import find_kept, keep_model
from model_artifacts.assessment import AbstentionReason
from model_artifacts.manifest import Sha256
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CALLER, caller
from tests.conftest import NOW, MakeDesk

Models = dict[str, ReleasedModel]

CASES: dict[str, dict[str, Any]] = {
    "estimate": {},
    "too few inputs": {"cholesterol": None},
    "gaps": {"hba1c": patients.bundle(patients.observation(9, "4548-4", 6.0, "%", NOW, "somebody-else"))},
    "incomplete diagnoses": {"conditions": patients.bundle(patients.diabetes("somebody-else"))},
    "outside the population": {"patient": patients.patient() | {"birthDate": "2010"}},
}
RAN = ("estimate", "gaps")


def _recorded(make_desk: MakeDesk, log: AuditLog, case: str = "estimate", **client: Any) -> Recorded:
    desk = make_desk()
    body = patients.encoded(patients.call(patients.prefetch(NOW) | CASES[case]))
    answer(body, desk.services[0], caller(**client), desk)
    found = read_recorded(log, LeafIndex(0))
    assert found is not None
    return found


def _stored(recorded: Recorded) -> ReplayPayload:
    return msgspec.msgpack.decode(recorded.payload, type=ReplayPayload)


def _changed(recorded: Recorded, **changes: Any) -> Recorded:
    """The decision with another payload beside the same leaf."""
    return replace(recorded, payload=msgspec.msgpack.encode(msgspec.structs.replace(_stored(recorded), **changes)))


def _rewritten(recorded: Recorded, **changes: Any) -> Recorded:
    """The decision as a log would have it whose writer had put that into payload and leaf."""
    changed, commit = _changed(recorded, **changes), recorded.commit
    stored = _stored(changed)
    entry = msgspec.structs.replace(
        recorded.entry,
        inputs=leaf_inputs({name: array.unpack() for name, array in stored.arrays.items()}, stored.evidence, commit),
        cards=tuple(leaf_card(card, commit) for card in stored.cards),
        system_actions=tuple(leaf_action(action, commit) for action in stored.system_actions),
    )
    return replace(changed, entry=entry)


def _one_bit(recorded: Recorded) -> dict[str, StoredArray]:
    (name, array), *_ = _stored(recorded).arrays.items()
    data = bytes([array.data[0], array.data[1] ^ 0x40, *array.data[2:]])
    return {name: msgspec.structs.replace(array, data=data)}


@pytest.mark.parametrize("case", CASES)
def test_replay_reproduces(case: str, make_desk: MakeDesk, audit_log: AuditLog, models: Models) -> None:
    report = replay(_recorded(make_desk, audit_log, case), models)
    assert (report.outcome, report.differs) == ("reproduced", ())
    assert report.recorded_answer == report.repeated_answer
    assert (report.recorded_answer is None) == (case not in RAN)


@pytest.mark.parametrize("member", ["summary", "detail", "indicator"])
def test_replay_tells_a_card_that_is_worded_otherwise_today(
    member: str, make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    recorded = _recorded(make_desk, audit_log)
    (card,) = _stored(recorded).cards
    other = _rewritten(recorded, cards=({**card, member: card[member] + "x"},))
    assert replay(other, models).outcome == "card-differs"


def test_replay_tells_a_card_that_has_more_suggestions_today(
    make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    recorded = _recorded(make_desk, audit_log, "too few inputs")
    (card,) = _stored(recorded).cards
    assert card["suggestions"]
    other = {name: value for name, value in card.items() if name not in ("suggestions", "selectionBehavior")}
    assert replay(_rewritten(recorded, cards=(other,)), models).outcome == "card-differs"


def test_replay_tells_a_gap_that_was_taken_off(make_desk: MakeDesk, audit_log: AuditLog, models: Models) -> None:
    recorded = _recorded(make_desk, audit_log, "gaps")
    assert replay(_changed(recorded, gaps=()), models).outcome == "card-differs"


def test_replay_tells_a_tensor_that_was_changed(make_desk: MakeDesk, audit_log: AuditLog, models: Models) -> None:
    recorded = _recorded(make_desk, audit_log)
    report = replay(_rewritten(recorded, arrays=_one_bit(recorded)), models)
    assert report.outcome == "answer-differs"
    assert report.repeated_answer != report.recorded_answer


_LIES: dict[str, Callable[[DecisionEntry], dict[str, Any]]] = {
    "time": lambda _: {"time": "2026-11-24T09:30:00.000001Z"},
    "patient": lambda _: {"patient": "0" * 64},
    "model.id": lambda entry: _model(entry, id="icu_mortality"),
    "model.version": lambda entry: _model(entry, version="9.9.9"),
    "model.artefact": lambda entry: _model(entry, artefact="1" * 64),
    "model.manifest": lambda entry: _model(entry, manifest="1" * 64),
    "model.thresholds": lambda entry: _model(entry, thresholds="1" * 64),
    "model.status": lambda entry: _model(entry, status="shadow"),
    "inputs": lambda entry: _part(entry, "inputs", commitment="0" * 64),
    "explanation": lambda entry: _part(entry, "explanation", commitment="0" * 64),
    "output": lambda entry: _part(entry, "output", band="low"),
    "abstention": lambda _: {"abstention": ("too-few-inputs",)},
    "cards": lambda _: {"cards": ()},
    "system_actions": lambda _: {"system_actions": ()},
    "status": lambda _: {"status": "quieted"},
}


def _model(entry: DecisionEntry, **changes: Any) -> dict[str, Any]:
    return _part(entry, "model", **changes)


def _part(entry: DecisionEntry, name: str, **changes: Any) -> dict[str, Any]:
    return {name: msgspec.structs.replace(getattr(entry, name), **changes)}


@pytest.mark.parametrize("part", _LIES)
def test_replay_says_which_part_of_the_leaf_differs(
    part: str, make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    """Once "reproduced", whatever the leaf said: the payload was compared with itself."""
    recorded = _recorded(make_desk, audit_log, takes_system_actions=True)
    leaf = msgspec.structs.replace(recorded.entry, **_LIES[part](recorded.entry))
    report = replay(replace(recorded, entry=leaf), models)
    assert report.outcome == "leaf-differs"
    assert part in report.differs
    assert len(report.differs) == 1


@pytest.mark.parametrize(
    ("member", "changed"), [("uuid", "0"), ("indicator", "critical"), ("text", "0" * 64), ("suggestions", ("0",))]
)
def test_replay_says_that_the_leafs_card_differs(
    member: str, changed: object, make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    recorded = _recorded(make_desk, audit_log)
    (card,) = recorded.entry.cards
    leaf = msgspec.structs.replace(recorded.entry, cards=(msgspec.structs.replace(card, **{member: changed}),))
    report = replay(replace(recorded, entry=leaf), models)
    assert (report.outcome, report.differs) == ("leaf-differs", ("cards",))


def test_replay_of_an_abstention_says_which_part_of_the_leaf_differs(
    make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    recorded = _recorded(make_desk, audit_log, "too few inputs")
    for name, changes in (
        ("output.band", _part(recorded.entry, "output", band="low")),
        ("output", _part(recorded.entry, "output", decision="never-alerted")),
        ("abstention", {"abstention": ("outside-population",)}),
    ):
        report = replay(replace(recorded, entry=msgspec.structs.replace(recorded.entry, **changes)), models)
        assert (report.outcome, report.differs) == ("leaf-differs", (name,))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"shown": False}, "cards"),
        ({"patient_id": "somebody-else"}, None),
        ({"evidence": ()}, "inputs"),
        ({"answer": None}, "explanation"),
        ({"model_version": "9.9.9"}, "model.version"),
    ],
)
def test_replay_tells_a_payload_that_the_leaf_does_not_follow_from(
    changes: dict[str, Any], part: str | None, make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    recorded = _recorded(make_desk, audit_log, takes_system_actions=True)
    report = replay(_changed(recorded, **changes), models)
    assert report.outcome == ("card-differs" if part is None else "leaf-differs")
    assert part is None or part in report.differs


@pytest.mark.parametrize("part", ["model.id", "model.version", "abstention"])
def test_replay_of_a_version_that_is_gone_says_which_part_of_the_leaf_differs(
    part: str, make_desk: MakeDesk, audit_log: AuditLog
) -> None:
    recorded = _recorded(make_desk, audit_log)
    leaf = msgspec.structs.replace(recorded.entry, **_LIES[part](recorded.entry))
    report = replay(replace(recorded, entry=leaf), {})
    assert (report.outcome, report.differs) == ("leaf-differs", (part,))


@pytest.mark.parametrize(("member", "said"), [("id", "icu_mortality"), ("version", "9.9.9")])
def test_replay_tells_a_name_of_the_model_that_leaf_and_payload_say_against_its_manifest(
    member: str, said: str, make_desk: MakeDesk, audit_log: AuditLog, prevent: ReleasedModel, tmp_path: Path
) -> None:
    recorded = _recorded(make_desk, audit_log)
    keep_model(prevent, tmp_path)
    changed = _changed(recorded, **{f"model_{member}": said})
    leaf = msgspec.structs.replace(recorded.entry, **_model(recorded.entry, **{member: said}))
    report = replay(replace(changed, entry=leaf), {}, partial(find_kept, tmp_path))
    assert (report.outcome, report.differs) == ("leaf-differs", (f"model.{member}",))


def test_replay_tells_an_abstention_that_leaf_and_payload_say_against_the_answer(
    make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    recorded = _recorded(make_desk, audit_log)
    changed = _changed(recorded, abstention=(AbstentionReason("unlike-training-data", "x"),))
    leaf = msgspec.structs.replace(
        recorded.entry,
        **_part(recorded.entry, "output", band=None),
        abstention=("unlike-training-data",),
        status="abstained",
    )
    report = replay(replace(changed, entry=leaf), models)
    assert (report.outcome, report.differs) == ("leaf-differs", ("abstention", "output"))


def test_replay_makes_again_what_was_filed(make_desk: MakeDesk, audit_log: AuditLog, models: Models) -> None:
    """Once nothing of it was looked at."""
    recorded = _recorded(make_desk, audit_log, takes_system_actions=True)
    assert replay(recorded, models).outcome == "reproduced"
    (action,) = _stored(recorded).system_actions
    other = {**action, "resource": {**action["resource"], "occurrenceDateTime": "2026-11-24T09:30:01Z"}}
    assert replay(_changed(recorded, system_actions=(other,)), models).differs == ("system_actions",)
    assert replay(_rewritten(recorded, system_actions=(other,)), models).outcome == "filed-differs"
    assert replay(_rewritten(recorded, system_actions=(action, action)), models).outcome == "filed-differs"


def test_replay_of_what_was_filed_about_an_encounter(make_desk: MakeDesk, audit_log: AuditLog, models: Models) -> None:
    desk = make_desk()
    context = {"userId": "Practitioner/1", "patientId": patients.PATIENT_ID, "encounterId": "e1"}
    body = patients.encoded(patients.call(patients.prefetch(NOW), context=context))
    answer(body, desk.services[0], caller(takes_system_actions=True), desk)
    recorded = read_recorded(audit_log, LeafIndex(0))
    assert recorded is not None
    assert _stored(recorded).system_actions[0]["resource"]["encounter"] == {"reference": "Encounter/e1"}
    assert replay(recorded, models).outcome == "reproduced"


def test_replay_tells_that_an_abstention_filed_something(
    make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    recorded = _recorded(make_desk, audit_log, "too few inputs")
    action = {"type": "create", "description": "x", "resource": {"resourceType": "RiskAssessment"}}
    assert replay(_rewritten(recorded, system_actions=(action,)), models).outcome == "filed-differs"


@pytest.mark.parametrize("digest", ["artifact_sha256", "manifest_sha256"])
def test_replay_says_that_the_model_changed(
    digest: str, make_desk: MakeDesk, audit_log: AuditLog, prevent: ReleasedModel
) -> None:
    recorded = _recorded(make_desk, audit_log)
    changed: dict[str, Any] = {digest: "0" * 64}
    other = replace(prevent, identity=replace(prevent.identity, **changed))
    assert replay(recorded, {"prevent_cvd": other}).outcome == "model-changed"


def _newer(model: ReleasedModel) -> Models:
    return {"prevent_cvd": replace(model, identity=replace(model.identity, manifest_sha256=Sha256("0" * 64)))}


def test_replay_repeats_the_answer_of_a_version_that_was_kept(
    make_desk: MakeDesk, audit_log: AuditLog, prevent: ReleasedModel, tmp_path: Path
) -> None:
    recorded = _recorded(make_desk, audit_log)
    keep_model(prevent, tmp_path)
    for models in (_newer(prevent), {}):
        report = replay(recorded, models, partial(find_kept, tmp_path))
        assert report.outcome == "answer-reproduced"
        assert report.repeated_answer == report.recorded_answer is not None


@pytest.mark.parametrize("part", ["explanation", "model.thresholds", "inputs", "cards"])
def test_replay_by_a_kept_version_says_which_part_of_the_leaf_differs(
    part: str, make_desk: MakeDesk, audit_log: AuditLog, prevent: ReleasedModel, tmp_path: Path
) -> None:
    recorded = _recorded(make_desk, audit_log)
    keep_model(prevent, tmp_path)
    leaf = msgspec.structs.replace(recorded.entry, **_LIES[part](recorded.entry))
    report = replay(replace(recorded, entry=leaf), {}, partial(find_kept, tmp_path))
    assert (report.outcome, report.differs) == ("leaf-differs", (part,))


def test_replay_by_a_kept_version_tells_a_tensor_that_was_changed(
    make_desk: MakeDesk, audit_log: AuditLog, prevent: ReleasedModel, tmp_path: Path
) -> None:
    recorded = _recorded(make_desk, audit_log)
    keep_model(prevent, tmp_path)
    changed = _rewritten(recorded, arrays=_one_bit(recorded))
    assert replay(changed, {}, partial(find_kept, tmp_path)).outcome == "answer-differs"


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("is_installed", [True, False])
def test_replay_of_an_abstention_before_running_by_another_version_has_no_answer_to_repeat(
    *,
    is_installed: bool,
    is_kept: bool,
    make_desk: MakeDesk,
    audit_log: AuditLog,
    prevent: ReleasedModel,
    tmp_path: Path,
) -> None:
    """Once "model-changed", though nothing had run that could come out otherwise."""
    recorded = _recorded(make_desk, audit_log, "too few inputs")
    if is_kept:
        keep_model(prevent, tmp_path)
    report = replay(recorded, _newer(prevent) if is_installed else {}, partial(find_kept, tmp_path))
    assert report.outcome == "abstained-before-running"
    assert report.recorded_answer is report.repeated_answer is None


def test_replay_says_that_the_model_is_unknown(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    assert replay(_recorded(make_desk, audit_log), {}).outcome == "model-unknown"


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\xc1", b'{"schema": 1}'])
def test_replay_refuses_what_is_no_payload(
    payload: bytes, make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    with pytest.raises(PayloadError, match=r"^payload: not one that can be replayed"):
        replay(replace(_recorded(make_desk, audit_log), payload=payload), models)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "bedside-replay/99"},
        {"cards": ({"uuid": "0"},)},
        {"arrays": {"x": StoredArray("nonsense", (1,), b"")}},
        {"arrays": {"x": StoredArray("<f4", (7,), b"1234")}},
    ],
)
def test_replay_refuses_a_payload_that_it_cannot_read(
    changes: dict[str, Any], make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    with pytest.raises(PayloadError, match=r"^payload: not one that can be replayed"):
        replay(_changed(_recorded(make_desk, audit_log), **changes), models)


def test_replay_refuses_tensors_that_the_model_does_not_take(
    make_desk: MakeDesk, audit_log: AuditLog, models: Models
) -> None:
    recorded = _recorded(make_desk, audit_log)
    other = _rewritten(recorded, arrays={"x": StoredArray("<f4", (1,), b"1234")})
    with pytest.raises(PayloadError, match=r"^payload: not one that can be replayed"):
        replay(other, models)


def test_replay_finds_nothing_to_repeat_in_what_no_model_answered(make_desk: MakeDesk, audit_log: AuditLog) -> None:
    desk = make_desk(ward=_SwitchedOff())
    answer(patients.encoded(patients.call(patients.prefetch(NOW))), desk.services[0], CALLER, desk)
    assert read_recorded(audit_log, LeafIndex(0)) is None


class _SwitchedOff:
    """A ward in which every service is off."""

    def switched_off(self, *_asked: object) -> str:
        return "tested"
