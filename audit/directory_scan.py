"""Verification of a published log, from its files alone: no database, no network, constant memory.

    checkpoint, log.vkey, tile/<level>/<index>, tile/entries/<index>

Every byte counts: each entry is hashed and compared with its hash in the level-0 tile, each hash above is computed from
those below, the whole leads to the root that the checkpoint signs, and no other file may be there. An auditor's bundle has
more in it, and its own verifier (`export/verifier.py`).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from audit.checkpoint import Checkpoint, open_checkpoint
from audit.entry import parse_entry, read_header
from audit.entry_operations import KeyRotationEntry
from audit.errors import AuditError, EntryError, ForkError, FormatError, RollbackError, VerificationError
from audit.key_history import ROTATION_TYPE, KeyPeriod, trusted_periods
from audit.keys import VKEY_FILE, load_vkeys
from audit.merkle import HASH_BYTES, Frontier, LeafIndex, Sha256, TreeSize, extend, leaf_hash, root
from audit.note import VerifierKey, format_vkey, open_note, parse_note
from audit.publish import CHECKPOINT_FILE, PARTIAL_SUFFIX
from audit.tile_reader import entry_bundles_of, hashes_at
from audit.tiles import MAX_ENTRY_BYTES, TILE_HEIGHT, TILE_WIDTH, Tile, format_tile_path, parse_tile_path
from audit.verify import Trust

_LENGTH_BYTES = 2
_MAX_NOTE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class FolderReport:
    """A published log that holds: its checkpoint, and how much was checked.

    Attributes:
        unchecked_signatures: lines of the checkpoint by keys that weren't given, such as a witness's.
    """

    checkpoint: Checkpoint
    entries: int
    files: int
    heads: int
    unchecked_signatures: int


def is_published_log(folder: Path) -> bool:
    """Whether the folder looks like one that `publish` writes, and not like the directory of a log."""
    return (folder / CHECKPOINT_FILE).is_file()


def verify_folder(folder: Path, trust: Trust, *, ours: bool = True) -> FolderReport:
    """The report of a published log that holds; `ours` is False for a log of another application's entries.

    (1) the checkpoint is signed by the log, each witness's line holds whose key is given, the key file names keys alone;
    (2) each entry is in its bundle, has the form of one of ours, and hashes to its hash in the level-0 tile;
    (3) each hash of a higher tile is that of the tile below; partial tiles of older sizes are its beginnings;
    (4) the whole leads to the checkpoint's root;
    (5) no other file is there;
    (6) a key that signed the checkpoint was in force at its size, as far as the log introduced or retired keys;
    (7) every head kept elsewhere is signed by such a key too and is a root of the same tree.

    Raises:
        VerificationError: step 1 to 6, with the first bad index where it is an entry's; a head by a key not in force.
        RollbackError, ForkError: step 7.
    """
    files = _Files(folder)
    note = files.read(CHECKPOINT_FILE, _MAX_NOTE_BYTES)
    try:
        checkpoint = open_checkpoint(note, trust.log_keys, origin=trust.origin, witness_keys=trust.witness_keys)  # (1)
    except AuditError as exc:
        raise VerificationError(CHECKPOINT_FILE, str(exc)) from exc
    if ours or (folder / VKEY_FILE).exists():
        _check_key_file(files)
    heads = _open_heads(trust)
    walk = _Walk(files, checkpoint.size, ours=ours, stops=sorted({head.size for head, _ in heads}))
    walk.run()  # (2) (3)
    good = [head for head, _ in heads if walk.roots.get(head.size) == head.root]
    if root(walk.frontier) != checkpoint.root:  # (4)
        first = max((head.size for head in good), default=0)
        reason = f"entries {first} to {checkpoint.size - 1} don't lead to the root of the signed checkpoint"
        raise VerificationError("entry", reason, first)
    count = _check_names(files, checkpoint.size)  # (5)
    periods = trusted_periods(trust.log_keys, walk.rotations)
    _check_in_force(CHECKPOINT_FILE, note, checkpoint.size, periods)  # (6)
    for head, head_note in heads:  # (7)
        _check_head(head, head_note, walk, note)
        _check_in_force("head", head_note, head.size, periods)
    ids = {(key.name, key.key_id) for key in (*trust.log_keys, *trust.witness_keys)}
    unchecked = sum((line.name, line.key_id) not in ids for line in parse_note(note).signatures)
    return FolderReport(checkpoint, walk.entries, count, len(heads), unchecked)


class _Files:
    """The folder's files: plain ones, none longer than it can be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, limit: int, index: int | None = None) -> bytes:
        try:
            with open(self.folder / name, "rb", opener=_open_at_once) as file:
                if not S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise VerificationError(name, "expected a plain file", index)
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise VerificationError(name, "missing", index) from None
        except OSError as exc:
            raise VerificationError(name, f"can't be read, {exc.strerror}", index) from exc
        if len(data) > limit:
            raise VerificationError(name, f"expected at most {limit} bytes", index)
        return data

    def tile(self, tile: Tile) -> bytes:
        """A tile's bytes, whole."""
        name, first = format_tile_path(tile), tile.index * TILE_WIDTH << TILE_HEIGHT * (tile.level or 0)
        width = _LENGTH_BYTES + MAX_ENTRY_BYTES if tile.level is None else HASH_BYTES
        data = self.read(name, tile.width * width, first)
        if tile.level is not None and len(data) != tile.width * HASH_BYTES:
            missing = first + (len(data) // HASH_BYTES << TILE_HEIGHT * tile.level)
            raise VerificationError(name, f"expected {tile.width} hashes, got {len(data)} bytes", missing)
        return data

    def older_widths(self, tile: Tile) -> Iterator[Tile]:
        """The partial tiles that lie beside `tile`, of a smaller width; others are found by `_check_names`."""
        folder = self.folder / (format_tile_path(Tile(tile.level, tile.index)) + PARTIAL_SUFFIX)
        for width in range(1, tile.width) if folder.is_dir() else ():
            if (folder / str(width)).exists():
                yield Tile(tile.level, tile.index, width)

    def names(self) -> Iterator[str]:
        """Every file's path below the folder."""
        for path, folders, names in os.walk(self.folder):
            for name in [*names, *(one for one in folders if os.path.islink(os.path.join(path, one)))]:
                whole = Path(path, name)
                relative = whole.relative_to(self.folder).as_posix()
                if not S_ISREG(whole.lstat().st_mode):
                    raise VerificationError(relative, "expected a plain file")
                yield relative


class _Walk:
    """Reads entries and tiles side by side, from the first to the last, and builds the tree over them again."""

    def __init__(self, files: _Files, size: TreeSize, *, ours: bool, stops: list[TreeSize]) -> None:
        self._files = files
        self._size = size
        self._ours = ours
        self._stops = stops
        self._pending = {level: bytearray() for level in range(1, 8)}
        self.frontier = Frontier()
        self.roots: dict[TreeSize, Sha256] = {TreeSize(0): root(Frontier())}
        self.entries = 0
        self.rotations: list[tuple[LeafIndex, KeyRotationEntry]] = []

    def run(self) -> None:
        """Compares every tile with what lies below it."""
        for bundle in entry_bundles_of(self._size):
            tile = Tile(0, bundle.index, bundle.width)
            hashes = self._files.tile(tile)
            self._check_entries(bundle, hashes)
            self._check_older(tile, hashes)
            self._grow([Sha256(hashes[at : at + HASH_BYTES]) for at in range(0, len(hashes), HASH_BYTES)])
        for level in range(1, 8):
            if self._pending[level]:
                self._check_hashes(level)

    def _check_entries(self, bundle: Tile, hashes: bytes) -> None:
        data, first = self._files.tile(bundle), bundle.index * TILE_WIDTH
        name, ends = format_tile_path(bundle), [0]
        for number in range(bundle.width):
            index, start = first + number, ends[-1] + _LENGTH_BYTES
            end = start + int.from_bytes(data[start - _LENGTH_BYTES : start], "big")
            if start > len(data) or end > len(data):
                raise VerificationError("entry", f"{name} ends early", index)
            self._check_entry(index, data[start:end], hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES])
            ends.append(end)
        if ends[-1] != len(data):
            raise VerificationError(name, f"expected {ends[-1]} bytes, got {len(data)}", first + bundle.width - 1)
        self.entries += bundle.width
        for older in self._files.older_widths(bundle):
            if self._files.tile(older) != data[: ends[older.width]]:
                raise VerificationError(format_tile_path(older), "not the beginning of the bundle", first)

    def _check_entry(self, index: int, entry: bytes, expected: bytes) -> None:
        if leaf_hash(entry) != expected:
            raise VerificationError("entry", "the bytes don't hash to the published leaf hash", index)
        if self._ours:
            try:
                header = read_header(entry)
                parsed = parse_entry(entry) if header.type == ROTATION_TYPE else None
            except EntryError as exc:
                raise VerificationError("entry", str(exc), index) from exc
            if isinstance(parsed, KeyRotationEntry):
                self.rotations.append((LeafIndex(index), parsed))

    def _grow(self, leaves: list[Sha256]) -> None:
        """Adds the leaves, and keeps the root at each size that a head is of."""
        while leaves:
            before = self.frontier.size
            count = next((stop - before for stop in self._stops if stop > before), len(leaves))
            now, leaves = leaves[:count], leaves[count:]
            self.frontier, completed = extend(self.frontier, now)
            if self.frontier.size in self._stops:
                self.roots[self.frontier.size] = root(self.frontier)
            for nodes in completed:
                for level in range(1, (len(nodes) - 1) // TILE_HEIGHT + 1):
                    self._pending[level] += nodes[level * TILE_HEIGHT]
                    if len(self._pending[level]) == TILE_WIDTH * HASH_BYTES:
                        self._check_hashes(level)

    def _check_hashes(self, level: int) -> None:
        """Compares the tile whose hashes are all known now with its file."""
        expected = bytes(self._pending[level])
        width = len(expected) // HASH_BYTES
        tile = Tile(level, (hashes_at(level, self.frontier.size) - width) // TILE_WIDTH, width)
        data = self._files.tile(tile)
        for number in range(width):
            at = slice(number * HASH_BYTES, (number + 1) * HASH_BYTES)
            if data[at] != expected[at]:
                first = (tile.index * TILE_WIDTH + number) << TILE_HEIGHT * level
                raise VerificationError(format_tile_path(tile), "not the hashes of the tiles below", first)
        self._check_older(tile, data)
        self._pending[level].clear()

    def _check_older(self, tile: Tile, data: bytes) -> None:
        for older in self._files.older_widths(tile):
            if self._files.tile(older) != data[: older.width * HASH_BYTES]:
                first = tile.index * TILE_WIDTH << TILE_HEIGHT * (tile.level or 0)
                raise VerificationError(format_tile_path(older), "not the beginning of the tile", first)


def _check_head(head: Checkpoint, head_note: bytes, walk: _Walk, note: bytes) -> None:
    if head.size > walk.frontier.size:
        raise RollbackError(head_note, note)
    if walk.roots[head.size] != head.root:
        raise ForkError(head_note, note)


def _open_at_once(path: str, flags: int) -> int:
    """Opens without waiting, as a pipe that nobody writes to would have it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_names(files: _Files, size: TreeSize) -> int:
    """How many files there are, each of which belongs to the tree."""
    count = 0
    for name in files.names():
        count += 1
        if name in (CHECKPOINT_FILE, VKEY_FILE):
            continue
        try:
            tile = parse_tile_path(name)
        except FormatError as exc:
            raise VerificationError(name, "not a file of a published log") from exc
        if tile.index * TILE_WIDTH + tile.width > hashes_at(tile.level or 0, size):
            reason = f"beyond the checkpoint of size {size}; was publishing broken off, or is it going on?"
            raise VerificationError(name, reason)
    return count


def _check_in_force(part: str, note: bytes, size: TreeSize, periods: Mapping[VerifierKey, KeyPeriod]) -> None:
    if not any(periods[key].covers(size) for key in open_note(note, tuple(periods)).signed_by):
        raise VerificationError(part, f"signed only by keys that the log says aren't in force at size {size}")


def _check_key_file(files: _Files) -> None:
    data = files.read(VKEY_FILE, _MAX_NOTE_BYTES)
    try:
        keys = load_vkeys(files.folder / VKEY_FILE)
    except AuditError as exc:
        raise VerificationError(VKEY_FILE, str(exc)) from exc
    if data != "".join(f"{format_vkey(key)}\n" for key in dict.fromkeys(keys)).encode():
        raise VerificationError(VKEY_FILE, "expected one verifier key a line, each once, and nothing else")


def _open_heads(trust: Trust) -> list[tuple[Checkpoint, bytes]]:
    opened = []
    for note in trust.heads:
        try:
            opened.append((open_checkpoint(note, trust.log_keys, origin=trust.origin), note))
        except AuditError as exc:
            raise VerificationError("head", str(exc)) from exc
    return opened
