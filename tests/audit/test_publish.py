import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.checkpoint import open_checkpoint, parse_checkpoint
from audit.cosignature import Cosigner
from audit.directory_scan import FolderReport, verify_folder
from audit.durable_files import locked_folder
from audit.errors import ForkError, KeyFileError, RollbackError, StorageError, VerificationError
from audit.export import verifier
from audit.export.bundle import write_bundle
from audit.keys import Ed25519Signer, load_vkeys
from audit.log import AuditLog
from audit.merkle import LeafIndex, TreeSize
from audit.note import Note, format_note, parse_note
from audit.publish import NothingCosignedError, Publisher, PublishError, cosigned_checkpoint
from audit.storage import Anchor
from audit.tile_reader import entry_bundles_of
from audit.tiles import format_tile_path, tiles_of
from audit.verify import Trust
from tests.audit.memory_tree import ORIGIN, SIGNER, MemoryTree, plain_entries
from tests.audit.stores import both_stores

KEYS = (SIGNER.verifier_key,)
WITNESS = Cosigner("witness.example/w1", bytes([7] * 32))


def _verify(folder: Path) -> FolderReport:
    return verify_folder(folder, Trust(KEYS, ORIGIN), ours=False)


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _expected(size: TreeSize) -> set[str]:
    return {"checkpoint", "log.vkey", *(format_tile_path(tile) for tile in (*tiles_of(size), *entry_bundles_of(size)))}


def _tree(size: int) -> MemoryTree:
    tree = MemoryTree()
    tree.grow(plain_entries(size))
    return tree


def _cosign(tree: MemoryTree, time_s: int = 1_700_000_000) -> Anchor:
    return _cosigned(tree.newest_checkpoint().note, tree.size, time_s)


def _cosigned(checkpoint: bytes, size: TreeSize, time_s: int = 1_700_000_000) -> Anchor:
    note = parse_note(checkpoint)
    evidence = format_note(Note(note.text, (*note.signatures, WITNESS.cosign(note.text, time_s))))
    return Anchor(size, "cosignature", WITNESS.verifier_key.name, evidence, "2026-03-01T08:00:00.000000Z")


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 513, 1000])
def test_publish_writes_the_files_of_the_specification_and_no_other(tmp_path: Path, size: int) -> None:
    tree = _tree(size)
    done = Publisher(tmp_path, KEYS).publish(tree)
    assert done.checkpoint.size == size
    assert _files(tmp_path) == _expected(tree.size)
    assert (tmp_path / "checkpoint").read_bytes() == tree.newest_checkpoint().note
    assert _verify(tmp_path).entries == size


def test_publish_has_two_levels_from_65_536_entries_on(tmp_path: Path) -> None:
    tree = _tree(65_537)
    Publisher(tmp_path, KEYS).publish(tree)
    assert {"tile/1/000", "tile/2/000.p/1", "tile/0/256.p/1"} <= _files(tmp_path)
    assert _verify(tmp_path).checkpoint.root == tree.root


@settings(max_examples=15)
@given(st.lists(st.sampled_from([0, 1, 2, 200, 254, 255, 256, 257, 300]), min_size=1, max_size=5))
def test_publish_grows_step_by_step_to_what_one_step_gives(tmp_path_factory, steps: list[int]) -> None:
    folder, once = tmp_path_factory.mktemp("steps"), tmp_path_factory.mktemp("once")
    tree, publisher = MemoryTree(), Publisher(folder, KEYS)
    for step in steps:
        tree.grow(plain_entries(step, tree.size))
        publisher.publish(tree)
        assert _verify(folder).entries == tree.size
    Publisher(once, KEYS).publish(tree)
    for name in _files(once):
        assert (folder / name).read_bytes() == (once / name).read_bytes()
    # What is left of older sizes are partial tiles whose full one isn't there yet.
    for name in _files(folder) - _files(once):
        assert not (folder / name.partition(".p/")[0]).is_file()


def test_publish_again_writes_nothing(tmp_path: Path) -> None:
    tree = _tree(300)
    publisher = Publisher(tmp_path, KEYS)
    assert publisher.publish(tree).files_written == 7
    assert publisher.publish(tree).files_written == 0
    tree.grow(plain_entries(1, 300))
    assert publisher.publish(tree).files_written == 3


