import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import AuditError, StorageError
from audit.merkle import Frontier, LeafIndex, Sha256, TreeSize, extend
from audit.tile_reader import NoTileError, entry_bundles_of, hashes_at, new_tiles, read_tile
from audit.tiles import Tile, parse_entry_bundle, tiles_of
from tests.audit.memory_tree import MemoryTree, plain_entries

EDGES = (0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000)
sizes = st.sampled_from(EDGES) | st.integers(0, 70_000)


@pytest.fixture(scope="module")
def tree() -> MemoryTree:
    made = MemoryTree()
    made.grow(plain_entries(70_000))
    return made


def test_tile_reader_has_the_tiles_of_the_specifications_example(tree: MemoryTree) -> None:
    tiles = list(tiles_of(TreeSize(70_000)))
    assert [sum(tile.level == level for tile in tiles) for level in (0, 1, 2)] == [274, 2, 1]
    assert [len(read_tile(tree, tile, tree.size)) // 32 for tile in tiles[-4:]] == [112, 256, 17, 1]


@given(sizes)
def test_tile_reader_gives_hashes_that_lead_to_the_root_of_every_size(tree: MemoryTree, size: int) -> None:
    """Each tile is hashed from the one below; of level 0 only the leaves' count is looked at, for time."""
    below: dict[int, bytes] = {}
    for tile in tiles_of(TreeSize(size)):
        data = read_tile(tree, tile, TreeSize(size))
        assert len(data) == 32 * tile.width
        if tile.level and tile.level >= 1 and tile.level - 1 == min(below, default=-1):
            assert data.startswith(below[tile.level - 1])
        if tile.index == 0 and tile.width == 256:
            below = {tile.level or 0: _root(data)}


def _root(tile: bytes) -> bytes:
    leaves = [Sha256(tile[start : start + 32]) for start in range(0, len(tile), 32)]
    frontier, _ = extend(Frontier(), leaves)
    (peak,) = frontier.peaks
    return peak


@pytest.mark.parametrize("size", EDGES)
def test_tile_reader_serves_nothing_beyond_the_size(tree: MemoryTree, size: int) -> None:
    for level in (None, 0, 1, 2, 3, 63):
        have = hashes_at(level or 0, TreeSize(size))
        full, partial = divmod(have, 256)
        if partial:
            read_tile(tree, Tile(level, full, partial), TreeSize(size))
        for tile in (Tile(level, full, partial + 1), Tile(level, full), Tile(level, full + 1, 1)):
            with pytest.raises(NoTileError):
                read_tile(tree, tile, TreeSize(size))


@given(sizes, sizes)
def test_tile_reader_names_what_is_new_and_nothing_else(first: int, second: int) -> None:
    old, new = TreeSize(min(first, second)), TreeSize(max(first, second))
    have = {*tiles_of(old), *entry_bundles_of(old)}
    want = {*tiles_of(new), *entry_bundles_of(new)}
    fresh = list(new_tiles(old, new))
    assert len(fresh) == len(set(fresh))
    assert set(fresh) == want - have


def test_tile_reader_names_entry_bundles_before_hashes() -> None:
    levels = [-1 if tile.level is None else tile.level for tile in new_tiles(TreeSize(3), TreeSize(700))]
    assert levels == sorted(levels)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_tile_reader_bundles_hold_the_entries(entries: list[bytes]) -> None:
    tree = MemoryTree()
    tree.grow(entries)
    for tile in entry_bundles_of(tree.size):
        assert parse_entry_bundle(read_tile(tree, tile, tree.size), tile.width) == entries
        leaves = b"".join(hashlib.sha256(b"\0" + entry).digest() for entry in entries)
        assert read_tile(tree, Tile(0, 0, tile.width), tree.size) == leaves


def test_tile_reader_takes_the_largest_entry() -> None:
    tree = MemoryTree()
    tree.grow([bytes(65_535)] * 256)
    assert len(read_tile(tree, Tile(None, 0), tree.size)) == 256 * 65_537


class _Short(MemoryTree):
    """A store that lost its end."""

    def nodes(self, level: int, start: int, count: int) -> bytes:
        return super().nodes(level, start, count)[:-32]

    def entries(self, start: LeafIndex, count: int) -> list[bytes]:
        return super().entries(start, count)[:-1]


@pytest.mark.parametrize("level", [None, 0])
def test_tile_reader_says_when_the_store_lost_something(level: int | None) -> None:
    tree = _Short()
    tree.grow(plain_entries(9))
    with pytest.raises(StorageError):
        read_tile(tree, Tile(level, 0, 9), tree.size)


@given(st.builds(Tile, st.none() | st.integers(0, 63), st.integers(0, 2**48), st.integers(1, 256)), sizes)
def test_tile_reader_raises_nothing_foreign(tree: MemoryTree, tile: Tile, size: int) -> None:
    with contextlib.suppress(AuditError):
        read_tile(tree, tile, TreeSize(size))
