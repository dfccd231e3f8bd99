import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audit.keys import load_keys
from audit.log import AuditLog, LogConfig
from audit.note import parse_note, sign_note
from audit.proof import format_proof, parse_proof
from tests.audit.commands.test_basic import ORIGIN, _run
from tests.audit.writer import write_entry
from tests.softhsm import PIN, Token, make_token


@pytest.fixture
def token(tmp_path: Path) -> Iterator[Token]:
    with make_token(tmp_path, uuid.uuid4().hex) as made:
        yield made


@pytest.fixture
def append(clock) -> Callable[[Path], None]:
    """Appends an entry to the log in a directory."""

    def append_one(directory: Path, origin: str = ORIGIN) -> None:
        log = AuditLog.open(LogConfig(directory, origin, "north", deadline_s=10), clock=clock)
        write_entry(log)
        log.close()

    return append_one


@pytest.fixture
def directory(tmp_path: Path, append, capsys) -> Path:
    """A log with one entry."""
    path = tmp_path / "log"
    assert _run("init", "--log", path, "--origin", ORIGIN) == 0
    append(path)
    capsys.readouterr()
    return path


def test_keys_list_prints_each_key_with_its_sizes_and_what_is_under_way(directory, append, capsys) -> None:
    first = (directory / "log.vkey").read_text().strip()
    assert _run("keys", "rotate", "--log", directory) == 0
    second = capsys.readouterr().out.strip()
    assert _run("keys", "list", "--log", directory) == 0
    shown = capsys.readouterr().out
    assert f"{first} 0 -\n{second} 2 -\n# wrapping key wrap:" in shown
    assert "# a rotation of the signing key is under way" in shown
    append(directory)
    assert _run("keys", "retire", "--log", directory, "--reason", "yearly") == 0
    assert capsys.readouterr().out.strip() == second
    assert _run("keys", "list", "--log", directory) == 0
    shown = capsys.readouterr().out
    assert f"{first} 0 3\n{second} 2 -\n" in shown
    assert "under way" not in shown
    append(directory)
    assert _run("verify", directory, "--key", first) == 0
    assert _run("verify", directory, "--key", second) == 1


def test_keys_list_tells_a_receipt_of_a_retired_key_from_one_of_its_time(directory, append, tmp_path, capsys) -> None:
    stolen = load_keys(directory).signer
    early, late, listed = (tmp_path / name for name in ("early.tlog-proof", "late.tlog-proof", "log.keys"))
    assert _run("prove", "--log", directory, "0", "-o", early) == 0
    for verb in ("rotate", "retire"):
        assert _run("keys", verb, "--log", directory) == 0
    append(directory)
    assert _run("prove", "--log", directory, "0", "-o", late) == 0
    capsys.readouterr()
    assert _run("keys", "list", "--log", directory) == 0
    listed.write_text(capsys.readouterr().out)
    for receipt in (early, late):
        assert _run("verify", receipt, "--key", listed) == 0
    proof = parse_proof(late.read_bytes())
    forged = sign_note(parse_note(proof.checkpoint).text, [stolen])
    late.write_bytes(format_proof(replace(proof, checkpoint=forged)))
    assert _run("verify", late, "--key", listed) == 1
    assert (
        _run("verify", late, "--key", (directory / "log.vkey").read_text().split()[0]) == 0
    )  # which knows no retirement


def test_keys_list_needs_no_key_files(directory, capsys) -> None:
    for path in (directory / "keys").iterdir():
        path.unlink()
    (directory / "keys").rmdir()
    assert _run("keys", "list", "--log", directory) == 0
    assert capsys.readouterr().out == (directory / "log.vkey").read_text().strip() + " 0 -\n"


def test_keys_rewrap_prints_the_new_wrapping_key(directory, capsys) -> None:
    assert _run("keys", "rewrap", "--log", directory) == 0
    shown = capsys.readouterr().out
    assert "0 keys wrapped anew; the old wrapping key is destroyed" in shown
    assert _run("keys", "list", "--log", directory) == 0
    assert shown.partition(": ")[0] in capsys.readouterr().out


