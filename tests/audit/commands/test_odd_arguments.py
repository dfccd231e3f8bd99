"""Whatever a verb is given, it ends with the exit status that says so, and one line; never with a traceback.

1 says that a log is not valid, so a log in order never gives it, whatever was asked of it.
"""

import argparse
import io
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.commands import add_commands
from audit.log import AuditLog, LogConfig
from audit.vault import patient_subject
from tests.audit.key_maker import append

ORIGIN = "hospital.example/cds-audit/north/1"
DONE, INVALID, USAGE = 0, 1, 2
BEYOND = str(2**63)
HUGE = str(10**25)
LONE = "\udcff"  # how a byte that isn't UTF-8 comes in an argument


def _run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser)
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    status = parsed.run(parsed)
    assert isinstance(status, int)
    return status


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a log and an empty one lie, of which each test gets copies."""
    folder = tmp_path_factory.mktemp("logs")
    for name in ("log", "empty"):
        assert _run("init", "--log", str(folder / name), "--origin", ORIGIN) == 0
    log = AuditLog.open(LogConfig(folder / "log", ORIGIN, "north", deadline_s=10), clock=lambda: datetime.now(UTC))
    for number in range(4):
        append(log, log.vault.key_for(patient_subject("p-1")), number)
    log.close()
    return folder


@pytest.fixture
def places(tmp_path: Path, logs: Path) -> dict[str, str]:
    """A log, an empty one, a copy without keys, and what is no log."""
    names = ("log", "empty", "keyless", "folder", "file", "binary", "loop", "patient", "absent", "new")
    found = {name: tmp_path / name for name in names}
    for name, original in (("log", "log"), ("empty", "empty"), ("keyless", "log")):
        shutil.copytree(logs / original, found[name])
    shutil.rmtree(found["keyless"] / "keys")
    found["folder"].mkdir()
    found["file"].write_text("no log, no proof, no key\n")
    found["binary"].write_bytes(b"\xff\xfe\0")
    found["loop"].symlink_to(found["loop"])  # nobody can read it, not even root
    found["patient"].write_text("p-1\n")
    return {name: str(path) for name, path in found.items()}


LOOKS = ("show", "show 0", "search", "report", "prove 0", "timeline --patient-file {patient}", "export csv")
CASES = [
    # numbers
    *(
        (f"{verb} --log {{log}}", USAGE)
        for verb in ("show 4", f"show {BEYOND}", f"show {HUGE}", "show x", "show {log}")
    ),
    *((f"show --last {number} --log {{log}}", USAGE) for number in (BEYOND, HUGE, "x", "-1")),
    *((f"search --{name} {HUGE} --log {{log}}", USAGE) for name in ("limit", "before")),
    *((f"search --{name} {BEYOND} --log {{log}}", USAGE) for name in ("limit", "before")),
    ("show --last 0 --log {log}", DONE),
    ("search --limit 0 --log {log}", DONE),
    ("search --before 0 --log {log}", DONE),
    *((f"prove {number} --log {{log}}", USAGE) for number in ("4", BEYOND, HUGE, "x")),
    *((f"export csv {name} {HUGE} --log {{log}}", USAGE) for name in ("--from", "--to")),
    (f"export bundle -o {{new}} --from {BEYOND} --log {{log}}", USAGE),
    ("export bundle -o {new} --from 1000 --log {log}", USAGE),
    *((f"drill --entries {number} --log {{log}}", USAGE) for number in (HUGE, "x", "3")),
    *((f"publish --serve {address} --log {{log}}", USAGE) for address in ("h:99999", "h:x", "h", f"127.0.0.1:{HUGE}")),
    # days
    ("search --until 9999-12-31 --log {log}", DONE),
    ("search --since 0001-01-01 --log {log}", DONE),
    *((f"search --until {day} --log {{log}}", USAGE) for day in ("10000-01-01", "2026-02-30", "today")),
    # words
    *((f"search --{name} {LONE} --log {{log}}", USAGE) for name in ("type", "service", "model", "status", "actor")),
    (f"show --type {LONE} --log {{log}}", USAGE),
    *((f"{look} --reason {LONE} --log {{log}}", USAGE) for look in LOOKS),
    *((f"{look} --reason bad/reason --log {{log}}", USAGE) for look in LOOKS),
    *((f"{look} --reason {'a' * 200} --log {{log}}", USAGE) for look in LOOKS),
    *((f"keys {verb} --reason bad/reason --log {{log}}", USAGE) for verb in ("rotate", "retire", "rewrap")),
    ("epoch begin --new {new} --reason bad/reason --log {log}", USAGE),
    *((f"init --log {{new}} --origin {origin}", USAGE) for origin in ("a+b", LONE, "a" * 300)),
    # no log there
    *(
        (f"{verb} --log {{{place}}}", USAGE)
        for verb in (*LOOKS, "export bundle -o {new}", "publish -o {new}", "drill", "fsck", "keys list", "keys rotate")
        for place in ("absent", "file", "folder", "loop")
    ),
    *((f"epoch begin --new {{new}} --log {{{place}}}", USAGE) for place in ("absent", "file", "folder", "loop")),
    *((f"verify {{{place}}}", USAGE) for place in ("absent", "folder", "loop")),
    *((f"verify {{{place}}} --log {{log}}", INVALID) for place in ("file", "binary")),
    ("init --log {file} --origin " + ORIGIN, USAGE),
    ("init --log {log} --origin " + ORIGIN, USAGE),
    ("init --log {loop} --origin " + ORIGIN, USAGE),
    # files
    *((f"timeline --patient-file {{{place}}} --log {{log}}", USAGE) for place in ("absent", "folder", "loop")),
    ("timeline --patient-file {binary} --log {log}", USAGE),
    *(
        (f"timeline --patient-file {{patient}} --vault {{{p}}} --log {{log}}", USAGE)
        for p in ("absent", "file", "loop")
    ),
    *((f"prove 0 -o {{{place}}} --log {{log}}", USAGE) for place in ("folder", "loop")),
    *((f"export csv -o {{{place}}} --log {{log}}", USAGE) for place in ("folder", "loop")),
    *((f"export bundle -o {{{place}}} --log {{log}}", USAGE) for place in ("file", "loop", "log")),
    *((f"export bundle -o {{new}} --policy {{{place}}} --log {{log}}", USAGE) for place in ("absent", "folder")),
    *((f"publish -o {{{place}}} --log {{log}}", USAGE) for place in ("file", "loop")),
    ("publish --log {log}", USAGE),
    *((f"verify {{log}} --key {{{place}}}", USAGE) for place in ("absent", "folder", "file", "binary", "loop")),
    *((f"verify {{log}} --head {{{place}}}", USAGE) for place in ("absent", "folder", "loop")),
    *((f"verify {{log}} --heads {{{place}}}", USAGE) for place in ("absent", "file", "loop")),
    *((f"verify {{log}} --witness-key {{{place}}}", USAGE) for place in ("absent", "folder", "file", "binary")),
    *((f"verify {{log}} --tsa-roots {{{place}}}", USAGE) for place in ("absent", "folder", "file", "binary")),
    *((f"verify {{log}} --previous {{{place}}}", INVALID) for place in ("log",)),
    *((f"fsck --vault {{{place}}} --log {{log}}", INVALID) for place in ("absent", "file", "folder")),
    *((f"fsck --head-file {{{place}}} --log {{log}}", INVALID) for place in ("absent", "file", "folder")),
    *((f"init --log {{new}} --origin {ORIGIN} {option}", USAGE) for option in ("--attach", "--schema s")),
    (f"init --log {{new}} --origin {ORIGIN} --store postgresql --schema s --database-url-file {{absent}}", USAGE),
    *((f"show 0 --log {{log}} --record-in {{{place}}}", DONE) for place in ("absent", "file")),
    # nothing in the log
    *((f"{verb} --log {{empty}}", DONE) for verb in ("show", "search", "report", "export csv", "fsck", "keys list")),
    *((f"{verb} --log {{empty}}", DONE) for verb in ("timeline --patient-file {patient}", "publish -o {new}")),
    *((f"{verb} --log {{empty}}", USAGE) for verb in ("show 0", "prove 0", "drill")),
    *((f"{verb} --log {{empty}}", USAGE) for verb in ("keys rotate", "keys rewrap", "keys retire")),
    ("epoch begin --new {new} --log {empty}", USAGE),
    ("verify {empty}", DONE),
    # a copy without keys
    *((f"{verb} --log {{keyless}}", DONE) for verb in ("show 0", "search", "report", "prove 0", "export csv", "drill")),
    ("export bundle -o {new} --log {keyless}", DONE),
    ("timeline --patient-file {patient} --log {keyless}", USAGE),
    *((f"{verb} --log {{keyless}}", USAGE) for verb in ("keys rotate", "keys rewrap", "keys retire")),
    ("epoch begin --new {new} --log {keyless}", USAGE),
    ("fsck --log {keyless}", INVALID),
    ("verify {keyless}", DONE),
    # a witness
    *((f"witness init --name w.example/1 --state {{{place}}}", USAGE) for place in ("file", "loop")),
    *((f"witness init --name {name} --state {{new}}", USAGE) for name in ("a+b", LONE)),
    *((f"witness serve --state {{{place}}} --log {{log}}/log.vkey", USAGE) for place in ("absent", "folder", "file")),
]


@pytest.mark.parametrize(("line", "status"), CASES, ids=[ascii(line) for line, _ in CASES])
def test_odd_arguments_end_with_one_line_and_the_right_exit_status(places, capsys, line: str, status: int) -> None:
    given = [word.format(**places) for word in line.split(" ")]
    assert _run(*given) == status
    printed = capsys.readouterr()
    said = printed.err.splitlines()
    if said and said[0].startswith("usage: "):  # argparse says how it is called first
        del said[:-1]
    assert len(said) <= 1 or status == DONE, printed.err
    assert printed.out or said or "timeline" in line


def test_odd_arguments_an_output_that_cannot_show_the_text_is_a_2(places, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert _run("report", "--log", places["log"]) == USAGE
    assert capsys.readouterr().err.count("\n") == 1
