import argparse
from pathlib import Path

import pytest

from audit.commands import add_commands
from audit.entry import parse_entry
from audit.entry_custody import AccessEntry
from audit.log import AuditLog, LogConfig, read_entries
from audit.storage.opening import open_storage

ORIGIN = "hospital.example/cds-audit/north/1"


def _run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    status = parsed.run(parsed)
    assert isinstance(status, int)
    return status


@pytest.fixture
def directory(tmp_path: Path, make_entry, clock) -> Path:
    """A log made by `init`, with three entries."""
    path = tmp_path / "log"
    assert _run("init", "--log", path, "--origin", ORIGIN) == 0
    log = AuditLog.open(LogConfig(path, ORIGIN, "north", deadline_s=10), clock=clock)
    for _ in range(3):
        receipt = log.append(*make_entry(log, b"payload"))
    (tmp_path / "receipt.tlog-proof").write_text(receipt.proof_text)
    log.close()
    return path


def test_commands_init_prints_the_verifier_key(tmp_path, capsys) -> None:
    assert _run("init", "--log", tmp_path / "log", "--origin", ORIGIN) == 0
    assert capsys.readouterr().out == (tmp_path / "log" / "log.vkey").read_text()
    assert _run("init", "--log", tmp_path / "log", "--origin", ORIGIN) == 2


def test_commands_prove_writes_what_verify_accepts_with_the_public_key_alone(directory, tmp_path, capsys) -> None:
    proof = tmp_path / "elsewhere" / "x.tlog-proof"
    proof.parent.mkdir()
    assert _run("prove", "--log", directory, "1", "-o", proof) == 0
    vkey = (directory / "log.vkey").read_text().strip()
    assert _run("verify", proof, "--key", vkey) == 0
    assert _run("verify", proof, "--key", directory / "log.vkey") == 0
    assert "valid: index 1 of 3" in capsys.readouterr().out
    proof.write_text(proof.read_text().replace("index 1", "index 2"))
    assert _run("verify", proof, "--key", vkey) == 1
    assert _run("verify", proof) == 2


def test_commands_prove_is_a_look_and_recorded(directory, capsys) -> None:
    """Once the whole entry went out, and nobody could tell."""
    capsys.readouterr()
    assert _run("prove", "--log", directory, "1", "--reason", "complaint") == 0
    assert _run("prove", "--log", directory, "77") == 2
    storage = open_storage(directory)
    (look,) = [entry for entry in map(parse_entry, read_entries(storage)) if isinstance(entry, AccessEntry)]
    storage.close()
    assert (look.action, look.index, look.results, look.reason) == ("prove", 1, 1, "complaint")


def test_commands_prove_what_cannot_be_recorded_shows_nothing(directory, tmp_path, capsys) -> None:
    capsys.readouterr()
    (directory / "keys" / "signing.key").chmod(0o644)
    assert _run("prove", "--log", directory, "1") == 2
    assert _run("prove", "--log", directory, "1", "-o", tmp_path / "out") == 2
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()


def test_commands_verify_a_receipt_of_an_append(directory, tmp_path, capsys) -> None:
    assert _run("verify", tmp_path / "receipt.tlog-proof", "--log", directory) == 0
    assert "valid: index 2 of 3" in capsys.readouterr().out


def test_commands_verify_a_log(directory, capsys) -> None:
    assert _run("verify", directory) == 0
    assert "valid: 3 entries, 4 checkpoints, 3 payloads" in capsys.readouterr().out
    assert _run("verify", "--log", directory) == 0


def test_commands_verify_says_when_a_log_is_not_sealed(directory, capsys) -> None:
    (seal,) = directory.glob("*.seal")
    assert _run("verify", directory) == 0
    assert "not sealed" not in capsys.readouterr().out
    seal.unlink()
    assert _run("verify", directory) == 0
    assert "not sealed: in use, or not closed cleanly" in capsys.readouterr().out


def test_commands_verify_names_the_first_bad_index(directory, capsys) -> None:
    data = bytearray((directory / "log.sqlite3").read_bytes())
    place = data.index(b'"band":"high"')
    data[place + 8] ^= 1
    (directory / "log.sqlite3").write_bytes(data)
    assert _run("verify", directory) == 1
    assert "invalid: first bad index" in capsys.readouterr().err


def test_commands_verify_tells_a_rollback_from_a_head_kept_elsewhere(
    directory, tmp_path, capsys, make_entry, clock
) -> None:
    store = {name: (directory / name).read_bytes() for name in ("log.sqlite3", "log.sqlite3.seal", "head")}
    log = AuditLog.open(LogConfig(directory, ORIGIN, "north", deadline_s=10), clock=clock)
    log.append(*make_entry(log))
    (tmp_path / "kept").write_bytes(log.checkpoint())
    log.close()
    assert _run("verify", directory, "--head", tmp_path / "kept") == 0
    for name, data in store.items():
        (directory / name).write_bytes(data)
    assert _run("verify", directory) == 0
    assert _run("verify", directory, "--head", tmp_path / "kept") == 3
    assert "rolled back" in capsys.readouterr().err


def test_commands_verify_without_a_head_file_is_not_valid(directory, capsys) -> None:
    (directory / "head").unlink()
    assert _run("verify", directory) == 1
    assert "rollback can't be told" in capsys.readouterr().err


def test_commands_say_what_is_missing(tmp_path, capsys) -> None:
    assert _run("verify") == 2
    assert _run("verify", tmp_path) == 2
    assert _run("verify", tmp_path / "absent") == 2
    assert _run("show", "--log", tmp_path / "absent") == 2


def test_commands_verify_refuses_what_it_would_not_heed_of_a_receipt_or_a_log(directory, tmp_path, capsys) -> None:
    receipt = [tmp_path / "receipt.tlog-proof", "--log", directory]
    assert _run("verify", *receipt, "--head", directory / "head") == 2
    assert _run("verify", directory, "--entry", directory / "head") == 2
    assert capsys.readouterr().err == "--head: not checked for a receipt\n--entry: not checked for a log\n"
