"""An auditor's bundle: one folder that proves a log, or a part of it, with nothing of ours installed.

    checkpoint, log.vkey, tile/...     the log as plain tiles (`publish.py`)
    range                              first and last index, where entries are given for a part of the log only
    heads/<size>                       older checkpoints that witnesses signed
    timestamps/<size>.checkpoint, .tsr what an RFC 3161 authority stamped, and its answers
    policy, witness.vkey               which witnesses have to have signed (C2SP tlog-policy)
    verify.py, README.txt              the verifier, and how to use it
    SHA256SUMS                         digests of all files beside the tiles, as `sha256sum -c` reads them

The hashes of every entry are always there, so a part of the log is proven to be the log's as well as all of it is; entries
that aren't asked for are not given. No payload is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from audit.checkpoint import Checkpoint, open_checkpoint
from audit.durable_files import DurableWriter
from audit.errors import FormatError, StorageError
from audit.export.bundle_readme import format_readme
from audit.export.verifier import Invalid, Policy, parse_policy
from audit.keys import VKEY_FILE
from audit.merkle import LeafIndex, TreeSize
from audit.note import VerifierKey, format_vkey
from audit.publish import CHECKPOINT_FILE, COSIGNATURE, PublishError, PublishSource, check_bundle, merge_cosignatures
from audit.storage import Anchor
from audit.tile_reader import new_tiles, read_tile
from audit.tiles import TILE_WIDTH, format_tile_path

TIME_STAMP = "rfc3161"
SUMS_FILE, RANGE_FILE, POLICY_FILE, WITNESS_FILE = "SHA256SUMS", "range", "policy", "witness.vkey"
VERIFIER_FILE, README_FILE = "verify.py", "README.txt"
# Each is a file, and some signatures to be checked at 2 ms each; the newest is always among them.
MAX_HEADS = 1000


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was written."""

    checkpoint: Checkpoint
    first: LeafIndex
    last: LeafIndex
    heads: int
    time_stamps: int
    files: int


def write_bundle(
    folder: Path,
    source: PublishSource,
    log_keys: Sequence[VerifierKey],
    *,
    policy: bytes | None = None,
    first: LeafIndex = LeafIndex(0),  # noqa: B008 - a number
    last: LeafIndex | None = None,
) -> Bundle:
    """Writes the log up to its newest checkpoint into `folder`, with the entries from `first` to `last`, both inclusive.

    Entries come in tiles of 256, so some more on either side are given too. `policy` is a tlog-policy file; without one no
    witness is asked for.

    Raises:
        PublishError: the folder isn't empty, or the log has no such entries.
        FormatError: the policy can't be read.
        SignatureError, StorageError: the store's checkpoint isn't the log's, or its entries don't lead to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        message = f"{folder}: expected an empty folder"
        raise PublishError(message)
    newest = source.newest_checkpoint()
    checkpoint = open_checkpoint(newest.note, log_keys)
    held = _bundles_of(checkpoint.size, first, last)
    policy = policy or _default_policy(log_keys)
    witnesses = read_policy(policy).witnesses.values()
    anchors = [anchor for anchor in source.anchors() if anchor.size <= checkpoint.size]
    out = _Out(folder)
    _write_tiles(out, source, checkpoint.size, held)
    out.write(CHECKPOINT_FILE, merge_cosignatures(newest.note, anchors))
    out.write(VKEY_FILE, _lines([format_vkey(key) for key in log_keys]))
    out.write(POLICY_FILE, policy)
    out.write(WITNESS_FILE, _lines([format_vkey(VerifierKey(key.name, key.kind, key.public)) for key in witnesses]))
    if len(held) * TILE_WIDTH < checkpoint.size:
        out.write(RANGE_FILE, _lines([str(first), str(_last(checkpoint.size, last))]))
    heads = _write_heads(out, source, anchors)
    stamps = _write_time_stamps(out, source, anchors)
    out.write(VERIFIER_FILE, (files("audit.export") / "verifier.py").read_bytes())
    out.write(README_FILE, format_readme(checkpoint, log_keys, stamps).encode())
    out.finish()
    return Bundle(checkpoint, first, _last(checkpoint.size, last), heads, stamps, out.files)


class _Out:
    """The folder being written, and the list of what is in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer = DurableWriter()
        self._sums: list[str] = []

    @property
    def files(self) -> int:
        return self._writer.files

    def write_tile(self, name: str, data: bytes) -> None:
        self._writer.write(self._folder / name, data)

    def write(self, name: str, data: bytes) -> None:
        self._writer.write(self._folder / name, data)
        self._sums.append(f"{sha256(data).hexdigest()}  {name}")

    def finish(self) -> None:
        self._writer.write(self._folder / SUMS_FILE, _lines(self._sums))
        self._writer.sync_folders()


def _bundles_of(size: TreeSize, first: LeafIndex, last: LeafIndex | None) -> range:
    if size == 0 and first == 0 and last is None:
        return range(0)
    if not 0 <= first <= _last(size, last) < size:
        message = f"entries {first} to {_last(size, last)}: the log has {size}"
        raise PublishError(message)
    return range(first // TILE_WIDTH, _last(size, last) // TILE_WIDTH + 1)


def _last(size: TreeSize, last: LeafIndex | None) -> LeafIndex:
    return LeafIndex(max(size - 1, 0)) if last is None else last


def _write_tiles(out: _Out, source: PublishSource, size: TreeSize, held: range) -> None:
    for tile in new_tiles(TreeSize(0), size):
        if tile.level is None and tile.index not in held:
            continue
        data = read_tile(source, tile, size)
        if tile.level is None:
            check_bundle(source, tile, data)
        out.write_tile(format_tile_path(tile), data)


def _write_heads(out: _Out, source: PublishSource, anchors: Sequence[Anchor]) -> int:
    """The checkpoints that witnesses signed: all, or where there are very many some at even distances."""
    sizes = sorted({anchor.size for anchor in anchors if anchor.kind == COSIGNATURE}, reverse=True)
    chosen = sizes[:: -(-len(sizes) // MAX_HEADS)] if sizes else []
    for size in chosen:
        given = [anchor for anchor in anchors if anchor.size == size and anchor.kind == COSIGNATURE]
        out.write(f"heads/{size}", merge_cosignatures(source.checkpoint(size) or given[0].evidence, given))
    return len(chosen)


def _write_time_stamps(out: _Out, source: PublishSource, anchors: Sequence[Anchor]) -> int:
    stamps = [anchor for anchor in anchors if anchor.kind == TIME_STAMP][-MAX_HEADS:]
    for size in sorted({stamp.size for stamp in stamps}):
        note = source.checkpoint(size)
        if note is None:
            message = f"store: has a time stamp for size {size} and no checkpoint"
            raise StorageError(message)
        out.write(f"timestamps/{size}.checkpoint", note)
        for number, stamp in enumerate([stamp for stamp in stamps if stamp.size == size], start=1):
            out.write(f"timestamps/{size}.{number}.tsr", stamp.evidence)
    return len(stamps)


def _default_policy(log_keys: Sequence[VerifierKey]) -> bytes:
    return _lines([*(f"log {format_vkey(key)}" for key in log_keys), "quorum none"])


def read_policy(data: bytes) -> Policy:
    """The policy in a tlog-policy file, as the verifier reads it.

    Raises:
        FormatError: it can't.
    """
    try:
        return parse_policy(data, POLICY_FILE)
    except Invalid as exc:
        raise FormatError(str(exc).removeprefix("invalid: ")) from exc


def _lines(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
