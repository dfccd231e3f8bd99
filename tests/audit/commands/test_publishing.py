import argparse
import csv
import gzip
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.checkpoint import open_checkpoint
from audit.commands import add_commands
from audit.cosignature import Cosigner
from audit.keys import load_keys, load_vkeys
from audit.log import AuditLog, LogConfig
from audit.merkle import Frontier, extend, leaf_hash, root
from audit.note import format_vkey
from audit.publish import Publisher
from audit.tiles import parse_entry_bundle
from tests.audit.memory_tree import SIGNER, MemoryTree, plain_entries

ORIGIN = "hospital.example/cds-audit/north/1"
ROOT = Path(__file__).parents[3]
SERVE = "import argparse, sys\nfrom audit.commands import add_commands\nparser = argparse.ArgumentParser()\n"
SERVE += "add_commands(parser)\nparsed = parser.parse_args()\nsys.exit(parsed.run(parsed))\n"
START_S = 60.0


def _run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    status = parsed.run(parsed)
    assert isinstance(status, int)
    return status


@pytest.fixture
def log(tmp_path: Path, make_entry, clock) -> Path:
    """A log made by `init`, with three decisions."""
    path = tmp_path / "log"
    assert _run("init", "--log", path, "--origin", ORIGIN) == 0
    _append(path, 3, make_entry, clock)
    return path


def _append(path: Path, count: int, make_entry, clock) -> str:
    log = AuditLog.open(LogConfig(path, ORIGIN, "north", deadline_s=10), clock=clock)
    for _ in range(count):
        receipt = log.append(*make_entry(log))
    log.close()
    return receipt.proof_text


def test_publish_writes_what_verify_accepts_without_the_log(log, tmp_path, make_entry, clock, capsys) -> None:
    folder = tmp_path / "tiles"
    assert _run("publish", "--log", log, "-o", folder) == 0
    assert "published 3 entries: 4 files" in capsys.readouterr().out
    _append(log, 2, make_entry, clock)
    assert _run("publish", "--log", log, "-o", folder) == 0
    shutil.move(log, tmp_path / "gone")
    capsys.readouterr()
    assert _run("verify", folder) == 0
    assert "valid: 5 entries, 6 files, 0 heads kept elsewhere" in capsys.readouterr().out
    (folder / "tile/entries/000.p/5").write_bytes(b"")
    assert _run("verify", folder) == 1
    assert "first bad index 0" in capsys.readouterr().err


def test_publish_refuses_a_rolled_back_log(log, tmp_path, make_entry, clock, capsys) -> None:
    shutil.copytree(log, tmp_path / "backup")
    _append(log, 2, make_entry, clock)
    assert _run("publish", "--log", log, "-o", tmp_path / "tiles") == 0
    assert _run("publish", "--log", tmp_path / "backup", "-o", tmp_path / "tiles") == 3
    assert "the log was rolled back\nknown head:" in capsys.readouterr().err
    assert _run("verify", tmp_path / "tiles", "--head", tmp_path / "backup" / "head") == 0
    assert _run("publish", "--log", tmp_path / "backup", "-o", tmp_path / "old") == 0
    assert _run("verify", tmp_path / "old", "--head", log / "head") == 3


def test_publish_needs_to_be_told_where(log, capsys) -> None:
    assert _run("publish", "--log", log) == 2
    for wrong in ("8080", "host:", ":80", "host:x", "host:70000", "host:²"):
        with pytest.raises(SystemExit):
            _run("publish", "--log", log, "--serve", wrong)


def test_verify_takes_a_foreign_log_when_told(tmp_path, capsys) -> None:
    tree = MemoryTree()
    tree.grow(plain_entries(3))
    Publisher(tmp_path, [SIGNER.verifier_key]).publish(tree)
    assert _run("verify", tmp_path) == 1
    assert _run("verify", tmp_path, "--foreign") == 0


def test_verify_takes_the_store_where_a_checkpoint_lies_beside_it(log, tmp_path, capsys) -> None:
    assert _run("publish", "--log", log, "-o", tmp_path / "tiles") == 0
    for name in ("checkpoint", "tile"):
        shutil.move(tmp_path / "tiles" / name, log / name)
    capsys.readouterr()
    assert _run("verify", log) == 0
    assert "checkpoints" in capsys.readouterr().out


