import gzip
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from audit.cosignature import Cosigner
from audit.errors import StorageError
from audit.merkle import LeafIndex
from audit.note import Note, format_note, parse_note
from audit.publish import Publisher
from audit.storage import Anchor, StoredCheckpoint
from audit.tile_reader import entry_bundles_of
from audit.tiles import format_tile_path, parse_entry_bundle, tiles_of
from audit.tiles_app.app import create_tiles_app
from audit.tiles_app.sources import FolderTiles, StoreTiles
from tests.audit.memory_tree import SIGNER, MemoryTree, plain_entries

SIZE = 600
FOR_EVER = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def tree() -> MemoryTree:
    made = MemoryTree()
    made.grow(plain_entries(SIZE))
    return made


@pytest.fixture(scope="module", params=["store", "folder"])
def client(request: pytest.FixtureRequest, tree: MemoryTree, tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """A client of the log's tiles, from its store and from a published folder."""
    if request.param == "store":
        return create_tiles_app(StoreTiles(tree)).test_client()
    folder: Path = tmp_path_factory.mktemp("published")
    Publisher(folder, [SIGNER.verifier_key]).publish(tree)
    (folder / "secret").write_text("secret")
    return create_tiles_app(FolderTiles(folder)).test_client()


def test_app_serves_the_checkpoint_for_seconds(client: FlaskClient, tree: MemoryTree) -> None:
    answer = client.get("/checkpoint")
    assert (answer.status_code, answer.data) == (200, tree.newest_checkpoint().note)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "max-age=2"


def test_app_serves_every_tile_and_bundle_for_ever(client: FlaskClient, tree: MemoryTree) -> None:
    for tile in (*tiles_of(tree.size), *entry_bundles_of(tree.size)):
        answer = client.get("/" + format_tile_path(tile))
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Cache-Control"] == FOR_EVER
        if tile.level is None:
            first = LeafIndex(tile.index * 256)
            assert parse_entry_bundle(answer.data, tile.width) == tree.entries(first, tile.width)
        else:
            assert answer.data == tree.nodes(tile.level * 8, tile.index * 256, tile.width)


def test_app_zips_entries_for_who_takes_it_and_hashes_never(client: FlaskClient) -> None:
    plain = client.get("/tile/entries/000")
    assert "Content-Encoding" not in plain.headers
    zipped = client.get("/tile/entries/000", headers={"Accept-Encoding": "br, gzip"})
    assert (zipped.headers["Content-Encoding"], zipped.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert plain.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(zipped.data) == plain.data
    assert "Content-Encoding" not in client.get("/tile/entries/000", headers={"Accept-Encoding": "gzip;q=0"}).headers
    assert "Content-Encoding" not in client.get("/tile/0/000", headers={"Accept-Encoding": "gzip"}).headers


@pytest.mark.parametrize("path", ["/checkpoint", "/tile/0/000", "/tile/entries/002.p/88"])
def test_app_answers_head_as_get_without_the_body(client: FlaskClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.data) == (200, b"")
    assert dict(head.headers) == dict(got.headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/checkpoint", "/tile/0/000"])
def test_app_has_no_other_methods(client: FlaskClient, method: str, path: str) -> None:
    assert client.open(path, method=method).status_code == 405


@pytest.mark.parametrize(
    "path",
    ["/", "/log.vkey", "/secret", "/checkpoint/", "/tile", "/tile/", "/tile/0", "/tile/0/", "/tile/0/000/",
     "/tile/0/0", "/tile/00/000", "/tile/64/000", "/tile/-1/000", "/tile/0/000.p/0", "/tile/0/000.p/256", "/tile/0/000.p/01",
     "/tile/0/002.p/89", "/tile/0/002", "/tile/0/003", "/tile/1/000", "/tile/1/000.p/3", "/tile/2/000.p/1", "/tile/data/000",
     "/tile/0/x000/000", "/tile//0/000", "/tile/0//000", "/tile/entries/003", "/tile/0/000%0a", "/tile/0/%D9%A0%D9%A0%D9%A0",
     "/tile/../secret", "/tile/0/../../secret", "/tile/0/..%2F..%2Fsecret", "/tile/%2e%2e/secret", "/tile/0/000.p/../../secret",
     "/../secret", "/tile/0/000%00"],
)  # fmt: skip
def test_app_has_nothing_else(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.data) == (404, b"not found\n")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("groups", [7, 100, 1000, 3000])
def test_app_has_no_tile_of_an_endless_index(client: FlaskClient, groups: int) -> None:
    for group in ("x000/", "x999/"):
        assert client.get("/tile/0/" + group * groups + "000").status_code == 404


@given(st.text())
def test_app_answers_any_path_with_a_tile_or_not_found(client: FlaskClient, text: str) -> None:
    assert client.get("/tile/" + text.replace("?", "").replace("#", "")).status_code in (200, 404)


def test_app_serves_partial_tiles_of_older_sizes_from_the_store(tree: MemoryTree) -> None:
    client = create_tiles_app(StoreTiles(tree)).test_client()
    assert client.get("/tile/0/001.p/200").data == tree.nodes(0, 256, 200)
    assert parse_entry_bundle(client.get("/tile/entries/000.p/3").data, 3) == plain_entries(3)


def test_app_serves_the_cosigned_checkpoint() -> None:
    tree = MemoryTree()
    note = parse_note(tree.grow(plain_entries(2)))
    cosigned = format_note(Note(note.text, (*note.signatures, Cosigner("w.example/1", bytes(32)).cosign(note.text, 1))))
    tree.kept.append(Anchor(tree.size, "cosignature", "w.example/1", cosigned, ""))
    assert create_tiles_app(StoreTiles(tree)).test_client().get("/checkpoint").data == cosigned


def test_app_can_be_mounted_under_a_prefix(tree: MemoryTree) -> None:
    nothing = create_tiles_app(StoreTiles(MemoryTree()))
    client = Client(DispatcherMiddleware(nothing, {"/logs/north": create_tiles_app(StoreTiles(tree))}))
    assert client.get("/logs/north/checkpoint").data == tree.newest_checkpoint().note
    assert client.get("/logs/north/tile/0/000").status_code == 200
    assert client.get("/logs/tile/0/000").status_code == 404


class _Broken(MemoryTree):
    def newest_checkpoint(self) -> StoredCheckpoint:
        raise StorageError("database is locked")


def test_app_says_when_the_log_cannot_be_read(tmp_path: Path) -> None:
    for source in (StoreTiles(_Broken()), FolderTiles(tmp_path)):
        answer = create_tiles_app(source).test_client().get("/checkpoint")
        assert (answer.status_code, answer.data) == (503, b"the log can't be read\n")
        assert answer.headers["Cache-Control"] == "no-store"


def test_app_gives_out_no_entry_bundle_that_is_damaged() -> None:
    """What is given out is kept for ever by whoever lies between."""
    damaged = MemoryTree()
    damaged.grow(plain_entries(300))
    damaged._entries[7] = b"entry 7, written anew"
    client = create_tiles_app(StoreTiles(damaged)).test_client()
    answer = client.get("/tile/entries/000")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (500, "no-store")
    assert b"entry" not in answer.data
    assert client.get("/tile/entries/001.p/44").status_code == 200
