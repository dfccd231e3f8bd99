from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from audit.log import AuditLog
from bedside.config import Config
from bedside.drift.alarms import judged_sketches, record_alarms, standing_alarms
from bedside.drift.sketches import Looked, Selection, look_at
from bedside.drift.versions import Versions
from bedside.drift.watching import Watch
from cds_service.desk import Book
from model_artifacts.runtime import ReleasedModel
from tests.bedside.drift.world import alarms_of, people, serve
from tests.conftest import NOW, TENANT


def _look(log: AuditLog, config: Config, selection: Selection | None = None) -> Looked:
    (looked,) = look_at(log.storage, Versions(config), selection or Selection())
    return looked


def test_an_alarm_is_an_entry_once_until_it_is_over(
    book: Book, version: ReleasedModel, audit_log: AuditLog, config: Config
) -> None:
    serve(book, version, people(1, 300, older=15))
    for _ in range(3):
        record_alarms(audit_log, judged_sketches(_look(audit_log, config)), lambda: NOW)
    raised = alarms_of(audit_log)
    assert sorted((entry.action, entry.measure, entry.of) for entry in raised) == [
        ("raise", "psi", "age"),
        ("raise", "psi", "total_cvd_10y"),
    ]
    assert raised[0].model.manifest == version.identity.manifest_sha256
    assert all(entry.value_e6 > entry.limit_e6 >= 250_000 for entry in raised)
    later = NOW + timedelta(days=30)
    serve(book, version, people(2, 400), first=1000, at=later)
    recent = Selection(since="2026-12-01T00:00:00.000000Z")
    record_alarms(audit_log, judged_sketches(_look(audit_log, config, recent)), lambda: later)
    assert [entry.action for entry in alarms_of(audit_log)[2:]] == ["clear", "clear"]
    assert standing_alarms(audit_log.storage, raised[0].model, "active") == ()
    serve(book, version, people(3, 400, older=15), first=2000, at=later)
    looked = _look(audit_log, config, recent)
    record_alarms(audit_log, judged_sketches(looked), lambda: later)
    assert [entry.action for entry in alarms_of(audit_log)[4:]] == ["raise", "raise"]
    assert len(standing_alarms(audit_log.storage, raised[0].model, "active")) == 2


def test_what_was_not_judged_clears_nothing(
    book: Book, version: ReleasedModel, audit_log: AuditLog, config: Config
) -> None:
    serve(book, version, people(1, 300, older=15))
    record_alarms(audit_log, judged_sketches(_look(audit_log, config)), lambda: NOW)
    later = NOW + timedelta(days=30)
    serve(book, version, people(2, 60), first=1000, at=later)
    looked = _look(audit_log, config, Selection(since="2026-12-01T00:00:00.000000Z"))
    assert not looked.period.judged
    assert record_alarms(audit_log, judged_sketches(looked), lambda: later) == ()


def test_an_alarm_is_told_in_the_operations_log_by_whoever_recorded_it(
    book: Book, version: ReleasedModel, audit_log: AuditLog, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    serve(book, version, people(1, 300, older=15))
    with caplog.at_level(logging.INFO, "bedside.monitor"):
        for _ in range(2):
            record_alarms(audit_log, judged_sketches(_look(audit_log, config)), lambda: NOW)
    told = [record for record in caplog.records if record.message == "model alarm"]
    assert [vars(record)["of"] for record in told] == ["age", "total_cvd_10y"]
    assert "has shifted: index" in vars(told[0])["why"]


def test_two_processes_that_look_at_once_raise_one_alarm(
    book: Book, version: ReleasedModel, audit_log: AuditLog, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second looked before the first had written: it finds out by the entry's id."""
    serve(book, version, people(1, 300, older=15))
    judged = judged_sketches(_look(audit_log, config))
    first = record_alarms(audit_log, judged, lambda: NOW)
    monkeypatch.setattr("bedside.drift.alarms._newest", lambda *_: {})
    assert record_alarms(audit_log, judged, lambda: NOW + timedelta(seconds=1)) == ()
    assert len(first) == len(alarms_of(audit_log)) == 2


def test_the_service_looks_by_itself_and_not_too_often(
    book: Book, version: ReleasedModel, audit_log: AuditLog, config: Config
) -> None:
    seconds = [0.0]
    watch = Watch(config, {TENANT: audit_log}, lambda: NOW + timedelta(minutes=1), lambda: seconds[0])
    serve(book, version, people(1, 100))
    watch(TENANT)
    serve(book, version, people(2, 300, older=15), first=1000)
    watch(TENANT)
    assert alarms_of(audit_log) == []
    seconds[0] = config.monitoring.every_s
    watch(TENANT)
    assert {entry.of for entry in alarms_of(audit_log)} == {"age", "total_cvd_10y"}
