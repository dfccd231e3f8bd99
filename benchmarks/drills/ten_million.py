"""Ten million entries: is a log of many years still quick? Part of the bar: restart in less than 2 s per million entries.

A loader appends real access entries of some 450 bytes, each with an id of its own and a rising time, in batches of 2,000 by
the store's own transaction, each batch hashed into the tree and covered by a signed checkpoint, durably: what a log does,
without the queue in front of it. The rate is taken for every tenth, to see whether it stays the same. Then, on the log as it
lies there: opening it and the first append; proofs of random entries, their time and size, each checked; finding by id, by
time, by actor (one that is everywhere, one that is in the first entry only); disk; and the full verification, which reads
everything. Right after loading much of the log is in the page cache; a machine that starts cold reads from its disk first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.committer import summarise
from audit.entry import format_entry, format_time, parse_entry, read_header
from audit.entry_custody import AccessEntry
from audit.head import HeadFile
from audit.keys import KeyRing, load_keys
from audit.log import AuditLog, LogConfig
from audit.merkle import Frontier, LeafIndex, extend, leaf_hash, root
from audit.proof import format_proof
from audit.storage import EntrySummary, Query, Storage, StoredCheckpoint, StoredEntry
from audit.storage.opening import open_storage
from audit.verify import verify_receipt
from benchmarks.drills import Figures
from benchmarks.drills.loading import quantile_ms
from benchmarks.drills.workload import TENANT, decision, new_log, open_log, trust_of, verify
from benchmarks.machine import sync_ms

ENTRIES = 10_000_000
_BATCH = 2_000
_STEPS = 10  # the rate is taken for each tenth
_LOOKUPS = 200
_ACTORS = 997
_RARE_ACTOR = "e" * 64  # of the first entry alone: who looks for it looks everywhere
_SEED = 4711
_START = datetime(2016, 1, 1, tzinfo=UTC)
_EVERY = timedelta(seconds=30)  # ten million decisions in some ten years


def run(workspace: Path, scale: float) -> Figures:
    """The figures of a log with ENTRIES * scale entries."""
    count = max(_STEPS * 10, round(ENTRIES * scale))
    config = new_log(workspace / "log")
    open_log(config).close()  # makes its vault, which a log with entries must have already
    fsync_ms = sync_ms(workspace)
    begin = time.perf_counter()
    rates = load(config, count)
    loaded_s = time.perf_counter() - begin
    figures: Figures = {"entries": count, "loaded_s": round(loaded_s, 1), "fsync_ms": round(fsync_ms, 3)}
    figures |= {f"append_per_s_{number + 1}_of_{_STEPS}": round(rate) for number, rate in enumerate(rates)}
    figures["append_last_to_first"] = round(rates[-1] / rates[0], 3)
    figures |= _disk(config, count) | _restart(config, count)
    log = open_log(config)
    try:
        figures |= _proofs(log, count) | _searches(log, count)
    finally:
        log.close()
    begin = time.perf_counter()
    report = verify(config)
    verified_s = time.perf_counter() - begin
    figures |= {"verified_entries": report.entries, "verified_s": round(verified_s, 1)}
    return figures | {"verified_per_s": round(report.entries / verified_s)}


def load(config: LogConfig, count: int) -> list[float]:
    """Appends `count` entries, and gives the rate of each tenth of them per second."""
    storage, keys = open_storage(config.directory), load_keys(config.directory)
    head = HeadFile(config.head_file)
    loader = _Loader(storage, keys)
    rates = []
    try:
        for step in range(_STEPS):
            first, last = count * step // _STEPS, count * (step + 1) // _STEPS
            begin = time.perf_counter()
            for start in range(first, last, _BATCH):
                note = loader.append(start, min(_BATCH, last - start))
            rates.append((last - first) / (time.perf_counter() - begin))
            head.write(note)
    finally:
        head.close()
        storage.close()
    return rates


class _Loader:
    """Appends batches to a store; nobody else may."""

    def __init__(self, storage: Storage, keys: KeyRing) -> None:
        self._storage = storage
        self._keys = keys
        self._frontier = Frontier()
        self._random = random.Random(_SEED)
        self._template = _template()

    def append(self, start: int, count: int) -> bytes:
        """The signed checkpoint after `count` further entries from index `start` on."""
        entries = [entry_bytes(self._template, index, self._random) for index in range(start, start + count)]
        parse_entry(entries[0])
        self._frontier, completed = extend(self._frontier, map(leaf_hash, entries))
        checkpoint = Checkpoint(self._keys.signer.verifier_key.name, self._frontier.size, root(self._frontier))
        note = sign_checkpoint(checkpoint, self._keys.signers)
        rows = [
            StoredEntry(summarise(LeafIndex(index), read_header(entry)), b"".join(nodes), entry, None)
            for index, (entry, nodes) in enumerate(zip(entries, completed, strict=True), start)
        ]
        with self._storage.exclusive() as transaction:
            transaction.append(rows, StoredCheckpoint(self._frontier.size, note))
        return note


def entry_bytes(template: bytes, index: int, chosen: random.Random) -> bytes:
    """Entry `index`: an access entry with an id (UUIDv7) and a time of its own, by one of many actors."""
    moment = _START + index * _EVERY
    milliseconds = int(moment.timestamp()) * 1000 + index % 1000
    bits = milliseconds << 80 | 0x7 << 76 | chosen.getrandbits(12) << 64 | 0x2 << 62 | chosen.getrandbits(62)
    actor = _RARE_ACTOR if index == 0 else f"{index % _ACTORS:064x}"
    return template % (actor.encode(), b"%032x" % bits, index, format_time(moment).encode())


def _template() -> bytes:
    """The bytes of an access entry, with places for actor, id, index and time."""
    actor, entry_id, index, moment = "a" * 64, "b" * 32, 987_654_321, "2016-01-01T00:00:00.000000Z"
    entry = AccessEntry(
        id=entry_id,
        time=moment,
        clock="synchronised",
        tenant=TENANT,
        actor=actor,
        role="privacy-officer",
        action="decrypt",
        index=index,
        filter="c" * 64,
        results=1,
        reason="complaint-of-the-patient",
    )
    data = format_entry(entry)
    for value, place in ((actor, b"%s"), (entry_id, b"%s"), (str(index), b"%d"), (moment, b"%s")):
        data = data.replace(value.encode(), place)
    return data


def _disk(config: LogConfig, count: int) -> Figures:
    bytes_ = sum(path.stat().st_size for path in config.directory.rglob("*") if path.is_file())
    return {"disk_mib": round(bytes_ / 2**20), "disk_mib_per_million": round(bytes_ / 2**20 / (count / 1e6))}


def _restart(config: LogConfig, count: int) -> Figures:
    begin = time.perf_counter()
    log = open_log(config)
    opened = time.perf_counter()
    log.record(*decision(log))
    appended = time.perf_counter()
    log.close()
    return {
        "restart_s": round(opened - begin, 4),
        "restart_and_append_s": round(appended - begin, 4),
        "restart_s_per_million": round((opened - begin) / (count / 1e6), 4)
        if count >= 1e6
        else round(opened - begin, 4),
    }


def _proofs(log: AuditLog, count: int) -> Figures:
    """Proofs of random entries, each checked with the public key."""
    chosen, trust = random.Random(_SEED), trust_of(log.config)
    seconds, sizes, hashes = [], [], []
    for index in (chosen.randrange(count) for _ in range(_LOOKUPS)):
        begin = time.perf_counter()
        proof = log.prove(LeafIndex(index))
        seconds.append(time.perf_counter() - begin)
        data = format_proof(proof)
        verify_receipt(data, trust)
        sizes.append(len(data) - len(proof.extra or b"") * 4 // 3)
        hashes.append(len(proof.hashes))
    return {
        "prove_p50_ms": quantile_ms(seconds, 0.5),
        "prove_p99_ms": quantile_ms(seconds, 0.99),
        "proof_hashes": max(hashes),
        "proof_bytes_without_entry": max(sizes),
    }


def _searches(log: AuditLog, count: int) -> Figures:
    """Finding, at random places, what is known to be there."""
    chosen = random.Random(_SEED)
    indices = [chosen.randrange(count) for _ in range(_LOOKUPS)]
    ids = [read_header(log.entry(LeafIndex(index))).id for index in indices]
    spans = [(_START + index * _EVERY, _START + (index + 50) * _EVERY) for index in indices]
    queries = {
        "time": [Query(since=format_time(begin), until=format_time(end)) for begin, end in spans],
        "actor": [Query(actor=f"{number:064x}") for number in range(1, _STEPS)],
        "rare_actor": [Query(actor=_RARE_ACTOR)] * 3,
        "newest": [Query()] * _STEPS,
    }
    by_id = [_timed(partial(log.index_of, entry_id)) for entry_id in ids]
    figures: Figures = {"find_by_id_p99_ms": quantile_ms(by_id, 0.99)}
    for name, asked in queries.items():
        seconds = [_timed(partial(_found, log, query)) for query in asked]
        figures |= {
            f"find_by_{name}_p50_ms": quantile_ms(seconds, 0.5),
            f"find_by_{name}_p99_ms": quantile_ms(seconds, 0.99),
        }
    return figures


def _found(log: AuditLog, query: Query) -> list[EntrySummary]:
    found = log.find(query)
    if not found:
        raise RuntimeError("nothing was found of what is there")
    return found


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
