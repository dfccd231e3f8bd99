from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.commitments import keyed_digest
from audit.entry import parse_entry
from audit.entry_operations import SwitchEntry
from audit.keys import load_keys
from audit.merkle import LeafIndex
from audit.storage.sqlite import SqliteStorage
from tests.cds_service import patients
from tests.conftest import ORIGIN, RunningBedside, clean_environment, run_bedside


def _cards(bedside: RunningBedside) -> int:
    answer = bedside.post(patients.encoded(patients.call(patients.prefetch(datetime.now(UTC)))))
    assert answer.status_code == 200
    return len(answer.json()["cards"])


def _newest_switch(audit: Path) -> SwitchEntry:
    storage = SqliteStorage(audit)
    try:
        index = storage.newest_checkpoint().size - 1
        while True:
            entry = parse_entry(storage.entry(LeafIndex(index)) or b"")
            if isinstance(entry, SwitchEntry):
                return entry
            index -= 1
    finally:
        storage.close()


@pytest.mark.parametrize(
    ("what", "scope", "name"),
    [
        (("--service", "prevent-cvd"), "service", "prevent-cvd"),
        (("--model", "prevent_cvd"), "model", "prevent_cvd"),
        (("--all",), "tenant", "default"),
    ],
)
def test_switching_acts_on_a_running_service_at_its_next_call(
    what: tuple[str, ...], scope: str, name: str, bedside: RunningBedside
) -> None:
    assert _cards(bedside) == 1
    try:
        off = bedside.run("switch", "off", *what, "--reason", "safety")
        assert (off.returncode, off.stdout) == (0, f"{scope} {name} of tenant default: off\n"), off.stderr
        assert _cards(bedside) == 0
        listed = bedside.run("switch", "list").stdout
        assert listed.startswith(f"off: {scope} {name} of tenant default since 20")
        assert listed.endswith(": safety\n")
        entry = _newest_switch(bedside.audit)
        assert (entry.scope, entry.name, entry.off, entry.reason) == (scope, name, True, "safety")
    finally:
        on = bedside.run("switch", "on", *what, "--reason", "other")
    assert (on.returncode, on.stdout) == (0, f"{scope} {name} of tenant default: on\n"), on.stderr
    assert _cards(bedside) == 1
    assert bedside.run("switch", "list").stdout == "nothing is off\n"
    assert not _newest_switch(bedside.audit).off


def test_switching_leaves_the_other_services_on(bedside: RunningBedside) -> None:
    bedside.run("switch", "off", "--service", "icu-mortality", "--reason", "drift")
    try:
        assert _cards(bedside) == 1
    finally:
        bedside.run("switch", "on", "--service", "icu-mortality", "--reason", "drift")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            ("--service", "prevent_cvd"),
            "--service: expected one of icu-mortality, prevent-cvd, readmission-30d, risk-at-every-hook, warfarin-dose",
        ),
        (
            ("--model", "prevent-cvd"),
            "--model: expected one of icu_mortality, prevent_cvd, readmission_30d, warfarin_dose",
        ),
        (("--all", "--tenant", "south"), "--tenant: expected one of default, got south"),
    ],
)
def test_switching_refuses_a_name_that_is_none(what: tuple[str, ...], message: str, bedside: RunningBedside) -> None:
    done = bedside.run("switch", "off", *what, "--reason", "safety")
    assert done.returncode == 2
    assert message in done.stderr
    assert _cards(bedside) == 1


