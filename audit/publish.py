"""A log as plain files in a folder (C2SP tlog-tiles): evidence that outlives the database, for any web server or disk.

    checkpoint                  the signed head, with the witnesses' signatures where they gave any for it
    log.vkey                    the keys it is signed with
    tile/<level>/<index>        hashes
    tile/entries/<index>        entries

A folder only ever grows, along one log: before anything is written, what it holds is compared with the store. Entries are
written first, then hashes, the checkpoint last, each durable before the next, so whoever reads a checkpoint finds all that
it covers. Nothing is signed here.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from audit.durable_files import TEMPORARY_SUFFIX, DurableWriter, locked_folder
from audit.errors import AuditError, ForkError, RollbackError, StorageError
from audit.keys import VKEY_FILE, load_vkeys
from audit.merkle import HASH_BYTES, Sha256, TreeSize, leaf_hash, read_frontier, root
from audit.note import MAX_SIGNATURES, Note, VerifierKey, format_note, format_vkey, parse_note
from audit.storage import Anchor, StoredCheckpoint
from audit.tile_reader import TreeReader, hashes_at, new_tiles, read_tile
from audit.tiles import TILE_WIDTH, Tile, format_tile_path, parse_entry_bundle

CHECKPOINT_FILE = "checkpoint"
TILE_FOLDER = "tile"
PARTIAL_SUFFIX = ".p"
COSIGNATURE = "cosignature"


class PublishError(AuditError):
    """A folder that can't take the log: it holds something else, or is being written by another process."""


class DamagedEntryError(StorageError):
    """An entry whose bytes don't hash to its leaf."""


class NothingCosignedError(PublishError):
    """Only what a witness signed was to be published, and none has signed anything yet."""

    def __init__(self) -> None:
        super().__init__("published nothing: no witness has signed a checkpoint of this log yet")


class PublishSource(TreeReader, Protocol):
    """What publishing reads of a store."""

    def newest_checkpoint(self) -> StoredCheckpoint: ...

    def checkpoint(self, size: TreeSize) -> bytes | None: ...

    def node(self, level: int, position: int) -> Sha256: ...

    def anchors(self, kind: str | None = None, size: TreeSize | None = None) -> list[Anchor]: ...

    def newest_anchored(self, kind: str) -> TreeSize | None: ...


@dataclass(frozen=True, slots=True)
class Published:
    """What a folder holds now, and what was done for it."""

    checkpoint: Checkpoint
    files_written: int
    bytes_written: int


