import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.cosignature import Cosigner, attach_cosignatures, format_lines
from audit.errors import ForkError, RollbackError, StorageError
from audit.heads import check_heads, keep_head, read_heads
from audit.keys import Ed25519Signer
from audit.merkle import Sha256, TreeSize
from audit.note import parse_note
from audit.storage import StoredCheckpoint
from tests.audit.memory_log import Tree, leaves

LOG = Ed25519Signer("hospital.example/cds-audit/north/1", bytes(range(32)))
WITNESS = Cosigner("witness.example/w1", bytes(32))
HONEST = Tree(LOG, leaves(30))
FORK = Tree(LOG, leaves(30, 5, " rewritten"))
FILE = "witness.example%2Fw1.checkpoint"


def _cosigned(tree: Tree, size: int) -> bytes:
    note = tree.note(size)
    lines = format_lines([WITNESS.cosign(parse_note(note).text, 1764000000)])
    return attach_cosignatures(note, lines, WITNESS.verifier_key).note


def _check(directory: Path, tree: Tree, size: int) -> int:
    newest = StoredCheckpoint(TreeSize(size), tree.note(size))
    return check_heads(directory, [LOG.verifier_key], LOG.verifier_key.name, newest, tree.node)


def test_heads_that_the_log_extends_are_counted(tmp_path: Path) -> None:
    assert _check(tmp_path / "none", HONEST, 9) == 0
    for name, size in [("witness.example/w1", 4), ("witness.example/w2", 9)]:
        keep_head(tmp_path, name, _cosigned(HONEST, size))
    (tmp_path / "by-hand").write_bytes(HONEST.note(7))
    assert _check(tmp_path, HONEST, 9) == 3


def test_heads_larger_than_the_log_show_a_rollback(tmp_path: Path) -> None:
    keep_head(tmp_path, WITNESS.verifier_key.name, _cosigned(HONEST, 9))
    with pytest.raises(RollbackError) as raised:
        _check(tmp_path, HONEST, 8)
    assert (raised.value.known, raised.value.found) == (_cosigned(HONEST, 9), HONEST.note(8))
    assert HONEST.note(8).decode() in str(raised.value)
    assert WITNESS.verifier_key.name in str(raised.value)


@pytest.mark.parametrize("size", [9, 10, 30])
def test_heads_of_another_tree_show_a_fork(tmp_path: Path, size: int) -> None:
    keep_head(tmp_path, WITNESS.verifier_key.name, _cosigned(HONEST, 9))
    with pytest.raises(ForkError) as raised:
        _check(tmp_path, FORK, size)
    assert (raised.value.known, raised.value.found) == (_cosigned(HONEST, 9), FORK.note(size))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no note",
        HONEST.note(3).replace(b"\n3\n", b"\n4\n"),
        sign_checkpoint(Checkpoint("else.example/1", TreeSize(3), Sha256(bytes(32))), [LOG]),
        sign_checkpoint(
            Checkpoint(LOG.verifier_key.name, TreeSize(3), HONEST.root(3)), [Ed25519Signer("x", bytes(32))]
        ),
    ],
    ids=["empty", "no note", "altered", "another origin", "another's signature"],
)
def test_heads_that_tell_nothing_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd").write_bytes(content)
    with pytest.raises(StorageError, match="heads directory: odd: "):
        _check(tmp_path, HONEST, 9)


def test_heads_half_written_are_no_heads(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.tmp").write_bytes(b"half")
    assert _check(tmp_path, HONEST, 9) == 0


def test_heads_in_the_root_of_a_volume_are_told_from_its_lost_and_found(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir(mode=0o700)
    keep_head(tmp_path, WITNESS.verifier_key.name, _cosigned(HONEST, 9))
    assert _check(tmp_path, HONEST, 9) == 1


def test_heads_kept_grow_and_never_shrink(tmp_path: Path) -> None:
    for size in (4, 9, 7):
        keep_head(tmp_path / "heads", WITNESS.verifier_key.name, _cosigned(HONEST, size))
    assert read_heads(tmp_path / "heads") == [(FILE, _cosigned(HONEST, 9))]


def test_heads_kept_of_one_size_and_two_roots_both_stay(tmp_path: Path) -> None:
    for tree in (HONEST, FORK, FORK):
        keep_head(tmp_path, WITNESS.verifier_key.name, _cosigned(tree, 9))
    kept = {note for _, note in read_heads(tmp_path)}
    assert kept == {_cosigned(HONEST, 9), _cosigned(FORK, 9)}
    for tree in (HONEST, FORK):
        with pytest.raises(ForkError):
            _check(tmp_path, tree, 20)


def test_heads_damaged_on_disk_are_replaced_by_a_good_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"damaged")
    keep_head(tmp_path, WITNESS.verifier_key.name, _cosigned(HONEST, 9))
    assert read_heads(tmp_path) == [(FILE, _cosigned(HONEST, 9))]


def test_heads_that_cannot_be_kept_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "heads").write_bytes(b"")
    with pytest.raises(StorageError, match="heads directory"):
        keep_head(tmp_path / "heads", WITNESS.verifier_key.name, _cosigned(HONEST, 9))


def test_heads_refuse_a_log_put_back_together_with_its_head_file(
    make_log: Callable, open_log: Callable, make_entry: Callable, tmp_path: Path
) -> None:
    config, _ = make_log()
    log = open_log(config)
    log.append(*make_entry(log))
    log.close()
    shutil.copytree(config.directory, tmp_path / "backup")
    log = open_log(config)
    log.append(*make_entry(log))
    keep_head(config.heads_directory, WITNESS.verifier_key.name, log.checkpoint())
    log.close()
    open_log(config).close()
    kept = shutil.move(config.heads_directory, tmp_path / "heads")
    shutil.rmtree(config.directory)
    shutil.copytree(tmp_path / "backup", config.directory)
    open_log(config).close()  # without the head nothing can be told
    shutil.copytree(kept, config.heads_directory)
    with pytest.raises(RollbackError):
        open_log(config)
