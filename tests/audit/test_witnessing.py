from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.checkpoint import open_checkpoint
from audit.cosignature import Cosigner, format_lines
from audit.errors import FormatError, SignatureError
from audit.keys import Ed25519Signer
from audit.merkle import Sha256, TreeSize
from audit.note import format_vkey, parse_note
from audit.outside import OutsideError
from audit.storage import StoredCheckpoint
from audit.witnessing import (
    KnownWitness,
    WitnessContradictionError,
    WitnessError,
    ask_cosignature,
    fetch_head,
    known_witness,
)
from tests.audit.memory_log import Tree, leaves
from tests.audit.outsiders import Answer, answering, asking, running_witness
from tests.conftest import free_port

LOG = Ed25519Signer("hospital.example/cds-audit/north/1", bytes(range(32)))
ORIGIN = LOG.verifier_key.name
OTHER = Ed25519Signer("hospital.example/cds-audit/south/1", bytes(32))
LIAR = Cosigner("witness.example/w1", bytes(range(1, 33)))


class Grown:
    """A store's reading side: `tree` as far as `size`."""

    def __init__(self, tree: Tree, size: int) -> None:
        self.tree = tree
        self.size = size

    def newest_checkpoint(self) -> StoredCheckpoint:
        return StoredCheckpoint(TreeSize(self.size), self.tree.note(self.size))

    def node(self, level: int, position: int) -> Sha256:
        return self.tree.node(level, position)

    def checkpoint(self, size: TreeSize) -> bytes | None:
        return self.tree.note(size)

    def entry(self, index: int) -> bytes | None:
        return None

    def index_of(self, entry_id: str) -> None:
        return None


HONEST = Tree(LOG, leaves(60))
FORK = Tree(LOG, leaves(60, 5, " rewritten"))


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[KnownWitness]:
    with running_witness(tmp_path / "witness", [LOG.verifier_key]) as one:
        yield one


def _cosign(witness: KnownWitness, tree: Tree, size: int, known: int = 0) -> int:
    """The size cosigned, checked as a verifier does."""
    given = ask_cosignature(Grown(tree, size), witness, asking(witness.url), known=TreeSize(known))
    opened = open_checkpoint(
        given.cosigned.note, [LOG.verifier_key], origin=ORIGIN, witness_keys=[witness.key], quorum=1
    )
    assert opened.root == tree.root(opened.size)
    assert given.shown == StoredCheckpoint(opened.size, tree.note(opened.size))
    return opened.size


def test_witnessing_gets_a_cosignature_for_each_newest_checkpoint(witness: KnownWitness) -> None:
    assert [_cosign(witness, HONEST, 7), _cosign(witness, HONEST, 8, 7), _cosign(witness, HONEST, 60, 8)] == [7, 8, 60]


@pytest.mark.parametrize("known", [0, 3, 8])
def test_witnessing_goes_on_from_the_size_it_is_told(witness: KnownWitness, known: int) -> None:
    _cosign(witness, HONEST, 5)
    assert _cosign(witness, HONEST, 20, known) == 20


def test_witnessing_asks_again_for_the_same_checkpoint(witness: KnownWitness) -> None:
    assert [_cosign(witness, HONEST, 7), _cosign(witness, HONEST, 7, 7)] == [7, 7]


def test_witnessing_a_log_cut_short_is_a_contradiction(witness: KnownWitness) -> None:
    _cosign(witness, HONEST, 20)
    for known in (0, 20):
        with pytest.raises(WitnessContradictionError, match="it holds a tree of 20 entries, ours has 19"):
            _cosign(witness, HONEST, 19, known)


@pytest.mark.parametrize("size", [20, 21, 60])
def test_witnessing_a_rewritten_log_is_a_contradiction(witness: KnownWitness, size: int) -> None:
    _cosign(witness, HONEST, 20)
    with pytest.raises(WitnessContradictionError, match="it holds a tree that ours doesn't extend"):
        _cosign(witness, FORK, size)


def test_witnessing_says_that_the_witness_does_not_know_the_log(witness: KnownWitness) -> None:
    with pytest.raises(WitnessError, match="it doesn't know the log"):
        ask_cosignature(Grown(Tree(OTHER, leaves(3)), 3), witness, asking(witness.url))
    stranger = Tree(Ed25519Signer(ORIGIN, bytes(32)), leaves(3))
    with pytest.raises(WitnessError, match="it doesn't trust the log's key"):
        ask_cosignature(Grown(stranger, 3), witness, asking(witness.url))


def _line(signer: Cosigner, tree: Tree, size: int) -> bytes:
    return format_lines([signer.cosign(parse_note(tree.note(size)).text, 1764000000)])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, {}, _line(LIAR, HONEST, 9)), "expected one of witness"),
        ((200, {}, b""), "note: "),
        ((200, {}, b"\xff\xfe"), "UTF-8"),
        ((200, {}, HONEST.note(9)), "signature lines and nothing else"),
        ((500, {}, b"oops"), "it answered 500"),
        ((302, {"Location": "http://elsewhere.example/"}, b""), "it answered 302"),
        ((400, {}, b""), "it can't read the request"),
        ((409, {"Content-Type": "text/plain"}, b"5\n"), "answered 409: expected text/x.tlog.size"),
        ((409, {"Content-Type": "text/x.tlog.size"}, b"05\n"), "answered 409: size"),
        ((409, {"Content-Type": "text/x.tlog.size"}, b""), "answered 409: size"),
        ((409, {"Content-Type": "text/x.tlog.size"}, b"4\n"), "got 3 different sizes"),
        ((409, {"Content-Type": "text/x.tlog.size"}, b"10\n"), "it holds a tree of 10 entries, ours has 9"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_witnessing_believes_no_other_answer(answer: Answer, message: str) -> None:
    with answering(lambda _: answer) as server:
        witness = known_witness(format_vkey(Cosigner("witness.example/w1", bytes(32)).verifier_key), server.url)
        with pytest.raises(WitnessError, match=message):
            _cosign(witness, HONEST, 9)
        assert len(server.asked) <= 3


def test_witnessing_believes_no_cosignature_of_another_checkpoint() -> None:
    """The witness is real and signed, only something else than it was shown."""
    for line in (_line(LIAR, HONEST, 8), _line(LIAR, FORK, 9)):
        with answering(lambda _, line=line: (200, {}, line)) as server, pytest.raises(WitnessError, match="verify"):
            _cosign(KnownWitness(LIAR.verifier_key, server.url), HONEST, 9)
    with answering(lambda _: (200, {}, _line(LIAR, HONEST, 9))) as server:
        assert _cosign(KnownWitness(LIAR.verifier_key, server.url), HONEST, 9) == 9


def test_witnessing_takes_no_line_of_others_along() -> None:
    other = Cosigner("witness.example/w2", os.urandom(32))
    lines = _line(other, HONEST, 9) + _line(LIAR, HONEST, 9)
    with answering(lambda _: (200, {}, lines)) as server:
        witness = KnownWitness(LIAR.verifier_key, server.url)
        given = ask_cosignature(Grown(HONEST, 9), witness, asking(server.url))
    assert [one.name for one in parse_note(given.cosigned.note).signatures] == [ORIGIN, "witness.example/w1"]


def test_witnessing_says_who_cannot_be_reached() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(OutsideError, match=r"127\.0\.0\.1"):
        _cosign(KnownWitness(LIAR.verifier_key, url), HONEST, 9)


def test_witnessing_fetches_the_newest_head(witness: KnownWitness) -> None:
    ask = asking(witness.url)
    assert fetch_head(witness, [LOG.verifier_key], ORIGIN, ask) is None
    _cosign(witness, HONEST, 20)
    note = fetch_head(witness, [LOG.verifier_key], ORIGIN, ask)
    assert note is not None
    assert open_checkpoint(note, [LOG.verifier_key]).size == 20


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, {}, HONEST.note(9)), SignatureError),
        ((200, {}, Tree(OTHER, leaves(3)).note(3)), SignatureError),
        ((200, {}, b"<html>"), FormatError),
        ((500, {}, b""), WitnessError),
    ],
    ids=["not cosigned", "of another log", "no note", "failed"],
)
def test_witnessing_believes_no_other_head(answer: Answer, error: type[Exception]) -> None:
    with answering(lambda _: answer) as server:
        witness = KnownWitness(LIAR.verifier_key, server.url, server.url)
        with pytest.raises(error):
            fetch_head(witness, [LOG.verifier_key], ORIGIN, asking(server.url))


def test_witnessing_takes_witness_keys_alone() -> None:
    with pytest.raises(FormatError, match="expected Ed25519 cosignature/v1"):
        known_witness(format_vkey(LOG.verifier_key), "https://witness.example")
    with pytest.raises(FormatError, match="printable ascii"):
        known_witness(format_vkey(Cosigner("zeuge.example/ä", bytes(32)).verifier_key), "https://witness.example")