def test_publish_rewrites_what_was_damaged_when_told_to(tmp_path: Path) -> None:
    tree = _tree(300)
    Publisher(tmp_path, KEYS).publish(tree)
    (tmp_path / "tile/0/000").write_bytes(bytes(8192))
    Publisher(tmp_path, KEYS).publish(tree)
    assert (tmp_path / "tile/0/000").read_bytes() == bytes(8192)
    Publisher(tmp_path, KEYS).publish(tree, rewrite=True)
    assert _verify(tmp_path).entries == 300


class _Failing(MemoryTree):
    """A store that stops giving anything after so many reads."""

    reads_left = 10**9

    def nodes(self, level: int, start: int, count: int) -> bytes:
        self._read()
        return super().nodes(level, start, count)

    def entries(self, start: LeafIndex, count: int) -> list[bytes]:
        self._read()
        return super().entries(start, count)

    def _read(self) -> None:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise StorageError("gone")


def test_publish_broken_off_anywhere_leaves_all_that_the_old_checkpoint_covers_and_goes_on(tmp_path: Path) -> None:
    tree = _Failing()
    tree.grow(plain_entries(200))
    Publisher(tmp_path / "start", KEYS).publish(tree)
    old = tree.newest_checkpoint().note
    tree.grow(plain_entries(400, 200))
    for allowed in range(20):
        folder = tmp_path / str(allowed)
        shutil.copytree(tmp_path / "start", folder)
        tree.reads_left = allowed
        try:
            Publisher(folder, KEYS).publish(tree)
        except StorageError:
            assert (folder / "checkpoint").read_bytes() == old
            assert _expected(TreeSize(200)) <= _files(folder)
            tree.reads_left = 10**9
            Publisher(folder, KEYS).publish(tree)
            assert _files(folder) == _expected(tree.size)
            assert _verify(folder).entries == 600
        else:
            break
    assert 5 < allowed < 19


def test_publish_removes_what_a_killed_publisher_left(tmp_path: Path) -> None:
    tree = _tree(600)
    Publisher(tmp_path, KEYS).publish(tree)
    (tmp_path / "tile/0/001.p").mkdir()
    (tmp_path / "tile/0/001.p/44").write_bytes((tmp_path / "tile/0/001").read_bytes()[: 44 * 32])
    (tmp_path / "tile/0/002.tmp").write_bytes(b"half")
    Publisher(tmp_path, KEYS).publish(tree)
    assert _files(tmp_path) == _expected(tree.size)


def test_publish_keeps_partial_tiles_until_the_full_one_is_there(tmp_path: Path) -> None:
    tree, publisher = _tree(10), Publisher(tmp_path, KEYS)
    publisher.publish(tree)
    tree.grow(plain_entries(10, 10))
    publisher.publish(tree)
    assert {"tile/0/000.p/10", "tile/entries/000.p/10", "tile/0/000.p/20"} <= _files(tmp_path)
    tree.grow(plain_entries(236, 20))
    publisher.publish(tree)
    assert _files(tmp_path) == _expected(TreeSize(256))


def test_publish_refuses_a_store_that_is_shorter_or_another_than_the_folder(tmp_path: Path) -> None:
    tree = _tree(5)
    Publisher(tmp_path, KEYS).publish(tree)
    before = {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)}
    with pytest.raises(RollbackError) as rolled_back:
        Publisher(tmp_path, KEYS).publish(_tree(4))
    assert (rolled_back.value.known, rolled_back.value.found) == (
        before["checkpoint"],
        _tree(4).newest_checkpoint().note,
    )
    forked = MemoryTree()
    forked.grow(plain_entries(9, 100))
    with pytest.raises(ForkError) as fork:
        Publisher(tmp_path, KEYS).publish(forked)
    assert (fork.value.known, fork.value.found) == (before["checkpoint"], forked.newest_checkpoint().note)
    assert {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)} == before


