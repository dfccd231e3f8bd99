from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.anchor_check import Anchored as Counted
from audit.anchor_check import AnchorReport
from audit.anchoring import Anchoring, Outsiders
from audit.commands import add_commands
from audit.cosignature import Cosigner, attach_cosignatures, format_lines
from audit.errors import ForkError, RollbackError, VerificationError
from audit.keys import Ed25519Signer, KeyRing
from audit.log import AuditLog, LogConfig
from audit.merkle import TreeSize
from audit.note import VerifierKey, format_vkey, parse_note
from audit.storage import Anchor
from audit.storage.opening import open_scan, open_storage
from audit.timestamps import TimestampAuthority, check_timestamp, load_roots
from audit.verify import Trust, verify_log
from tests.audit.conftest import ORIGIN
from tests.audit.memory_log import Tree, leaves
from tests.audit.outsiders import asking, running_witness
from tests.audit.time_authority import TimeAuthority

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
TIME = "2026-03-01T09:00:00.000000Z"
STRANGER = Cosigner("witness.example/w9", bytes(32))


@dataclass
class Anchored:
    """A closed log of 2 entries, anchored by a witness and an authority: entries 2 and 3 tell so."""

    directory: Path
    keys: KeyRing
    witness: VerifierKey
    stamps: TimeAuthority
    started: datetime

    def verify(self, *, witness: VerifierKey | None = None, roots: bool = False) -> AnchorReport:
        trusted = load_roots(self.stamps.roots)

        def check(evidence: bytes, note: bytes) -> datetime:
            return check_timestamp(evidence, note, trusted)

        head = (self.directory / "head").read_bytes()
        witnesses = () if witness is None else (witness,)
        trust = Trust(
            self.keys.verifier_keys, self.keys.signer.verifier_key.name, (head,), witnesses, check if roots else None
        )
        scan = open_scan(self.directory)
        try:
            return verify_log(scan, trust).anchors
        finally:
            scan.close()

    def change(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.directory / "log.sqlite3")
        with connection:
            assert connection.execute(statement, values).rowcount > 0
        connection.close()

    def keep(self, anchor: Anchor) -> None:
        storage = open_storage(self.directory)
        storage.keep_anchor(anchor)
        storage.close()

    def evidence(self, kind: str) -> Anchor:
        storage = open_storage(self.directory)
        (found,) = storage.anchors(kind)
        storage.close()
        return found


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> TimeAuthority:
    return TimeAuthority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture
def anchored(
    make_log: Callable, open_log: Callable, make_entry: Callable, stamps: TimeAuthority, tmp_path: Path
) -> Anchored:
    config, keys = make_log()
    log = open_log(config)
    log.append_all([make_entry(log), make_entry(log)])
    started = datetime.now(UTC).replace(microsecond=0)
    with running_witness(tmp_path / "w", keys.verifier_keys) as witness, stamps.running() as server:
        authority = TimestampAuthority("stamps", server.url, load_roots(stamps.roots))
        outsiders = Outsiders(asking(witness.url, server.url), (witness,), (authority,))
        assert Anchoring(log, outsiders, lambda: NOW).round().failures == ()
    log.close()
    return Anchored(config.directory, keys, witness.key, stamps, started)


def test_anchors_are_counted_and_checked_with_the_keys_given(anchored: Anchored) -> None:
    report = anchored.verify(witness=anchored.witness, roots=True)
    for kind in (report.cosignatures, report.timestamps):
        assert (kind.count, kind.checked, kind.newest_size) == (1, 1, 2)
        assert kind.newest_time is not None
        assert anchored.started <= kind.newest_time <= datetime.now(UTC)
    assert report.unnamed == 0


def test_anchors_without_their_givers_keys_are_counted_as_unchecked(anchored: Anchored) -> None:
    report = anchored.verify()
    assert (report.cosignatures.count, report.cosignatures.checked) == (1, 0)
    assert (report.timestamps.count, report.timestamps.checked, report.timestamps.newest_time) == (1, 0, NOW)
    stranger = anchored.verify(witness=STRANGER.verifier_key)
    assert stranger.cosignatures == Counted(1, 0, None, None)


def test_anchors_newest_is_one_that_was_checked_where_keys_are_given(
    anchored: Anchored, make_entry: Callable, clock: Callable[[], datetime]
) -> None:
    log = AuditLog.open(LogConfig(anchored.directory, ORIGIN, "north", deadline_s=10), clock=clock)
    log.append(*make_entry(log))
    size = log.storage.newest_checkpoint().size
    anchored.keep(Anchor(size, "cosignature", "another", _cosigned(log.checkpoint()), TIME))
    log.close()
    assert anchored.verify().cosignatures.newest_size == size
    checked = anchored.verify(witness=anchored.witness).cosignatures
    assert (checked.count, checked.checked, checked.newest_size) == (2, 1, 2)


def test_anchors_said_to_be_of_a_witness_without_a_line_by_its_given_key_fail(anchored: Anchored) -> None:
    impostor = Cosigner(anchored.witness.name, bytes([7] * 32))
    evidence = anchored.evidence("cosignature").evidence
    note = evidence.split(b"\n\xe2\x80\x94 witness")[0] + b"\n"
    forged = note + format_lines([impostor.cosign(parse_note(evidence).text, 1764000000)])
    anchored.change("UPDATE anchors SET authority = 'kept' WHERE kind = 'cosignature'")
    anchored.keep(Anchor(TreeSize(2), "cosignature", anchored.witness.name, forged, TIME))
    for key, reason in (
        (anchored.witness, "no signature by a key given for this witness"),
        (None, "missing or another"),
    ):
        with pytest.raises(VerificationError, match=reason):
            anchored.verify(witness=key)


def test_anchors_that_no_entry_names_are_no_fault(anchored: Anchored) -> None:
    note = anchored.evidence("cosignature").evidence
    anchored.keep(Anchor(TreeSize(2), "cosignature", "witness.example/w2", note, TIME))
    assert anchored.verify().unnamed == 1


@pytest.mark.parametrize("kind", ["cosignature", "rfc3161"])
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM anchors WHERE kind = ?",
        "UPDATE anchors SET authority = 'another' WHERE kind = ?",
        "UPDATE anchors SET time = '2026-03-01T09:00:00.000001Z' WHERE kind = ?",
        "UPDATE anchors SET kind = 'other' WHERE kind = ?",
    ],
)
def test_anchors_taken_away_or_altered_are_missed_by_the_entry(anchored: Anchored, kind: str, change: str) -> None:
    anchored.change(change, kind)
    with pytest.raises(VerificationError, match=r"first bad index [23], anchor: the .* missing or another"):
        anchored.verify()


@pytest.mark.parametrize("kind", ["cosignature", "rfc3161"])
def test_anchors_with_any_byte_flipped_fail_without_any_key_of_their_giver(anchored: Anchored, kind: str) -> None:
    evidence = anchored.evidence(kind).evidence
    for place in range(0, len(evidence), 29):
        damaged = bytearray(evidence)
        damaged[place] ^= 1
        anchored.change("UPDATE anchors SET evidence = ? WHERE kind = ?", bytes(damaged), kind)
        with pytest.raises(VerificationError):
            anchored.verify()
    anchored.change("UPDATE anchors SET evidence = ? WHERE kind = ?", evidence, kind)
    anchored.verify()


def test_anchors_of_a_size_without_checkpoint_fail(anchored: Anchored) -> None:
    anchored.change("UPDATE anchors SET size = 1 WHERE kind = 'cosignature'")
    with pytest.raises(VerificationError, match="there is no checkpoint of its size"):
        anchored.verify()


