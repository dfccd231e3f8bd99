from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from pkgutil import resolve_name

import pytest

from audit.commands.verbs import Verb
from audit.heads import keep_head
from audit.keys import init_keys
from audit.log import AuditLog, LogConfig, create_log
from bedside import cli, models
from bedside.cli import main
from tests.audit.export.bundles import switch_entry
from tests.audit.writer import write_entry
from tests.cds_service import patients
from tests.conftest import ORIGIN, RunningBedside, clean_environment, released_packages, run_bedside

VERBS = [
    ("serve",),
    ("demo",),
    ("doctor",),
    ("model",),
    *(("model", verb.name) for verb in models.VERBS),
    ("audit",),
    ("audit", "init"),
    ("audit", "show"),
    ("audit", "prove"),
    ("audit", "verify"),
    ("audit", "replay"),
    ("report",),
    ("report", "feedback"),
]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine, and a folder without a log."""
    for name in [name for name in __import__("os").environ if name.startswith("BEDSIDE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", [(), *VERBS], ids=" ".join)
def test_cli_every_verb_has_help(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {' '.join(['bedside', *verb])}")


HEAVY = ["fhir", "fhir_core", "flask", "granian", "numpy", "onnxruntime", "pydantic", "requests"]
# Runs verbs one after the other, and says after each how it ended and which of these packages are imported by then.
_IMPORTED = """
import json, sys
from bedside.cli import main
for verb in json.loads(sys.argv[1]):
    try:
        code = main(verb)
    except SystemExit as ended:
        code = ended.code
    print(json.dumps([code, [name for name in json.loads(sys.argv[2]) if name in sys.modules]]), file=sys.stderr)
"""


def test_cli_help_and_the_verbs_that_read_the_log_import_nothing_heavy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each took most of a second once, for what other verbs need."""
    monkeypatch.setenv("BEDSIDE_AUDIT_ORIGIN", ORIGIN)
    assert main(["audit", "init", "--origin", ORIGIN]) == 0
    log = AuditLog.open(LogConfig(Path("var/audit"), ORIGIN, "north", deadline_s=10.0), clock=lambda: datetime.now(UTC))
    write_entry(log)
    log.close()
    (tmp_path / "patient").write_text("p1")
    helps = [["--help"], ["audit", "--help"], ["audit", "verify", "--help"], ["model", "--help"]]
    verbs = ["show", "search", "report", "verify", "fsck", "prove 0", "keys list", "timeline --patient-file patient"]
    reading = [["audit", *verb.split()] for verb in verbs]
    asked = [*helps, *reading, ["model", "list"]]
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED, json.dumps(asked), json.dumps(HEAVY)],
        env=clean_environment(BEDSIDE_AUDIT_ORIGIN=ORIGIN, PYTHONPATH=str(Path(__file__).parents[2])),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]
    assert told[:-1] == [[0, []]] * (len(asked) - 1), done.stderr
    assert {"numpy", "onnxruntime"} <= set(told[-1][1])  # what loads a model does need them


