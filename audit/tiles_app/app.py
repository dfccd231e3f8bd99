"""A log over HTTP as C2SP tlog-tiles has it: GET of its checkpoint, its tiles and its entry bundles, and nothing else.

    /checkpoint                   text/plain; charset=utf-8, for a few seconds
    /tile/<level>/<index>[.p/<width>]   application/octet-stream, for ever: what a path names never changes
    /tile/entries/<index>[.p/<width>]   the same, with gzip for those who take it, as entries shrink and hashes don't

A path goes through `parse_tile_path` before anything is looked up, so none leads out of the log. Entries hold no clinical
value and no identifier, but when, which model and under which key: serve them to those who may know. The application can be
mounted under any prefix.
"""

from __future__ import annotations

import gzip
import logging
import os
from pathlib import Path

from flask import Flask, Response, request

from audit.errors import AuditError, FormatError, StorageError
from audit.publish import DamagedEntryError
from audit.storage.opening import open_storage
from audit.tiles import parse_tile_path
from audit.tiles_app.sources import FolderTiles, StoreTiles, TileSource

TEXT, BYTES = "text/plain; charset=utf-8", "application/octet-stream"
LOG_VARIABLE, FOLDER_VARIABLE = "TILES_OF_LOG", "TILES_OF_FOLDER"
# The specification: no longer than a few seconds, and long-lived.
CHECKPOINT_CACHING, TILE_CACHING = "max-age=2", "public, max-age=31536000, immutable"
_NOT_STORED = "no-store"
_GZIP_LEVEL = 6

log = logging.getLogger("audit.tiles_app")


def create_tiles_app(tiles: TileSource) -> Flask:
    """The application that serves `tiles`."""
    app = Flask("audit.tiles_app", static_folder=None)
    app.url_map.merge_slashes = False

    @app.get("/checkpoint", provide_automatic_options=False)
    def checkpoint() -> Response:
        return _answer(200, tiles.checkpoint(), TEXT, CHECKPOINT_CACHING)

    @app.get("/tile/<path:rest>", provide_automatic_options=False)
    def tile(rest: str) -> Response:
        try:
            named = parse_tile_path(f"tile/{rest}")
        except FormatError:
            return _not_found()
        data = tiles.tile(named)
        if data is None:
            return _not_found()
        return _entries(data) if named.level is None else _answer(200, data, BYTES, TILE_CACHING)

    @app.errorhandler(404)
    def not_found(_: Exception) -> Response:
        return _not_found()

    @app.errorhandler(DamagedEntryError)
    def damaged(error: DamagedEntryError) -> Response:
        log.error("damaged entry", extra={"why": str(error)})
        return _answer(500, b"the log can't give this out\n", TEXT, _NOT_STORED)

    @app.errorhandler(StorageError)
    def failure(error: StorageError) -> Response:
        log.error("no answer", extra={"why": str(error)})
        return _answer(503, b"the log can't be read\n", TEXT, _NOT_STORED)

    return app


def build_app() -> Flask:
    """The application of one server process, from the environment in which `serve_tiles` started it."""
    try:
        return create_tiles_app(open_tiles())
    except AuditError as exc:
        log.error("cannot start", extra={"why": str(exc)})
        raise SystemExit(2) from exc


def open_tiles() -> TileSource:
    """The folder that the environment names, or else the log; raises StorageError."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return FolderTiles(Path(folder)) if folder else StoreTiles(open_storage(Path(os.environ[LOG_VARIABLE])))


def _entries(data: bytes) -> Response:
    zipped = request.accept_encodings["gzip"] > 0
    answer = _answer(200, gzip.compress(data, _GZIP_LEVEL, mtime=0) if zipped else data, BYTES, TILE_CACHING)
    answer.headers["Vary"] = "Accept-Encoding"
    if zipped:
        answer.headers["Content-Encoding"] = "gzip"
    return answer


def _not_found() -> Response:
    # A tile that isn't there yet may be soon.
    return _answer(404, b"not found\n", TEXT, _NOT_STORED)


def _answer(status: int, body: bytes, content_type: str, caching: str) -> Response:
    answer = Response(body, status)
    answer.headers["Content-Type"] = content_type
    answer.headers["Cache-Control"] = caching
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer
