"""Overload: 10,000 decisions/s offered. Bar: bounded queue, explicit shed, recovers in less than 5 s.

Four processes offer 3,500 decisions/s each in an open loop for ten seconds, with the service's deadline of 250 ms and a queue
of 32 in each; where the offering falls behind, `offered_per_s` says what was reached. Every offer must end in a receipt, a
`LogOverloadedError` or an `AppendTimeoutError`, none in silence; the queue, looked at 100 times a second, must never exceed its
bound (a tenth of the threads aside, which may look at the same moment), and memory must stay small. The recovery is the time
from the end of the load until each of the processes had an append acknowledged again. In the end every acknowledged entry must
be at its index, gap entries must count the refusals, and the log must verify in full.
"""

from __future__ import annotations

from pathlib import Path

from audit.entry import parse_entry
from audit.entry_operations import GapEntry
from audit.log import LogConfig, read_entries
from audit.storage.opening import open_storage
from benchmarks.drills import Figures
from benchmarks.drills.loading import PROCESSES, Load, Outcome, offer, quantile_ms
from benchmarks.drills.workload import decision, new_log, open_log, verify

OFFERED_PER_S = 14_000
_SECONDS = 10.0
_MAX_WAITING = 32
_THREADS = 100


def run(workspace: Path, scale: float) -> Figures:
    """The figures of OFFERED_PER_S for _SECONDS * scale."""
    seconds = max(0.5, _SECONDS * scale)
    rate = OFFERED_PER_S / PROCESSES
    config = new_log(workspace / "log", deadline_s=0.25, max_waiting=_MAX_WAITING)
    load = Load(seconds, rate, _THREADS, leaf_bytes=0, payload_bytes=0, prepared=round(rate * seconds))
    outcomes = offer(config, load)
    figures = judge(config, outcomes, load)
    return figures | {"entries": verify(config).entries}


def judge(config: LogConfig, outcomes: list[Outcome], load: Load) -> Figures:
    """What was offered, and what became of it."""
    offered, refused, shed, timed_out = (
        sum(getattr(outcome, name) for outcome in outcomes) for name in ("offered", "refused", "shed", "timed_out")
    )
    acknowledged = {entry_id: index for outcome in outcomes for entry_id, index in outcome.acknowledged.items()}
    begin = outcomes[0].began
    lasted = max(outcome.ended for outcome in outcomes) - begin
    offering = max(outcome.last_offered for outcome in outcomes) - begin
    latencies = [latency for outcome in outcomes for latency in outcome.latencies_s]
    lost, told = _look(config, acknowledged)
    return {
        "offered": offered,
        "offered_per_s": round(offered / offering),
        "acknowledged": len(acknowledged),
        "acknowledged_per_s": round(len(acknowledged) / lasted),
        "shed": shed,
        "timed_out": timed_out,
        "silent": offered - len(acknowledged) - shed - timed_out,
        "acknowledged_not_durable": lost,
        "gaps_untold": refused + sum(outcome.refused_since for outcome in outcomes) - told,
        "most_waiting": max(outcome.most_waiting for outcome in outcomes),
        "waiting_above_bound": sum(outcome.most_waiting > _MAX_WAITING + _THREADS // 10 for outcome in outcomes),
        "recovery_s": round(max(outcome.recovered for outcome in outcomes) - begin - load.seconds, 3),
        "p99_ms": quantile_ms(latencies, 0.99),
        "resident_mib": max(outcome.resident_mib for outcome in outcomes),
    }


def _look(config: LogConfig, acknowledged: dict[str, int]) -> tuple[int, int]:
    """How many acknowledged entries aren't at their index, and how many refusals the gap entries and journals count."""
    log = open_log(config)
    log.record(*decision(log))  # with the gaps that ended processes left
    log.close()
    storage = open_storage(config.directory)
    try:
        lost = sum(storage.index_of(entry_id) != index for entry_id, index in acknowledged.items())
        entries = [parse_entry(data) for data in read_entries(storage)]
    finally:
        storage.close()
    return lost, sum(entry.unacknowledged for entry in entries if isinstance(entry, GapEntry))