@pytest.mark.parametrize("verb", [*cli.VERBS, *cli.AUDIT_VERBS, *models.VERBS], ids=lambda verb: verb.fill)
def test_cli_every_verb_of_the_tables_is_there(verb: Verb) -> None:
    assert callable(resolve_name(verb.fill))


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["audit"], ["model"], ["audit", "replay"], ["serve", "--prot"]])
def test_cli_usage_errors_are_a_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: bedside")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BEDSIDE_SERVER_PROT", "1"),
        ("BEDSIDE_SERVER_PORT", "x"),
        ("BEDSIDE_CONFIG", "/nowhere/bedside.toml"),
    ],
)
@pytest.mark.parametrize("verb", [["doctor"], ["serve"], ["audit", "replay", "0"]], ids=" ".join)
def test_cli_a_configuration_that_cannot_be_used_is_one_line_and_a_2(
    variable: str, value: str, verb: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert main(verb) == 2
    _one_line(capsys)


def _one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bedside: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("arguments", [["audit", "replay", "0"], ["audit", "show"], ["audit", "verify"]], ids=" ".join)
def test_cli_a_log_that_is_not_there_is_a_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("index", [2**63, 10**25])
def test_cli_replay_of_a_huge_index_is_a_2(bedside: RunningBedside, index: int) -> None:
    done = bedside.run("audit", "replay", str(index))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_cli_replay_of_a_log_rolled_back_is_a_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once a 2, as if it had been called wrongly."""
    directory, origin = tmp_path / "log", "hospital.example/cds-audit/north/1"
    monkeypatch.setenv("BEDSIDE_AUDIT_DIRECTORY", str(directory))
    monkeypatch.setenv("BEDSIDE_AUDIT_ORIGIN", origin)
    assert main(["audit", "init", "--origin", origin]) == 0
    older = (directory / "log.sqlite3").read_bytes()
    log = AuditLog.open(LogConfig(directory, origin, "north", deadline_s=10.0), clock=lambda: datetime.now(UTC))
    write_entry(log)
    log.close()
    (directory / "log.sqlite3").write_bytes(older)
    (directory / "log.sqlite3.seal").unlink()
    capsys.readouterr()
    assert main(["audit", "replay", "0"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bedside: the log was rolled back\nknown head:")


def test_cli_serve_refuses_while_nobody_is_let_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 2
    assert "clients: expected at least one, as nobody could call" in _one_line(capsys)


def test_cli_serve_refuses_without_a_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDSIDE_ACCESS_OPEN_ON_LOOPBACK", "true")
    assert main(["serve"]) == 2
    _one_line(capsys)


def test_cli_replay_reproduces_a_decision_of_a_running_service(bedside: RunningBedside) -> None:
    from datetime import UTC, datetime

    from tests.cds_service import patients

    answer = bedside.post(patients.encoded(patients.call(patients.prefetch(datetime.now(UTC)))))
    index = answer.json()["extension"]["org.bedside.receipt"]["index"]
    done = bedside.run("audit", "replay", str(index))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"entry {index}: reproduced\nmodel prevent_cvd ")


def test_cli_replay_of_an_entry_without_payload_says_so(bedside: RunningBedside) -> None:
    """Once "no entry 0", though it is there."""
    done = bedside.run("audit", "replay", "0")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("entry 0: nothing to replay, config/v1 ")


def test_cli_replay_of_no_entry_is_a_2(bedside: RunningBedside) -> None:
    done = bedside.run("audit", "replay", "999999")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "bedside: no entry 999999\n")


def test_cli_model_verify_and_list(bedside: RunningBedside) -> None:
    listed = bedside.run("model", "verify")
    for name in released_packages():
        assert f"{name}: as released, sha-256 " in listed.stdout
    assert "Traceback" not in listed.stderr


def test_cli_module_runs_as_a_program(tmp_path: Path) -> None:
    done = run_bedside("doctor", environment=clean_environment(BEDSIDE_SERVER_PORT="no"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bedside: environment variable BEDSIDE_SERVER_PORT: expected int, got 'no'\n"


def test_cli_replay_of_the_latest_answer(bedside: RunningBedside) -> None:
    now = datetime.now(UTC)
    answered = bedside.post(patients.encoded(patients.call(patients.prefetch(now)))).json()
    bedside.post(patients.encoded(patients.call(patients.prefetch(now) | {"cholesterol": None})))
    done = bedside.run("audit", "replay", "latest")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"entry {answered['extension']['org.bedside.receipt']['index']}: reproduced\n")


def test_cli_audit_verify_finds_head_and_heads_where_the_configuration_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that was put back as a whole looks well but for the heads on another volume."""
    log, heads = tmp_path / "log", tmp_path / "heads"
    log.mkdir()
    config = LogConfig(log, "h.example/log/1", "north", head_path=tmp_path / "newest", heads_path=heads, deadline_s=10)
    create_log(config, init_keys(log, config.origin, os.urandom))
    settings = tmp_path / "bedside.toml"
    settings.write_text(
        f'[audit]\ndirectory = "{log}"\norigin = "{config.origin}"\ntenant = "north"\n'
        f'head_file = "{config.head_file}"\nheads_directory = "{heads}"\n'
    )
    monkeypatch.setenv("BEDSIDE_CONFIG", str(settings))
    assert main(["audit", "verify"]) == main(["audit", "verify", str(log)]) == 0
    for name in ("log", "newest"):
        _copy(tmp_path / name, tmp_path / f"{name}.old")
    opened = AuditLog.open(config, clock=lambda: datetime.now(UTC))
    opened.append_all([(switch_entry(1), None)])
    keep_head(heads, "witness", opened.checkpoint())
    opened.close()
    assert main(["audit", "verify"]) == 0
    assert "heads: 2 kept elsewhere" in capsys.readouterr().out
    for name in ("log", "newest"):
        _copy(tmp_path / f"{name}.old", tmp_path / name)
    assert main(["audit", "verify"]) == main(["audit", "verify", str(log)]) == 3
    assert main(["audit", "verify", "--head-file", str(log / "absent")]) == 1
    monkeypatch.delenv("BEDSIDE_CONFIG")
    assert main(["audit", "verify", str(log)]) == 0  # by the link in its directory to the head that was put back too
    assert main(["audit", "verify", str(log), "--head-file", str(config.head_file)]) == 0


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy(source, target)


def test_cli_head_file_on_another_volume_serves_every_verb(tmp_path: Path) -> None:
    """`init` once left it in the log's directory, where the service didn't look, and the other verbs found no head."""
    volume, log = tmp_path / "volume", tmp_path / "log"
    volume.mkdir()
    environment = clean_environment(
        BEDSIDE_AUDIT_DIRECTORY=str(log),
        BEDSIDE_AUDIT_HEAD_FILE=str(volume / "head"),
        BEDSIDE_AUDIT_ORIGIN=ORIGIN,
        BEDSIDE_STATE_DIRECTORY=str(tmp_path / "state"),
    )
    assert run_bedside("audit", "init", "--origin", ORIGIN, environment=environment).returncode == 0
    assert (volume / "head").is_file()
    switched = run_bedside("switch", "off", "--all", "--reason", "safety", environment=environment)
    assert switched.returncode == 0, switched.stderr
    for verb in (["show"], ["verify", str(log)], ["verify"], ["fsck"], ["prove", "0"]):
        done = run_bedside("audit", *verb, environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (volume / "head").read_bytes() == (log / "head").read_bytes()
