"""`bedside audit anchor`, as it is called, against a witness that is run as it is run: by `bedside audit witness`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.anchor_loop import LOCK_FILE, AnchorLock
from audit.commands import add_commands
from audit.cosignature import Cosigner
from audit.entry import format_time
from audit.entry_operations import ConfigEntry
from audit.keys import init_keys
from audit.log import AuditLog, LogConfig, create_log
from audit.note import format_vkey
from audit.storage.opening import open_storage
from bedside.anchoring import fill
from bedside.config import ConfigError
from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
ORIGIN = "h.example/cds-audit/north/1"
WITNESS = (
    "import argparse, sys\n"
    "from audit.commands import add_commands\n"
    "parser = argparse.ArgumentParser()\n"
    "add_commands(parser)\n"
    "options = parser.parse_args()\n"
    "sys.exit(options.run(options))\n"
)
FOLLOW = "import argparse, sys; from bedside.anchoring import anchor; sys.exit(anchor(argparse.Namespace(follow=True)))"


def _anchor(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    fill(parser)
    options = parser.parse_args(arguments)
    return int(options.run(options))


def _wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


@pytest.fixture
def log(tmp_path: Path) -> LogConfig:
    """A log of one entry."""
    directory = tmp_path / "log"
    directory.mkdir(mode=0o700)
    config = LogConfig(directory, ORIGIN, "north", deadline_s=10)
    create_log(config, init_keys(directory, ORIGIN, os.urandom))
    _record(config)
    return config


@pytest.fixture
def witness(log: LogConfig, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Port and verifier key of a witness process that knows the log."""
    state, port = tmp_path / "witness", free_port()
    parser = argparse.ArgumentParser()
    add_commands(parser)
    options = parser.parse_args(["witness", "init", "--state", str(state), "--name", "witness.example/w1"])
    assert options.run(options) == 0
    vkey = (state / "witness.vkey").read_text().strip()
    serve = ["witness", "serve", "--state", str(state), "--listen", f"127.0.0.1:{port}", "--log"]
    arguments = [sys.executable, "-c", WITNESS, *serve, str(log.directory / "log.vkey")]
    process = subprocess.Popen(arguments, cwd=ROOT, start_new_session=True)
    try:
        _wait(lambda: _listens(port), "the witness doesn't answer")
        yield port, vkey
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture
def configure(log: LogConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes the configuration that verbs read."""

    def make(tables: str) -> None:
        path = tmp_path / "bedside.toml"
        path.write_text(
            f'[audit]\ndirectory = "{log.directory}"\norigin = "{ORIGIN}"\ntenant = "north"\ndeadline_ms = 10000\n'
            f"outside_every_s = 0.05\n{tables}"
        )
        monkeypatch.setenv("BEDSIDE_CONFIG", str(path))

    return make


def _record(config: LogConfig) -> None:
    log = AuditLog.open(config, clock=lambda: datetime.now(UTC))
    digest = "5a" * 32
    log.record(
        ConfigEntry(
            id=log.new_entry_id(),
            time=format_time(datetime.now(UTC)),
            clock="synchronised",
            tenant="north",
            software=digest,
            software_version="1",
            config=digest,
            models=(),
        )
    )
    log.close()


def _table(port: int, vkey: str) -> str:
    url = f"http://127.0.0.1:{port}"
    return f'[[witnesses]]\nname = "one"\nurl = "{url}"\nvkey = "{vkey}"\nmonitoring_url = "{url}"\n'


def test_anchor_once_then_until_told_to_stop(
    log: LogConfig, witness: tuple[int, str], configure: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """One witness process for all that is asked of it, as starting one takes a while."""
    configure(_table(*witness))
    assert _anchor() == 0
    assert capsys.readouterr().out == "north: cosignature of witness.example/w1 for size 1\n"
    assert _anchor() == 0
    assert capsys.readouterr().out == "north: nothing new\n"
    lock = AnchorLock(log.directory / LOCK_FILE)
    assert lock.take()
    _record(log)
    assert _anchor() == 0
    assert capsys.readouterr().out == "north: another process anchors this log\n"
    lock.release()
    follower = subprocess.Popen([sys.executable, "-c", FOLLOW], cwd=ROOT)
    storage = open_storage(log.directory)
    try:
        _wait(lambda: [anchor.size for anchor in storage.anchors()] == [1, 3], "nothing was anchored")
    finally:
        storage.close()
        follower.send_signal(signal.SIGTERM)
        assert follower.wait(30) == 0


def test_anchor_says_who_fails(
    log: LogConfig, configure: Callable, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    configure(_table(free_port(), format_vkey(Cosigner("witness.example/w1", bytes(32)).verifier_key)))
    assert _anchor() == 1
    assert "north: witness.example/w1 failed: 127.0.0.1: expected an answer" in capsys.readouterr().out
    assert "witness not compared with" in [record.message for record in caplog.records]


def test_anchor_needs_someone_to_ask(log: LogConfig, configure: Callable) -> None:
    configure("")
    with pytest.raises(ConfigError, match="expected at least one, got none"):
        _anchor()
