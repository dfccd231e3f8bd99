"""Throughput: 4 processes, 2 KB leaves, each with a payload.

Bar: at least 2,000 durable decisions/s; at 500/s an added p99 of at most 10 ms on a disk whose fsync takes at most 5 ms.

Against each store: open loops of ten seconds at 500, 2,000 and 5,000 decisions/s over all processes, each at times of its own,
with the service's deadline of 250 ms; the added latency is from the call of `record` to the receipt. Each loop runs three
times; given is the one whose p99 is in the middle, and the worst p99. Then a closed loop, 16 threads in each process, for the
rate at which the log is saturated, and each process's share: the smallest by the largest is the fairness. Decisions are made
and their payloads sealed beforehand. After each store the log is verified in full, and every acknowledged entry must be in it.
The disk's fsync is measured beside, before each store: a durable answer waits for one at least.
"""

from __future__ import annotations

from pathlib import Path

from audit.log import LogConfig
from audit.storage.opening import open_storage
from benchmarks.drills import Figures
from benchmarks.drills.loading import PROCESSES, Load, Outcome, offer, quantile_ms
from benchmarks.drills.workload import LEAF_BYTES, each_log, verify, without_deadline
from benchmarks.machine import sync_ms

RATES_PER_S = (500, 2_000, 5_000)
_SECONDS = 10.0
_LOOPS = 3  # a machine that others share stalls for some ten milliseconds now and then
_OPEN_THREADS, _CLOSED_THREADS = 64, 16
_PAYLOAD_BYTES = 500
# More than any machine takes in the time; a closed loop ends when they have been offered.
_SATURATION_PER_S = 12_000


def run(workspace: Path, scale: float) -> Figures:
    """The figures of every rate for _SECONDS * scale against each store."""
    seconds = max(0.3, _SECONDS * scale)
    figures: Figures = {
        "processes": PROCESSES,
        "leaf_bytes": LEAF_BYTES,
        "payload_bytes": _PAYLOAD_BYTES,
        "seconds": seconds,
    }
    for store, config in each_log(workspace, deadline_s=0.25):
        found: Figures = {"fsync_ms": round(sync_ms(workspace), 3)}
        for rate in RATES_PER_S:
            found |= {f"at_{rate}_{name}": value for name, value in _middle(config, seconds, rate).items()}
        found |= {
            f"saturation_{name}": value for name, value in measure(without_deadline(config), seconds, None).items()
        }
        found["entries"] = verify(config).entries
        figures |= {f"{store}_{name}": value for name, value in found.items()}
    return figures


def _middle(config: LogConfig, seconds: float, rate: int) -> Figures:
    """The figures of the loop whose p99 is the middle one, and the worst of the p99s."""
    loops = sorted((measure(config, seconds, rate) for _ in range(_LOOPS)), key=lambda found: found["p99_ms"])
    return loops[_LOOPS // 2] | {"p99_ms_worst": loops[-1]["p99_ms"], "lost": sum(int(one["lost"]) for one in loops)}


def measure(config: LogConfig, seconds: float, rate: int | None) -> Figures:
    """The figures at one rate over all processes, or of the closed loop."""
    each = None if rate is None else rate / PROCESSES
    prepared = round((each or _SATURATION_PER_S / PROCESSES) * seconds)
    threads = _CLOSED_THREADS if each is None else _OPEN_THREADS
    load = Load(seconds, each, threads, LEAF_BYTES, _PAYLOAD_BYTES, prepared)
    return summarise(config, offer(config, load))


def summarise(config: LogConfig, outcomes: list[Outcome]) -> Figures:
    """Rate, latency, what was shed, and how evenly the processes were served."""
    acknowledged = [len(outcome.acknowledged) for outcome in outcomes]
    lasted = max(outcome.ended for outcome in outcomes) - min(outcome.began for outcome in outcomes)
    latencies = [latency for outcome in outcomes for latency in outcome.latencies_s]
    since_due = [latency for outcome in outcomes for latency in outcome.since_due_s]
    return {
        "per_s": round(sum(acknowledged) / lasted),
        "p50_ms": quantile_ms(latencies, 0.5),
        "p99_ms": quantile_ms(latencies, 0.99),
        "p99_since_due_ms": quantile_ms(since_due, 0.99),
        "offered": sum(outcome.offered for outcome in outcomes),
        "refused": sum(outcome.refused for outcome in outcomes),
        "fairness": round(min(acknowledged) / max(1, max(acknowledged)), 3),
        "lost": _lost(config, outcomes),
    }


def _lost(config: LogConfig, outcomes: list[Outcome]) -> int:
    storage = open_storage(config.directory)
    try:
        places = [place for outcome in outcomes for place in outcome.acknowledged.items()]
        return sum(storage.index_of(entry_id) != index for entry_id, index in places)
    finally:
        storage.close()
