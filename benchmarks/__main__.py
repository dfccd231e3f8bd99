"""`python -m benchmarks` (`make bench`): one call's cost with everything on, beside the floor, in one run.

Everything on: the model, its explanation, its card, and the signed log, durable before the answer. The floor is in `floor.py`.
Both run under the same server, one worker each, and answer the same bytes in turns. Writes benchmarks/results.json
and the section "speed" of docs/measurements.md, unless `--dry`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.charts import call_body
from benchmarks.desks import opened_desk
from benchmarks.machine import describe, sync_ms
from benchmarks.report import ROOT, machine_words, table, write_results, write_section
from benchmarks.side_by_side import Peer, Plan, all_servers, cold_starts, compare
from benchmarks.stages import STAGES, stage_times
from benchmarks.tokens import BenchmarkClient

RESULTS = ROOT / "benchmarks" / "results.json"
SIZES = (50, 1000)
_HOW = (
    "`make bench`. Everything on: a fresh ES384 JWT checked and spent, model, explanation, card, signed log, durable before "
    "the answer; the others are sent a JWT too and don't look at it. The floor is a bare Flask "
    "app that decodes the same prefetch with msgspec and answers a card of fixed size; same server, one worker, in turns. "
    "What differs: the floor runs one thread, as it never waits, and Bedside four and the log's, as calls that wait for the "
    "disk share a commit; Bedside waits 10 s for the log, not 0.25 s. Both freeze the collector after the start. "
    "Every Observation sent has a code that the model reads, as from an EHR that ignores `_count`."
)
_SYNC = (
    "One sync of 4 KiB to this disk takes {sync}; a durable answer waits for at least one. "
    "Processor time does not count the wait."
)
SMALLEST = Plan(rounds=1, calls_small=5, calls_large=5, clients=2, seconds=5.0, starts=1)


def measure(folder: Path, plan: Plan, peer_python: str | None) -> dict[str, Any]:
    """Every figure of the run, ready for JSON."""
    results: dict[str, Any] = {"machine": describe(), "sync_ms": round(sync_ms(folder), 2)}
    with opened_desk(folder / "desk") as desk:
        services = desk.services
        newest = datetime.now(UTC) - timedelta(hours=1)
        bodies = {(s.id, size): call_body(s, size, newest) for s in services for size in SIZES}
        repeats = plan.calls_large
        results["stages_us"] = {s.id: {str(n): stage_times(desk, s, n, repeats) for n in SIZES} for s in services}
    results["body_bytes"] = {s.id: {str(n): len(bodies[s.id, n]) for n in SIZES} for s in services}
    peer = None if peer_python is None else Peer(peer_python, tuple(s.id for s in services))
    client = BenchmarkClient.new()
    results["cold_start_s"] = cold_starts(folder, peer, plan.starts)
    results["calls"] = {s.id: {} for s in services}
    with all_servers(folder, client, peer) as servers:
        for (service_id, size), body in bodies.items():
            paths = dict.fromkeys(servers, f"/cds-services/{service_id}")
            for clients in (1, plan.clients):
                _say(f"{service_id}, {size} Observations, {clients} clients")
                figures = compare(servers, paths, body, clients, plan, client)
                results["calls"][service_id].setdefault(str(size), {})[str(clients)] = figures
        results["resident_mib"] = {name: round(server.resident_mib()) for name, server in servers.items()}
    return results


def format_results(results: dict[str, Any]) -> str:
    """The section of docs/measurements.md."""
    servers = tuple(results["cold_start_s"])
    sync = f"{results['sync_ms']:.2f} ms"
    parts = ["## Speed", _HOW, machine_words(results["machine"]), _SYNC.format(sync=sync)]
    for service_id, by_size in results["calls"].items():
        rows = [
            _row(size, clients, name, figures)
            for size, by_clients in by_size.items()
            for clients, by_name in by_clients.items()
            for name, figures in _with_ratio(by_name).items()
        ]
        sizes = ", ".join(f"{n}: {bytes_ / 1e3:.0f} kB" for n, bytes_ in results["body_bytes"][service_id].items())
        head = ("Observations, clients, server", "p50 ms", "p99 ms", "calls/s", "processor ms per call")
        parts += [f"### {service_id} ({sizes})", table(head, rows), _stage_table(results["stages_us"][service_id])]
    rows = [(name, f"{results['resident_mib'][name]}", f"{results['cold_start_s'][name]:.2f}") for name in servers]
    parts += ["### Memory and start", table(("server", "resident MiB", "first 200 after s"), rows)]
    return "\n\n".join(parts)


def _with_ratio(by_name: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    ours = by_name["bedside"]
    ratios = {
        f"bedside ÷ {name}": {key: ours[key] / other[key] if other[key] else 0.0 for key in ours}
        for name, other in by_name.items()
        if name != "bedside"
    }
    return {**by_name, **ratios}


def _row(size: str, clients: str, name: str, figures: dict[str, float]) -> tuple[str, ...]:
    values = (figures[key] for key in ("p50_ms", "p99_ms", "per_second", "processor_ms"))
    return (f"{size}, {clients}, {name}", *(f"{value:.2f}" for value in values))


def _stage_table(by_size: dict[str, dict[str, float]]) -> str:
    rows = [(stage, *(f"{times[stage]:.0f}" for times in by_size.values())) for stage in (*STAGES, "whole", "elapsed")]
    note = "By stage, in one process, median microseconds of processor time; `elapsed` is by the clock and waits for the disk."
    return f"{note}\n\n" + table(("stage", *(f"{size} Observations" for size in by_size)), rows)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(arguments: list[str] | None = None) -> int:
    """Runs it; 0 when done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--smallest", action="store_true", help="a few calls only: does it still run?")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    parser.add_argument("--folder", type=Path, help="where the log is written; default: a temporary folder")
    parser.add_argument(
        "--peer-python", metavar="PYTHON", help="interpreter of an environment with healthchain, to measure it too"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results = measure(Path(folder), SMALLEST if options.smallest else Plan(), options.peer_python)
    section = format_results(results)
    sys.stdout.write(section + "\n")
    if not options.dry:
        write_results(RESULTS, results)
        write_section("speed", section)
    return 0


if __name__ == "__main__":
    sys.exit(main())
