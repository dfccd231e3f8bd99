"""A thousand random kill -9 of writers under load. Bar: 0 acknowledged entries lost, 0 duplicate indices, quick restart.

Four processes append decisions with payloads to one log, two threads each; every 20 to 180 ms one of them, chosen at random, is
killed with SIGKILL wherever it is (also while it opens the log), and another takes its place. A process writes a receipt down
only after it was acknowledged. In the end each of these receipts must verify with the public key alone, its entry must stand
at its index, the root it was given under must be a root of the log as it is now, and the log must verify in full. Then it is
opened once more and appended to: the time that takes is the restart. The same against both stores; with PostgreSQL it is the
clients that are killed.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

from audit.errors import AuditError
from audit.log import LogConfig
from audit.merkle import EMPTY_ROOT, Frontier, Sha256, extend, leaf_hash, root
from audit.storage.opening import open_scan
from audit.verify import ReceiptReport, Trust, verify_receipt
from benchmarks.drills import Figures
from benchmarks.drills.workload import decision, each_log, open_log, trust_of, verify
from benchmarks.drills.writer import Writers

KILLS = 1_000
_PLACES, _THREADS = 4, 2
_PAUSE_S = (0.02, 0.18)
_FIRST_ACKNOWLEDGEMENT_S = 30.0
_SEED = 4711


def run(workspace: Path, scale: float) -> Figures:
    """The figures of KILLS * scale kills for each store."""
    kills = max(5, round(KILLS * scale))
    figures: Figures = {"places": _PLACES, "seed": _SEED}
    for store, config in each_log(workspace):
        folder = workspace / f"{store}-acknowledged"
        folder.mkdir()
        found = attack(config, folder, kills)
        figures |= {f"{store}_{name}": value for name, value in found.items()}
    return figures


def attack(config: LogConfig, folder: Path, kills: int) -> Figures:
    """What became of one log."""
    writers = Writers(config, folder, _PLACES, _THREADS)
    try:
        wait_for_all(writers)
        begin = time.perf_counter()
        figures = _kill(writers, kills)
        seconds = time.perf_counter() - begin
    finally:
        writers.kill_all()
    outputs = [writers.output(place) for place in range(len(writers))]
    figures |= judge(config, outputs)
    figures["acknowledged_per_s"] = round(int(figures["acknowledged"]) / seconds)
    return figures | restart(config)


def _kill(writers: Writers, kills: int) -> Figures:
    chosen = random.Random(_SEED)
    done = died = 0
    while done < kills:
        time.sleep(chosen.uniform(*_PAUSE_S))
        if writers.replace(chosen.randrange(len(writers))):
            done += 1
        else:
            died += 1
        if died > kills:
            message = f"{died} writers ended by themselves"
            raise RuntimeError(message)
    return {"kills": done, "ended_by_themselves": died}


def wait_for_all(writers: Writers) -> None:
    """Returns when each place has acknowledged something: the load is on."""
    until = time.monotonic() + _FIRST_ACKNOWLEDGEMENT_S
    for place in range(len(writers)):
        output = writers.output(place)
        while not output.exists() or not output.stat().st_size:
            if time.monotonic() > until:
                message = f"the writer at place {place} acknowledged nothing"
                raise RuntimeError(message)
            time.sleep(0.01)


def judge(config: LogConfig, outputs: list[Path]) -> Figures:
    """What the receipts say, held against the log as it is now."""
    ids, leaves, roots = _stored(config)
    trust = trust_of(config)
    places: dict[int, str] = {}
    acknowledged = lost = duplicates = broken = 0
    for entry_id, proof in lines(outputs):
        acknowledged += 1
        receipt = _opened(proof, trust)
        if receipt is None:
            broken += 1
            continue
        index, size = receipt.index, receipt.checkpoint.size
        duplicates += places.setdefault(index, entry_id) != entry_id
        if ids.get(index) != entry_id or leaves.get(index) != receipt.leaf_hash:
            lost += 1
        broken += size >= len(roots) or roots[size] != receipt.checkpoint.root
    return {
        "acknowledged": acknowledged,
        "lost": lost,
        "duplicate_indices": duplicates + len(ids) - len(set(ids.values())),
        "receipts_broken": broken,
        "entries": verify(config).entries,
    }


def restart(config: LogConfig) -> Figures:
    """How long opening takes, and with it the first append."""
    begin = time.perf_counter()
    log = open_log(config)
    opened = time.perf_counter()
    log.record(*decision(log))
    appended = time.perf_counter()
    log.close()
    return {"restart_s": round(opened - begin, 4), "restart_and_append_s": round(appended - begin, 4)}


def _stored(config: LogConfig) -> tuple[dict[int, str], dict[int, Sha256], list[Sha256]]:
    """The ids and leaf hashes by index, and the root of every size, all from the entries' bytes alone."""
    ids: dict[int, str] = {}
    leaves: dict[int, Sha256] = {}
    roots = [EMPTY_ROOT]
    frontier = Frontier()
    scan = open_scan(config.directory)
    try:
        for stored in scan.entries():
            index, leaf = stored.summary.index, leaf_hash(stored.entry)
            ids[index], leaves[index] = json.loads(stored.entry)["id"], leaf
            frontier, _ = extend(frontier, [leaf])
            roots.append(root(frontier))
    finally:
        scan.close()
    return ids, leaves, roots


def lines(outputs: list[Path]) -> Iterator[tuple[str, bytes]]:
    """The id and the receipt of each acknowledgement."""
    for output in outputs:
        with output.open(encoding="ascii") as file:
            for line in file:
                read = json.loads(line)
                yield read["id"], read["proof"].encode()


def _opened(proof: bytes, trust: Trust) -> ReceiptReport | None:
    try:
        return verify_receipt(proof, trust)
    except AuditError:
        return None
