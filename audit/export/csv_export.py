"""The facts of entries as CSV (RFC 4180), for whoever works in a spreadsheet.

    index,leaf,id,type,time,service,model,status,actor
    0,5a...,018f...,decision/v1,2026-03-01T08:00:00.000000Z,prevent-cvd,prevent_cvd@1.0.0,ok,5a...
    checkpoint: hospital.example/cds-audit/north/1
    ...

`leaf` is the leaf hash in hexadecimal, by which a row can be proven against the log. The last lines are the signed checkpoint
that the rows were read under, line by line. No cell is taken for a formula by a spreadsheet: one that begins like a
formula begins with an apostrophe instead.
"""

import csv
from collections.abc import Iterator
from typing import TextIO

from audit.committer import summarise
from audit.entry import read_header
from audit.errors import StorageError
from audit.merkle import LeafIndex, TreeSize, leaf_hash
from audit.publish import PublishSource

COLUMNS = ("index", "leaf", "id", "type", "time", "service", "model", "status", "actor")
CHECKPOINT_MARK = "checkpoint: "
# OWASP, "CSV Injection": what spreadsheets take for the beginning of a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_READ_AT_ONCE = 256


def write_csv(
    out: TextIO,
    source: PublishSource,
    first: LeafIndex = LeafIndex(0),  # noqa: B008 - a number
    last: LeafIndex | None = None,
) -> int:
    """How many rows were written: those from `first` to `last`, both inclusive, that the newest checkpoint covers.

    Raises:
        StorageError: the store can't be read, or has fewer entries than its checkpoint says.
        EntryError: an entry isn't one of ours.
    """
    newest = source.newest_checkpoint()
    end = int(newest.size) if last is None else min(int(newest.size), last + 1)
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for index, entry in _read(source, first, TreeSize(end)):
        writer.writerow([safe_cell(cell) for cell in _row(index, entry)])
    for line in newest.note.decode().split("\n"):
        writer.writerow([f"{CHECKPOINT_MARK}{line}"])
    return max(end - first, 0)


def safe_cell(text: str) -> str:
    """The text, after an apostrophe where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _row(index: LeafIndex, entry: bytes) -> tuple[str, ...]:
    facts = summarise(index, read_header(entry))
    place = (str(index), leaf_hash(entry).hex())
    return (*place, facts.entry_id, facts.type, facts.time, facts.service, facts.model, facts.status, facts.actor)


def _read(source: PublishSource, first: LeafIndex, end: TreeSize) -> Iterator[tuple[LeafIndex, bytes]]:
    index = int(first)
    while index < end:
        entries = source.entries(LeafIndex(index), min(_READ_AT_ONCE, end - index))
        if not entries:
            message = f"store: entry {index} is missing"
            raise StorageError(message)
        for entry in entries:
            yield LeafIndex(index), entry
            index += 1
