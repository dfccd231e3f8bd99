from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from audit.access import query_bytes
from audit.commitments import keyed_digest
from audit.entry import DecisionEntry, parse_entry, read_header
from audit.entry_custody import AccessEntry
from audit.epochs import NewEpoch, begin_epoch
from audit.keys import init_keys
from audit.log import AuditLog, LogConfig, create_log
from audit.vault import patient_subject
from bedside.cli import main
from bedside.environment import now
from bedside.replaying import MEANINGS
from bedside.wiring import software_digest
from cds_service.decision import Context
from cds_service.desk import Book, Desk
from cds_service.pipeline import answer
from model_artifacts.archive import keep_model
from model_artifacts.runtime import ReleasedModel
from tests.cds_service import patients
from tests.cds_service.callers import caller
from tests.conftest import NOW, ORIGIN, TENANT, MakeDesk

GUIDE = Path(__file__).parents[2] / "docs" / "review-the-log.md"
Captured = pytest.CaptureFixture[str]
Configure = Callable[..., None]


@pytest.fixture
def configure(tmp_path: Path, audit_log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Makes `audit_log` the configured one, or another directory's."""

    def write(
        directory: Path = audit_log.config.directory,
        origin: str = ORIGIN,
        models: str = '"prevent_cvd"',
        more: str = "",
    ) -> None:
        path = tmp_path / "bedside.toml"
        path.write_text(
            f'[audit]\ndirectory = "{directory}"\norigin = "{origin}"\ntenant = "{TENANT}"\n'
            f'[models]\nenabled = [{models}]\narchive = "{tmp_path / "models"}"\n{more}'
        )
        monkeypatch.setenv("BEDSIDE_CONFIG", str(path))

    write()
    return write


def _decide(desk: Desk, tenant: str = TENANT, **prefetched: object) -> None:
    body = patients.encoded(patients.call(patients.prefetch(NOW) | prefetched))
    answer(body, desk.services[0], caller(tenant=tenant), desk)


def _newest(log: AuditLog) -> AccessEntry:
    *_, last = log.entries()
    entry = parse_entry(last)
    assert isinstance(entry, AccessEntry)
    return entry


@pytest.mark.usefixtures("configure")
def test_replaying_says_whether_the_software_is_todays(
    make_desk: MakeDesk, audit_log: AuditLog, capsys: Captured
) -> None:
    """A card that is worded otherwise since reads like tampering where nothing says that the code changed."""
    desk = make_desk()
    today = software_digest([ReleasedModel.load("model_artifacts.prevent_cvd")])
    context = Context(TENANT, today, "6b" * 32, audit_log.keys.index_key)
    _decide(desk)
    _decide(replace(desk, books={TENANT: Book(audit_log, context)}))
    for index, line in (
        (0, "\nsoftware another than today's, by which words may have changed\n"),
        (1, "\nsoftware as today\n"),
    ):
        assert main(["audit", "replay", str(index)]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"entry {index}: reproduced\nmodel prevent_cvd ")
        assert line in said


@pytest.mark.usefixtures("configure")
def test_replaying_names_the_part_of_the_leaf_that_differs(
    make_desk: MakeDesk, audit_log: AuditLog, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once "reproduced" for an entry whose writer had put another version and band into its leaf."""
    desk = make_desk()
    record = audit_log.record

    def lie(entry: DecisionEntry, payload: object) -> object:
        assert entry.model is not None
        assert entry.output is not None
        model = msgspec.structs.replace(entry.model, version="9.9.9")
        return record(msgspec.structs.replace(entry, model=model, cards=()), payload)  # type: ignore[arg-type]

    monkeypatch.setattr(audit_log, "record", lie)
    _decide(desk)
    monkeypatch.setattr(audit_log, "record", record)
    assert main(["audit", "replay", "0"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("entry 0: leaf-differs\n")
    assert "\nthe leaf says otherwise of model.version, cards\n" in said


@pytest.mark.usefixtures("configure")
def test_replaying_records_the_look_before_anything_is_said(
    make_desk: MakeDesk, audit_log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once kind and id of an entry without an answer were printed, and no look recorded."""
    _decide(make_desk(ward=_SwitchedOff()))
    said = _Watched(audit_log)
    monkeypatch.setattr(sys, "stdout", said)
    assert main(["audit", "replay", "0", "--reason", "complaint"]) == 1
    assert said.getvalue().startswith("entry 0: nothing to replay, decision/v1 ")
    assert set(said.newest) == {"access/v1"}
    look = _newest(audit_log)
    assert (look.action, look.index, look.reason) == ("replay", 0, "complaint")


class _Watched(io.StringIO):
    """A standard output that sees what kind of entry is the log's newest whenever something is written."""

    def __init__(self, log: AuditLog) -> None:
        super().__init__()
        self.log = log
        self.newest: list[str] = []

    def write(self, text: str) -> int:
        *_, last = self.log.entries()
        self.newest.append(read_header(last).type)
        return super().write(text)


class _SwitchedOff:
    """A ward in which every service is off."""

    def switched_off(self, *_asked: object) -> str:
        return "tested"


@pytest.mark.usefixtures("configure")
def test_replaying_a_payload_that_cannot_be_read_is_one_line(
    make_desk: MakeDesk, audit_log: AuditLog, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a traceback."""
    desk = make_desk()
    seal = audit_log.seal
    monkeypatch.setattr(audit_log, "seal", lambda id_, kind, _, key: seal(id_, kind, b"\x80", key))
    _decide(desk)
    assert main(["audit", "replay", "0"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "bedside: payload: not one that can be replayed (ValidationError)\n"


@pytest.mark.usefixtures("configure")
def test_replaying_an_erased_payload_is_one_line(make_desk: MakeDesk, audit_log: AuditLog, capsys: Captured) -> None:
    _decide(make_desk())
    key = audit_log.vault.find(patient_subject(patients.PATIENT_ID))
    assert key is not None
    audit_log.vault.store.destroy_keys([key.ref], "2026-11-24T09:30:00.000000Z")
    assert main(["audit", "replay", "0"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


@pytest.mark.parametrize("is_kept", [True, False])
def test_replaying_an_abstention_of_a_version_that_is_gone_is_a_0(
    *,
    is_kept: bool,
    make_desk: MakeDesk,
    configure: Configure,
    prevent: ReleasedModel,
    tmp_path: Path,
    capsys: Captured,
) -> None:
    """Once "model-changed" and a 1, though nothing had run."""
    _decide(make_desk(), cholesterol=None)
    if is_kept:
        keep_model(prevent, tmp_path / "models")
    configure(models='"icu_mortality"')
    assert main(["audit", "replay", "0"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("entry 0: abstained-before-running\n")
    assert said.endswith("the model abstained before it ran: no answer to repeat, and that version isn't installed\n")


def test_replaying_in_another_tenants_log(
    make_desk: MakeDesk, configure: Configure, audit_log: AuditLog, tmp_path: Path, capsys: Captured
) -> None:
    """Once only the first tenant's log could be reached."""
    config = LogConfig(tmp_path / "south", "tests.example/cds-audit/south/1", "south", deadline_s=5.0)
    config.directory.mkdir()
    create_log(config, init_keys(config.directory, config.origin, os.urandom))
    configure(more=f'[[tenants]]\nname = "south"\ndirectory = "{config.directory}"\norigin = "{config.origin}"\n')
    south = AuditLog.open(config, clock=lambda: NOW)
    context = Context("south", "5a" * 32, "6b" * 32, south.keys.index_key)
    _decide(make_desk(books={"south": Book(south, context)}), tenant="south")
    assert main(["audit", "replay", "0", "--tenant", "south"]) == 0
    assert capsys.readouterr().out.startswith("entry 0: reproduced\n")
    assert _newest(south).action == "replay"
    assert list(audit_log.entries()) == []
    assert main(["audit", "replay", "0", "--tenant", "west"]) == 2
    assert capsys.readouterr().err == f"bedside: --tenant: expected one of {TENANT}, south, got west\n"
    # Another tenant's log isn't read under this one's name.
    assert main(["audit", "replay", "0", "--log", str(config.directory)]) == 2
    assert capsys.readouterr().err.startswith(f"bedside: --log: expected a log of tenant {TENANT}, got another's")
    south.close()


@pytest.mark.parametrize("vault", ["own", "apart"])
def test_replaying_in_the_log_of_a_closed_epoch(
    vault: str, make_desk: MakeDesk, configure: Configure, tmp_path: Path, capsys: Captured
) -> None:
    """Once out of reach: the closed log can't take the entry that says who looked."""
    apart = None if vault == "own" else tmp_path / "vault"
    if apart is not None:
        apart.mkdir()
    old = LogConfig(tmp_path / "old", ORIGIN, TENANT, deadline_s=5.0, vault_directory=apart)
    old.directory.mkdir()
    create_log(old, init_keys(old.directory, ORIGIN, os.urandom))
    log = AuditLog.open(old, clock=now)
    _decide(make_desk(log=log))
    log.close()
    new = tmp_path / "new"
    report = begin_epoch(NewEpoch(old.directory, new, vault_directory=apart), old, now, os.urandom)
    configure(new, report.origin)
    if apart is not None:
        path = Path(os.environ["BEDSIDE_CONFIG"])
        path.write_text(path.read_text().replace("[audit]\n", f'[audit]\nvault_directory = "{apart}"\n'))
    assert main(["audit", "replay", "0", "--log", str(old.directory)]) == 0
    assert capsys.readouterr().out.startswith("entry 0: reproduced\n")
    assert main(["audit", "replay", "latest", "--log", str(old.directory), "--reason", "complaint"]) == 0
    present = AuditLog.open(replace(old, directory=new, origin=report.origin), clock=now)
    look = _newest(present)
    assert (look.action, look.index, look.reason) == ("replay", None, "complaint")
    asked = query_bytes({"log": ORIGIN, "index": 0, "asked": None})
    assert look.filter == keyed_digest(present.keys.index_key, "query", asked)
    present.close()


@pytest.mark.usefixtures("configure")
def test_replaying_in_the_present_log_by_its_directory(
    make_desk: MakeDesk, audit_log: AuditLog, capsys: Captured
) -> None:
    _decide(make_desk())
    assert main(["audit", "replay", "0", "--log", str(audit_log.config.directory)]) == 0
    assert capsys.readouterr().out.startswith("entry 0: reproduced\n")
    assert _newest(audit_log).index == 0


def test_replaying_every_outcome_is_in_the_guide() -> None:
    text = GUIDE.read_text(encoding="utf-8").partition("## Replay\n")[2].partition("\n## ")[0]
    assert [outcome for outcome in MEANINGS if f"`{outcome}`" not in text] == []
