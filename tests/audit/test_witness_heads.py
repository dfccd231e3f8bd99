from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.add_checkpoint import AddCheckpoint, format_add_checkpoint
from audit.anchoring import Anchoring, Outsiders
from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.cosignature import Cosigner
from audit.errors import ForkError, RollbackError, StorageError
from audit.heads import read_heads
from audit.keys import KeyRing, load_vkeys
from audit.log import AuditLog, LogConfig
from audit.merkle import TreeSize, extend, leaf_hash, prove_consistency, read_frontier, root
from audit.outside import Ask
from audit.rotation import retire, rotate
from audit.storage import Storage
from audit.witness_heads import keep_witness_heads
from audit.witnessing import KnownWitness, ask_cosignature
from tests.audit.memory_log import leaves
from tests.audit.outsiders import answering, asking, running_witness
from tests.audit.writer import write_entry
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


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _opened(config: LogConfig) -> Iterator[AuditLog]:
    log = AuditLog.open(config, clock=_now)
    try:
        yield log
    finally:
        log.close()


def _rotate(config: LogConfig) -> None:
    rotate(config.directory, lambda: _opened(config), _now(), os.urandom)


def _retire(config: LogConfig) -> None:
    retire(config.directory, lambda: _opened(config), _now())


def _anchor(log: AuditLog, witness: KnownWitness, ask: Ask) -> tuple[tuple[str, str], ...]:
    return Anchoring(log, Outsiders(ask, (witness,)), _now).round().failures


def _lead_on(witness: KnownWitness, ask: Ask, storage: Storage, keys: KeyRing) -> int:
    """Has the witness cosign a longer tree, as anyone can who holds the key and the published hashes."""
    size = storage.newest_checkpoint().size
    longer, completed = extend(read_frontier(size, storage.node), [leaf_hash(leaf) for leaf in leaves(50)])
    made = {(level, i >> level): one for i, hashes in enumerate(completed, size) for level, one in enumerate(hashes)}
    note = sign_checkpoint(Checkpoint(keys.signer.verifier_key.name, longer.size, root(longer)), keys.signers)
    proof = prove_consistency(size, longer.size, lambda level, at: made.get((level, at)) or storage.node(level, at))
    body = format_add_checkpoint(AddCheckpoint(TreeSize(size), proof, note))
    return ask("POST", f"{witness.url}/add-checkpoint", body=body).status


def test_witness_heads_by_the_thief_of_a_retired_key_stop_no_start(
    make_log: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The witness was never told that the key is retired; it had seen the log say so."""
    config, old = make_log()
    with _opened(config) as log:
        write_entry(log)
    _rotate(config)
    with running_witness(tmp_path / "witness", load_vkeys(config.directory / "log.vkey")) as witness:
        ask = asking(witness.url)
        _retire(config)
        with _opened(config) as log:
            assert _anchor(log, witness, ask) == ()
            assert _lead_on(witness, ask, log.storage, old) == 409  # the entry of the anchor came since
            size = log.storage.newest_checkpoint().size
            ask_cosignature(log.storage, witness, ask)
            assert _lead_on(witness, ask, log.storage, old) == 200
            write_entry(log)
            assert "it holds a tree" in _anchor(log, witness, ask)[0][1]
            assert all(b"\n%d\n" % (size + 50) not in head for _, head in read_heads(config.heads_directory))
        keep_witness_heads(config, [witness], ask)
        with _opened(config) as log:
            write_entry(log)
    assert "witness's head not counted" in caplog.messages
    assert "witness's head not kept" in caplog.messages


def test_witness_heads_of_a_key_whose_retirement_the_witness_never_saw_count(
    make_log: Callable, tmp_path: Path
) -> None:
    """Or a log written anew would only have to say that the key is retired which signed the true one."""
    config, _ = make_log()
    with _opened(config) as log:
        write_entry(log)
    shutil.copytree(config.directory, tmp_path / "backup")
    with _opened(config) as log:
        for _ in range(9):
            write_entry(log)
        with running_witness(tmp_path / "witness", load_vkeys(config.directory / "log.vkey")) as witness:
            ask_cosignature(log.storage, witness, asking(witness.url))
            log.close()
            shutil.rmtree(config.directory)
            shutil.copytree(tmp_path / "backup", config.directory)
            _rotate(config)
            _retire(config)
            keep_witness_heads(config, [witness], asking(witness.url))
    with pytest.raises(RollbackError):
        AuditLog.open(config, clock=_now)
