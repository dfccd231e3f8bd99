"""Paths and bytes of C2SP tlog-tiles, the form in which a log is published as plain files.

    tile/0/x001/x234/067        256 leaf hashes, 8,192 bytes
    tile/1/000.p/17             the first 17 hashes of a level-1 tile; each is the root of a full level-0 tile
    tile/entries/273.p/112      u16be length || entry, 112 times

Pure.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from audit.errors import FormatError
from audit.merkle import TreeSize

TILE_WIDTH = 256
TILE_HEIGHT = 8
MAX_ENTRY_BYTES = 65_535  # u16 length in an entry bundle
# C2SP tlog-tiles: levels 0 to 5 reach 2^48 entries; 63 bounds what a path may say (8 * level is a shift).
MAX_LEVEL = 63
MAX_INDEX = 2**63 - 1  # no tree is larger; seven groups of three digits hold it
_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile or entry bundle: `level` None means entries; `width` 256 means full."""

    level: int | None
    index: int
    width: int = TILE_WIDTH


def parse_tile_path(path: str) -> Tile:
    """The tile that `path` names.

    Raises:
        FormatError: not a path that `format_tile_path` gives.
    """
    match = _PATH.match(path)
    if match is None:
        raise FormatError("tile path: expected tile/<level>/<index>[.p/<width>]")
    level = None if match["level"] == "entries" else int(match["level"])
    tile = Tile(level, int(match["index"].replace("x", "").replace("/", "")), int(match["width"] or TILE_WIDTH))
    if format_tile_path(tile) != path:
        raise FormatError("tile path: not in canonical form")
    return tile


def format_tile_path(tile: Tile) -> str:
    """`tile/<level>/<index>[.p/<width>]`, the index in groups of three digits."""
    if not 1 <= tile.width <= TILE_WIDTH or not 0 <= (tile.level or 0) <= MAX_LEVEL or not 0 <= tile.index <= MAX_INDEX:
        raise FormatError("tile: width, level or index out of range")
    digits = str(tile.index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    *groups, last = (digits[start : start + 3] for start in range(0, len(digits), 3))
    index = "".join(f"x{group}/" for group in groups) + last
    level = "entries" if tile.level is None else str(tile.level)
    return f"tile/{level}/{index}" + (f".p/{tile.width}" if tile.width < TILE_WIDTH else "")


def tiles_of(size: TreeSize) -> Iterator[Tile]:
    """Every hash tile of a tree, level by level; size 70,000 gives 273 full and one of 112, 1 and 17, and 1."""
    level, hashes = 0, int(size)
    while hashes:
        full, partial = divmod(hashes, TILE_WIDTH)
        yield from (Tile(level, index) for index in range(full))
        if partial:
            yield Tile(level, full, partial)
        level, hashes = level + 1, full


def parse_entry_bundle(data: bytes, count: int) -> list[bytes]:
    """The `count` entries of a bundle.

    Raises:
        FormatError: fewer or more bytes than the lengths say.
    """
    entries, offset = [], 0
    for _ in range(count):
        if offset + 2 > len(data):
            raise FormatError("entry bundle: ends early")
        (length,) = struct.unpack_from(">H", data, offset)
        entries.append(data[offset + 2 : offset + 2 + length])
        offset += 2 + length
    if offset != len(data):
        message = f"entry bundle: expected {offset} bytes, got {len(data)}"
        raise FormatError(message)
    return entries


def format_entry_bundle(entries: Iterable[bytes]) -> bytes:
    """u16be length || entry, for each.

    Raises:
        FormatError: an entry is longer than 65,535 bytes.
    """
    parts = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            message = f"entry: expected at most {MAX_ENTRY_BYTES} bytes, got {len(entry)}"
            raise FormatError(message)
        parts.append(struct.pack(">H", len(entry)) + entry)
    return b"".join(parts)
