from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from audit.log import AuditLog
from bedside.config import Config
from bedside.drift.sketches import Selection, add_up, look_at, read_sketches, standing_selection
from bedside.drift.versions import Versions
from cds_service.desk import Book
from model_artifacts.errors import ReferenceFileError
from model_artifacts.runtime import ReleasedModel
from tests.bedside.drift.world import people, serve, sketches_of
from tests.conftest import NOW


def test_sketches_of_several_workers_and_days_add_up(
    book: Book, version: ReleasedModel, audit_log: AuditLog, config: Config
) -> None:
    for worker in range(3):
        serve(book, version, people(worker, 80), first=100 * worker, at=NOW + timedelta(days=worker))
    (looked,) = look_at(audit_log.storage, Versions(config), Selection())
    totals = looked.period.totals
    assert (totals.sketches, totals.decisions, totals.counted) == (3, 240, 240)
    assert sum(totals.inputs["age"]) == sum(totals.outputs["total_cvd_10y"].counts) == 240
    assert totals.inputs["sbp"] == [
        sum(counts) for counts in zip(*(one.inputs["sbp"] for one in sketches_of(audit_log)), strict=True)
    ]
    assert totals.since[:10] == "2026-11-24"
    assert totals.until[:10] == "2026-11-26"
    assert looked.period.judged
    assert looked.alarms == ()


def test_a_drift_of_this_morning_is_found_in_a_week_without(
    book: Book, version: ReleasedModel, audit_log: AuditLog, config: Config
) -> None:
    serve(book, version, people(1, 3000))
    serve(book, version, people(2, 250, older=15), first=4000, at=NOW + timedelta(hours=1))
    (looked,) = look_at(audit_log.storage, Versions(config), Selection())
    assert looked.period.alarms == ()
    assert {alarm.of for alarm in looked.alarms} == {"age", "total_cvd_10y"}
    assert all(alarm.words.startswith("in the newest 250 decisions counted: ") for alarm in looked.alarms)


def test_a_period_and_a_model_are_those_asked_for(
    book: Book, version: ReleasedModel, audit_log: AuditLog, config: Config
) -> None:
    for day in range(3):
        serve(book, version, people(day, 60), first=100 * day, at=NOW + timedelta(days=day))
    second_day = "2026-11-25T00:00:00.000000Z"
    assert len(list(read_sketches(audit_log.storage, Selection(since=second_day)))) == 2
    assert len(list(read_sketches(audit_log.storage, Selection(until=second_day)))) == 1
    assert list(read_sketches(audit_log.storage, Selection(model="icu_mortality"))) == []
    standing = standing_selection(config, NOW + timedelta(days=366, hours=1))
    assert len(list(read_sketches(audit_log.storage, standing))) == 2


def test_reading_goes_on_beyond_a_page(book: Book, version: ReleasedModel, audit_log: AuditLog) -> None:
    for number in range(205):
        serve(book, version, people(1, 50), first=100 * number)
    found = list(read_sketches(audit_log.storage, Selection()))
    assert len({entry.id for entry in found}) == 205
    (summed,) = add_up(found, lambda _: 200)
    assert (summed.period.counted, summed.latest.counted) == (205 * 50, 200)


def test_a_version_that_is_nowhere_is_judged_by_rates_alone(
    book: Book, version: ReleasedModel, audit_log: AuditLog, config: Config, archive: Path
) -> None:
    serve(book, version, people(1, 300, older=20))
    version.folder.rename(archive / "elsewhere")
    (looked,) = look_at(audit_log.storage, Versions(config), Selection())
    assert looked.version is None
    assert looked.period.comparisons == ()
    assert looked.alarms == ()


def test_a_version_without_a_reference_shows_what_is_missing(
    book: Book, prevent: ReleasedModel, audit_log: AuditLog, config: Config
) -> None:
    serve(book, prevent, people(1, 300))
    (looked,) = look_at(audit_log.storage, Versions(config), Selection())
    missing = {one.bins.name: one.missing for one in looked.period.comparisons if one.kind == "input"}
    assert missing["hba1c"] == pytest.approx(0.6, abs=0.1)
    assert all(one.psi is None for one in looked.period.comparisons)
    assert looked.alarms == ()


def test_an_altered_reference_is_refused(
    book: Book, version: ReleasedModel, audit_log: AuditLog, config: Config
) -> None:
    serve(book, version, people(1, 60))
    reference = version.folder / "reference.json"
    reference.write_bytes(reference.read_bytes() + b" ")
    with pytest.raises(ReferenceFileError, match=r"reference.json of prevent_cvd 1\.\d+\.\d+ is altered"):
        look_at(audit_log.storage, Versions(config), Selection())
