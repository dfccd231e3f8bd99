from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.cosignature import Cosigner
from audit.errors import ForkError, RollbackError, StorageError
from audit.heads import read_heads
from audit.log import AuditLog
from audit.witness_heads import keep_witness_heads
from audit.witnessing import KnownWitness, ask_cosignature
from tests.audit.outsiders import answering, asking, running_witness
from tests.conftest import free_port

KEY = Cosigner("witness.example/w1", bytes(32)).verifier_key


def test_witness_heads_refuse_a_log_put_back_with_every_local_head(
    make_log: Callable, open_log: Callable, make_entry: Callable, tmp_path: Path
) -> None:
    """All that lies on this host is put back; only the witness still knows."""
    config, keys = make_log()
    with running_witness(tmp_path / "witness", keys.verifier_keys) as witness:
        ask = asking(witness.url)
        log: AuditLog = open_log(config)
        log.append(*make_entry(log))
        log.close()
        shutil.copytree(config.directory, tmp_path / "backup")
        log = open_log(config)
        log.append(*make_entry(log))
        ask_cosignature(log.storage, witness, ask)
        log.close()
        shutil.rmtree(config.directory)
        shutil.copytree(tmp_path / "backup", config.directory)
        keep_witness_heads(config, [witness], ask)
        with pytest.raises(RollbackError, match="known head:"):
            open_log(config)
    with pytest.raises(RollbackError):  # the witness is gone, its head stays
        open_log(config)


def test_witness_heads_refuse_a_log_written_anew(
    make_log: Callable, open_log: Callable, make_entry: Callable, tmp_path: Path
) -> None:
    config, keys = make_log()
    with running_witness(tmp_path / "witness", keys.verifier_keys) as witness:
        ask = asking(witness.url)
        shutil.copytree(config.directory, tmp_path / "empty")
        log: AuditLog = open_log(config)
        log.append(*make_entry(log))
        ask_cosignature(log.storage, witness, ask)
        log.close()
        shutil.rmtree(config.directory)
        shutil.copytree(tmp_path / "empty", config.directory)
        log = open_log(config)
        log.append(*make_entry(log, status="error"))
        log.append(*make_entry(log))
        log.close()
        keep_witness_heads(config, [witness], ask)
        with pytest.raises(ForkError):
            open_log(config)


def test_witness_heads_of_a_log_never_cosigned_are_none(make_log: Callable, open_log: Callable, tmp_path: Path) -> None:
    config, keys = make_log()
    with running_witness(tmp_path / "witness", keys.verifier_keys) as witness:
        keep_witness_heads(config, [witness], asking(witness.url))
    assert read_heads(config.heads_directory) == []


def test_witness_heads_that_cannot_be_had_are_a_warning(
    make_log: Callable, open_log: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    config, _ = make_log()
    with answering(lambda _: (200, {}, b"<html>")) as server:
        dead = f"http://127.0.0.1:{free_port()}"
        witnesses = [KnownWitness(KEY, "", dead), KnownWitness(KEY, "", server.url), KnownWitness(KEY, "https://x", "")]
        keep_witness_heads(config, witnesses, asking(dead, server.url))
    events = [record for record in caplog.records if record.name == "bedside.audit.heads"]
    assert [record.message for record in events] == ["witness not compared with"] * 2
    assert all(record.witness == "witness.example/w1" for record in events)
    open_log(config).close()


def test_witness_heads_hold_up_a_start_no_longer_than_told(make_log: Callable) -> None:
    config, _ = make_log()

    def late(_: bytes) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.8)
        return 404, {}, b""

    with answering(late) as server:
        started = time.monotonic()
        keep_witness_heads(config, [KnownWitness(KEY, "", server.url)] * 4, asking(server.url), timeout_s=0.2)
        assert time.monotonic() - started < 0.7


def test_witness_heads_that_cannot_be_kept_are_an_error(
    make_log: Callable, open_log: Callable, make_entry: Callable, tmp_path: Path
) -> None:
    config, keys = make_log()
    with running_witness(tmp_path / "witness", keys.verifier_keys) as witness:
        log = open_log(config)
        log.append(*make_entry(log))
        ask_cosignature(log.storage, witness, asking(witness.url))
        log.close()
        config.heads_directory.write_bytes(b"no directory")
        with pytest.raises(StorageError, match="heads directory"):
            keep_witness_heads(config, [witness], asking(witness.url))
