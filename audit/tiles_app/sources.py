"""Where tiles that are served come from: a log's store as it grows, or a folder that was published.

Another source is a class with these two methods.
"""

from pathlib import Path
from typing import Protocol

from audit.errors import FormatError, StorageError
from audit.publish import CHECKPOINT_FILE, PublishSource, check_bundle, cosigned_checkpoint
from audit.tile_reader import NoTileError, read_tile
from audit.tiles import Tile, format_tile_path


class TileSource(Protocol):
    """A log's checkpoint and tiles, as bytes to be served."""

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint; raises StorageError."""
        ...

    def tile(self, tile: Tile) -> bytes | None:
        """The tile or entry bundle, None where the checkpoint's tree has none such; raises StorageError.

        From a store DamagedEntryError, where an entry isn't what its leaf hash says.
        """
        ...


class StoreTiles:
    """Tiles made from a log's store when they are asked for; nothing beyond its newest checkpoint."""

    def __init__(self, store: PublishSource) -> None:
        self._store = store

    def checkpoint(self) -> bytes:
        newest = self._store.newest_checkpoint()
        try:
            return cosigned_checkpoint(self._store, newest.size) or newest.note
        except FormatError as exc:
            raise StorageError("store: what it holds for its checkpoint isn't a note") from exc

    def tile(self, tile: Tile) -> bytes | None:
        try:
            data = read_tile(self._store, tile, self._store.newest_checkpoint().size)
        except NoTileError:
            return None
        if tile.level is None:  # whoever takes a damaged one keeps it for ever
            check_bundle(self._store, tile, data)
        return data


class FolderTiles:
    """The files of a published folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def checkpoint(self) -> bytes:
        found = self._read(CHECKPOINT_FILE)
        if found is None:
            raise StorageError("published folder: holds no checkpoint")
        return found

    def tile(self, tile: Tile) -> bytes | None:
        return self._read(format_tile_path(tile))

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as exc:
            message = f"published folder: {exc.strerror}"
            raise StorageError(message) from exc
