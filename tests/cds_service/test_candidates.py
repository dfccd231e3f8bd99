"""A version in shadow decides each call once more, after the answer: recorded, shown to nobody, and no caller's concern."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from audit.log import AuditLog
from audit.merkle import LeafIndex
from cds_service import candidates
from cds_service.candidates import CandidateRuns
from cds_service.desk import Desk
from cds_service.pipeline import answer
from cds_service.replay import read_recorded, replay
from cds_service.response import RECEIPT_KEY
from model_artifacts.manifest import Sha256
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CALLER
from tests.conftest import NOW, MakeDesk


class Failing:
    """Inputs that fail with a patient's name in the error's text."""

    def extract(self, *_given: object) -> None:
        raise ZeroDivisionError(patients.CANARY_NAME)


@pytest.fixture
def candidate(prevent: ReleasedModel) -> ReleasedModel:
    """Another version: as the released one, with bands of other names."""
    bands = tuple(replace_struct(band, code=f"new-{band.code}") for band in prevent.manifest.bands)
    manifest = replace_struct(prevent.manifest, version="9.1.0", bands=bands)
    identity = replace(prevent.identity, version="9.1.0", manifest_sha256=Sha256("1" * 64))
    return replace(prevent, manifest=manifest, identity=identity)


def replace_struct(value: Any, **changes: Any) -> Any:
    return type(value)(**{name: getattr(value, name) for name in value.__struct_fields__} | changes)


def _answer(desk: Desk) -> dict[str, Any]:
    body = patients.encoded(patients.call(patients.prefetch(NOW)))
    answered: dict[str, Any] = json.loads(answer(body, desk.services[0], CALLER, desk))
    return answered


def _with(make_desk: MakeDesk, prevent: ReleasedModel, candidate: ReleasedModel) -> tuple[Desk, CandidateRuns]:
    runs = CandidateRuns({"prevent_cvd": candidate})
    runs.start()
    return make_desk(models={"prevent_cvd": prevent}, candidates=runs), runs


def _entries(log: AuditLog) -> list[dict[str, Any]]:
    return [json.loads(data) for data in log.entries()]


def test_candidates_decide_the_same_call_and_nobody_sees_it(
    make_desk: MakeDesk, prevent: ReleasedModel, candidate: ReleasedModel, audit_log: AuditLog
) -> None:
    plain = _answer(make_desk(models={"prevent_cvd": prevent}))
    desk, runs = _with(make_desk, prevent, candidate)
    answered = _answer(desk)
    runs.close()
    assert [card["summary"] for card in answered["cards"]] == [card["summary"] for card in plain["cards"]]
    _, active, shadow = _entries(audit_log)
    assert (active["model"]["status"], shadow["model"]["status"]) == ("active", "shadow")
    assert (active["model"]["version"], shadow["model"]["version"]) == (prevent.manifest.version, "9.1.0")
    assert active["id"] == answered["extension"][RECEIPT_KEY]["entryId"] != shadow["id"]
    assert active["request"]["hook_instance"] == shadow["request"]["hook_instance"]
    assert shadow["output"]["band"] == f"new-{active['output']['band']}"
    assert shadow["cards"] == []
    assert len(active["cards"]) == 1


def test_candidates_decisions_can_be_repeated(
    make_desk: MakeDesk, prevent: ReleasedModel, candidate: ReleasedModel, audit_log: AuditLog
) -> None:
    desk, runs = _with(make_desk, prevent, candidate)
    _answer(desk)
    runs.close()
    recorded = read_recorded(audit_log, LeafIndex(1))
    assert recorded is not None
    assert replay(recorded, {"prevent_cvd": candidate}).outcome == "reproduced"


def test_candidates_that_fail_touch_no_answer_and_are_recorded_as_failed(
    make_desk: MakeDesk,
    prevent: ReleasedModel,
    candidate: ReleasedModel,
    audit_log: AuditLog,
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk, runs = _with(make_desk, prevent, replace(candidate, inputs=Failing()))
    assert len(_answer(desk)["cards"]) == 1
    runs.close()
    assert [(entry["model"]["status"], entry["status"]) for entry in _entries(audit_log)] == [
        ("active", "answered"),
        ("shadow", "failed"),
    ]
    assert patients.CANARY_NAME not in caplog.text


def test_candidates_take_none_of_the_answers_time(
    make_desk: MakeDesk, prevent: ReleasedModel, candidate: ReleasedModel, audit_log: AuditLog
) -> None:
    """The candidate stands still until the answer is there."""
    answered = threading.Event()

    class Waiting:
        def extract(self, *given: Any) -> Any:
            assert answered.wait(10)
            return prevent.inputs.extract(*given)

    desk, runs = _with(make_desk, prevent, replace(candidate, inputs=Waiting()))
    assert len(_answer(desk)["cards"]) == 1
    assert len(_entries(audit_log)) == 1
    answered.set()
    runs.close()
    assert len(_entries(audit_log)) == 2


def test_candidates_run_for_no_call_of_a_model_that_is_switched_off(
    make_desk: MakeDesk, prevent: ReleasedModel, candidate: ReleasedModel, audit_log: AuditLog
) -> None:
    desk, runs = _with(make_desk, prevent, candidate)
    desk.ward.set_switch("model", "prevent_cvd", tenant="north", off=True, reason="safety", moment=NOW)
    assert _answer(desk)["cards"] == []
    runs.close()
    assert [entry["status"] for entry in _entries(audit_log)] == ["switched-off"]


def _hold(runs: CandidateRuns) -> Callable[[], None]:
    """Keeps the thread busy; what it gives lets it go on."""
    begun, go = threading.Event(), threading.Event()

    def work(_model: ReleasedModel) -> None:
        begun.set()
        go.wait(10)

    runs.run("prevent_cvd", work)
    assert begun.wait(10)
    return go.set


def test_candidates_that_cannot_keep_up_are_left_out_and_that_is_said(
    candidate: ReleasedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(candidates, "WAITING", 2)
    runs, done = CandidateRuns({"prevent_cvd": candidate}), []
    runs.start()
    go_on = _hold(runs)
    with caplog.at_level(logging.WARNING, "bedside.candidates"):
        for number in range(3):
            runs.run("prevent_cvd", lambda _model, number=number: done.append(number))  # type: ignore[misc]
    go_on()
    runs.close()
    assert done == [0, 1]
    assert [record.message for record in caplog.records] == ["shadow run left out"]


def test_candidates_do_not_keep_a_process_from_ending(
    candidate: ReleasedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(candidates, "STOP_WITHIN_S", 0.05)
    runs = CandidateRuns({"prevent_cvd": candidate})
    runs.start()
    go_on = _hold(runs)
    runs.close()
    go_on()
    assert [record.message for record in caplog.records] == ["shadow runs left out"]


def test_candidates_go_on_after_one_that_raised(candidate: ReleasedModel, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_model: ReleasedModel) -> None:
        raise ZeroDivisionError(patients.CANARY_NAME)

    runs, done = CandidateRuns({"prevent_cvd": candidate}), []
    runs.start()
    runs.run("prevent_cvd", fail)
    runs.run("prevent_cvd", done.append)
    runs.run("warfarin_dose", fail)
    runs.close()
    runs.run("prevent_cvd", fail)
    assert done == [candidate]
    assert [record.message for record in caplog.records] == ["shadow run failed"]
    assert patients.CANARY_NAME not in caplog.text
