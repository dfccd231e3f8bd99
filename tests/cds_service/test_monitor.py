"""What workers count of their decisions, and when it goes into the log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from audit.entry import parse_entry
from audit.entry_monitoring import SketchEntry
from audit.errors import StorageError
from audit.log import AuditLog
from cds_service.desk import Desk
from cds_service.monitor import Pace, SketchMonitor, counted_in
from cds_service.observed import Observed
from cds_service.pipeline import answer
from model_artifacts.assessment import Abstention, AbstentionReason, Prediction
from model_artifacts.inputs import Evidence
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import CALLER
from tests.conftest import NOW, TENANT, MakeDesk

PACE = Pace(every_decisions=60, every_s=1000.0, least=50)


class Clockwork:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def elapsed() -> Clockwork:
    return Clockwork()


@pytest.fixture
def monitor(make_desk: MakeDesk, elapsed: Clockwork) -> SketchMonitor:
    return _monitor(make_desk(), elapsed)


def _monitor(desk: Desk, elapsed: Callable[[], float], pace: Pace = PACE) -> SketchMonitor:
    return SketchMonitor(desk.books, pace, desk.clock, elapsed_s=elapsed)


def _observed(model: ReleasedModel, patient: int, risk: float = 0.05, sbp: float | None = 130.0) -> Observed:
    evidence = (Evidence("sbp", "Systolic", sbp, "mm[Hg]", None, None, None if sbp else "missing"),)
    outputs = {"total_cvd_10y": risk}
    assessment = Prediction(model.identity, outputs, {}, None, 0.02, (), 0.0, None, evidence, ())
    return Observed(TENANT, model, False, "answered", assessment, patient, ("info",), NOW)


def _abstained(model: ReleasedModel, patient: int, *, outside: bool) -> Observed:
    reasons = (AbstentionReason("too-few-inputs", "text"),)
    assessment = Abstention(model.identity, reasons, (), (), outside)
    return replace(_observed(model, patient), status="abstained", assessment=assessment, indicators=())


def _sketches(log: AuditLog) -> list[SketchEntry]:
    return [entry for entry in map(parse_entry, log.entries()) if isinstance(entry, SketchEntry)]


def test_a_call_is_counted_once_it_is_durable(make_desk: MakeDesk, elapsed: Clockwork, audit_log: AuditLog) -> None:
    desk = make_desk()
    monitor = _monitor(desk, elapsed)
    desk = replace(desk, monitor=monitor)
    (service,) = [service for service in desk.services if service.id == "prevent-cvd"]
    for number in range(50):
        name = f"someone-{number}"
        context = {"userId": "Practitioner/1", "patientId": name}
        answer(patients.encoded(patients.call(patients.prefetch(NOW, name), context=context)), service, CALLER, desk)
    monitor.write(everything=True)
    (sketch,) = _sketches(audit_log)
    assert (sketch.decisions, sketch.counted, sketch.results, sketch.shown) == (50, 50, {"answered": 50}, 50)
    assert sketch.model.manifest == service.model.identity.manifest_sha256
    assert sum(sketch.inputs["sbp"]) == sum(sketch.outputs["total_cvd_10y"].counts) == 50
    assert sketch.inputs["hba1c"][-1] == 50  # nobody had one


def test_counts_go_when_there_are_enough_decisions(
    monitor: SketchMonitor, prevent: ReleasedModel, audit_log: AuditLog
) -> None:
    for patient in range(59):
        monitor.note(_observed(prevent, patient))
    monitor.write()
    assert _sketches(audit_log) == []
    monitor.note(_observed(prevent, 59))
    monitor.write()
    assert [sketch.decisions for sketch in _sketches(audit_log)] == [60]


def test_counts_go_when_their_time_has_come(
    monitor: SketchMonitor, prevent: ReleasedModel, audit_log: AuditLog, elapsed: Clockwork
) -> None:
    for patient in range(50):
        monitor.note(_observed(prevent, patient))
    elapsed.now_s = PACE.every_s
    monitor.write()
    assert [sketch.decisions for sketch in _sketches(audit_log)] == [50]


def test_counts_of_few_patients_wait_and_are_dropped_at_the_end_which_is_said(
    monitor: SketchMonitor,
    prevent: ReleasedModel,
    audit_log: AuditLog,
    elapsed: Clockwork,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for patient in range(49):
        for _ in range(3):  # a chart opened again adds nothing
            monitor.note(_observed(prevent, patient))
    elapsed.now_s = 10 * PACE.every_s
    monitor.write()
    with caplog.at_level(logging.INFO, "bedside.monitor"):
        monitor.close()
    assert _sketches(audit_log) == []
    (said,) = [record for record in caplog.records if record.message == "sketch withheld"]
    assert (vars(said)["decisions"], vars(said)["counted"], vars(said)["least"]) == (147, 49, 50)


def test_a_patient_counts_once_a_day(monitor: SketchMonitor, prevent: ReleasedModel, audit_log: AuditLog) -> None:
    for patient in range(50):
        monitor.note(_observed(prevent, patient))
        monitor.note(_observed(prevent, patient))
    for patient in range(5):
        monitor.note(replace(_observed(prevent, patient), moment=NOW + timedelta(days=1)))
    monitor.write(everything=True)
    (sketch,) = _sketches(audit_log)
    assert (sketch.decisions, sketch.counted) == (105, 55)


def test_who_is_outside_in_the_morning_counts_in_the_afternoon(
    monitor: SketchMonitor, prevent: ReleasedModel, audit_log: AuditLog
) -> None:
    for patient in range(50):
        monitor.note(_abstained(prevent, patient, outside=True))
        monitor.note(_observed(prevent, patient))
    monitor.write(everything=True)
    (sketch,) = _sketches(audit_log)
    assert (sketch.outside, sketch.counted) == (50, 50)


def test_abstentions_failures_and_alerts_are_told_apart(
    monitor: SketchMonitor, prevent: ReleasedModel, audit_log: AuditLog
) -> None:
    for patient in range(50):
        monitor.note(replace(_observed(prevent, patient), indicators=("warning",) if patient < 7 else ("info",)))
    monitor.note(_abstained(prevent, 50, outside=False))
    monitor.note(replace(_observed(prevent, 51), status="failed", assessment=None, indicators=("info",)))
    monitor.write(everything=True)
    (sketch,) = _sketches(audit_log)
    assert sketch.results == {"answered": 50, "abstained": 1, "failed": 1}
    assert sketch.abstentions == {"too-few-inputs": 1}
    assert (sketch.shown, sketch.alerts, sketch.counted) == (51, 7, 51)


def test_shadow_runs_are_counted_apart(monitor: SketchMonitor, prevent: ReleasedModel, audit_log: AuditLog) -> None:
    for patient in range(50):
        monitor.note(_observed(prevent, patient))
        monitor.note(replace(_observed(prevent, patient), shadow=True, indicators=()))
    monitor.write(everything=True)
    assert {(sketch.status, sketch.counted, sketch.shown) for sketch in _sketches(audit_log)} == {
        ("active", 50, 50),
        ("shadow", 50, 0),
    }


def test_predicted_risk_adds_up_in_millionths(
    monitor: SketchMonitor, prevent: ReleasedModel, audit_log: AuditLog
) -> None:
    for patient in range(50):
        monitor.note(_observed(prevent, patient, risk=0.02 if patient % 2 else 0.1))
    monitor.write(everything=True)
    (sketch,) = _sketches(audit_log)
    assert sketch.outputs["total_cvd_10y"].sum_e6 == 3_000_000
    assert sketch.outputs["total_cvd_10y"].variance_e6 == 25 * (19_600 + 90_000)


def test_sketches_of_two_workers_are_that_of_one_which_saw_all(
    make_desk: MakeDesk, prevent: ReleasedModel, audit_log: AuditLog, elapsed: Clockwork
) -> None:
    pace = Pace(every_decisions=1000, every_s=1000.0, least=50)
    workers = [_monitor(make_desk(), elapsed, pace) for _ in range(2)]
    alone = _monitor(make_desk(), elapsed, pace)
    for patient in range(120):
        observed = _observed(prevent, patient, 0.001 * (patient + 1), 90.0 + patient if patient % 5 else None)
        workers[patient % 2].note(observed)
        alone.note(observed)
    for monitor in (*workers, alone):
        monitor.write(everything=True)
    first, second, whole = _sketches(audit_log)
    added = [a + b for a, b in zip(first.inputs["sbp"], second.inputs["sbp"], strict=True)]
    assert added == list(whole.inputs["sbp"])
    outputs = [one.outputs["total_cvd_10y"] for one in (first, second, whole)]
    assert outputs[0].sum_e6 + outputs[1].sum_e6 == pytest.approx(outputs[2].sum_e6, abs=1)
    assert [a + b for a, b in zip(outputs[0].counts, outputs[1].counts, strict=True)] == list(outputs[2].counts)
    assert first.decisions + second.decisions == whole.decisions


def test_what_the_log_does_not_take_is_written_later_and_once(
    make_desk: MakeDesk, prevent: ReleasedModel, audit_log: AuditLog, elapsed: Clockwork
) -> None:
    desk = make_desk()
    refusing = _Refusing(audit_log)
    book = replace(desk.books[TENANT], log=refusing)  # type: ignore[arg-type]
    monitor = _monitor(replace(desk, books={TENANT: book}), elapsed)
    for patient in range(50):
        monitor.note(_observed(prevent, patient))
    monitor.write(everything=True)
    assert _sketches(audit_log) == []
    refusing.refuses = False
    monitor.write()
    monitor.write()
    assert [sketch.counted for sketch in _sketches(audit_log)] == [50]


class _Refusing:
    """A log whose store fails until it is told not to; everything else is the real one's."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self.refuses = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def record(self, *asked: object) -> object:
        if self.refuses:
            raise StorageError("log.sqlite3: disk I/O error")
        return self._log.record(*asked)  # type: ignore[arg-type]


