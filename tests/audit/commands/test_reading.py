import argparse
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.commands import add_commands
from audit.commitments import keyed_digest
from audit.entry import parse_entry
from audit.entry_custody import AccessEntry
from audit.epochs import NewEpoch, begin_epoch
from audit.keys import load_keys
from audit.log import AuditLog, LogConfig, read_entries
from audit.storage.opening import open_storage

ORIGIN = "hospital.example/cds-audit/north/1"


def _run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser)
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
    with pytest.raises(SystemExit) as ended:
        _run("search", "--log", directory, "--reason", "Mrs Smith complained")
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "expected a code: letters, digits" in printed.err
    assert _looks(directory) == []


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


@pytest.mark.parametrize("content", [b"", b"\n", b"p-1\np-2\n", "p-1\n".encode("utf-16")])
def test_reading_timeline_of_no_patient_or_several_is_refused(directory, tmp_path, capsys, content) -> None:
    (tmp_path / "patient").write_bytes(content)
    assert _run("timeline", "--log", directory, "--patient-file", tmp_path / "patient") == 2
    assert "p-1" not in capsys.readouterr().err


def test_reading_needs_no_vault(directory, capsys) -> None:
    (directory / "vault.sqlite3").rename(directory / "elsewhere.sqlite3")
    assert _run("show", "--log", directory, "1") == 0
    assert [look.action for look in _looks(directory)] == ["read"]


@pytest.fixture
def patient_file(tmp_path: Path) -> Path:
    path = tmp_path / "patient"
    path.write_text("p-1\n")
    return path


@pytest.fixture
def about_patients(make_log: Callable, clock: Callable, decision: Callable) -> LogConfig:
    """Of a closed log with a decision for each of two patients."""
    config, _ = make_log()
    log = AuditLog.open(config, clock=clock)
    for patient in ("p-1", "p-2"):
        key, entry_id = log.vault.key_for(f"patient:{patient}"), log.new_entry_id()
        log.record(decision(entry_id, patient=key.commitment(entry_id)))
    log.close()
    return config


def test_reading_timeline_looks_at_one_patient_cannot_be_linked_or_guessed(about_patients, patient_file) -> None:
    """Once HMAC(K_index, patient id): the same in each look, and found by trying all ids after the patient's key was gone."""
    directory = about_patients.directory
    for _ in range(2):
        assert _run("timeline", "--log", directory, "--patient-file", patient_file) == 0
    first, second = (look.filter for look in _looks(directory))
    assert first != second
    guessed = keyed_digest(load_keys(directory).index_key, "query", b'{"patient":"p-1"}')
    assert guessed not in (first, second)


def test_reading_timeline_is_committed_to_under_the_patient_s_key(about_patients, patient_file, open_log) -> None:
    assert _run("timeline", "--log", about_patients.directory, "--patient-file", patient_file) == 0
    (look,) = _looks(about_patients.directory)
    key = open_log(about_patients).vault.find("patient:p-1")
    assert key is not None
    assert look.filter == key.commit(look.id, "query", b'{"patient":"p-1"}')


def test_reading_timeline_of_a_patient_without_key_says_nothing_of_whom(about_patients, patient_file) -> None:
    patient_file.write_text("p-3")
    assert _run("timeline", "--log", about_patients.directory, "--patient-file", patient_file) == 0
    assert [(look.results, look.filter) for look in _looks(about_patients.directory)] == [(0, None)]


def test_reading_timeline_of_an_empty_log_is_empty(tmp_path, patient_file, capsys) -> None:
    assert _run("init", "--log", tmp_path / "log", "--origin", ORIGIN) == 0
    capsys.readouterr()
    assert _run("timeline", "--log", tmp_path / "log", "--patient-file", patient_file) == 0
    assert capsys.readouterr() == ("", "")


def _begin(config: LogConfig, name: str, **changes: object) -> Path:
    """Closes the log and begins the next epoch in a directory of this name beside it."""
    new = config.directory.with_name(name)
    begin_epoch(NewEpoch(config.directory, new, **changes), config, lambda: datetime.now(UTC), os.urandom)
    return new


