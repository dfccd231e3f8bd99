"""What the log's own operator can do, who holds every key and every file: write the log anew, with valid signatures.

Three such logs, each made by the log's own code from its own keys. None is told from an honest one by anything that lies on
this host; each is told by a head that someone else keeps.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.add_checkpoint import AddCheckpoint, format_add_checkpoint
from audit.anchoring import Anchoring, Outsiders
from audit.commands import add_commands
from audit.errors import AuditError, ForkError, RollbackError
from audit.heads import read_heads
from audit.keys import KeyRing
from audit.log import AuditLog, LogConfig, create_log
from audit.merkle import TreeSize, prove_consistency
from audit.outside import HttpAnswer
from audit.storage import Anchor
from audit.storage.opening import open_storage
from audit.witness_heads import keep_witness_heads
from audit.witnessing import KnownWitness
from tests.audit.outsiders import asking, running_witness

# What the operator makes of the entries, and what that looks like to whoever has the honest head.
REWRITES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], type[AuditError], int]] = {
    "an entry rewritten": (
        lambda entries: [entries[0], entries[1].replace(b'"band":"high"', b'"band":"low"'), *entries[2:]],
        ForkError,
        422,
    ),
    "cut short": (lambda entries: entries[:2], RollbackError, 409),
    "forked": (
        lambda entries: [*entries[:3], *(entry.replace(b'"high"', b'"low"') for entry in entries[3:]), *_more(entries)],
        ForkError,
        422,
    ),
}


def _more(entries: list[bytes]) -> list[bytes]:
    """Two entries that were never there."""
    ids = [entry.split(b'"id":"', 1)[1][:32] for entry in entries[:2]]
    return [entry.replace(known, b"f" + known[1:]) for entry, known in zip(entries, ids, strict=False)]


@dataclass
class Rewritten:
    """A log that was honest when its witness and its auditor saw it, and was written anew since."""

    config: LogConfig
    keys: KeyRing
    witness: KnownWitness
    honest_head: Path
    honest_heads: Path
    honest_anchors: list[Anchor]
    error: type[AuditError]
    status: int


@pytest.fixture(params=REWRITES)
def rewritten(
    request: pytest.FixtureRequest, make_log: Callable, open_log: Callable, make_entry: Callable, tmp_path: Path
) -> Iterator[Rewritten]:
    rewrite, error, status = REWRITES[request.param]
    config, keys = make_log()
    log: AuditLog = open_log(config)
    for _ in range(5):
        log.append(*make_entry(log))
    with running_witness(tmp_path / "witness", keys.verifier_keys) as witness:
        assert _round(log, witness).failures == ()
        entries, anchors = list(log.entries()), log.storage.anchors()
        (tmp_path / "auditors-head").write_bytes(log.checkpoint())
        log.close()
        shutil.move(config.heads_directory, tmp_path / "heads")  # the operator doesn't leave it lying there
        _write_anew(config, keys, rewrite(entries[:5]), tmp_path / "copy", open_log)
        heads = tmp_path / "auditors-head", tmp_path / "heads"
        yield Rewritten(config, keys, witness, *heads, anchors, error, status)


def _round(log: AuditLog, witness: KnownWitness):
    outsiders = Outsiders(asking(witness.url), (witness,))
    return Anchoring(log, outsiders, lambda: datetime.now(UTC)).round()


def _write_anew(config: LogConfig, keys: KeyRing, entries: list[bytes], copy: Path, open_log: Callable) -> None:
    shutil.move(config.directory, copy)
    config.directory.mkdir(mode=0o700)
    for name in ("keys", "log.vkey"):
        place = copy / name
        (shutil.copytree if place.is_dir() else shutil.copy2)(place, config.directory / name)
    create_log(config, keys)
    log = open_log(config)
    for entry in entries:
        log.append(entry)
    log.close()


def _verify(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser)
    parsed = parser.parse_args(["verify", *(str(argument) for argument in arguments)])
    return int(parsed.run(parsed))


def test_rewrite_passes_every_check_on_this_host(
    rewritten: Rewritten, open_log: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _verify(rewritten.config.directory) == 0
    told = capsys.readouterr().out
    assert "nothing outside this host shows that the log wasn't rewritten by its operator" in told
    open_log(rewritten.config).close()


def test_rewrite_is_shown_by_the_head_an_auditor_kept(rewritten: Rewritten, capsys: pytest.CaptureFixture[str]) -> None:
    assert _verify(rewritten.config.directory, "--head", rewritten.honest_head) == 3
    told = capsys.readouterr().err
    assert "the log was rolled back" in told or "the log forked" in told
    assert rewritten.honest_head.read_text() in told


def test_rewrite_is_shown_by_the_cosigned_heads(rewritten: Rewritten, capsys: pytest.CaptureFixture[str]) -> None:
    assert _verify(rewritten.config.directory, "--heads", rewritten.honest_heads) == 3
    ((_, cosigned),) = read_heads(rewritten.honest_heads)
    told = capsys.readouterr().err
    assert cosigned.decode() in told
    assert told.count("hospital.example/cds-audit/north/1\n") == 2  # both heads


def test_rewrite_is_shown_by_the_anchors_that_were_left_in_the_store(
    rewritten: Rewritten, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = open_storage(rewritten.config.directory)
    for anchor in rewritten.honest_anchors:
        storage.keep_anchor(anchor)
    storage.close()
    assert _verify(rewritten.config.directory) == 3
    assert rewritten.honest_anchors[0].evidence.decode() in capsys.readouterr().err


def test_rewrite_is_refused_at_start_where_the_heads_directory_was_kept(
    rewritten: Rewritten, open_log: Callable
) -> None:
    shutil.copytree(rewritten.honest_heads, rewritten.config.heads_directory)
    with pytest.raises(rewritten.error):
        open_log(rewritten.config)


def test_rewrite_is_refused_at_start_where_the_witness_is_asked(rewritten: Rewritten, open_log: Callable) -> None:
    keep_witness_heads(rewritten.config, [rewritten.witness], asking(rewritten.witness.url))
    with pytest.raises(rewritten.error):
        open_log(rewritten.config)


def test_rewrite_gets_no_cosignature_and_its_start_is_refused_from_then_on(
    rewritten: Rewritten, open_log: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator opened it before anyone compared: the next round of anchoring tells."""
    log = open_log(rewritten.config)
    done = _round(log, rewritten.witness)
    assert done.anchors == ()
    assert "witness contradicts the log" in [record.message for record in caplog.records]
    log.close()
    with pytest.raises(rewritten.error):
        open_log(rewritten.config)


def test_rewrite_is_refused_by_the_witness_with_its_status(rewritten: Rewritten, open_log: Callable) -> None:
    log = open_log(rewritten.config)
    newest = log.storage.newest_checkpoint()
    ask = asking(rewritten.witness.url)

    def push(old: int) -> HttpAnswer:
        proof = prove_consistency(TreeSize(old), newest.size, log.storage.node)
        body = format_add_checkpoint(AddCheckpoint(TreeSize(old), proof, newest.note))
        return ask("POST", f"{rewritten.witness.url}/add-checkpoint", body=body)

    told = push(0)
    assert (told.status, told.body) == (409, b"5\n")
    if newest.size >= 5:
        assert push(5).status == rewritten.status == 422
    else:
        assert rewritten.status == 409
        assert push(newest.size).status == 409