def test_a_decision_that_cannot_be_counted_fails_nothing(
    monitor: SketchMonitor, prevent: ReleasedModel, caplog: pytest.LogCaptureFixture
) -> None:
    broken = replace(_observed(prevent, 1), assessment=replace(_observed(prevent, 1).assessment, evidence=(None,)))  # type: ignore[type-var]
    with caplog.at_level(logging.ERROR, "bedside.monitor"):
        monitor.note(broken)
    assert [record.message for record in caplog.records] == ["decision not counted"]


def test_the_thread_writes_by_itself_and_on_closing(
    make_desk: MakeDesk, prevent: ReleasedModel, audit_log: AuditLog
) -> None:
    desk = make_desk()
    written: list[str] = []
    monitor = SketchMonitor(desk.books, PACE, desk.clock, written=written.append)
    monitor.start()
    for patient in range(60):
        monitor.note(_observed(prevent, patient))
    deadline_s = time.monotonic() + 10
    while not written and time.monotonic() < deadline_s:
        time.sleep(0.005)
    for patient in range(60, 120):
        monitor.note(_observed(prevent, patient))
    monitor.close()
    assert sum(sketch.counted for sketch in _sketches(audit_log)) == 120
    assert set(written) == {TENANT}


def test_a_sketch_holds_no_value_that_was_counted(
    monitor: SketchMonitor, prevent: ReleasedModel, audit_log: AuditLog
) -> None:
    for patient in range(50):
        monitor.note(_observed(prevent, patient + 7_654_321, risk=0.0123456, sbp=151.25))
    monitor.write(everything=True)
    (data,) = [entry for entry in audit_log.entries() if entry.startswith(b'{"_t":"sketch/v1"')]
    numbers = set(_numbers(json.loads(data)))
    assert not {151.25, 151, 15_125, 12_345, 12_346, 0.0123456} & numbers
    assert not any(7_654_321 <= number <= 7_654_400 for number in numbers)


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _numbers(member)
    elif isinstance(value, list):
        for member in value:
            yield from _numbers(member)
    elif isinstance(value, int | float):
        yield value


@pytest.mark.parametrize("name", ["prevent_cvd", "icu_mortality", "warfarin_dose"])
def test_every_released_model_can_be_counted(models: dict[str, ReleasedModel], name: str) -> None:
    counted = counted_in(models[name])
    assert counted.reference.inputs
    assert [bins.name for bins in counted.reference.outputs] == [one.name for one in models[name].manifest.outputs]