def test_export_bundle_is_checked_by_its_own_verifier_and_by_ours(log, tmp_path, make_entry, clock, capsys) -> None:
    (tmp_path / "receipt").write_text(_append(log, 1, make_entry, clock))
    folder = tmp_path / "bundle"
    assert _run("export", "bundle", "--log", log, "-o", folder) == 0
    command = [
        sys.executable,
        "-I",
        "-S",
        folder / "verify.py",
        "--key",
        log / "log.vkey",
        "--receipt",
        tmp_path / "receipt",
    ]
    done = subprocess.run([*command, folder], capture_output=True, text=True, timeout=60, check=True, env={})
    assert "proves entry 3 of 4" in done.stdout
    assert "valid: 5 entries from 0 on" in done.stdout  # four, and the access entry of this export
    assert _run("verify", folder) == 0
    assert _run("verify", folder, "--key", log / "log.vkey", "--head", log / "head") == 0
    assert _run("export", "bundle", "--log", log, "-o", folder) == 2
    (folder / "README.txt").write_text("all is well")
    assert _run("verify", folder) == 1
    assert "README.txt: not the file that SHA256SUMS names" in capsys.readouterr().err


def test_verify_refuses_what_it_would_not_heed_of_a_bundle_or_a_folder(log, tmp_path, capsys) -> None:
    key = format_vkey(Cosigner("witness.example/w", bytes(32)).verifier_key)
    assert _run("export", "bundle", "--log", log, "-o", tmp_path / "bundle") == 0
    assert _run("publish", "--log", log, "-o", tmp_path / "tiles") == 0
    for folder, options in (
        ("bundle", [("--witness-key", key), ("--tsa-roots", "/absent"), ("--previous", log)]),
        ("tiles", [("--tsa-roots", "/absent"), ("--previous", log), ("--entry", "/absent")]),
    ):
        assert _run("verify", tmp_path / folder) == 0
        for option in options:
            capsys.readouterr()
            assert _run("verify", tmp_path / folder, *option) == 2
            assert capsys.readouterr().err.startswith(f"{option[0]}: not checked for a ")


def test_export_bundle_takes_a_policy_it_can_read(log, tmp_path, capsys) -> None:
    (tmp_path / "policy").write_text("quorum w\n")
    arguments = ("export", "bundle", "--log", log, "-o", tmp_path / "bundle", "--policy", tmp_path / "policy")
    assert _run(*arguments) == 1
    assert not (tmp_path / "bundle" / "SHA256SUMS").exists()


def test_export_csv_ends_with_the_checkpoint(log, tmp_path, capsys) -> None:
    assert _run("export", "csv", "--log", log, "-o", tmp_path / "facts.csv") == 0
    rows = list(csv.reader((tmp_path / "facts.csv").read_text().splitlines()))
    assert [row[3] for row in rows[1:5]] == ["decision/v1"] * 3 + ["access/v1"]
    note = "\n".join(row[0].removeprefix("checkpoint: ") for row in rows if row[0].startswith("checkpoint: "))
    assert open_checkpoint(note.encode(), load_vkeys(log / "log.vkey")).size == 4
    assert _run("export", "csv", "--log", log, "--from", 1, "--to", 1) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("1,")


class _Served:
    """`publish --serve` in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        command = [sys.executable, "-c", SERVE, "publish", *map(str, arguments), "--serve", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            except OSError:
                assert self.process.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server doesn't answer"
                time.sleep(0.05)

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


@pytest.fixture
def served(log: Path) -> Iterator[_Served]:
    """The log's tiles over HTTP, as it grows."""
    server = _Served("--log", log)
    yield server
    server.process.send_signal(signal.SIGTERM)
    try:
        assert server.process.wait(30) == 0
    finally:
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)


def test_publish_serves_a_log_that_grows(served: _Served, log: Path, make_entry, clock) -> None:
    """One server, as starting it takes a second: all that goes over a real connection."""
    keys = load_keys(log).verifier_keys
    for size in (3, 5):
        status, headers, note = served.get("/checkpoint")
        checkpoint = open_checkpoint(note, keys, origin=ORIGIN)
        assert (status, checkpoint.size, headers["content-type"]) == (200, size, "text/plain; charset=utf-8")
        status, headers, zipped = served.get(f"/tile/entries/000.p/{size}", **{"Accept-Encoding": "gzip"})
        assert (status, headers["content-encoding"]) == (200, "gzip")
        leaves = [leaf_hash(entry) for entry in parse_entry_bundle(gzip.decompress(zipped), size)]
        assert served.get(f"/tile/0/000.p/{size}")[2] == b"".join(leaves)
        assert root(extend(Frontier(), leaves)[0]) == checkpoint.root
        if size == 3:
            _append(log, 2, make_entry, clock)
    assert served.get("/tile/0/000.p/6")[0] == 404
    status, headers, body = served.get("/tile/0/000.p/5", "HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", "160")
    assert served.get("/checkpoint", "POST")[0] == 405
    for path in (
        "/../log.vkey",
        "/tile/../log.vkey",
        "/tile/0/..%2f..%2f..%2fetc%2fpasswd",
        "/log.vkey",
    ):
        assert (path, served.get(path)[0]) == (path, 404)


def test_publish_serves_nothing_where_there_is_no_log(tmp_path) -> None:
    assert _run("publish", "--log", tmp_path, "--serve", "127.0.0.1:0") == 2
