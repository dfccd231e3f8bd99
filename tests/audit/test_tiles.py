import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import open_checkpoint
from audit.errors import AuditError, FormatError
from audit.merkle import HASH_BYTES, Frontier, TreeSize, extend, leaf_hash, root
from audit.note import parse_vkey
from audit.tiles import (
    Tile,
    format_entry_bundle,
    format_tile_path,
    parse_entry_bundle,
    parse_tile_path,
    tiles_of,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "audit"
TESSERA_KEY = parse_vkey("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")

tiles = st.builds(Tile, st.none() | st.integers(0, 63), st.integers(0, 2**48), st.integers(1, 256))


@pytest.mark.parametrize("case", json.loads((VECTORS / "tile_paths.json").read_text()), ids=lambda case: case["path"])
def test_tiles_have_the_paths_of_the_specification(case: dict) -> None:
    tile = Tile(None if case["l"] == -1 else case["l"], case["n"], case["w"] or 256)
    assert format_tile_path(tile) == case["path"]
    assert parse_tile_path(case["path"]) == tile


@pytest.mark.parametrize("size", range(1, 16))
def test_tiles_of_a_foreign_log_lead_to_its_signed_roots(size: int) -> None:
    folder = VECTORS / "tessera_log"
    checkpoint = open_checkpoint((folder / f"checkpoint.{size}").read_bytes(), [TESSERA_KEY])
    (tile,) = tiles_of(TreeSize(size))
    hashes = (folder / format_tile_path(tile)).read_bytes()
    entries = parse_entry_bundle((folder / format_tile_path(Tile(None, 0, size))).read_bytes(), size)
    leaves = [leaf_hash(entry) for entry in entries]
    assert hashes == b"".join(leaves)
    assert len(hashes) == HASH_BYTES * size
    assert root(extend(Frontier(), leaves)[0]) == checkpoint.root
    assert checkpoint.size == size


def test_tiles_of_size_70000_are_those_of_the_specification() -> None:
    found = list(tiles_of(TreeSize(70_000)))
    assert sum(tile.level == 0 and tile.width == 256 for tile in found) == 273
    assert [tile for tile in found if tile.width < 256] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert len(found) == 273 + 1 + 1 + 1 + 1


@given(tiles)
def test_tiles_paths_round_trip(tile: Tile) -> None:
    assert parse_tile_path(format_tile_path(tile)) == tile


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_tiles_entry_bundles_round_trip(entries: list[bytes]) -> None:
    assert parse_entry_bundle(format_entry_bundle(entries), len(entries)) == entries


@given(st.binary(max_size=40), st.integers(0, 5))
def test_tiles_bundle_parser_raises_nothing_foreign(data: bytes, count: int) -> None:
    try:
        entries = parse_entry_bundle(data, count)
    except AuditError:
        return
    assert format_entry_bundle(entries) == data


@pytest.mark.parametrize(
    "path", ["tile/0/1", "tile/0/000.p/0", "tile/0/000.p/256", "tile/00/000", "tile/0/x000/001", "tile/0/x1/001", ""]
)
def test_tiles_refuse_other_paths(path: str) -> None:
    with pytest.raises(FormatError):
        parse_tile_path(path)


def test_tiles_refuse_an_entry_that_has_no_length() -> None:
    with pytest.raises(FormatError):
        format_entry_bundle([bytes(65_536)])


def test_tiles_have_no_endless_index() -> None:
    largest = Tile(0, 2**63 - 1)
    assert parse_tile_path(format_tile_path(largest)) == largest
    for path in ("tile/0/" + "x999/" * 6 + "999", "tile/0/" + "x001/" * 7 + "000", "tile/0/" + "x001/" * 3000 + "000"):
        with pytest.raises(FormatError):
            parse_tile_path(path)
    with pytest.raises(FormatError):
        format_tile_path(Tile(0, 2**63))