class Publisher:
    """Publishes one log into one folder, again and again."""

    def __init__(self, folder: Path, log_keys: Sequence[VerifierKey]) -> None:
        self._folder = folder
        self._keys = tuple(log_keys)
        self._swept = False

    def publish(self, source: PublishSource, *, cosigned: bool = False, rewrite: bool = False) -> Published:
        """Brings the folder up to the newest checkpoint, or with `cosigned` to the newest that a witness signed.

        (1) nobody else writes, and the folder holds this log or nothing;
        (2) the store leads to the root of its checkpoint, and extends what the folder holds;
        (3) write what is new, or with `rewrite` everything: entries, each compared with its leaf hash, then hashes;
        (4) write the checkpoint; only then remove the partial tiles that full ones have replaced.

        Raises:
            PublishError: step 1; NothingCosignedError where no witness has signed yet.
            RollbackError, ForkError: step 2; both checkpoints are in the error.
            StorageError: the store can't be read, or its entries don't hash to its hashes.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder):  # (1)
            known_note = read_if_there(self._folder / CHECKPOINT_FILE)
            known = self._open_known(known_note)
            note = _target(source, cosigned=cosigned, at_least=known.size if known else TreeSize(0))
            checkpoint = open_checkpoint(note, self._keys)
            self._check_growth(source, checkpoint, note, known, known_note)  # (2)
            old = known.size if known else TreeSize(0)
            writer = DurableWriter()
            self._write_keys(writer)
            _write_tiles(writer, self._folder, source, TreeSize(0) if rewrite else old, checkpoint.size)  # (3)
            if note != known_note:
                writer.write(self._folder / CHECKPOINT_FILE, note)  # (4)
                writer.sync_folders()
            self._remove_replaced(old, checkpoint.size)
        return Published(checkpoint, writer.files, writer.bytes)

    def _open_known(self, note: bytes) -> Checkpoint | None:
        """The checkpoint that the folder holds."""
        vkeys = self._folder / VKEY_FILE
        if vkeys.exists() and not set(load_vkeys(vkeys)) & set(self._keys):
            raise PublishError(f"{self._folder}: holds another log, {load_vkeys(vkeys)[0].name}")
        if note:
            try:
                return open_checkpoint(note, self._keys)
            except AuditError as exc:
                raise PublishError(f"{self._folder}: holds another log, or a damaged checkpoint: {exc}") from exc
        strange = sorted(path.name for path in self._folder.iterdir() if not _is_of_first_publication(path.name))
        if strange:
            raise PublishError(f"{self._folder}: expected an empty folder or a published log, found {strange[0]}")
        return None

    def _check_growth(
        self, source: PublishSource, checkpoint: Checkpoint, note: bytes, known: Checkpoint | None, known_note: bytes
    ) -> None:
        if root(read_frontier(checkpoint.size, source.node)) != checkpoint.root:
            message = f"store: its {checkpoint.size} entries don't lead to the root of their checkpoint"
            raise StorageError(message)
        if known is None:
            return
        if known.origin != checkpoint.origin:
            message = f"{self._folder}: holds another log, {known.origin}"
            raise PublishError(message)
        if known.size > checkpoint.size:
            raise RollbackError(known_note, note)
        if root(read_frontier(known.size, source.node)) != known.root:
            raise ForkError(known_note, note)

    def _write_keys(self, writer: DurableWriter) -> None:
        path = self._folder / VKEY_FILE
        text = "".join(f"{format_vkey(key)}\n" for key in self._keys).encode()
        if read_if_there(path) != text:
            writer.write(path, text)
            writer.sync_folders()

    def _remove_replaced(self, old: TreeSize, new: TreeSize) -> None:
        if not self._swept:  # what a process that was killed left
            _sweep(self._folder / TILE_FOLDER)
            self._swept = True
            return
        level: int | None
        for level in (None, *range(8)):
            for index in range(hashes_at(level or 0, old) // TILE_WIDTH, hashes_at(level or 0, new) // TILE_WIDTH):
                path = self._folder / (format_tile_path(Tile(level, index)) + PARTIAL_SUFFIX)
                shutil.rmtree(path, ignore_errors=True)


def cosigned_checkpoint(source: PublishSource, size: TreeSize) -> bytes | None:
    """The signed checkpoint of `size` with the signature of every witness that gave one for it; None where there is none.

    Raises:
        FormatError: what the store holds isn't a note.
    """
    note = source.checkpoint(size)
    return None if note is None else merge_cosignatures(note, source.anchors(COSIGNATURE, size))


def merge_cosignatures(note: bytes, anchors: Sequence[Anchor]) -> bytes:
    """The signed checkpoint `note` with the lines that witnesses added to it, the last of each.

    Raises:
        FormatError: it, or what a witness gave, isn't a note.
    """
    signed = parse_note(note)
    size = parse_checkpoint(signed.text).size
    own = {(line.name, line.key_id): line for line in signed.signatures}
    lines = dict(own)
    for anchor in anchors:
        if anchor.kind != COSIGNATURE or anchor.size != size:
            continue
        given = parse_note(anchor.evidence)
        if given.text == signed.text:
            lines |= {
                (line.name, line.key_id): line for line in given.signatures if (line.name, line.key_id) not in own
            }
    return note if lines == own else format_note(Note(signed.text, tuple(lines.values())[:MAX_SIGNATURES]))


def read_if_there(path: Path) -> bytes:
    """The file's bytes, none where there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _target(source: PublishSource, *, cosigned: bool, at_least: TreeSize) -> bytes:
    """The checkpoint to publish; of a folder that holds more than the log, the newest, which growth then refuses."""
    anchored = source.newest_anchored(COSIGNATURE) if cosigned else None  # first: no anchor is of a later size
    if cosigned and anchored is None:
        raise NothingCosignedError
    newest = source.newest_checkpoint()
    if at_least > newest.size:
        return newest.note
    size = newest.size if anchored is None else max(anchored, at_least)
    note = cosigned_checkpoint(source, size)
    if note is None:
        message = f"store: it has evidence for size {size} and no checkpoint of it"
        raise StorageError(message)
    return note


def _write_tiles(writer: DurableWriter, folder: Path, source: PublishSource, old: TreeSize, new: TreeSize) -> None:
    entries = True
    for tile in new_tiles(old, new):
        data = read_tile(source, tile, new)
        if tile.level is None:
            check_bundle(source, tile, data)
        elif entries:
            writer.sync_folders()
            entries = False
        writer.write(folder / format_tile_path(tile), data)
    writer.sync_folders()


def check_bundle(source: PublishSource, tile: Tile, data: bytes) -> None:
    """Returns if each entry in the bundle hashes to the stored leaf hash: a damaged one isn't given out as the log's.

    Raises:
        DamagedEntryError: one doesn't.
    """
    start = tile.index * TILE_WIDTH
    hashes = source.nodes(0, start, tile.width)
    for offset, entry in enumerate(parse_entry_bundle(data, tile.width)):
        if leaf_hash(entry) != hashes[offset * HASH_BYTES : (offset + 1) * HASH_BYTES]:
            message = f"entry {start + offset}: the bytes don't hash to the stored leaf hash"
            raise DamagedEntryError(message)


def _sweep(folder: Path) -> None:
    """Removes temporary files, and partial tiles beside their full one."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if path.name.endswith(TEMPORARY_SUFFIX):
            path.unlink()
        elif path.name.endswith(PARTIAL_SUFFIX) and path.with_suffix("").is_file():
            shutil.rmtree(path)
        elif path.is_dir():
            _sweep(path)


def _is_of_first_publication(name: str) -> bool:
    return name in (VKEY_FILE, TILE_FOLDER) or name.endswith(TEMPORARY_SUFFIX)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        with locked_folder(folder):
            yield
    except BlockingIOError as exc:
        message = f"{folder}: is being written by another process"
        raise PublishError(message) from exc
