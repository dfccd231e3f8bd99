from __future__ import annotations

import io
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from audit.custody_body import format_body, parse_body
from audit.entry import parse_entry
from audit.entry_custody import AccessEntry, ErasureEntry, HoldEntry
from audit.errors import StorageError
from audit.log import AuditLog, LogConfig
from audit.merkle import LeafIndex
from audit.note import Note, format_note, parse_note
from audit.pkcs11 import make_wrapping_key
from audit.pkcs11_uri import format_uri, parse_uri
from audit.rewrapping import rewrap
from audit.storage import Query
from audit.storage.opening import open_storage, open_vault
from audit.storage.vault_store import VaultStore
from bedside.cli import main
from bedside.config import Config, Fhir
from bedside.custody import settling_s
from bedside.tables import ClientTable
from tests.audit.custody_log import ORIGIN, make_room
from tests.softhsm import make_token

LONG_AGO = datetime(2010, 3, 1, 8, tzinfo=UTC)


class Office:
    """The command line over a log with old entries of p0 to p3, with two privacy officers and an auditor."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.directory = make_room(folder / "audit", time=LONG_AGO).directory
        self._capsys = capsys

    def run(self, *arguments: str) -> SimpleNamespace:
        code = main(["audit", *arguments])
        captured = self._capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    def officer(self, name: str, role: str = "privacy-officer") -> str:
        made = self.run("officer", "new", name, "-o", str(self.folder / f"{name}.key"))
        assert made.code == 0
        return str(made.out).replace("privacy-officer", role)

    def key(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    def patients(self, *ids: str) -> str:
        path = self.folder / "patients"
        path.write_text("".join(f"{one}\n" for one in ids))
        return str(path)

    def request(self, *ids: str, officer: str = "ada") -> str:
        asked = self.run("erase", "request", self.patients(*ids), "--key", self.key(officer), "--reason", "gdpr-17")
        assert asked.code == 0, asked.err
        found = re.match(r"request ([0-9a-f]{32}): \d+ patients; another officer has to approve it\n", asked.out)
        assert found
        return found[1]

    def entry(self, printed: str) -> object:
        """The entry whose index was printed."""
        (index,) = re.findall(r"^index (\d+)$", printed, re.MULTILINE)
        storage = open_storage(self.directory)
        try:
            return parse_entry(storage.entry(LeafIndex(int(index))) or b"")
        finally:
            storage.close()


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Office:
    config = tmp_path / "bedside.toml"
    monkeypatch.setenv("BEDSIDE_CONFIG", str(config))
    monkeypatch.setattr("bedside.custody.settling_s", lambda _config: 0.0)
    config.write_text("")
    office = Office(tmp_path, capsys)
    officers = office.officer("ada") + office.officer("ben") + office.officer("cleo", "auditor")
    config.write_text(f'[audit]\ndirectory = "{office.directory}"\norigin = "{ORIGIN}"\ntenant = "north"\n{officers}')
    return office


def test_custody_an_erasure_takes_two_officers_and_prints_where_it_is_logged(office: Office) -> None:
    request = office.request("p1", "p2")
    done = office.run("erase", "approve", request, "--key", office.key("ben"))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("erased: 2 keys, 4 payloads\nindex ")
    entry = office.entry(done.out)
    assert isinstance(entry, ErasureEntry)
    assert (entry.id, entry.payloads, entry.reason) == (request, 4, "gdpr-17")
    verified = office.run("verify")
    assert verified.code == 0
    assert "erased: 4 payloads, each by an erasure in the log" in verified.out


def test_custody_the_same_officer_twice_is_refused(office: Office) -> None:
    request = office.request("p1")
    done = office.run("erase", "approve", request, "--key", office.key("ada"))
    assert (done.code, done.err) == (2, "approval: ada signed already, another officer has to approve\n")


def test_custody_an_auditor_may_not_ask(office: Office) -> None:
    asked = office.run("erase", "request", office.patients("p1"), "--key", office.key("cleo"), "--reason", "gdpr-17")
    assert (asked.code, asked.err) == (2, "approval: expected a privacy-officer, got cleo, auditor\n")


def test_custody_errors_name_lines_and_never_patients(office: Office) -> None:
    for ids, message in (
        (("p1", "secret-stranger"), "line 2: no record of this patient\n"),
        (("p1", "secret stranger"), "line 2: expected one patient id without spaces\n"),
        (("", "p1"), "line 1: expected one patient id without spaces\n"),
        ((), "expected a patient, got none\n"),
    ):
        asked = office.run("erase", "request", office.patients(*ids), "--key", office.key("ada"), "--reason", "gdpr-17")
        assert (asked.code, asked.out, asked.err) == (2, "", message)


def test_custody_patients_come_from_standard_input_too(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("p1\np2\n"))
    asked = office.run("erase", "request", "-", "--key", office.key("ada"), "--reason", "gdpr-17")
    assert (asked.code, " 2 patients" in asked.out) == (0, True)


def test_custody_an_approver_may_bring_a_list(office: Office) -> None:
    request = office.request("p1", "p2")
    approve = ("erase", "approve", request, "--key", office.key("ben"), "--patients")
    assert "isn't about the patients given" in office.run(*approve, office.patients("p1", "p3")).err
    assert office.run(*approve, office.patients("p2", "p1")).code == 0


def test_custody_a_hold_wins(office: Office) -> None:
    request = office.request("p1")
    placed = office.run(
        "hold", "place", office.patients("p0", "p1"), "--key", office.key("ada"), "--reason", "litigation"
    )
    names = re.findall(r"^hold ([0-9a-f]{32}): on the patient of line (\d)$", placed.out, re.MULTILINE)
    assert [line for _, line in names] == ["1", "2"]
    refused = office.run("erase", "approve", request, "--key", office.key("ben"))
    assert refused.code == 2
    assert names[1][0] in refused.err
    resumed = office.run("erase", "resume", "--key", office.key("ben"))
    assert (resumed.code, names[1][0] in resumed.err) == (1, True)
    release = office.run("hold", "release", names[1][0], "--key", office.key("ada"), "--reason", "settled")
    (release_id,) = re.findall(r"^request ([0-9a-f]{32})", release.out)
    released = office.run("hold", "approve", release_id, "--key", office.key("ben"))
    entry = office.entry(released.out)
    assert isinstance(entry, HoldEntry)
    assert (entry.action, entry.hold) == ("release", names[1][0])
    resumed = office.run("erase", "resume", "--key", office.key("ben"))
    assert (resumed.code, resumed.out.startswith("erased: 1 keys, 2 payloads\n")) == (0, True)


def test_custody_holds_are_listed_by_line(office: Office) -> None:
    hold = ("hold", "place", office.patients("p0"), "--key", office.key("ada"), "--reason", "litigation")
    assert office.run(*hold, "--until", "2099-12-31").code == 0
    listed = office.run("hold", "list")
    assert re.fullmatch(r"[0-9a-f]{32}  \S+  until 2100-01-01T00:00:00.000000Z  litigation\n", listed.out)
    assert office.run("hold", "list", "--patients", office.patients("p3", "p0")).out.endswith("litigation  line 2\n")
    assert office.run("hold", "list", "--patients", office.patients("p3")).out == ""


def test_custody_an_erasure_can_take_the_wrapping_key_with_it(office: Office) -> None:
    wrapping = office.directory / "keys" / "wrapping.key"
    before, store = wrapping.read_text(), open_vault(office.directory)
    try:
        copies = [key.wrapped for key in store.keys_not_under("")]
    finally:
        store.close()
    request = office.request("p1")
    done = office.run("erase", "approve", request, "--key", office.key("ben"), "--rotate-wrapping-key")
    assert (done.code, done.err) == (0, "")
    assert re.search(
        r"^wrapping key wrap:[0-9a-f]{8}: 3 keys wrapped anew, the old one destroyed$", done.out, re.MULTILINE
    )
    files = b"".join(path.read_bytes() for path in office.directory.rglob("*") if path.is_file())
    assert before.strip().encode() not in files
    assert len(copies) == 4
    assert not any(copy in files for copy in copies)
    assert office.run("verify").code == 0


def test_custody_a_wrapping_key_in_a_token_is_not_replaced_by_one_in_a_file(office: Office, tmp_path: Path) -> None:
    with make_token(tmp_path, uuid.uuid4().hex) as token:
        uri = make_wrapping_key(parse_uri(token.uri("wrapping")), os.urandom)
        rewrapping = ("--key", office.key("ben"), "--rotate-wrapping-key")
        first = office.run("erase", "approve", office.request("p1"), *rewrapping, format_uri(uri))
        assert (first.code, "wrapping key wrap:" in first.out) == (0, True), first.err
        second = office.run("erase", "approve", office.request("p2"), *rewrapping)
        assert (second.code, "expected the URI of the new key" in second.err) == (2, True)
        assert " requested  " in office.run("erase", "list").out


def test_custody_an_officers_key_may_be_in_a_token(office: Office, tmp_path: Path) -> None:
    with make_token(tmp_path, uuid.uuid4().hex) as token:
        made = office.run("officer", "new", "dora", "-o", office.key("dora"), "--uri", token.uri("dora"))
        assert made.code == 0, made.err
        config = office.folder / "bedside.toml"
        config.write_text(config.read_text() + made.out)
        approve = ("erase", "approve", office.request("p1"), "--key", office.key("dora"))
        unnamed = office.run(*approve)
        assert (unnamed.code, "--officer: expected your name" in unnamed.err) == (2, True)
        misnamed = office.run(*approve, "--officer", "ben")
        assert (misnamed.code, "the key of ben belongs to no registered officer" in misnamed.err) == (2, True)
        assert office.run(*approve, "--officer", "dora").out.startswith("erased: 1 keys")


def test_custody_requests_are_listed_with_who_signed(office: Office) -> None:
    first, second = office.request("p1"), office.request("p2", officer="ben")
    office.run("erase", "approve", first, "--key", office.key("ben"))
    listed = office.run("erase", "list")
    assert listed.code == 0
    lines = listed.out.splitlines()
    assert lines[0].startswith(f"{first}  ")
    assert re.fullmatch(r"    signed by ada, ben; index \d+: 1 keys, 2 payloads", lines[1])
    assert " requested  " in lines[2]
    assert lines[3] == "    signed by ben"
    office.run("erase", "withdraw", second, "--key", office.key("ada"))
    assert " withdrawn  " in office.run("erase", "list").out


def test_custody_an_erasure_without_its_officers_signatures_is_listed_as_such(office: Office) -> None:
    request = office.request("p1")
    office.run("erase", "approve", request, "--key", office.key("ben"))
    config = office.folder / "bedside.toml"
    config.write_text(config.read_text().partition("[[officers]]")[0] + office.officer("eve"))
    listed = office.run("erase", "list")
    assert (listed.code, "no signature of a trusted key" in listed.out) == (1, True)


def _forge(office: Office, entry: ErasureEntry) -> tuple[str, int]:
    """Logs an erasure as whoever holds the log's keys can, who can't sign for the officers; its id and index."""
    log = AuditLog.open(LogConfig(office.directory, ORIGIN, "north", deadline_s=10.0), clock=lambda: LONG_AGO)
    try:
        forged = msgspec.structs.replace(entry, id=log.new_entry_id())
        return forged.id, log.record(forged).index
    finally:
        log.close()


def _alter_requests(office: Office, alter: Callable[[VaultStore], object]) -> None:
    """Changes the vault as whoever can write in its file can."""
    store = open_vault(office.directory)
    try:
        alter(store)
    finally:
        store.close()


def _erased(office: Office) -> ErasureEntry:
    entry = office.entry(office.run("erase", "approve", office.request("p1"), "--key", office.key("ben")).out)
    assert isinstance(entry, ErasureEntry)
    return entry


def test_custody_an_erasure_that_nobody_asked_for_is_listed_as_such(office: Office) -> None:
    forged, index = _forge(office, _erased(office))
    listed = office.run("erase", "list")
    assert (listed.code, f"{forged}\n    index {index}: nobody asked" in listed.out) == (1, True)


def test_custody_an_erasure_with_another_requests_approvals_is_listed_as_such(office: Office) -> None:
    entry = _erased(office)
    forged, _ = _forge(office, entry)

    def alter(store: VaultStore) -> None:
        row = store.request(entry.id)
        assert row is not None
        store.put_request(replace(row, id=forged))

    _alter_requests(office, alter)
    listed = office.run("erase", "list")
    assert (listed.code, "the signed text is of another request" in listed.out) == (1, True)


def test_custody_an_erasure_whose_entry_names_other_approvals_is_listed_as_such(office: Office) -> None:
    entry = _erased(office)

    def alter(store: VaultStore) -> None:
        row = store.request(entry.id)
        assert row is not None
        body = parse_body(row)
        note = parse_note(body.note.encode())
        turned = format_note(Note(note.text, note.signatures[::-1])).decode()
        changed = format_body(msgspec.structs.replace(body, note=turned))
        assert store.set_request_state(row.id, row.state, row.state, changed)

    _alter_requests(office, alter)
    listed = office.run("erase", "list")
    assert (listed.code, "no entry of an erasure with these approvals" in listed.out) == (1, True)


def test_custody_retention_is_planned_and_applied(office: Office) -> None:
    plan = office.run("retention", "plan")
    assert plan.out.splitlines()[0].startswith("kept for 10 years; due up to 20")
    assert plan.out.splitlines()[2].split() == ["2010", "8", "8", "0"]
    asked = office.run("retention", "apply", "--key", office.key("ada"))
    (request,) = re.findall(r"^request ([0-9a-f]{32}): 4 keys", asked.out)
    done = office.run("erase", "approve", request, "--key", office.key("ben"))
    assert done.out.startswith("erased: 4 keys, 8 payloads\nindex ")
    assert len(office.run("retention", "plan").out.splitlines()) == 2
    assert office.run("retention", "apply", "--key", office.key("ada")).out == "nothing is due\n"


@pytest.mark.parametrize(("verbs", "results"), [("erase list", 1), ("hold list", 0), ("retention plan", 8)])
def test_custody_a_look_is_an_entry(office: Office, verbs: str, results: int) -> None:
    office.request("p1")
    assert office.run(*verbs.split()).code == 0
    storage = open_storage(office.directory)
    try:
        (found,) = storage.find(Query(type="access/v1"))
        entry = parse_entry(storage.entry(found.index) or b"")
    finally:
        storage.close()
    assert isinstance(entry, AccessEntry)
    assert (entry.action, entry.results, entry.reason) == ("search", results, "custody")


def test_custody_of_another_tenant_is_refused(office: Office) -> None:
    listed = office.run("erase", "list", "--tenant", "south")
    assert (listed.code, listed.err) == (2, "bedside: --tenant: expected one of north, got south\n")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("retention_years = 3000.0", "audit.retention_years: retention: expected at most 1000 years, got 3000"),
        ("retention_years = 5.0", "retention: expected at least 6 years, got 5"),
        ("retention_floor_years = 1.0", "expected a floor of 6 years where no law is named, got 1"),
        (
            'retention_years = 0.4\nretention_floor_years = 0.0\nretention_law = "x"',
            "expected at least 0.5 years, got 0.4",
        ),
    ],
)
def test_custody_a_rule_that_keeps_too_short_is_refused(office: Office, setting: str, message: str) -> None:
    config = office.folder / "bedside.toml"
    config.write_text(config.read_text().replace("[audit]\n", f"[audit]\n{setting}\n"))
    listed = office.run("erase", "list")
    assert (listed.code, message in listed.err) == (2, True)


def test_custody_officers_that_cannot_be_used_are_refused(office: Office) -> None:
    config = office.folder / "bedside.toml"
    config.write_text(config.read_text().replace('name = "ada"', 'name = "eve"'))
    listed = office.run("erase", "list")
    assert (listed.code, "officers: officer eve: expected an Ed25519 key of that name" in listed.err) == (2, True)


def test_custody_an_officers_key_is_for_its_owner_only(office: Office) -> None:
    assert Path(office.key("ada")).stat().st_mode & 0o777 == 0o600
    again = office.run("officer", "new", "ada", "-o", office.key("ada"))
    assert (again.code, "exists already" in again.err) == (2, True)
    Path(office.key("ada")).chmod(0o640)
    asked = office.run("erase", "request", office.patients("p1"), "--key", office.key("ada"), "--reason", "gdpr-17")
    assert (asked.code, "expected mode 0600" in asked.err) == (2, True)


@pytest.mark.parametrize("name", ["Ada Lovelace", "a+b", "", "-ada"])
def test_custody_an_officers_name_is_one_word(office: Office, name: str) -> None:
    made = office.run("officer", "new", "-o", office.key("x"), "--", name)
    assert (made.code, "expected a name" in made.err) == (2, True)
    assert not Path(office.key("x")).exists()


def _hold_against(office: Office) -> tuple[str, str]:
    """A request that was approved, and that a hold refused; the hold."""
    request = office.request("p1")
    placed = office.run("hold", "place", office.patients("p1"), "--key", office.key("ada"), "--reason", "litigation")
    (hold,) = re.findall(r"^hold ([0-9a-f]{32})", placed.out, re.MULTILINE)
    refused = office.run("erase", "approve", request, "--key", office.key("ben"))
    assert refused.code == 2
    assert f"request {request}: the approval stands" in refused.err
    assert "erase withdraw REQUEST --key" in refused.err
    return request, hold


def _release(office: Office, hold: str) -> None:
    release = office.run("hold", "release", hold, "--key", office.key("ada"), "--reason", "settled")
    (release_id,) = re.findall(r"^request ([0-9a-f]{32})", release.out)
    assert office.run("hold", "approve", release_id, "--key", office.key("ben")).code == 0


def test_custody_an_approved_erasure_that_a_hold_refused_is_not_armed_silently(office: Office) -> None:
    request, hold = _hold_against(office)
    assert "    not carried out: `erase resume --key FILE`" in office.run("erase", "list").out
    _release(office, hold)
    resumed = office.run("erase", "resume")
    assert (resumed.code, f"request {request}: approved, and not begun" in resumed.err, resumed.out) == (1, True, "")
    assert office.run("erase", "resume", "--key", office.key("cleo")).code == 2
    assert office.run("erase", "resume", "--key", office.key("ada")).out.startswith("erased: 1 keys")


def test_custody_an_approved_erasure_that_a_hold_refused_can_be_withdrawn(office: Office) -> None:
    request, hold = _hold_against(office)
    unsigned = office.run("erase", "withdraw", request, "--key", office.key("cleo"))
    assert (unsigned.code, "expected a privacy-officer" in unsigned.err) == (2, True)
    assert office.run("erase", "withdraw", request, "--key", office.key("ada")).code == 0
    _release(office, hold)
    assert office.run("erase", "resume", "--key", office.key("ada")).out == ""
    listed = office.run("erase", "list")
    assert (listed.code, "; withdrawn by ada" in listed.out) == (0, True)


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_custody_a_wrapping_key_to_be_replaced_is_replaced_after_a_crash(
    office: Office, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    wrapping = office.directory / "keys" / "wrapping.key"
    before = wrapping.read_text()
    real = rewrap

    def crash(*_arguments: object, **_options: object) -> object:
        raise StorageError("power cut")

    def crash_after(*arguments: Any, **options: Any) -> object:
        real(*arguments, **options)
        return crash()

    with monkeypatch.context() as patch:
        if when == "during":
            patch.setattr("audit.rewrapping._rewrap_all", crash)
        else:
            patch.setattr("audit.commands.custody.rewrap", crash_after if when == "after" else crash)
        cut = office.run("erase", "approve", office.request("p1"), "--key", office.key("ben"), "--rotate-wrapping-key")
        assert (cut.code, "power cut" in cut.err) == (2, True)
        assert "the wrapping key is to be replaced" in office.run("erase", "list").out
    assert office.run("erase", "resume").code == 0
    after = wrapping.read_text()
    assert after != before
    assert not (office.directory / "keys" / "wrapping.old.key").exists()
    assert "the wrapping key is to be replaced" not in office.run("erase", "list").out
    assert office.run("erase", "resume").out == ""
    assert wrapping.read_text() == after


def test_custody_a_pin_on_the_command_line_is_refused(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    uri = "pkcs11:token=x;object=y?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-value=123456"
    for verb in (
        ("officer", "new", "dora", "-o", office.key("dora"), "--uri", uri),
        ("erase", "approve", "5a" * 16, "--key", office.key("ben"), "--rotate-wrapping-key", uri),
    ):
        with pytest.raises(SystemExit) as caught:
            office.run(*verb)
        err = capsys.readouterr().err
        assert (caught.value.code, "pin-value shows on a command line" in err, "123456" in err) == (2, True, False)


def test_custody_holds_that_vanished_from_the_vault_are_listed(office: Office) -> None:
    place = ("hold", "place", office.patients("p1"), "--key", office.key("ada"), "--reason", "litigation")
    (hold,) = re.findall(r"^hold ([0-9a-f]{32})", office.run(*place).out, re.MULTILINE)
    assert office.run("hold", "list").code == 0
    _alter_requests(office, lambda store: store.release_hold(hold))
    listed = office.run("hold", "list")
    assert (listed.code, listed.out) == (1, f"{hold}  in the log, and missing in the vault; it holds\n")


@pytest.mark.parametrize(("clients", "expected_s"), [((), 6.25), ((0.0, 60.0), 61.25), ((2.0,), 6.25)])
def test_custody_a_call_has_its_whole_deadline_before_payloads_are_taken(
    clients: tuple[float, ...], expected_s: float
) -> None:
    """An entry whose key was read at the beginning of the longest call there may be is in the log by then."""
    tables = tuple(
        ClientTable(id=f"c{number}", issuer="https://ehr.example", deadline_s=one) for number, one in enumerate(clients)
    )
    config = Config(fhir=Fhir(deadline_s=5.0), clients=tables)
    assert settling_s(config) == expected_s


def test_custody_an_erasure_names_the_epochs_before(office: Office) -> None:
    new = office.folder / "audit-2"
    begun = office.run("epoch", "begin", "--log", str(office.directory), "--new", str(new))
    assert begun.code == 0, begun.err
    config = office.folder / "bedside.toml"
    config.write_text(config.read_text().replace(str(office.directory), str(new)).replace(ORIGIN, f"{ORIGIN[:-1]}2"))
    ask = ("erase", "request", office.patients("p1"), "--key", office.key("ada"), "--reason", "gdpr-17")
    refused = office.run(*ask)
    assert (refused.code, "has to be given (--previous)" in refused.err) == (2, True)
    previous = ("--previous", str(office.directory))
    (request,) = re.findall(r"^request ([0-9a-f]{32})", office.run(*ask, *previous).out)
    done = office.run("erase", "approve", request, "--key", office.key("ben"), *previous)
    assert done.out.startswith("erased: 1 keys, 0 payloads, 2 of earlier epochs\n"), done.err
    assert office.run("retention", "plan", *previous).out.splitlines()[2].split() == ["2010", "6", "6", "0"]
    verified = office.run("verify", str(new), "--previous", str(office.directory))
    assert (verified.code, "valid: the epoch before" in verified.out) == (0, True), verified.err


def test_custody_a_request_that_was_moved_on_by_hand_is_listed_as_such(office: Office) -> None:
    request = office.request("p1")
    _alter_requests(office, lambda store: store.set_request_state(request, "requested", "running"))
    listed = office.run("erase", "list")
    assert (listed.code, "what the vault says of it was changed" in listed.out) == (1, True)
