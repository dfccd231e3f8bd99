import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.commands import add_commands
from audit.drill import WAYS
from audit.log import AuditLog


def _run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    status = parsed.run(parsed)
    assert isinstance(status, int)
    return status


@pytest.fixture
def directory(make_log: Callable, open_log: Callable, make_entry: Callable) -> Path:
    config, _ = make_log()
    log: AuditLog = open_log(config)
    for _ in range(6):
        log.append(*make_entry(log, b"payload"))
    log.close()
    return config.directory


def test_commands_fsck_of_a_log_in_order_is_valid(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("fsck", "--log", directory) == 0
    printed = capsys.readouterr().out
    assert "ok       head: of size 6, as the store" in printed
    assert "PROBLEM" not in printed


def test_commands_fsck_of_a_log_just_made_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once two problems, for want of the vault that the first writer makes."""
    assert _run("init", "--log", tmp_path / "log", "--origin", "hospital.example/cds-audit/north/1") == 0
    assert _run("fsck", "--log", tmp_path / "log") == 0
    printed = capsys.readouterr().out
    assert "note     vault: none yet" in printed
    assert "note     requests: none yet" in printed
    assert "PROBLEM" not in printed


def test_commands_fsck_of_a_log_with_entries_and_no_vault_is_invalid(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "vault.sqlite3").unlink()
    assert _run("fsck", "--log", directory) == 1
    assert "PROBLEM  vault: " in capsys.readouterr().out


def test_commands_fsck_with_a_problem_is_invalid(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "keys").chmod(0o750)
    assert _run("fsck", "--quick", "--log", directory) == 1
    assert "PROBLEM  private files: keys: expected mode 0700, got 0750" in capsys.readouterr().out


def test_commands_fsck_repairs_when_asked(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "log.sqlite3.seal").unlink()
    assert _run("fsck", "--log", directory, "--repair") == 0
    assert "repaired seal: sealed" in capsys.readouterr().out


def test_commands_drill_shows_every_alarm(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("drill", "--log", directory) == 0
    printed = capsys.readouterr().out
    assert "10 of 10 detected" in printed
    assert "flip one bit of an entry\n    invalid: first bad index 3, entry" in printed
    assert "    rollback: the log was rolled back\n    known head:\n    hospital.example" in printed


def test_commands_drill_that_misses_something_is_invalid(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WAYS, "change a column", lambda _: None)
    assert _run("drill", "--log", directory) == 1
    printed = capsys.readouterr().out
    assert "change a column\n    NOT DETECTED" in printed
    assert "9 of 10 detected" in printed


def test_commands_drill_needs_a_log_with_entries(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("drill", "--log", directory, "--entries", "2") == 2
    assert "at least 4 entries, got 2" in capsys.readouterr().err
