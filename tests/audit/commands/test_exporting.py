"""`bedside audit export`: files, servers, cursors, and the check of copies, each through the command line."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from audit.commands import add_commands
from audit.commands.running import Configured
from audit.entry import format_entry
from audit.export.cursor import DIRECTORY
from audit.log import AuditLog
from audit.outside import Ask
from audit.storage import Query
from audit.storage.opening import open_storage
from tests.audit.export.examples import EXAMPLES, fill
from tests.audit.export.servers import Request, ask, http_server, make_certificate, tls_collector

FORMATS = ("fhir-auditevent", "provenance", "cef", "otlp")
SIZE = len(EXAMPLES)


def _parse(*arguments: object, ask: Ask | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_commands(parser, Configured(ask=ask))
    return parser.parse_args([str(argument) for argument in arguments])


def _run(*arguments: object, ask: Ask | None = None) -> int:
    parsed = _parse(*arguments, ask=ask)
    status = parsed.run(parsed)
    assert isinstance(status, int)
    return status


@pytest.fixture
def directory(log: AuditLog) -> Path:
    """A closed log with entries of every kind."""
    fill(log).close()
    return log.config.directory


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("proofs", [False, True])
def test_a_file_of_each_format_passes_the_check(
    directory: Path, tmp_path: Path, name: str, proofs: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if proofs and name in ("cef", "otlp"):
        return
    out = tmp_path / "out"
    assert _run("export", name, "--log", directory, "-o", out, *(["--proofs"] if proofs else [])) == 0
    lines = out.read_text().removesuffix("\n").split("\n")
    assert len(lines) == {"fhir-auditevent": SIZE + 5, "provenance": 1}.get(name, SIZE + 1)
    assert _run("export", "check", out, "--log", directory) == 0
    assert f"{len(lines)} of {len(lines)} lines are copies" in capsys.readouterr().out


def test_the_check_names_the_lines_that_are_no_copies(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    _run("export", "cef", "--log", directory, "-o", out)
    lines = out.read_text().split("\n")
    lines[0] = lines[0].replace("outcome=answered", "outcome=failed")
    lines[1] = lines[1].replace("cn1=1 ", "cn1=9999 ")
    lines[2] = "something else"
    out.write_text("\n".join(lines))
    assert _run("export", "check", out, "--log", directory) == 1
    output = capsys.readouterr().out
    assert "line 1: first bad index 0, copy: another value than the log's at extension.outcome" in output
    assert "line 2: the log has no entry 9999" in output
    assert "line 3: CEF: expected CEF:0" in output
    assert f"{SIZE - 2} of {SIZE + 1} lines" in output


def test_bytes_that_are_no_utf_8_are_told_of_their_line(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    _run("export", "cef", "--log", directory, "-o", out)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(lines[0] + b"\xff\xfe\n" + lines[1])
    assert _run("export", "check", out, "--log", directory) == 1
    assert capsys.readouterr().out == "line 2: expected UTF-8\n2 of 3 lines are copies of what the log says\n"


def test_an_empty_file_is_no_copy(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert _run("export", "check", tmp_path / "empty", "--log", directory) == 1


def test_without_a_file_it_is_printed_from_where_it_was_asked(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("export", "otlp", "--log", directory, "--from", SIZE - 1) == 0
    lines = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert len(lines) == 2  # the last example, and the look itself


def test_each_export_is_an_entry_before_anything_leaves(directory: Path, tmp_path: Path) -> None:
    assert _run("export", "cef", "--log", directory, "-o", tmp_path / "out", "--reason", "siem-test") == 0
    storage = open_storage(directory)
    try:
        (newest,) = storage.find(Query(limit=1))
        entry = json.loads(storage.entry(newest.index) or b"")
    finally:
        storage.close()
    assert (entry["_t"], entry["action"], entry["results"], entry["reason"]) == (
        "access/v1",
        "export",
        SIZE,
        "siem-test",
    )


def test_cef_goes_over_tls_and_continues_where_it_was_acknowledged(directory: Path, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "collector")
    with tls_collector(certificate) as collector:
        to = ("--to", f"syslog+tls://localhost:{collector.port}", "--ca", certificate.certificate)
        assert _run("export", "cef", "--log", directory, *to) == 0
        assert _run("export", "cef", "--log", directory, *to) == 0
    assert [data.count(b"CEF:0|") for data in collector.received] == [SIZE + 1, 1]
    assert len(list((directory / DIRECTORY).glob("cef-*.json"))) == 1


def test_what_fails_leaves_the_cursor_and_exits_with_2(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, other = make_certificate(tmp_path, "collector"), make_certificate(tmp_path, "other")
    with tls_collector(certificate) as collector:
        to = ("--to", f"syslog+tls://localhost:{collector.port}", "--ca", other.certificate)
        assert _run("export", "cef", "--log", directory, *to) == 2
    assert "certificate not trusted" in capsys.readouterr().err
    assert list((directory / DIRECTORY).glob("*.json")) == []


def _answer(requests: list[Request]) -> tuple[int, Mapping[str, str], bytes]:
    document = requests[-1].document
    if document.get("resourceType") != "Bundle":
        return 200, {}, b"{}"
    entries = [{"response": {"status": "201"}} for _ in document["entry"]]
    return 200, {}, json.dumps({"resourceType": "Bundle", "entry": entries}).encode()


@pytest.mark.parametrize("name", ["fhir-auditevent", "provenance", "otlp"])
def test_http_formats_go_by_the_way_out_that_was_handed_in(directory: Path, tmp_path: Path, name: str) -> None:
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer t0ken\nX-Tenant: north\n")
    headers.chmod(0o600)
    requests: list[Request] = []

    def respond(request: Request) -> tuple[int, Mapping[str, str], bytes]:
        requests.append(request)
        return _answer(requests)

    with http_server(respond) as url:
        assert _run("export", name, "--log", directory, "--to", url, "--headers", headers, ask=ask) == 0
    assert requests
    assert all(request.headers["authorization"] == "Bearer t0ken" for request in requests)
    assert all(request.headers["x-tenant"] == "north" for request in requests)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("otlp", "--to", "http://127.0.0.1/"), "outbound configuration"),
        (("fhir-auditevent", "--to", "http://127.0.0.1/"), "outbound configuration"),
        (("cef", "--to", "tcp://127.0.0.1:514"), "syslog+tls://host:port"),
        (("cef", "--follow"), "--follow"),
        (("cef", "--to", "syslog+tls://127.0.0.1:1", "--ca", "/nowhere.pem"), "nowhere.pem"),
    ],
)
def test_usage_is_told(
    directory: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("export", *arguments, "--log", directory) == 2
    assert message in capsys.readouterr().err
    assert _size(directory) == SIZE, "nothing left the log, so nothing is recorded"


@pytest.mark.parametrize(
    "address",
    ["h:99999", "h:abc", "[x", "a..b:1", f"{'a' * 70}.example:1", "", ":1", "h\udcff:1", "h:1/\udcff"],
)
@pytest.mark.parametrize("name", FORMATS)
def test_an_address_that_is_none_is_told_in_one_line(
    directory: Path, name: str, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scheme = "syslog+tls" if name == "cef" else "http"
    assert _run("export", name, "--log", directory, "--to", f"{scheme}://{address}", ask=ask) == 2
    error = capsys.readouterr().err
    assert error.startswith("--to: expected")
    assert error.count("\n") == 1


@pytest.mark.parametrize("seconds", ["nan", "-1", "0", "inf", "1e300", "soon"])
def test_a_pause_that_cannot_be_made_is_told(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        _parse("export", "cef", "--log", "log", "-o", "out", "--follow", "--every", seconds)
    assert exited.value.code == 2
    assert "argument --every" in capsys.readouterr().err


def test_a_cursor_by_name_goes_to_no_other_destination_or_format(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ("--log", directory, "--cursor", "siem")
    requests: list[Request] = []

    def respond(request: Request) -> tuple[int, Mapping[str, str], bytes]:
        requests.append(request)
        return _answer(requests)

    with http_server(respond) as url, http_server(respond) as other:
        assert _run("export", "provenance", *named, "--to", url, ask=ask) == 0
        sent = len(requests)
        assert _run("export", "provenance", *named, "--to", other, ask=ask) == 2
        assert "cursor siem: expected one of this format and destination" in capsys.readouterr().err
        assert _run("export", "otlp", *named, "--to", url, ask=ask) == 2
        assert len(requests) == sent
        assert _run("export", "provenance", *named, "--to", url, ask=ask) == 0


def test_headers_that_others_can_read_are_refused(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer t0ken\n")
    headers.chmod(0o644)
    assert _run("export", "otlp", "--log", directory, "--to", "http://127.0.0.1/", "--headers", headers, ask=ask) == 2
    error = capsys.readouterr().err
    assert "0600" in error
    assert "t0ken" not in error


def test_a_rolled_back_log_is_told_by_exit_3(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    certificate = make_certificate(tmp_path, "collector")
    with tls_collector(certificate) as collector:
        to = ("--to", f"syslog+tls://localhost:{collector.port}", "--ca", certificate.certificate, "--cursor", "siem")
        assert _run("export", "cef", "--log", directory, *to) == 0
        cursor = directory / DIRECTORY / "siem.json"
        state = json.loads(cursor.read_text())
        head = state["head"].split("\n")
        cursor.write_text(json.dumps(state | {"head": "\n".join([head[0], "999", *head[2:]])}))
        assert _run("export", "cef", "--log", directory, *to) == 3
    assert "rolled back" in capsys.readouterr().err
    assert not out.exists()


def _size(directory: Path) -> int:
    storage = open_storage(directory)
    try:
        return int(storage.newest_checkpoint().size)
    finally:
        storage.close()


def test_following_from_an_empty_log_records_the_look_before_anything_leaves_it(log: AuditLog, tmp_path: Path) -> None:
    out, directory = tmp_path / "siem.ndjson", log.config.directory
    with _following(directory, out):
        _wait_for_cursor(directory)
        time.sleep(0.3)  # so that it has looked, and seen nothing
        assert not out.exists()
        log.append(format_entry(EXAMPLES["gap"]))
        _wait_for_lines(out, 2)
    log.close()
    kinds = [kind for line in out.read_text().splitlines() for kind in ("gap/v1", "access/v1") if kind in line]
    assert kinds == ["gap/v1", "access/v1"]
    assert _size(directory) == 2


def test_nothing_is_sent_from_an_empty_log(log: AuditLog, tmp_path: Path) -> None:
    directory = log.config.directory
    log.close()
    assert _run("export", "cef", "--log", directory, "-o", tmp_path / "out") == 0
    assert (tmp_path / "out").read_bytes() == b""
    assert _run("export", "cef", "--log", directory, "--to", "syslog+tls://127.0.0.1:1") == 0
    assert list((directory / DIRECTORY).glob("*.json")) == []


def test_following_delivers_what_comes_later(directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "siem.ndjson"
    with _following(directory, out) as errors:
        _wait_for_lines(out, SIZE + 1)
        assert _run("show", "0", "--log", directory) == 0  # a look, which is an entry
        _wait_for_lines(out, SIZE + 2)
    # Interrupted right after a line was written, it hasn't moved the cursor yet, and would write that line again.
    assert errors in [[f"stopped before index {index}\n"] for index in (SIZE + 1, SIZE + 2)]
    assert _run("export", "check", out, "--log", directory) == 0


@contextmanager
def _following(directory: Path, out: Path) -> Iterator[list[str]]:
    """A process that follows the log into a file for the length of a block, then is interrupted; what it said, after that."""
    source = f"""