def test_publish_refuses_a_folder_of_another_log_or_of_anything_else(tmp_path: Path) -> None:
    stranger = Ed25519Signer("other.example/log", bytes(32))
    Publisher(tmp_path / "other", [stranger.verifier_key]).publish(MemoryTree(stranger, origin="other.example/log"))
    with pytest.raises(PublishError, match="holds another log"):
        Publisher(tmp_path / "other", KEYS).publish(_tree(1))
    (tmp_path / "other" / "checkpoint").unlink()
    with pytest.raises(PublishError, match="holds another log"):
        Publisher(tmp_path / "other", KEYS).publish(_tree(1))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(PublishError, match=r"found letter\.txt"):
        Publisher(tmp_path / "home", KEYS).publish(_tree(1))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "checkpoint").write_bytes(b"garbage")
    with pytest.raises(PublishError, match="damaged checkpoint"):
        Publisher(tmp_path / "damaged", KEYS).publish(_tree(1))
    (tmp_path / "damaged" / "log.vkey").write_bytes(b"garbage")
    with pytest.raises(KeyFileError):
        Publisher(tmp_path / "damaged", KEYS).publish(_tree(1))


def test_publish_takes_another_origin_under_the_same_key_for_another_log(tmp_path: Path) -> None:
    Publisher(tmp_path, KEYS).publish(_tree(1))
    with pytest.raises(PublishError, match="holds another log"):
        Publisher(tmp_path, KEYS).publish(MemoryTree(SIGNER, origin="hospital.example/cds-audit/south/1"))


def test_publish_is_refused_while_another_process_does_it(tmp_path: Path) -> None:
    with locked_folder(tmp_path), pytest.raises(PublishError, match="another process"):
        Publisher(tmp_path, KEYS).publish(_tree(1))


def test_publish_refuses_a_store_that_does_not_lead_to_its_checkpoint(tmp_path: Path) -> None:
    tree = _tree(3)
    tree._levels[0][2] = tree._levels[0][1]
    with pytest.raises(StorageError, match="don't lead to the root"):
        Publisher(tmp_path, KEYS).publish(tree)
    assert _files(tmp_path) == set()


def test_publish_gives_no_damaged_entry_out(tmp_path: Path) -> None:
    tree = _tree(3)
    tree._entries[1] = b"entry 7"
    with pytest.raises(StorageError, match="entry 1: the bytes don't hash"):
        Publisher(tmp_path, KEYS).publish(tree)
    assert "checkpoint" not in _files(tmp_path)


def test_publish_follows_a_rotated_key(tmp_path: Path) -> None:
    Publisher(tmp_path, KEYS).publish(_tree(4))
    fresh = Ed25519Signer(ORIGIN, bytes([9] * 32))
    tree = MemoryTree(SIGNER, fresh)
    tree.grow(plain_entries(6))
    Publisher(tmp_path, (*KEYS, fresh.verifier_key)).publish(tree)
    assert len((tmp_path / "log.vkey").read_text().split()) == 2
    assert open_checkpoint((tmp_path / "checkpoint").read_bytes(), [fresh.verifier_key]).size == 6


def test_publish_adds_the_cosignatures_that_the_store_keeps(tmp_path: Path) -> None:
    tree, publisher = _tree(3), Publisher(tmp_path, KEYS)
    publisher.publish(tree)
    tree.kept.append(_cosign(tree))
    assert publisher.publish(tree).files_written == 1
    note = (tmp_path / "checkpoint").read_bytes()
    assert open_checkpoint(note, KEYS, witness_keys=[WITNESS.verifier_key], quorum=1).size == 3
    assert _verify(tmp_path).unchecked_signatures == 1
    witnessed = Trust(KEYS, ORIGIN, witness_keys=(WITNESS.verifier_key,))
    assert verify_folder(tmp_path, witnessed, ours=False).unchecked_signatures == 0
    (tmp_path / "checkpoint").write_bytes(note[:-10] + (b"A" if note[-10:-9] != b"A" else b"B") + note[-9:])
    with pytest.raises(VerificationError, match="doesn't verify"):
        verify_folder(tmp_path, witnessed, ours=False)
    tree.grow(plain_entries(1, 3))
    publisher.publish(tree)
    assert (tmp_path / "checkpoint").read_bytes() == tree.newest_checkpoint().note


