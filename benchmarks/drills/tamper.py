"""Bit flips and truncation of a 1,000-entry log. Bar: 100 % detected; the first bad index named.

Exhaustive, one random bit of every byte:
- what the store holds, as its rows are read: entries, hashes, columns, payloads, signed checkpoints. A flip in entry i can't
  change what a verification does before it comes to i; so it stands before i and is given the changed row: the same code, at
  the same place, without the way there (`verify_log` is a loop over these steps);
- the published folder: every byte of an entry in the same way; every other byte (lengths, hash tiles, checkpoint, keys) by the
  full `verify_folder` of the changed file;
- a receipt of every entry, by the full `verify_receipt`; receipts and checkpoints also cut off at every length.

Sampled, at places chosen at random with a fixed seed, by the full verification as `bedside audit verify` runs it: bytes of the
closed SQLite file (where the byte is an entry's or its payload's, that entry must be named) and lengths of it, bytes of the
write-ahead log of a log in use, lengths of published files. Each byte of the closed file is under its SHA-256, which the
verification compares; to try each would take days.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from audit.directory_scan import verify_folder
from audit.entry import format_entry
from audit.errors import AuditError
from audit.log import LogConfig, prove_entry
from audit.merkle import LeafIndex, leaf_hash
from audit.proof import LogProof, format_proof
from audit.publish import Publisher
from audit.storage.opening import open_storage
from audit.storage.sqlite_schema import DATABASE_FILE
from audit.verify import verify_receipt
from benchmarks.drills import Figures
from benchmarks.drills.tamper_steps import flip, try_entries, try_rows
from benchmarks.drills.workload import decision, new_log, open_log, trust_of, verify

ENTRIES = 1_000
SAMPLED_BYTES, SAMPLED_LENGTHS, SAMPLED_WAL_BYTES = 3_000, 300, 300
_SEED = 4711
_PROCESSES = 2
# In pages of this size an entry lies in one piece, so the index that a flip must name is known.
_PAGE_BYTES = 65_536
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Site:
    """What one worker tampers with: its own copies of a closed log and of the same log published, and its share of the work."""

    config: LogConfig
    published: Path
    share: tuple[int, int]
    scale: float

    @property
    def chosen(self) -> random.Random:
        return random.Random(f"{_SEED}/{self.share[0]}")

    def part(self, count: int) -> int:
        """How many of `count` samples fall to this worker."""
        return max(1, round(count * self.scale / self.share[1]))


def run(workspace: Path, scale: float) -> Figures:
    """The figures of every byte of a log with ENTRIES * scale entries."""
    original = make_site(workspace / "original", max(4, round(ENTRIES * scale)), scale)
    sites = [copy_site(original, workspace / f"copy-{number}", (number, _PROCESSES)) for number in range(_PROCESSES)]
    total: Counter[str] = Counter()
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        for attack in ATTACKS:
            for found in pool.map(attack, sites):
                total.update(found)
    total.update(tamper_with_write_ahead_log(workspace / "in-use", scale))
    figures: Figures = {"entries": verify(original.config).entries, "seed": _SEED}
    figures |= {
        "changes": sum(count for name, count in total.items() if name not in ("undetected", "wrong_index_named"))
    }
    figures |= {name: total[name] for name in sorted({*total, "undetected", "wrong_index_named"})}
    return figures


def make_site(workspace: Path, entries: int, scale: float) -> Site:
    """A log of decisions, half of them with payload, written in batches, closed and published."""
    config = new_log(workspace / "log", page_size=_PAGE_BYTES)
    log = open_log(config)
    for first in range(0, entries, _BATCH):
        numbers = range(first, min(first + _BATCH, entries))
        made = [decision(log, payload=b"payload" * 20 if number % 2 else None) for number in numbers]
        log.append_all([(format_entry(entry), payload) for entry, payload in made])
    log.close()
    storage = open_storage(config.directory)
    Publisher(workspace / "published", trust_of(config).log_keys).publish(storage)
    storage.close()
    return Site(config, workspace / "published", (0, 1), scale)


def copy_site(site: Site, workspace: Path, share: tuple[int, int]) -> Site:
    """A copy for one worker, of which it does its share."""
    log, published = (
        Path(shutil.copytree(one, workspace / one.name)) for one in (site.config.directory, site.published)
    )
    return replace(site, config=replace(site.config, directory=log), published=published, share=share)


def tamper_with_rows(site: Site) -> Counter[str]:
    return try_rows(site.config.directory, trust_of(site.config), site.chosen, site.share)


def tamper_with_published(site: Site) -> Counter[str]:
    """Every byte of every file, by the step of an entry or by a full verification."""
    folder, trust, chosen = site.published, trust_of(site.config), site.chosen
    check = partial(verify_folder, folder, trust)
    found: Counter[str] = Counter()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        original = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        places: dict[int, int | None]
        if name.startswith("tile/entries/"):
            found.update(try_entries(name, original, chosen, site.share))
            places = _length_places(name, original)
        elif name.startswith("tile/0/"):
            places = {at: _first_of(name) + at // 32 for at in range(len(original))}
        elif name.startswith("tile/"):
            places = {at: (_first_of(name) + at // 32) * 256 for at in range(len(original))}
        else:
            places = dict.fromkeys(range(len(original)))
        for at, index in list(places.items())[site.share[0] :: site.share[1]]:
            path.write_bytes(flip(original, at, chosen))
            found.update(_judged("published_bytes", check, index))
        for _ in range(site.part(SAMPLED_LENGTHS // 10)):
            path.write_bytes(original[: chosen.randrange(len(original))])
            found.update(_judged("published_lengths", check, None))
        path.write_bytes(original)
    return found


def tamper_with_receipts(site: Site) -> Counter[str]:
    """Every byte and every length of a receipt of every entry."""
    trust, chosen = trust_of(site.config), site.chosen
    found: Counter[str] = Counter()
    for data in list(_receipts(site.config))[site.share[0] :: site.share[1]]:
        for at in range(len(data)):
            found.update(_judged("receipt_bytes", partial(verify_receipt, flip(data, at, chosen), trust), None))
            found.update(_judged("receipt_lengths", partial(verify_receipt, data[:at], trust), None))
    return found


def tamper_with_file(site: Site) -> Counter[str]:
    """Bytes and lengths of the closed SQLite file."""
    check, path, chosen = partial(verify, site.config), site.config.directory / DATABASE_FILE, site.chosen
    original = path.read_bytes()
    owners = _owners(site.config, original)
    found: Counter[str] = Counter()
    for at in (chosen.randrange(len(original)) for _ in range(site.part(SAMPLED_BYTES))):
        _write_at(path, at, flip(original, at, chosen)[at : at + 1])
        index = next((index for begin, end, index in owners if begin <= at < end), None)
        found.update(_judged("file_bytes", check, index))
        _write_at(path, at, original[at : at + 1])
    for _ in range(site.part(SAMPLED_LENGTHS)):
        path.write_bytes(original[: chosen.randrange(len(original))])
        found.update(_judged("file_lengths", check, None))
    return found


ATTACKS: tuple[Callable[[Site], Counter[str]], ...] = (
    tamper_with_rows,
    tamper_with_published,
    tamper_with_receipts,
    tamper_with_file,
)


def tamper_with_write_ahead_log(workspace: Path, scale: float) -> Counter[str]:
    """Bytes of the write-ahead log that a killed writer leaves behind: SQLite drops what follows a damaged frame."""
    config = new_log(workspace / "log")
    log = open_log(config)
    for _ in range(20):
        log.record(*decision(log, payload=b"payload"))
    found: Counter[str] = Counter()
    chosen, copied = random.Random(_SEED), workspace / "copy"
    wal = config.directory / f"{DATABASE_FILE}-wal"
    for _ in range(max(2, round(SAMPLED_WAL_BYTES * scale))):
        shutil.copytree(config.directory, copied)
        data = wal.read_bytes()
        (copied / wal.name).write_bytes(flip(data, chosen.randrange(len(data)), chosen))
        check = partial(verify, replace(config, directory=copied))
        found.update(_judged("write_ahead_log_bytes", check, None))
        shutil.rmtree(copied)
    log.close()
    return found


def _judged(kind: str, check: Callable[[], object], index: int | None) -> Counter[str]:
    """Counts a change: undetected where the check returns, wrong where it names another index than `index`, if one is known."""
    try:
        check()
    except AuditError as exc:
        wrong = index is not None and getattr(exc, "index", None) != index
        return Counter({kind: 1, "wrong_index_named": int(wrong)})
    return Counter({kind: 1, "undetected": 1})


def _length_places(name: str, bundle: bytes) -> dict[int, int | None]:
    """Where the lengths lie in a bundle, with the index of the entry that each belongs to."""
    places: dict[int, int | None] = {}
    at, index = 0, _first_of(name)
    while at < len(bundle):
        places |= {at: index, at + 1: index}
        at += 2 + int.from_bytes(bundle[at : at + 2], "big")
        index += 1
    return places


def _first_of(name: str) -> int:
    """The first hash or entry of a published tile that has one group of digits."""
    return int(name.split("/")[2].removesuffix(".p")) * 256


def _receipts(config: LogConfig) -> Iterator[bytes]:
    storage = open_storage(config.directory)
    try:
        for index in range(storage.newest_checkpoint().size):
            proof = prove_entry(storage, LeafIndex(index))
            assert proof.extra is not None
            yield format_proof(LogProof(proof.index, proof.hashes, proof.checkpoint, leaf_hash(proof.extra)))
    finally:
        storage.close()


def _owners(config: LogConfig, data: bytes) -> list[tuple[int, int, int]]:
    """Where each entry and payload lies in the file."""
    found = []
    storage = open_storage(config.directory)
    try:
        for index in range(storage.newest_checkpoint().size):
            payload = storage.payload(LeafIndex(index))
            pieces = [storage.entry(LeafIndex(index)), None if payload is None else payload.sealed]
            found += [(data.index(piece), data.index(piece) + len(piece), index) for piece in pieces if piece]
    finally:
        storage.close()
    return found


def _write_at(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
