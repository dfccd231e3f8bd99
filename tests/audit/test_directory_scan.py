import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.directory_scan import is_published_log, verify_folder
from audit.errors import AuditError, ForkError, RollbackError, VerificationError
from audit.keys import Ed25519Signer
from audit.merkle import Sha256, TreeSize
from audit.note import format_vkey, parse_vkey
from audit.publish import Publisher
from audit.verify import Trust
from tests.audit.export.bundles import rotation_entry, switch_entry
from tests.audit.memory_tree import ORIGIN, SIGNER, MemoryTree, plain_entries

KEYS = (SIGNER.verifier_key,)
TRUST = Trust(KEYS, ORIGIN)
TESSERA = Path(__file__).parent.parent / "vectors" / "audit" / "tessera_log"
TESSERA_KEY = parse_vkey("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")


def _published(folder: Path, size: int, entry: Callable[[int], bytes] = switch_entry) -> MemoryTree:
    tree = MemoryTree()
    tree.grow([entry(number) for number in range(size)])
    Publisher(folder, KEYS).publish(tree)
    return tree


def _fails(folder: Path, **trust: Any) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        verify_folder(folder, Trust(**({"log_keys": KEYS, "origin": ORIGIN} | trust)))
    return caught.value


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published log of 600 entries: full and partial tiles on two levels."""
    folder = tmp_path_factory.mktemp("good")
    _published(folder, 600)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(good, tmp_path / "copy"))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600])
def test_directory_scan_reports_a_folder_that_holds(tmp_path: Path, size: int) -> None:
    tree = _published(tmp_path, size)
    report = verify_folder(tmp_path, TRUST)
    assert (report.entries, report.checkpoint.root) == (size, tree.root)
    assert report.files == sum(path.is_file() for path in tmp_path.rglob("*"))


def test_directory_scan_takes_entries_of_every_length(tmp_path: Path) -> None:
    lengths = [0, 1, 65_535, 65_534, 31, 32]
    _published(tmp_path, 300, lambda number: bytes([number % 251]) * lengths[number % 6])
    assert verify_folder(tmp_path, TRUST, ours=False).entries == 300


def test_directory_scan_compares_partial_tiles_of_older_sizes(tmp_path: Path) -> None:
    tree, publisher = MemoryTree(), Publisher(tmp_path, KEYS)
    for step in (256, 100, 50, 60):
        tree.grow([switch_entry(number) for number in range(tree.size, tree.size + step)])
        publisher.publish(tree)
    assert verify_folder(tmp_path, TRUST).entries == 466
    older = [path for path in tmp_path.rglob("*.p/*") if path.name == "100"]
    assert len(older) == 2
    for path in older:
        kept = path.read_bytes()
        for damaged in (kept[:-1], kept + b"x", kept[:40] + b"?" + kept[41:]):
            path.write_bytes(damaged)
            assert path.name in str(_fails(tmp_path))
        path.write_bytes(kept)
    assert verify_folder(tmp_path, TRUST).entries == 466


def _index_of_entry_byte(bundle: bytes, first: int, offset: int) -> int:
    at, index = 0, first
    while offset >= (at := at + 2 + int.from_bytes(bundle[at : at + 2], "big")):
        index += 1
    return index


def test_directory_scan_names_the_first_bad_index_of_a_flipped_byte_in_entries(folder: Path) -> None:
    chance = random.Random(4)
    for number, name in enumerate(["000", "001", "002.p/88"]):
        path = folder / "tile" / "entries" / name
        kept = path.read_bytes()
        for offset in {*range(8), len(kept) - 1, *(chance.randrange(len(kept)) for _ in range(60))}:
            path.write_bytes(_flipped(kept, offset))
            assert _fails(folder).index == _index_of_entry_byte(kept, 256 * number, offset)
        path.write_bytes(kept)


@pytest.mark.parametrize(
    ("name", "span", "first"),
    [("0/000", 1, 0), ("0/002.p/88", 1, 512), ("1/000.p/2", 256, 0)],
)
def test_directory_scan_names_the_first_bad_index_of_a_flipped_byte_in_hashes(folder, name, span, first) -> None:
    path = folder / "tile" / name
    kept = path.read_bytes()
    for offset in {0, 31, 32, 63, len(kept) // 2, len(kept) - 1} & set(range(len(kept))):
        path.write_bytes(_flipped(kept, offset))
        assert _fails(folder).index == first + offset // 32 * span


@pytest.mark.parametrize("name", ["checkpoint", "log.vkey"])
def test_directory_scan_finds_every_flipped_byte_of_checkpoint_and_keys(folder: Path, name: str) -> None:
    kept = (folder / name).read_bytes()
    for offset in range(len(kept)):
        (folder / name).write_bytes(_flipped(kept, offset))
        assert name in str(_fails(folder))


def _flipped(data: bytes, offset: int, bit: int = 1) -> bytes:
    return data[:offset] + bytes([data[offset] ^ bit]) + data[offset + 1 :]


def test_directory_scan_names_every_missing_shortened_lengthened_and_added_file(folder: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        name, kept = path.relative_to(folder).as_posix(), path.read_bytes()
        path.unlink()
        assert str(_fails(folder)).endswith(f"{name}: missing")
        for damaged in (b"", kept[:-1], kept[: len(kept) // 2], kept + b"\n", kept + kept):
            path.write_bytes(damaged)
            error = _fails(folder)
            assert name in str(error)
        path.write_bytes(kept)
    assert verify_folder(folder, TRUST).entries == 600


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "tile/0/003", "tile/0/002.p/89", "tile/0/002", "tile/entries/003.p/1", "tile/1/000", "tile/2/000.p/1",
     "tile/0/000.p/0", "tile/0/000.p/07", "tile/0/x000/000", "tile/0/000.tmp", "tile/data", ".hidden", "SHA256SUMS.old"],
)  # fmt: skip
def test_directory_scan_names_a_file_that_should_not_be_there(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes((folder / "tile/0/000").read_bytes()[:32])
    assert _fails(folder).part == name


def test_directory_scan_follows_no_link(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "tile" / "1", tmp_path / "elsewhere")
    (folder / "tile" / "1").symlink_to(tmp_path / "elsewhere")
    assert _fails(folder).part == "tile/1"
    (folder / "tile" / "1").unlink()
    shutil.move(tmp_path / "elsewhere", folder / "tile" / "1")
    shutil.move(folder / "tile/0/000", tmp_path / "tile")
    (folder / "tile/0/000").symlink_to(tmp_path / "tile")
    assert str(_fails(folder)) == "tile/0/000: expected a plain file"


def test_directory_scan_finds_swapped_tiles_and_swapped_entries(folder: Path) -> None:
    for kind in ("0", "entries"):
        first, second = folder / "tile" / kind / "000", folder / "tile" / kind / "001"
        one, other = first.read_bytes(), second.read_bytes()
        first.write_bytes(other)
        second.write_bytes(one)
        assert _fails(folder).index == 0
        first.write_bytes(one)
        second.write_bytes(other)


def test_directory_scan_finds_entries_and_hashes_that_were_changed_together(folder: Path) -> None:
    forged = MemoryTree()
    forged.grow([switch_entry(number if number != 300 else 10_000) for number in range(600)])
    checkpoint = (folder / "checkpoint").read_bytes()
    shutil.rmtree(folder)
    Publisher(folder, KEYS).publish(forged)
    (folder / "checkpoint").write_bytes(checkpoint)
    assert (error := _fails(folder)).index == 0
    assert "entries 0 to 599 don't lead to the root" in str(error)
    good_until = _head(256)
    assert _fails(folder, heads=(good_until,)).index == 256


def _head(size: int) -> bytes:
    tree = MemoryTree()
    return tree.grow([switch_entry(number) for number in range(size)])


def test_directory_scan_tells_rewritten_history_and_rollback_from_a_head_kept_elsewhere(folder: Path) -> None:
    heads = tuple(_head(size) for size in (0, 1, 256, 300, 600))
    assert verify_folder(folder, Trust(KEYS, ORIGIN, heads)).heads == 5
    rewritten = folder.parent / "rewritten"
    forged = MemoryTree()
    forged.grow([switch_entry(number if number != 3 else 10_000) for number in range(600)])
    Publisher(rewritten, KEYS).publish(forged)
    assert verify_folder(rewritten, Trust(KEYS, ORIGIN, heads[:2])).entries == 600
    with pytest.raises(ForkError) as fork:
        verify_folder(rewritten, Trust(KEYS, ORIGIN, heads[3:4]))
    assert fork.value.known == heads[3]
    with pytest.raises(RollbackError):
        verify_folder(folder, Trust(KEYS, ORIGIN, (_head(601),)))


def test_directory_scan_refuses_another_key_origin_or_a_wrong_head(folder: Path) -> None:
    stranger = Ed25519Signer(ORIGIN, bytes(32))
    assert _fails(folder, log_keys=(stranger.verifier_key,)).part == "checkpoint"
    assert _fails(folder, origin="another.example/log").part == "checkpoint"
    forged = sign_checkpoint(Checkpoint(ORIGIN, TreeSize(2), Sha256(bytes(32))), [stranger])
    assert _fails(folder, heads=(forged,)).part == "head"


def test_directory_scan_refuses_entries_that_are_not_of_ours_unless_told(tmp_path: Path) -> None:
    _published(tmp_path, 3, lambda number: plain_entries(1, number)[0])
    assert _fails(tmp_path).index == 0
    assert verify_folder(tmp_path, TRUST, ours=False).entries == 3


def test_directory_scan_names_a_folder_without_checkpoint(tmp_path: Path) -> None:
    assert not is_published_log(tmp_path)
    assert _fails(tmp_path).part == "checkpoint"


def test_directory_scan_reads_no_more_than_a_tile_can_hold(folder: Path) -> None:
    with (folder / "tile/entries/000").open("r+b") as file:
        file.truncate(1 << 40)
    assert "expected at most" in str(_fails(folder))


@pytest.mark.parametrize("size", range(16))
def test_directory_scan_accepts_the_foreign_log_at_each_size(tmp_path: Path, size: int) -> None:
    shutil.copy(TESSERA / f"checkpoint.{size}", tmp_path / "checkpoint")
    for name in ("0", "entries"):
        for width in range(1, size + 1):
            part = Path("tile", name, "000.p", str(width))
            (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TESSERA / part, tmp_path / part)
    report = verify_folder(tmp_path, Trust((TESSERA_KEY,)), ours=False)
    assert (report.entries, report.files) == (size, 1 + 2 * size)


def test_directory_scan_of_any_damage_raises_nothing_foreign(folder: Path) -> None:
    chance = random.Random(11)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(150):
        path = chance.choice(paths)
        kept = path.read_bytes()
        path.write_bytes(_flipped(kept, chance.randrange(len(kept)), 1 << chance.randrange(8)))
        with pytest.raises(AuditError):
            verify_folder(folder, TRUST)
        path.write_bytes(kept)


def test_directory_scan_holds_keys_to_the_sizes_at_which_the_log_has_them_in_force(tmp_path: Path) -> None:
    fresh = Ed25519Signer(ORIGIN, bytes([9] * 32))
    keys = (*KEYS, fresh.verifier_key)
    entries = [switch_entry(0), rotation_entry(1, "introduce", fresh.verifier_key), switch_entry(2)]
    entries += [rotation_entry(3, "retire", KEYS[0]), switch_entry(4)]
    for size, signers, good in [
        (1, [SIGNER], True),
        (2, [SIGNER, fresh], True),
        (3, [SIGNER], True),
        (3, [fresh], True),
        (4, [SIGNER], False),
        (5, [SIGNER], False),
        (5, [SIGNER, fresh], True),
    ]:
        folder = tmp_path / f"{size}{len(signers)}{signers[0] is fresh}"
        tree = MemoryTree(*signers)
        tree.grow(entries[:size])
        Publisher(folder, keys).publish(tree)
        if good:
            assert verify_folder(folder, Trust(keys, ORIGIN)).entries == size
        else:
            assert "in force" in str(_fails(folder, log_keys=keys))


@pytest.mark.parametrize("order", [1, -1])
def test_directory_scan_refuses_a_retired_key_whatever_the_order_of_the_keys_given(tmp_path: Path, order: int) -> None:
    fresh = Ed25519Signer(ORIGIN, bytes([9] * 32))
    keys = (*KEYS, fresh.verifier_key)[::order]
    entries = [switch_entry(0), rotation_entry(1, "introduce", fresh.verifier_key), switch_entry(2)]
    entries += [rotation_entry(3, "retire", KEYS[0]), switch_entry(4)]
    for signer, is_good in ((fresh, True), (SIGNER, False)):
        folder = tmp_path / str(is_good)
        tree = MemoryTree(signer)
        tree.grow(entries)
        Publisher(folder, keys).publish(tree)
        if is_good:
            assert verify_folder(folder, Trust(keys, ORIGIN)).entries == 5
            by_the_old = MemoryTree(SIGNER)
            heads = (by_the_old.grow(entries[:3]), by_the_old.grow(entries[3:]))
            assert verify_folder(folder, Trust(keys, ORIGIN, heads[:1])).heads == 1
            assert _fails(folder, log_keys=keys, heads=heads).part == "head"
        else:
            assert "in force at size 5" in str(_fails(folder, log_keys=keys))


@pytest.mark.parametrize("name", ["tile/0/002.p/3", "log.vkey"])
def test_directory_scan_does_not_wait_for_a_pipe(folder: Path, name: str) -> None:
    """In a process of its own, which a limit ends: it would wait for ever."""
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    (folder.parent / "key").write_text(f"{format_vkey(KEYS[0])}\n")
    for key in ([], ["--key", str(folder.parent / "key")]):
        command = [sys.executable, "-c", _VERIFY, str(folder), *key]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
        status = 1 if key or name != "log.vkey" else 2
        assert (done.returncode, f"{name}: expected a plain file" in done.stderr) == (status, True)


ROOT = Path(__file__).parents[2]
_VERIFY = """
import argparse, sys
from audit.commands import add_commands
parser = argparse.ArgumentParser()
add_commands(parser)
arguments = parser.parse_args(["verify", *sys.argv[1:]])
sys.exit(arguments.run(arguments))
"""
