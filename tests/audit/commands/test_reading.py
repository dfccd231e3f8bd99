import argparse
import json
import shutil
from pathlib import Path

import pytest

from audit.commands import add_commands
from audit.entry import parse_entry
from audit.entry_custody import AccessEntry
from audit.log import AuditLog, LogConfig, read_entries
from audit.storage.opening import open_storage

ORIGIN = "hospital.example/cds-audit/north/1"


def _run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    parsed = parser.parse_args([str(argument) for argument in arguments])
    status = parsed.run(parsed)
    assert isinstance(status, int)
    return status


@pytest.fixture
def directory(tmp_path: Path, make_entry, clock) -> Path:
    """A log with three decisions; the second was an abstention."""
    path = tmp_path / "log"
    assert _run("init", "--log", path, "--origin", ORIGIN) == 0
    log = AuditLog.open(LogConfig(path, ORIGIN, "north", deadline_s=10), clock=clock)
    for status in ("ok", "abstained", "ok"):
        log.append(*make_entry(log, status=status))
    log.close()
    return path


def _looks(directory: Path) -> list[AccessEntry]:
    storage = open_storage(directory)
    try:
        entries = [parse_entry(data) for data in read_entries(storage)]
    finally:
        storage.close()
    return [entry for entry in entries if isinstance(entry, AccessEntry)]


def test_reading_show_prints_one_entry_or_the_last(directory, capsys) -> None:
    assert _run("show", "--log", directory, "1") == 0
    assert '"_t": "decision/v1"' in capsys.readouterr().out
    assert _run("show", "--log", directory, "--type", "decision/v1", "--last", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["index", "1", "2"]
    assert [line.split()[3] for line in lines] == ["status", "abstained", "ok"]
    assert _run("show", "--log", directory, "77") == 2


def test_reading_is_recorded_before_anything_is_shown(directory, capsys) -> None:
    assert _run("show", "--log", directory, "1", "--reason", "complaint") == 0
    assert _run("search", "--log", directory, "--status", "abstained") == 0
    assert _run("report", "--log", directory) == 0
    looks = [(look.action, look.index, look.results, look.reason) for look in _looks(directory)]
    assert looks == [("read", 1, 1, "complaint"), ("search", None, 1, "operations"), ("report", None, 5, "operations")]


def test_reading_what_cannot_be_recorded_shows_nothing(directory, capsys) -> None:
    capsys.readouterr()
    (directory / "keys" / "signing.key").chmod(0o644)
    assert _run("show", "--log", directory, "1") == 2
    assert capsys.readouterr().out == ""


def test_reading_a_copy_without_keys_says_that_it_was_not_recorded(directory, capsys) -> None:
    shutil.rmtree(directory / "keys")
    assert _run("show", "--log", directory, "1") == 0
    printed = capsys.readouterr()
    assert '"_t": "decision/v1"' in printed.out
    assert "not recorded" in printed.err
    assert _looks(directory) == []


def test_reading_for_a_reason_in_free_text_is_refused(directory, capsys) -> None:
    capsys.readouterr()
    assert _run("search", "--log", directory, "--reason", "Mrs Smith complained") != 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((), [2, 1, 0]),
        (("--status", "abstained"), [1]),
        (("--model", "prevent_cvd"), [2, 1, 0]),
        (("--model", "prevent_cvd@1.0.0"), [2, 1, 0]),
        (("--model", "prevent_cvd@1.0"), []),
        (("--model", "prevent"), []),
        (("--service", "prevent-cvd", "--limit", "2"), [2, 1]),
        (("--before", "2"), [1, 0]),
        (("--since", "2026-03-01", "--until", "2026-03-01"), [2, 1, 0]),
        (("--since", "2026-03-02"), []),
        (("--until", "2026-02-28"), []),
        (("--actor", "5a" * 32), [2, 1, 0]),
        (("--actor", "00" * 32), []),
    ],
)
def test_reading_search_finds(directory, capsys, asked, expected) -> None:
    capsys.readouterr()
    assert _run("search", "--log", directory, "--type", "decision/v1", "--json", *asked) == 0
    assert [json.loads(line)["index"] for line in capsys.readouterr().out.splitlines()] == expected


def test_reading_search_says_how_to_go_on(directory, capsys) -> None:
    _run("search", "--log", directory, "--limit", "2")
    assert "more with --before 1" in capsys.readouterr().err


def test_reading_report_prints_the_head_it_stands_under(directory, capsys) -> None:
    capsys.readouterr()
    assert _run("report", "--log", directory) == 0
    out = capsys.readouterr().out
    assert out.startswith("3 entries from 2026-03-01T08:00:00.000000Z to")
    assert "decisions by status: ok 2, abstained 1" in out
    assert "nobody else keeps a head of this log" in out
    assert f"head:\n{ORIGIN}\n3\n" in out
    assert _run("report", "--log", directory, "--json") == 0
    assert json.loads(capsys.readouterr().out)["decisions"] == {"ok": 2, "abstained": 1}


def test_reading_an_empty_log(tmp_path, capsys) -> None:
    assert _run("init", "--log", tmp_path / "log", "--origin", ORIGIN) == 0
    capsys.readouterr()
    assert _run("search", "--log", tmp_path / "log") == 0
    assert _run("report", "--log", tmp_path / "log") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("0 entries")


def test_reading_timeline_gives_a_patient_s_entries(tmp_path, capsys, make_log, open_log, decision) -> None:
    config, _ = make_log()
    log = open_log(config)
    key = log.vault.key_for("patient:p-1")
    for patient in (key, log.vault.key_for("patient:p-2"), key):
        entry_id = log.new_entry_id()
        log.record(decision(entry_id, patient=patient.commitment(entry_id)))
    (tmp_path / "patient").write_text("p-1\n")
    assert (
        _run("timeline", "--log", config.directory, "--patient-file", tmp_path / "patient", "--reason", "access") == 0
    )
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == ["index", "0", "2"]
    (look,) = _looks(config.directory)
    assert (look.action, look.results, look.reason) == ("search", 2, "access")
    (tmp_path / "patient").write_text("p-3\n")
    assert _run("timeline", "--log", config.directory, "--patient-file", tmp_path / "patient") == 0
    assert "never seen here, or erased" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "\n", "p-1\np-2\n"])
def test_reading_timeline_of_no_patient_or_several_is_refused(directory, tmp_path, capsys, content) -> None:
    (tmp_path / "patient").write_text(content)
    assert _run("timeline", "--log", directory, "--patient-file", tmp_path / "patient") == 2
    assert "p-1" not in capsys.readouterr().err


def test_reading_needs_no_vault(directory, capsys) -> None:
    (directory / "vault.sqlite3").rename(directory / "elsewhere.sqlite3")
    assert _run("show", "--log", directory, "1") == 0
    assert [look.action for look in _looks(directory)] == ["read"]
