import argparse
import shutil
from pathlib import Path

import pytest

from audit.commands import add_commands
from audit.log import AuditLog, LogConfig

ORIGIN = "hospital.example/cds-audit/north/1"


def _run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    status = parsed.run(parsed)
    assert isinstance(status, int)
    return status


@pytest.fixture
def options(postgresql_place) -> list[object]:
    place = postgresql_place()
    return ["--store", "postgresql", "--database-url-file", place.database_url_file, "--schema", place.schema]


def _open(directory: Path, clock) -> AuditLog:
    return AuditLog.open(LogConfig(directory, ORIGIN, "north", deadline_s=10), clock=clock)


def _copied(first: Path, second: Path, *names: str) -> Path:
    second.mkdir(mode=0o700)
    for name in names:
        copy = shutil.copytree if (first / name).is_dir() else shutil.copy2
        copy(first / name, second / name)
    return second


def test_commands_init_makes_a_log_in_postgresql_that_every_verb_reads(
    options, tmp_path, make_entry, clock, capsys
) -> None:
    directory = tmp_path / "log"
    assert _run("init", "--log", directory, "--origin", ORIGIN, *options) == 0
    assert capsys.readouterr().out == (directory / "log.vkey").read_text()
    log = _open(directory, clock)
    log.append(*make_entry(log, b"payload"))
    log.close()
    assert not list(directory.glob("*.sqlite3"))
    assert _run("verify", directory) == 0
    output = capsys.readouterr().out
    assert "valid: 1 entries" in output
    assert "not sealed" not in output
    assert _run("prove", "--log", directory, "0") == 0
    assert _run("init", "--log", directory, "--origin", ORIGIN, *options) == 2
    other = tmp_path / "other"
    assert _run("init", "--log", other, "--origin", ORIGIN, *options) == 2
    assert "exists already" in capsys.readouterr().err
    assert not other.exists()


def test_commands_init_attaches_another_host_with_the_first_ones_keys_and_head(
    options, tmp_path, make_entry, clock, capsys
) -> None:
    first = tmp_path / "first"
    assert _run("init", "--log", first, "--origin", ORIGIN, *options) == 0
    log = _open(first, clock)
    log.append(*make_entry(log))
    second = _copied(first, tmp_path / "second", "keys", "log.vkey", "head")
    log.append(*make_entry(log))
    capsys.readouterr()
    assert _run("init", "--log", second, "--origin", ORIGIN, *options, "--attach") == 0
    assert capsys.readouterr().out == (first / "log.vkey").read_text()
    other = _open(second, clock)
    assert (other.append(*make_entry(other)).index, log.append(*make_entry(log)).index) == (2, 3)
    other.close()
    log.close()
    assert _run("verify", second) == _run("verify", first) == 0


@pytest.mark.parametrize(
    ("copied", "origin", "status", "message"),
    [
        (("keys", "log.vkey"), ORIGIN, 2, "head file head"),
        (("log.vkey", "head"), ORIGIN, 2, "key file signing.key: unreadable"),
        (("keys", "log.vkey", "head"), "hospital.example/other", 2, "expected one of hospital.example/other"),
    ],
)
def test_commands_init_attaches_no_host_that_lacks_what_it_needs(
    options, tmp_path, capsys, copied, origin, status, message
) -> None:
    first = tmp_path / "first"
    assert _run("init", "--log", first, "--origin", ORIGIN, *options) == 0
    second = _copied(first, tmp_path / "second", *copied)
    assert _run("init", "--log", second, "--origin", origin, *options, "--attach") == status
    assert message in capsys.readouterr().err
    assert not (second / "store.json").exists()


def test_commands_init_attaches_no_host_to_a_log_behind_its_head(
    options, tmp_path, make_entry, clock, postgresql_place, capsys
) -> None:
    first = tmp_path / "first"
    assert _run("init", "--log", first, "--origin", ORIGIN, *options) == 0
    log = _open(first, clock)
    log.append(*make_entry(log))
    log.close()
    behind = tmp_path / "behind"
    (behind / "keys").mkdir(parents=True)
    second = _copied(first, tmp_path / "second", "keys", "log.vkey", "head")
    (first / "head").unlink()
    (first / "store.json").unlink()
    shutil.rmtree(first / "keys")
    (first / "log.vkey").unlink()
    other = ["--store", "postgresql", *options[2:4], "--schema", postgresql_place().schema]
    assert _run("init", "--log", first, "--origin", ORIGIN, *other) == 0  # an empty log with other keys
    assert _run("init", "--log", second, "--origin", ORIGIN, *other, "--attach") == 2
    assert "isn't signed by the log" in capsys.readouterr().err
    assert not (second / "store.json").exists()


def test_commands_init_gives_roles_their_rights(options, tmp_path, postgresql) -> None:
    postgresql.administer("CREATE ROLE adding", "CREATE ROLE reading")
    try:
        roles = ["--writer-role", "adding", "--reader-role", "reading"]
        assert _run("init", "--log", tmp_path / "log", "--origin", ORIGIN, *options, *roles) == 0
        asked = [("adding", "entries", "INSERT"), ("adding", "entries", "UPDATE"), ("reading", "entries", "SELECT"),
                 ("reading", "patient_keys", "SELECT")]  # fmt: skip
        rights = [f"SELECT has_table_privilege('{r}', '{options[-1]}.{table}', '{right}')" for r, table, right in asked]
        assert postgresql.administer(*rights).split() == ["t", "f", "t", "f"]
    finally:
        postgresql.administer("DROP OWNED BY adding, reading", "DROP ROLE adding, reading")


@pytest.mark.parametrize(
    "arguments",
    [["--schema", "x"], ["--attach"], ["--store", "postgresql"], ["--store", "postgresql", "--schema", "x"]],
)
def test_commands_init_refuses_arguments_that_do_not_fit_together(tmp_path, arguments, capsys) -> None:
    assert _run("init", "--log", tmp_path / "log", "--origin", ORIGIN, *arguments) == 2
    assert "--database-url-file" in capsys.readouterr().err
    assert not (tmp_path / "log").exists()
