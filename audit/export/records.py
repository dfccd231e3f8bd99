"""A record of the log as every export sees it: the entry, and the place by which a copy of it can be proven.

An entry of a kind this release doesn't know still has its header and its place, so no export stops at one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.entry import Entry, EntryHeader, parse_entry, read_header
from audit.errors import EntryError
from audit.merkle import LeafIndex, Sha256, TreeSize, leaf_hash, prove_inclusion
from audit.note import parse_note
from audit.proof import LogProof, format_proof
from audit.storage import Storage

READ_AT_ONCE = 256  # entries of at most 64 KiB: below 16 MiB in memory


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One entry at its place.

    Attributes:
        tree_size: the size of the signed tree the entry was read under.
        entry: the parsed entry, None for a kind this release doesn't know.
        proof: a .tlog-proof file that carries the leaf hash, None where none was asked for.
    """

    origin: str
    index: LeafIndex
    tree_size: TreeSize
    leaf: Sha256
    header: EntryHeader
    entry: Entry | None
    proof: bytes | None = None

    @property
    def leaf_hex(self) -> str:
        return self.leaf.hex()


def make_record(
    origin: str, index: LeafIndex, tree_size: TreeSize, entry: bytes, proof: bytes | None = None
) -> LogRecord:
    """The record of the entry whose bytes are `entry`.

    Raises:
        EntryError: not an entry at all.
    """
    header = read_header(entry)
    try:
        parsed = parse_entry(entry)
    except EntryError:
        parsed = None
    return LogRecord(origin, index, tree_size, leaf_hash(entry), header, parsed, proof)


def head_of(note: bytes) -> Checkpoint:
    """The checkpoint in a note that the log itself holds; its signature is the verifier's business."""
    return parse_checkpoint(parse_note(note).text)


def read_records(
    storage: Storage, start: LeafIndex, *, proofs: bool = False, limit: int | None = None
) -> Iterator[LogRecord]:
    """The records from `start` on, as far as the newest checkpoint covers them, at most `limit`; in constant memory."""
    note = storage.newest_checkpoint().note
    head = head_of(note)
    end = int(head.size) if limit is None else min(int(head.size), start + limit)
    index = int(start)
    while index < end:
        entries = storage.entries(LeafIndex(index), min(READ_AT_ONCE, end - index))
        if not entries:
            return
        for entry in entries:
            proof = _proof(storage, LeafIndex(index), head.size, note, entry) if proofs else None
            yield make_record(head.origin, LeafIndex(index), head.size, entry, proof)
            index += 1


def _proof(storage: Storage, index: LeafIndex, size: TreeSize, note: bytes, entry: bytes) -> bytes:
    hashes = prove_inclusion(index, size, storage.node)
    return format_proof(LogProof(index, hashes, note, extra=leaf_hash(entry)))