def test_keys_verbs_out_of_turn_say_so(directory, capsys) -> None:
    assert _run("keys", "retire", "--log", directory) == 2
    assert "none is under way" in capsys.readouterr().err


def test_keys_of_a_new_log_can_lie_in_a_token(token, tmp_path, append, capsys) -> None:
    assert _run("keys", "new", "--in-token", token.uri("s"), "--origin", ORIGIN) == 0
    signing, vkey = capsys.readouterr().out.split()
    assert _run("keys", "new", "--in-token", token.uri("w"), "--purpose", "wrapping") == 0
    wrapping, key_id = capsys.readouterr().out.split()
    log = tmp_path / "log"
    given = ["--signing-token-key", signing, "--wrapping-token-key", wrapping]
    assert _run("init", "--log", log, "--origin", ORIGIN, *given) == 0
    assert capsys.readouterr().out.strip() == vkey
    append(log)
    assert _run("verify", log, "--key", vkey) == 0
    assert _run("keys", "list", "--log", log) == 0
    assert key_id in capsys.readouterr().out
    files = [path.read_bytes() for path in log.rglob("*") if path.is_file()]
    assert not any(PIN.encode() in data for data in files)


def test_keys_rotate_into_a_token_and_rewrap_there(token, directory, append, capsys) -> None:
    assert _run("keys", "new", "--in-token", token.uri("s"), "--origin", ORIGIN) == 0
    signing = capsys.readouterr().out.split()[0]
    assert _run("keys", "new", "--in-token", token.uri("w"), "--purpose", "wrapping") == 0
    wrapping = capsys.readouterr().out.split()[0]
    assert _run("keys", "rotate", "--log", directory, "--token-key", signing) == 0
    assert _run("keys", "retire", "--log", directory) == 0
    assert _run("keys", "rewrap", "--log", directory, "--token-key", wrapping) == 0
    append(directory)
    assert _run("verify", directory) == 0
    assert (directory / "keys" / "signing.key").read_text().strip() == signing
    assert (directory / "keys" / "wrapping.key").read_text().strip() == wrapping


def test_keys_with_a_pin_on_the_command_line_are_refused_without_showing_it(tmp_path, capsys) -> None:
    uri = "pkcs11:token=t;object=o?module-path=/nowhere.so&pin-value=4711"
    with pytest.raises(SystemExit) as caught:
        _run("keys", "new", "--in-token", uri, "--origin", ORIGIN)
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert "pin-source" in shown
    assert "4711" not in shown


def test_keys_in_a_token_that_is_not_there_say_so(token, capsys) -> None:
    assert _run("keys", "new", "--in-token", token.uri("s").replace(token.label, "elsewhere"), "--origin", ORIGIN) == 2
    assert "NoSuchToken" in capsys.readouterr().err


def test_epoch_begin_closes_the_log_and_verify_follows_the_chain(directory, append, tmp_path, capsys) -> None:
    second, third = tmp_path / "log-2", tmp_path / "log-3"
    assert _run("epoch", "begin", "--log", directory, "--new", second) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == (second / "log.vkey").read_text().strip()
    assert f"begins from {ORIGIN} at size 2" in shown
    append(second, ORIGIN[:-1] + "2")
    assert _run("epoch", "begin", "--log", second, "--new", third, "--reason", "key-lost") == 0
    assert _run("verify", third, "--previous", second, "--previous", directory) == 0
    shown = capsys.readouterr().out
    assert f"valid: the epoch before, {ORIGIN[:-1]}2, which ended at size 3" in shown
    assert f"valid: the epoch before, {ORIGIN}, which ended at size 2" in shown
    assert _run("verify", third, "--previous", directory) == 1
    assert _run("keys", "rotate", "--log", directory) == 2
    assert "goes on in epoch 2" in capsys.readouterr().err
