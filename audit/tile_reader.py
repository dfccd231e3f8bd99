"""The bytes of any tile or entry bundle of a log, read from its store (C2SP tlog-tiles).

A tile belongs to a tree of a given size; nothing beyond that size is ever read, so whoever hands in the size of a signed
checkpoint gives away nothing that isn't signed. Pure over two reads that every store has.
"""

from collections.abc import Iterator
from typing import Protocol

from audit.errors import AuditError, StorageError
from audit.merkle import HASH_BYTES, LeafIndex, TreeSize
from audit.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, format_entry_bundle, format_tile_path


class NoTileError(AuditError):
    """A tile that no tree of at most this many entries has."""

    def __init__(self, tile: Tile, size: TreeSize) -> None:
        super().__init__(f"{format_tile_path(tile)}: expected a tile of a tree of at most {size} entries")


class TreeReader(Protocol):
    """What tiles are made of: perfect nodes and entries, in order."""

    def nodes(self, level: int, start: int, count: int) -> bytes:
        """Up to `count` perfect nodes of one level from position `start` on, 32 bytes each."""
        ...

    def entries(self, start: LeafIndex, count: int) -> list[bytes]:
        """Up to `count` entries from `start` on."""
        ...


def read_tile(tree: TreeReader, tile: Tile, size: TreeSize) -> bytes:
    """The bytes of `tile`, which the tree of `size` entries, or a smaller one it grew from, has.

    Raises:
        NoTileError: no such tree has it.
        StorageError: the store has less than `size` entries.
    """
    start = tile.index * TILE_WIDTH
    if start + tile.width > hashes_at(tile.level or 0, size):
        raise NoTileError(tile, size)
    if tile.level is None:
        return _bundle(tree, LeafIndex(start), tile.width)
    data = tree.nodes(tile.level * TILE_HEIGHT, start, tile.width)
    if len(data) != tile.width * HASH_BYTES:
        message = f"{format_tile_path(tile)}: expected {tile.width} hashes, got {len(data)} bytes"
        raise StorageError(message)
    return data


def hashes_at(level: int, size: TreeSize) -> int:
    """How many hashes the tree of `size` entries has at a level of tiles: size / 256^level."""
    return int(size) >> (TILE_HEIGHT * level)


def entry_bundles_of(size: TreeSize) -> Iterator[Tile]:
    """The entry bundles of a tree, in order."""
    return new_tiles_of_level(None, TreeSize(0), size)


def new_tiles(old: TreeSize, new: TreeSize) -> Iterator[Tile]:
    """What the tree of `new` entries has and that of `old` hasn't: entry bundles first, then hash tiles level by level."""
    yield from new_tiles_of_level(None, old, new)
    level = 0
    while hashes_at(level, new):
        yield from new_tiles_of_level(level, old, new)
        level += 1


def new_tiles_of_level(level: int | None, old: TreeSize, new: TreeSize) -> Iterator[Tile]:
    """As `new_tiles`, of one level; None means entry bundles."""
    before, after = hashes_at(level or 0, old), hashes_at(level or 0, new)
    if before == after:
        return
    full, partial = divmod(after, TILE_WIDTH)
    yield from (Tile(level, index) for index in range(before // TILE_WIDTH, full))
    if partial:
        yield Tile(level, full, partial)


def _bundle(tree: TreeReader, start: LeafIndex, count: int) -> bytes:
    entries = tree.entries(start, count)
    if len(entries) != count:
        message = f"entries: expected {count} from {start} on, got {len(entries)}"
        raise StorageError(message)
    return format_entry_bundle(entries)
