from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from audit.commands import add_commands
from audit.keys import init_keys
from audit.note import ED25519_COSIGNATURE, parse_vkey


def _run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser)
    parsed = parser.parse_args(["witness", *(str(argument) for argument in arguments)])
    return int(parsed.run(parsed))


def test_witness_init_prints_the_key_and_makes_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("init", "--state", tmp_path / "w", "--name", "witness.example/w1") == 0
    key = parse_vkey(capsys.readouterr().out.strip())
    assert (key.name, key.key_type) == ("witness.example/w1", ED25519_COSIGNATURE)
    assert (tmp_path / "w" / "witness.key").stat().st_mode & 0o777 == 0o600
    assert _run("init", "--state", tmp_path / "w", "--name", "witness.example/w1") == 2
    assert "exists already" in capsys.readouterr().err


def test_witness_serve_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is served: a witness without a state, a log without a key, a witness's key for a log's."""
    init_keys(tmp_path / "log", "log.example/1", lambda size: bytes(range(size)))
    log = tmp_path / "log" / "log.vkey"
    assert _run("serve", "--state", tmp_path / "none", "--log", log) == 2
    assert "key file witness.key: unreadable" in capsys.readouterr().err
    assert _run("init", "--state", tmp_path / "w", "--name", "witness.example/w1") == 0
    assert _run("serve", "--state", tmp_path / "w", "--log", tmp_path / "none.vkey") == 2
    assert "verifier keys none.vkey" in capsys.readouterr().err
    assert _run("serve", "--state", tmp_path / "w", "--log", tmp_path / "w" / "witness.vkey") == 2
    assert "expected a log's" in capsys.readouterr().err


@pytest.mark.parametrize("listen", ["8713", ":8713", "host:", "host:0", "host:65536", "host:x"])
def test_witness_serve_listens_at_a_host_and_port(tmp_path: Path, listen: str) -> None:
    with pytest.raises(SystemExit):
        _run("serve", "--state", tmp_path, "--log", tmp_path / "log.vkey", "--listen", listen)