def test_publish_can_stay_at_the_newest_size_that_a_witness_signed(tmp_path: Path) -> None:
    tree, publisher = _tree(3), Publisher(tmp_path, KEYS)
    tree.kept.append(_cosign(tree))
    tree.grow(plain_entries(5, 3))
    assert publisher.publish(tree, cosigned=True).checkpoint.size == 3
    assert _files(tmp_path) == _expected(TreeSize(3))
    assert publisher.publish(tree).checkpoint.size == 8
    assert publisher.publish(tree, cosigned=True).checkpoint.size == 8


def test_publish_of_what_a_witness_signed_publishes_nothing_before_one_did(tmp_path: Path) -> None:
    tree, publisher = _tree(3), Publisher(tmp_path, KEYS)
    with pytest.raises(NothingCosignedError, match="published nothing"):
        publisher.publish(tree, cosigned=True)
    assert _files(tmp_path) == set()
    tree.kept.append(_cosign(tree))
    assert publisher.publish(tree, cosigned=True).checkpoint.size == 3
    tree.kept.append(Anchor(TreeSize(7), "cosignature", "w", b"of a checkpoint that isn't there", "2026"))
    tree.grow(plain_entries(9, 3))
    with pytest.raises(StorageError, match="evidence for size 7 and no checkpoint"):
        publisher.publish(tree, cosigned=True)


def test_cosigned_checkpoint_takes_the_witness_line_once_and_of_this_text_alone() -> None:
    tree = _tree(3)
    other = _tree(2)
    tree.kept += [_cosign(tree), _cosign(tree, 1_800_000_000), _cosign(other)]
    stray = _cosign(other)
    tree.kept.append(Anchor(TreeSize(3), stray.kind, stray.authority, stray.evidence, stray.time))
    note = cosigned_checkpoint(tree, TreeSize(3))
    assert note is not None
    parsed = parse_note(note)
    assert [line.name for line in parsed.signatures] == [ORIGIN, WITNESS.verifier_key.name]
    assert parsed.signatures[1] == WITNESS.cosign(parsed.text, 1_800_000_000)
    assert parse_checkpoint(parsed.text).size == 3
    assert cosigned_checkpoint(tree, TreeSize(2)) is None


@both_stores
def test_publish_reads_any_store(log: AuditLog, make_entry, tmp_path: Path) -> None:
    keys = load_vkeys(log.config.directory / "log.vkey")
    publisher = Publisher(tmp_path / "tiles", keys)
    for count in (3, 254, 2):
        log.append_all([make_entry(log) for _ in range(count)])
        publisher.publish(log.storage)
    assert _files(tmp_path / "tiles") >= _expected(TreeSize(259))
    assert verify_folder(tmp_path / "tiles", Trust(keys, ORIGIN, (log.checkpoint(),))).entries == 259
    log.storage.keep_anchor(_cosigned(log.checkpoint(), TreeSize(259)))
    log.storage.keep_anchor(Anchor(TreeSize(3), "cosignature", "w.example", b"of another size", "2026"))
    publisher.publish(log.storage)
    assert (tmp_path / "tiles" / "checkpoint").read_bytes() == log.storage.anchors("cosignature", TreeSize(259))[
        0
    ].evidence
    assert [anchor.size for anchor in log.storage.anchors(size=TreeSize(3))] == [3]
    assert [anchor.size for anchor in log.storage.anchors("cosignature")] == [3, 259]
    assert (log.storage.newest_anchored("cosignature"), log.storage.newest_anchored("rfc3161")) == (259, None)
    assert log.storage.anchors("rfc3161") == log.storage.anchors(size=TreeSize(4)) == []


@both_stores
def test_bundle_reads_any_store(log: AuditLog, make_entry, tmp_path: Path) -> None:
    keys = load_vkeys(log.config.directory / "log.vkey")
    log.append_all([make_entry(log) for _ in range(3)])
    write_bundle(tmp_path / "bundle", log.storage, keys)
    assert verifier.main([str(tmp_path / "bundle")]) == 0


@pytest.fixture(autouse=True)
def _no_temporary_files(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob("*.tmp"))