def _unlogged(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`bedside switch` beside a log that can't be opened."""
    environment = clean_environment(
        BEDSIDE_AUDIT_DIRECTORY=str(tmp_path / "none"), BEDSIDE_STATE_DIRECTORY=str(tmp_path / "state")
    )
    return run_bedside("switch", *arguments, environment=environment)


def test_switching_off_works_without_a_log_and_says_so(tmp_path: Path) -> None:
    done = _unlogged(tmp_path, "off", "--service", "prevent-cvd", "--reason", "safety")
    assert done.returncode == 1
    assert "service prevent-cvd is off, and that could not be logged" in done.stderr
    assert "off: service prevent-cvd" in _unlogged(tmp_path, "list").stdout


def test_switching_on_needs_the_log(tmp_path: Path) -> None:
    _unlogged(tmp_path, "off", "--service", "prevent-cvd", "--reason", "safety")
    assert _unlogged(tmp_path, "on", "--service", "prevent-cvd", "--reason", "other").returncode == 2
    assert "off: service prevent-cvd" in _unlogged(tmp_path, "list").stdout


def test_switching_is_shown_by_the_log_and_leaves_it_whole(bedside: RunningBedside) -> None:
    bedside.run("switch", "off", "--service", "icu-mortality", "--reason", "maintenance")
    bedside.run("switch", "on", "--service", "icu-mortality", "--reason", "maintenance")
    shown = bedside.run("audit", "show", "--last", "2").stdout
    assert shown.count("switch/v1") == 2
    time.sleep(0.1)
    verified = bedside.run("audit", "verify", str(bedside.audit))
    assert verified.returncode == 0, verified.stdout
    assert ORIGIN in verified.stdout


@pytest.fixture
def broken_model(tmp_path: Path) -> dict[str, str]:
    """An environment with one enabled model more, whose graph was altered since it was released."""
    folder = tmp_path / "north_models"
    shutil.copytree(Path(__file__).parents[2] / "model_artifacts" / "prevent_cvd", folder)
    with (folder / "model.onnx").open("ab") as graph:
        graph.write(b"altered")
    info = tmp_path / "north_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: north_models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bedside.models]\nnorth = north_models\n")
    return clean_environment(
        BEDSIDE_AUDIT_DIRECTORY=str(tmp_path / "audit"),
        BEDSIDE_AUDIT_ORIGIN=ORIGIN,
        BEDSIDE_STATE_DIRECTORY=str(tmp_path / "state"),
        BEDSIDE_MODELS_ENABLED="icu_mortality north",
        PYTHONPATH=os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2]))),
    )


def test_switching_off_works_while_a_model_can_not_be_loaded(broken_model: dict[str, str]) -> None:
    """A running service has it in memory still, and it may be the reason for switching off."""
    assert run_bedside("audit", "init", "--origin", ORIGIN, environment=broken_model).returncode == 0
    done = run_bedside("switch", "off", "--service", "icu-mortality", "--reason", "safety", environment=broken_model)
    assert (done.returncode, done.stdout) == (0, "service icu-mortality of tenant default: off\n"), done.stderr
    assert "is altered" in done.stderr
    assert "whether there is a service icu-mortality was not checked" in done.stderr


def test_switching_on_needs_every_model_to_load(broken_model: dict[str, str]) -> None:
    run_bedside("audit", "init", "--origin", ORIGIN, environment=broken_model)
    what = ("--service", "icu-mortality", "--reason", "other")
    run_bedside("switch", "off", *what, environment=broken_model)
    done = run_bedside("switch", "on", *what, environment=broken_model)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is altered" in done.stderr
    assert run_bedside("switch", "list", environment=broken_model).stdout.startswith("off: service icu-mortality")


def test_switching_off_a_name_that_is_not_checked_takes_codes_only(broken_model: dict[str, str]) -> None:
    """The log has no room for anything else."""
    done = run_bedside("switch", "off", "--service", "a name", "--reason", "other", environment=broken_model)
    assert done.returncode == 2
    assert "expected letters, digits and ._:+-, got 'a name'" in done.stderr
    assert run_bedside("switch", "list", environment=broken_model).stdout == "nothing is off\n"


def test_switching_is_logged_under_the_account_whatever_the_environment_says(tmp_path: Path) -> None:
    environment = clean_environment(
        BEDSIDE_AUDIT_DIRECTORY=str(tmp_path / "audit"),
        BEDSIDE_AUDIT_ORIGIN=ORIGIN,
        BEDSIDE_STATE_DIRECTORY=str(tmp_path / "state"),
        LOGNAME="somebody-else",
        USER="somebody-else",
    )
    run_bedside("audit", "init", "--origin", ORIGIN, environment=environment)
    run_bedside("switch", "off", "--all", "--reason", "safety", environment=environment)
    index_key = load_keys(tmp_path / "audit").index_key
    account = pwd.getpwuid(os.getuid()).pw_name
    assert _newest_switch(tmp_path / "audit").operator == keyed_digest(index_key, "operator", account.encode())
