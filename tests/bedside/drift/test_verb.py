from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.log import AuditLog
from audit.vault import patient_subject
from bedside.cli import main
from bedside.drift.outcomes import OutcomesFileError, read_outcomes
from cds_service.desk import Book, Desk
from cds_service.pipeline import answer
from cds_service.response import RECEIPT_KEY
from cds_service.services import CdsService
from model_artifacts.archive import keep_model
from model_artifacts.runtime import ReleasedModel
from tests.bedside.drift.world import alarms_of, looks_of, people, serve
from tests.cds_service import patients
from tests.cds_service.callers import CALLER
from tests.conftest import NOW, TENANT, MakeDesk

Captured = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("config")


def _json(capsys: Captured, *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main(["model", "drift", "--json", *arguments]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_drift_prints_a_table_and_that_there_is_no_alarm(book: Book, version: ReleasedModel, capsys: Captured) -> None:
    serve(book, version, people(1, 300), at=datetime.now(UTC))
    assert main(["model", "drift"]) == 0
    out = capsys.readouterr().out
    assert "prevent_cvd" in out
    assert "reference: 4,000 invented people (4,000 rows)" in out
    assert "  no alarm" in out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("  input age")]
    index, chance, bound, missing = float(row[3]), float(row[4]), row[5], row[6]
    assert row[2] == "300"
    assert index < 0.2
    assert chance == pytest.approx(9 * (1 / 300 + 1 / 4000), abs=0.001)
    assert (bound, missing) == ("0.250", "0.0")
    assert "expected events " in out


def test_drift_of_an_older_population_is_exit_code_1_and_an_entry_once(
    book: Book, version: ReleasedModel, audit_log: AuditLog, capsys: Captured
) -> None:
    serve(book, version, people(1, 300, older=15), at=datetime.now(UTC))
    for _ in range(2):
        assert main(["model", "drift", "prevent_cvd"]) == 1
    shown = capsys.readouterr()
    assert "ALARM: input age has shifted: index " in shown.out
    assert "in the log: psi of age, since " in shown.out
    events = [json.loads(line) for line in shown.err.splitlines()]
    assert [event["of"] for event in events if event["event"] == "model alarm"] == ["age", "total_cvd_10y"]
    assert sorted(entry.of for entry in alarms_of(audit_log)) == ["age", "total_cvd_10y"]


def test_drift_as_json_has_the_figures_and_no_value_of_anybody(
    book: Book, version: ReleasedModel, capsys: Captured
) -> None:
    serve(book, version, people(1, 300, tenfold_sbp=True), at=datetime.now(UTC))
    report = _json(capsys, code=1)
    (found,) = report["models"]
    assert report["alarm"]
    assert [(alarm["measure"], alarm["of"]) for alarm in found["alarms"]] == [("psi", "sbp")]
    by_name = {one["name"]: one for one in found["comparisons"]}
    assert by_name["sbp"]["shares"][-1] == 1.0  # all in the last of ten bins
    assert by_name["age"]["psi"] < by_name["age"]["psi_alarm_above"]
    assert [(one["measure"], one["of"]) for one in report["standing"]] == [("psi", "sbp")]


def test_a_chosen_period_is_looked_at_and_records_nothing(
    book: Book, version: ReleasedModel, audit_log: AuditLog, capsys: Captured
) -> None:
    serve(book, version, people(1, 300, older=15))
    assert main(["model", "drift", "--since", "2026-11-24", "--until", "2026-11-24"]) == 1
    assert "no alarm is recorded or cleared" in capsys.readouterr().out
    assert alarms_of(audit_log) == []
    assert _json(capsys, "--since", "2026-11-25")["models"] == []


def test_drift_is_a_look_and_recorded(
    book: Book, version: ReleasedModel, audit_log: AuditLog, capsys: Captured
) -> None:
    serve(book, version, people(1, 60), at=datetime.now(UTC))
    _json(capsys, "--reason", "quality")
    (look,) = looks_of(audit_log)
    assert (look.action, look.results, look.reason) == ("report", 1, "quality")


def test_drift_without_counts_says_so(capsys: Captured) -> None:
    assert main(["model", "drift"]) == 0
    assert capsys.readouterr().out.startswith("no counts in this period")


@pytest.mark.parametrize("arguments", [("--tenant", "nobody"), ("--output", "total_cvd_10y")])
def test_drift_that_cannot_be_done_as_asked_is_one_line(arguments: tuple[str, ...], capsys: Captured) -> None:
    assert main(["model", "drift", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@dataclass(frozen=True, slots=True)
class Decided:
    """What the EHR keeps of one decision."""

    entry_id: str
    index: int
    card: str
    patient: str


@pytest.fixture
def decided(make_desk: MakeDesk, prevent: ReleasedModel, archive: Path) -> list[Decided]:
    """120 decisions about 60 people of rising blood pressure, by the real model."""
    keep_model(prevent, archive)
    desk = make_desk()
    (service,) = [service for service in desk.services if service.id == "prevent-cvd"]
    return [_decide(number, desk, service) for number in range(120)]


def _decide(number: int, desk: Desk, service: CdsService) -> Decided:
    name, moment = f"someone-{number // 2}", NOW + timedelta(days=number // 2)
    desk = replace(desk, clock=lambda: moment)
    prefetched = patients.prefetch(moment, name)
    pressure = patients.observation(1, "8480-6", 100.0 + number // 2, "mm[Hg]", moment, name)
    prefetched["blood_pressure"] = patients.bundle(pressure)
    context = {"userId": "Practitioner/1", "patientId": name}
    body = patients.encoded(patients.call(prefetched, context=context))
    said = json.loads(answer(body, service, CALLER, desk))
    receipt = said["extension"][RECEIPT_KEY]
    return Decided(receipt["entryId"], receipt["index"], said["cards"][0]["uuid"], name)


def _csv(path: Path, rows: Iterator[tuple[object, object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("decision", "outcome"), *rows])
    return path


def test_outcomes_are_joined_to_what_was_predicted_by_any_name_of_a_decision(
    decided: list[Decided], tmp_path: Path, audit_log: AuditLog, capsys: Captured
) -> None:
    names = [(one.entry_id, one.index, one.card)[place % 3] for place, one in enumerate(decided)]
    path = _csv(tmp_path / "outcomes.csv", ((name, int(place % 10 == 0)) for place, name in enumerate(names)))
    report = _json(capsys, "--outcomes", str(path))
    (found,) = report["outcomes"]
    assert (found["decisions"], found["patients"], found["observed"], found["output"]) == (120, 60, 12, "total_cvd_10y")
    assert 2 < found["expected"] < 30
    assert found["observed_to_expected"]["estimate"] == pytest.approx(12 / found["expected"], rel=1e-4)
    assert [month["month"] for month in found["months"]] == ["2026-11", "2026-12", "2027-01"]
    assert sum(month["n"] for month in found["months"]) == 120
    assert report["left_out"] == {}
    assert [(look.action, look.results) for look in looks_of(audit_log)] == [("report", 0), ("decrypt", 120)]


def test_outcomes_far_from_what_was_predicted_are_an_alarm_in_the_log(
    decided: list[Decided], tmp_path: Path, audit_log: AuditLog, capsys: Captured
) -> None:
    path = _csv(tmp_path / "outcomes.csv", ((one.entry_id, int(place < 80)) for place, one in enumerate(decided)))
    for _ in range(2):
        assert main(["model", "drift", "--outcomes", str(path)]) == 1
    assert "ALARM: events observed to expected of total_cvd_10y is " in capsys.readouterr().out
    assert ("raise", "observed-to-expected") in [(entry.action, entry.measure) for entry in alarms_of(audit_log)]
    raised = [(entry.measure, entry.of) for entry in alarms_of(audit_log)]
    assert len(raised) == len(set(raised))


def test_outcomes_of_what_is_not_to_be_had_are_counted_apart(
    decided: list[Decided], tmp_path: Path, audit_log: AuditLog, capsys: Captured
) -> None:
    first, second, third = decided[0], decided[2], decided[4]
    key = audit_log.vault.find(patient_subject(third.patient))
    assert key is not None
    audit_log.vault.store.destroy_keys([key.ref], "2026-11-24T09:30:00.000000Z")
    rows = [(first.entry_id, 1), (first.index, 0), ("f" * 32, 1), (99_999, 0), (second.card, 0), (third.entry_id, 1)]
    path = _csv(tmp_path / "outcomes.csv", iter(rows))
    report = _json(capsys, "--outcomes", str(path))
    assert report["left_out"] == {"named twice": 1, "not in this log": 2, "not to be opened": 1}
    assert report["outcomes"][0]["decisions"] == 2


def test_a_version_that_is_not_kept_gives_no_probability(
    decided: list[Decided], archive: Path, tmp_path: Path, capsys: Captured
) -> None:
    archive.rename(tmp_path / "elsewhere")
    path = _csv(tmp_path / "outcomes.csv", ((one.entry_id, 1) for one in decided[:3]))
    report = _json(capsys, "--outcomes", str(path))
    assert report["outcomes"] == []
    assert report["left_out"] == {"model not kept": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the header decision,outcome"),
        ("id,died\n1,1\n", "expected the header decision,outcome"),
        ("decision,outcome\nCanary Patient,yes\n", "line 2: expected a decision and 0 or 1"),
        ("decision,outcome\n1,1\n1,0\n", "line 3: this decision stands there twice"),
        ("decision,outcome\n1,1,1\n", "line 2: expected a decision and 0 or 1"),
    ],
)
def test_a_file_of_outcomes_is_read_strictly_and_never_quoted(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text(text)
    with pytest.raises(OutcomesFileError) as caught:
        read_outcomes(path)
    assert message in str(caught.value)
    assert "Canary" not in str(caught.value)


def test_a_tenants_name_is_in_no_figure(book: Book, version: ReleasedModel, capsys: Captured) -> None:
    serve(book, version, people(1, 60), at=datetime.now(UTC))
    assert TENANT not in json.dumps(_json(capsys))
