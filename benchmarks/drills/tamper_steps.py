"""The steps of a verification, given one changed part each (part of the drill `tamper`).

`verify_log` and `verify_folder` go through a log entry by entry; these functions go along with the same walk, and before each
entry try every change of it on a copy of the walk. A walk's own state is replaced and never altered in place, so a shallow
copy is one of its own.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from audit.directory_scan import _Files
from audit.directory_scan import _Walk as _FolderWalk
from audit.errors import VerificationError
from audit.merkle import TreeSize, leaf_hash
from audit.storage import StoredCheckpoint, StoredEntry
from audit.storage.opening import open_scan
from audit.tiles import parse_entry_bundle, parse_tile_path
from audit.verify import Trust, _Walk


def flip(data: bytes, at: int, chosen: random.Random) -> bytes:
    """The bytes with one bit of one byte flipped."""
    return data[:at] + bytes([data[at] ^ 1 << chosen.randrange(8)]) + data[at + 1 :]


def try_rows(directory: Path, trust: Trust, chosen: random.Random, share: tuple[int, int]) -> Counter[str]:
    """Every byte of every row whose number falls to this share; checkpoints also at every length."""
    scan = open_scan(directory)
    found: Counter[str] = Counter()
    try:
        checkpoints = {stored.size: stored for stored in scan.checkpoints()}
        walk = _Walk(trust, scan, ())
        walk.pass_size()
        covered = 0
        for stored in scan.entries():
            index = stored.summary.index
            if index % share[1] == share[0]:
                for kind, changed in _changed_rows(stored, chosen):
                    found.update(_take(kind, walk, changed))
            walk.take(stored)
            if walk.size in checkpoints:
                if walk.size % share[1] == share[0]:
                    found.update(_try_checkpoint(walk, checkpoints[walk.size], range(covered, walk.size), chosen))
                covered = walk.size
            walk.pass_size()
    finally:
        scan.close()
    return found


def _changed_rows(stored: StoredEntry, chosen: random.Random) -> Iterator[tuple[str, StoredEntry]]:
    for at in range(len(stored.entry)):
        yield "entry_bytes", replace(stored, entry=flip(stored.entry, at, chosen))
    for at in range(len(stored.nodes)):
        yield "hash_bytes", replace(stored, nodes=flip(stored.nodes, at, chosen))
    payload = stored.payload
    if payload is not None and payload.sealed is not None:
        for at in range(len(payload.sealed)):
            yield "payload_bytes", replace(stored, payload=replace(payload, sealed=flip(payload.sealed, at, chosen)))
    for field in fields(stored.summary):
        text = getattr(stored.summary, field.name)
        for at in range(len(text)) if isinstance(text, str) else ():
            character = chr(ord(text[at]) ^ 1 << chosen.randrange(7))
            changed = replace(stored.summary, **{field.name: text[:at] + character + text[at + 1 :]})
            yield "column_bytes", replace(stored, summary=changed)


def _take(kind: str, walk: _Walk, changed: StoredEntry) -> Counter[str]:
    index = walk.size
    try:
        copy.copy(walk).take(changed)
    except VerificationError as exc:
        return Counter({kind: 1, "wrong_index_named": int(exc.index != index)})
    return Counter({kind: 1, "undetected": 1})


def _try_checkpoint(walk: _Walk, stored: StoredCheckpoint, batch: range, chosen: random.Random) -> Counter[str]:
    """A checkpoint that doesn't hold takes the warrant from the batch it was signed for; its first entry must be named."""
    found: Counter[str] = Counter()
    changes = [("checkpoint_bytes", flip(stored.note, at, chosen)) for at in range(len(stored.note))]
    changes += [("checkpoint_lengths", stored.note[:at]) for at in range(len(stored.note))]
    for kind, note in changes:
        one = copy.copy(walk)
        one._next = StoredCheckpoint(stored.size, note)
        try:
            one.pass_size()
        except VerificationError as exc:
            found.update({kind: 1, "wrong_index_named": int(exc.index != batch.start)})
        else:
            found.update({kind: 1, "undetected": 1})
    return found


def try_entries(name: str, bundle: bytes, chosen: random.Random, share: tuple[int, int]) -> Counter[str]:
    """Every byte of every entry of a published bundle that falls to this share."""
    tile = parse_tile_path(name)
    walk = _FolderWalk(_Files(Path()), TreeSize(0), ours=True, stops=[])
    found: Counter[str] = Counter()
    for number, entry in enumerate(parse_entry_bundle(bundle, tile.width)):
        index, expected = tile.index * 256 + number, leaf_hash(entry)
        for at in range(len(entry)) if index % share[1] == share[0] else ():
            try:
                walk._check_entry(index, flip(entry, at, chosen), expected)
            except VerificationError as exc:
                found.update({"published_entry_bytes": 1, "wrong_index_named": int(exc.index != index)})
            else:
                found.update({"published_entry_bytes": 1, "undetected": 1})
    return found
