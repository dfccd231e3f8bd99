"""What golang.org/x/mod/sumdb makes of a log that we publish, and of one that was tampered with."""

import random
import shutil
from pathlib import Path

import pytest

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.keys import Ed25519Signer
from audit.merkle import LeafIndex, TreeSize, leaf_hash, prove_inclusion
from audit.proof import LogProof, format_proof
from audit.publish import Publisher
from benchmarks.drills.go_reader import LIBRARY, RefusedError, build, read
from tests.audit.export.bundles import KEY, bundle, cosigned_tree, switch_entry
from tests.audit.memory_tree import ORIGIN, SIGNER, MemoryTree
from tests.programs import need, need_library

KEYS = (SIGNER.verifier_key,)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader, built once."""
    go = need("go")
    need_library(LIBRARY, "golang-golang-x-mod-dev")
    return build(go, tmp_path_factory.mktemp("go"))


def _tree(size: int) -> MemoryTree:
    tree = MemoryTree()
    tree.grow(switch_entry(number) for number in range(size))
    return tree


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("published")
    Publisher(folder, KEYS).publish(_tree(300))
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257, 512, 1000])
def test_go_reads_a_published_log_of_any_size(program: Path, tmp_path: Path, size: int) -> None:
    Publisher(tmp_path, KEYS).publish(_tree(size))
    found = read(program, tmp_path, KEY)
    assert (found["entries"], found["size"]) == (size, size)
    assert found.get("tiles", 0) == sum(
        path.is_file() for path in (tmp_path / "tile").rglob("*") if "entries" not in path.parts
    )


def test_go_reads_three_levels_of_tiles(program: Path, tmp_path: Path) -> None:
    tree = MemoryTree()
    tree.grow(b"%d" % number for number in range(65_537))
    Publisher(tmp_path, KEYS).publish(tree)
    assert read(program, tmp_path, KEY) == {
        "entries": 65_537,
        "size": 65_537,
        "bundles": 257,
        "tiles": 259,
        "proofs": 994,
    }


def test_go_reads_the_largest_entries(program: Path, tmp_path: Path) -> None:
    tree = MemoryTree()
    tree.grow([bytes(65_535), b"", bytes(65_534)])
    Publisher(tmp_path, KEYS).publish(tree)
    assert read(program, tmp_path, KEY)["entries"] == 3


def test_go_reads_a_folder_that_grew_and_a_bundle_with_cosignatures(program: Path, tmp_path: Path) -> None:
    tree, publisher = MemoryTree(), Publisher(tmp_path / "p", KEYS)
    for size in (200, 300, 310):
        tree.grow(switch_entry(number) for number in range(tree.size, size))
        publisher.publish(tree)
        assert read(program, tmp_path / "p", KEY)["entries"] == size
    bundle(tmp_path / "b", cosigned_tree(100, 300))
    assert read(program, tmp_path / "b", KEY)["entries"] == 300


def test_go_opens_checkpoints_of_two_keys_with_either(program: Path, tmp_path: Path) -> None:
    fresh = Ed25519Signer(ORIGIN, bytes([9] * 32))
    tree = MemoryTree(SIGNER, fresh)
    tree.grow(switch_entry(number) for number in range(3))
    Publisher(tmp_path, [*KEYS, fresh.verifier_key]).publish(tree)
    for vkey in (tmp_path / "log.vkey").read_text().split():
        assert read(program, tmp_path, vkey)["entries"] == 3


def test_go_accepts_receipts_and_refuses_damaged_ones(program: Path, good: Path, tmp_path: Path) -> None:
    tree, paths = _tree(300), []
    for index in (0, 1, 255, 256, 299):
        entry = tree.entries(LeafIndex(index), 1)[0]
        hashes = prove_inclusion(LeafIndex(index), tree.size, tree.node)
        for extra in (entry, leaf_hash(entry)):
            paths.append(tmp_path / f"{index}.{len(extra)}")
            proof = LogProof(LeafIndex(index), hashes, tree.newest_checkpoint().note, extra)
            paths[-1].write_bytes(format_proof(proof))
    assert read(program, good, KEY, paths)["receipts"] == len(paths)
    chance = random.Random(6)
    for path in paths:
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        with pytest.raises(RefusedError):
            read(program, good, KEY, [path])


def test_go_refuses_one_flipped_byte_in_any_file(program: Path, folder: Path) -> None:
    chance = random.Random(7)
    for path in [path for path in folder.rglob("*") if path.is_file() and path.name != "log.vkey"]:
        kept = path.read_bytes()
        for offset in {0, len(kept) - 1, *(chance.randrange(len(kept)) for _ in range(4))}:
            path.write_bytes(kept[:offset] + bytes([kept[offset] ^ 1]) + kept[offset + 1 :])
            with pytest.raises(RefusedError):
                read(program, folder, KEY)
        path.write_bytes(kept[:-1])
        with pytest.raises(RefusedError):
            read(program, folder, KEY)
        path.write_bytes(kept)
    assert read(program, folder, KEY)["entries"] == 300


def test_go_refuses_another_key_and_another_root(program: Path, folder: Path) -> None:
    stranger = "+".join(["x.example/log", *KEY.split("+", 2)[1:]])
    with pytest.raises(RefusedError):
        read(program, folder, stranger)
    forged = sign_checkpoint(Checkpoint(ORIGIN, TreeSize(300), _tree(299).root), [SIGNER])
    (folder / "checkpoint").write_bytes(forged)
    with pytest.raises(RefusedError, match="the entries have the root"):
        read(program, folder, KEY)
