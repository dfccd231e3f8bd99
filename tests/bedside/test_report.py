from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from audit.entry import parse_entry
from audit.entry_custody import AccessEntry
from audit.log import AuditLog
from bedside.cli import main
from cds_service.decision import Context
from cds_service.feedback import record_feedback
from cds_service.pipeline import answer
from tests.cds_service import patients
from tests.cds_service.callers import CALLER, CLIENT
from tests.conftest import NOW, TENANT, MakeDesk

SHOWN = 8


@pytest.fixture(autouse=True)
def configured(audit_log: AuditLog, make_desk: MakeDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of eight cards, two accepted and three overridden, and the configuration that names it."""
    desk = make_desk()
    body = patients.encoded(patients.call(patients.prefetch(NOW)))
    cards = [json.loads(answer(body, desk.services[0], CALLER, desk))["cards"][0] for _ in range(SHOWN)]
    entries = [_accepted(card) for card in cards[:2]] + [_overridden(card) for card in cards[2:5]]
    context = Context(TENANT, "5a" * 32, "6b" * 32, audit_log.keys.index_key)
    feedback = json.dumps({"feedback": entries}).encode()
    assert record_feedback(feedback, "prevent-cvd", CLIENT, audit_log, context, lambda: NOW).recorded == 5
    for name in [name for name in os.environ if name.startswith("BEDSIDE_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "bedside.toml"
    config.write_text(
        f'[audit]\ndirectory = "{audit_log.config.directory}"\ntenant = "{TENANT}"\n'
        f'[[tenants]]\nname = "south"\ndirectory = "{tmp_path / "nowhere"}"\norigin = "south.example/log/1"\n'
    )
    monkeypatch.setenv("BEDSIDE_CONFIG", str(config))


def _accepted(card: dict[str, Any]) -> dict[str, Any]:
    chosen = [{"id": card["suggestions"][0]["uuid"]}]
    return {"card": card["uuid"], "outcome": "accepted", "acceptedSuggestions": chosen} | _moment()


def _overridden(card: dict[str, Any]) -> dict[str, Any]:
    reason = card["overrideReasons"][0]
    return {"card": card["uuid"], "outcome": "overridden", "overrideReason": {"reason": reason}} | _moment()


def _moment() -> dict[str, Any]:
    return {"outcomeTimestamp": "2026-11-24T09:31:00Z"}


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["report", "feedback", "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_report_feedback_prints_rates_beside_their_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "feedback"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("prevent-cvd  total_cvd_10y:from-7.5")]
    assert [cell.strip() for cell in row.split("  ") if cell][2:] == [
        "8",
        "2/8 = 25.0 % (7.1–59.1)",
        "3/8 = 37.5 % (13.7–69.4)",
        "3/8 = 37.5 % (13.7–69.4)",
    ]
    assert any(line.startswith("prevent_cvd  ") for line in lines)
    assert any("already-discussed" in line and "3/3 = 100.0 %" in line for line in lines)


def test_report_feedback_as_json_has_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    report = _json(capsys)
    (kind,), (model,), (reason,) = report["kinds"], report["models"], report["reasons"]
    assert (kind["service"], kind["decision"], kind["shown"]) == ("prevent-cvd", "total_cvd_10y:from-7.5", SHOWN)
    assert kind["accepted"] == {"count": 2, "of": 8, "rate": 0.25, "ci95": [0.071479, 0.590725]}
    assert (model["model"], model["overridden"]["count"], model["unanswered"]["count"]) == ("prevent_cvd", 3, 3)
    assert (reason["reason"], reason["overrides"]["count"], reason["overrides"]["of"]) == ("already-discussed", 3, 3)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--since", "2026-11-24", "--until", "2026-11-24"), SHOWN),
        (("--since", "2026-11-25"), 0),
        (("--until", "2026-11-23"), 0),
        (("--service", "prevent-cvd", "--tenant", TENANT), SHOWN),
        (("--service", "icu-mortality"), 0),
    ],
)
def test_report_feedback_is_about_the_days_and_service_asked_for(
    arguments: tuple[str, ...], shown: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sum(row["shown"] for row in _json(capsys, *arguments)["kinds"]) == shown


def test_report_feedback_says_when_nothing_was_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "feedback", "--since", "2026-11-25"]) == 0
    assert capsys.readouterr().out == "no card was shown\n"


@pytest.mark.parametrize("tenant", ["south", "none-such"])  # one without a log, one that isn't configured
def test_report_feedback_of_a_tenant_without_a_log_is_one_line(tenant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "feedback", "--tenant", tenant]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_report_feedback_is_a_look_and_recorded(audit_log: AuditLog, capsys: pytest.CaptureFixture[str]) -> None:
    """Once nothing told who had asked how a service's cards were answered."""
    before = list(audit_log.entries())
    _json(capsys, "--reason", "quality", "--until", "9999-12-31")
    *unchanged, added = audit_log.entries()
    assert unchanged == before
    look = parse_entry(added)
    assert isinstance(look, AccessEntry)
    assert (look.action, look.results, look.reason, look.index) == ("report", SHOWN, "quality", None)
    assert look.filter is not None


def test_report_feedback_that_cannot_be_recorded_shows_nothing(
    audit_log: AuditLog, capsys: pytest.CaptureFixture[str]
) -> None:
    (audit_log.config.directory / "keys" / "signing.key").chmod(0o644)
    assert main(["report", "feedback"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_report_audit_show_prints_feedback(audit_log: AuditLog, capsys: pytest.CaptureFixture[str]) -> None:
    log = ["--log", str(audit_log.config.directory)]
    assert main(["audit", "show", *log, "--type", "feedback/v1"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all("feedback/v1" in line and "prevent-cvd" in line for line in lines)
    assert main(["audit", "show", *log, lines[-1].split()[0]]) == 0
    assert '"override_reason": "already-discussed"' in capsys.readouterr().out