import sys, argparse, signal
from audit.commands import add_commands
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background is started with it ignored
parser = argparse.ArgumentParser()
add_commands(parser)
parsed = parser.parse_args(["export", "otlp", "--log", {str(directory)!r}, "-o", {str(out)!r}, "--follow", "--every", "0.05"])
sys.exit(parsed.run(parsed))
"""
    errors: list[str] = []
    process = subprocess.Popen([sys.executable, "-c", source], stderr=subprocess.PIPE, text=True)
    try:
        yield errors
        process.send_signal(2)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)
        assert process.stderr is not None
        errors.append(process.stderr.read())
        process.stderr.close()


def _wait_for_cursor(directory: Path) -> None:
    for _ in range(1200):
        if list((directory / DIRECTORY).glob("*.lock")):
            return
        time.sleep(0.025)
    pytest.fail("expected an export to begin")


def _wait_for_lines(path: Path, count: int) -> None:
    for _ in range(1200):
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            assert path.read_bytes().count(b"\n") == count
            return
        time.sleep(0.025)
    pytest.fail(f"expected {count} lines")


def test_profiles_are_written_one_file_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("export", "profiles", "-o", tmp_path / "fhir") == 0
    names = sorted(path.name for path in (tmp_path / "fhir").iterdir())
    assert names == [
        "CodeSystem-event.json",
        "StructureDefinition-decision.json",
        "StructureDefinition-erasure.json",
        "StructureDefinition-feedback.json",
        "StructureDefinition-log-entry.json",
    ]
    assert json.loads((tmp_path / "fhir" / names[0]).read_text())["resourceType"] == "CodeSystem"
    assert len(capsys.readouterr().out.splitlines()) == 5