def test_anchors_of_another_tree_that_the_log_signed_show_a_fork(anchored: Anchored) -> None:
    fork = _cosigned(Tree(anchored.keys.signer, leaves(2)).note(2))
    anchored.keep(Anchor(TreeSize(2), "cosignature", "witness.example/w9", fork, TIME))
    with pytest.raises(ForkError) as raised:
        anchored.verify()
    assert raised.value.known == fork
    assert raised.value.found.split(b"\n")[1] == b"2"


def test_anchors_of_a_larger_tree_that_the_log_signed_show_a_rollback(anchored: Anchored) -> None:
    larger = _cosigned(Tree(anchored.keys.signer, leaves(9)).note(9))
    anchored.keep(Anchor(TreeSize(9), "cosignature", "witness.example/w9", larger, TIME))
    with pytest.raises(RollbackError) as raised:
        anchored.verify()
    assert raised.value.known == larger


@pytest.mark.parametrize("size", [2, 9])
def test_anchors_that_the_log_never_signed_are_no_proof_against_it(anchored: Anchored, size: int) -> None:
    stranger = Ed25519Signer(anchored.keys.signer.verifier_key.name, bytes(32))
    forged = _cosigned(Tree(stranger, leaves(9)).note(size))
    anchored.keep(Anchor(TreeSize(size), "cosignature", "witness.example/w9", forged, TIME))
    with pytest.raises(VerificationError, match="no signature of a trusted key"):
        anchored.verify()


def test_anchors_by_a_witness_whose_signature_is_wrong_fail_where_its_key_is_given(anchored: Anchored) -> None:
    note = anchored.evidence("cosignature").evidence.split(b"\n\xe2\x80\x94 witness")[0] + b"\n"
    line = format_lines([STRANGER.cosign("another text\n", 1764000000)])
    anchored.keep(Anchor(TreeSize(2), "cosignature", "witness.example/w9", note + line, TIME))
    assert anchored.verify().cosignatures.count == 2
    with pytest.raises(VerificationError, match="doesn't verify"):
        anchored.verify(witness=STRANGER.verifier_key)
    anchored.change("UPDATE anchors SET evidence = ? WHERE authority = 'witness.example/w9'", note)
    with pytest.raises(VerificationError, match="nobody but the log signed it"):
        anchored.verify()


def test_anchors_by_an_untrusted_authority_fail_where_roots_are_given(anchored: Anchored, tmp_path: Path) -> None:
    assert anchored.verify(roots=True).timestamps.checked == 1
    anchored.stamps = TimeAuthority(tmp_path / "stranger")
    with pytest.raises(VerificationError, match="anchor of size 2, rfc3161 of stamps: time stamp: "):
        anchored.verify(roots=True)


def _run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser)
    parsed = parser.parse_args(["verify", *(str(argument) for argument in arguments)])
    return int(parsed.run(parsed))


def test_anchors_are_told_of_by_the_verb(
    anchored: Anchored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(anchored.directory) == 0
    told = capsys.readouterr().out
    assert "heads: 2 kept elsewhere, all of this tree" in told
    assert "0 checked against keys given with --witness-key" in told
    assert "time stamps: 1, the newest for size 2 at 2026-03-01T09:00:00+00:00; 0 checked" in told
    (tmp_path / "w.vkey").write_text(format_vkey(anchored.witness))
    keys = ["--witness-key", tmp_path / "w.vkey", "--tsa-roots", anchored.stamps.roots]
    assert _run(anchored.directory, *keys) == 0
    assert capsys.readouterr().out.count("all checked against the keys given") == 2
    stranger = TimeAuthority(tmp_path / "stranger")
    assert _run(anchored.directory, "--tsa-roots", stranger.roots) == 1
    assert "rfc3161 of stamps: time stamp" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        _run(anchored.directory, "--heads", tmp_path / "misspelt")


def _cosigned(note: bytes) -> bytes:
    lines = format_lines([STRANGER.cosign(parse_note(note).text, 1764000000)])
    return attach_cosignatures(note, lines, STRANGER.verifier_key).note