VERBS = [
    ("show", "0"),
    ("show",),
    ("search",),
    ("report",),
    ("timeline", "--patient-file", "patient"),
    ("prove", "0"),
    ("export", "csv"),
    ("export", "bundle", "-o", "bundle"),
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_reading_a_closed_epoch_is_recorded_in_the_one_that_follows(
    about_patients, patient_file, verb, capsys, monkeypatch
) -> None:
    """Once refused, for the log that is looked at takes no entry any more."""
    monkeypatch.chdir(patient_file.parent)
    old = about_patients.directory
    new = _begin(about_patients, "log-2")
    capsys.readouterr()
    assert _run(*verb, "--log", old) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "the log is closed (key-compromise); it goes on in epoch 2: give its directory with --record-in, "
        "since this look is recorded there\n"
    )
    assert _looks(new) == []
    assert _run(*verb, "--log", old, "--record-in", new, "--reason", "complaint") == 0
    assert capsys.readouterr().out != ""
    (look,) = _looks(new)
    assert (look.index, look.reason) == (None, "complaint")  # no index here: it would be one of the other log
    assert look.filter is not None
    assert _looks(old) == []


def test_reading_a_closed_epoch_says_in_the_other_log_what_was_read(about_patients) -> None:
    new = _begin(about_patients, "log-2")
    assert _run("show", "1", "--log", about_patients.directory, "--record-in", new) == 0
    asked = f'{{"asked":null,"index":1,"log":"{ORIGIN}"}}'.encode()
    (look,) = _looks(new)
    assert (look.action, look.filter) == ("read", keyed_digest(load_keys(new).index_key, "query", asked))


def test_reading_a_closed_epoch_whose_key_is_lost(about_patients) -> None:
    new = _begin(about_patients, "log-2", old_key_lost=True)
    (about_patients.directory / "keys" / "signing.key").unlink()
    assert _run("show", "0", "--log", about_patients.directory, "--record-in", new) == 0
    assert [look.action for look in _looks(new)] == ["read"]


def test_reading_a_closed_epoch_is_recorded_in_the_epoch_that_is_open(about_patients, capsys) -> None:
    second = _begin(about_patients, "log-2")
    origin = ORIGIN.removesuffix("1")
    third = _begin(LogConfig(second, f"{origin}2", "north", deadline_s=10.0), "log-3")
    capsys.readouterr()
    assert _run("show", "0", "--log", about_patients.directory, "--record-in", second) == 2
    assert "--record-in: the log is closed (key-compromise); it goes on in epoch 3" in capsys.readouterr().err
    assert _run("show", "0", "--log", about_patients.directory, "--record-in", third) == 0
    assert [look.action for look in _looks(third)] == ["read"]


def test_reading_a_closed_epoch_is_recorded_in_no_log_but_its_own(about_patients, tmp_path, capsys) -> None:
    _begin(about_patients, "log-2")
    other = tmp_path / "other"
    assert _run("init", "--log", other, "--origin", ORIGIN.removesuffix("1") + "7") == 0
    for wrong in (other, about_patients.directory):
        capsys.readouterr()
        assert _run("show", "0", "--log", about_patients.directory, "--record-in", wrong) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert f"expected a later epoch of {ORIGIN}, got" in printed.err


def test_reading_an_open_log_is_recorded_in_it_whatever_is_given(about_patients, tmp_path) -> None:
    assert _run("show", "0", "--log", about_patients.directory, "--record-in", tmp_path) == 0
    assert [look.action for look in _looks(about_patients.directory)] == ["read"]


def test_reading_timeline_says_that_there_are_earlier_epochs(about_patients, patient_file, capsys) -> None:
    assert _run("timeline", "--log", about_patients.directory, "--patient-file", patient_file) == 0
    assert "earlier" not in capsys.readouterr().err
    new = _begin(about_patients, "log-2")
    assert _run("timeline", "--log", new, "--patient-file", patient_file) == 0
    assert f"earlier entries are in {ORIGIN}: ask there too, with --record-in {new}" in capsys.readouterr().err


def test_reading_timeline_of_a_closed_epoch_gives_the_patient_s_entries(about_patients, patient_file, capsys) -> None:
    new = _begin(about_patients, "log-2")
    arguments = ("--log", about_patients.directory, "--patient-file", patient_file, "--record-in", new)
    assert _run("timeline", *arguments) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["index", "0"]
    (look,) = _looks(new)
    assert (look.action, look.results) == ("search", 1)


def test_reading_search_until_the_last_day_there_is(directory, capsys) -> None:
    assert _run("search", "--log", directory, "--type", "decision/v1", "--until", "9999-12-31") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["index", "2", "1", "0"]


def test_reading_timeline_of_a_file_with_a_byte_order_mark(about_patients, patient_file, capsys) -> None:
    patient_file.write_bytes("\ufeffp-1\r\n".encode())
    assert _run("timeline", "--log", about_patients.directory, "--patient-file", patient_file) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["index", "0"]
