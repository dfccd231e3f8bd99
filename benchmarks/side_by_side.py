"""Bedside and the floor (and a peer, if asked) under the same load in the same run, taking turns.

Taking turns matters more than repeating: whatever else the machine does hits both alike, so the ratio holds where times don't.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.desks import ORIGIN, make_log, released_models
from benchmarks.load import Load, put_load
from benchmarks.servers import Server, free_port, running
from benchmarks.tokens import BenchmarkClient


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: rounds in turns, calls a round with one client and with many, and the longest a load may take."""

    rounds: int = 5
    calls_small: int = 300
    calls_large: int = 50
    clients: int = 16
    seconds: float = 8.0
    starts: int = 3


@dataclass(frozen=True, slots=True)
class Figures:
    """One server under one load: the median over the rounds, and processor time per call over all of them."""

    p50_ms: float
    p99_ms: float
    per_second: float
    processor_ms: float


@dataclass(frozen=True, slots=True)
class Peer:
    """HealthChain, by the interpreter of an environment that has it."""

    python: str
    service_ids: tuple[str, ...]


@contextmanager
def bedside_server(folder: Path, client: BenchmarkClient) -> Iterator[Server]:
    """`bedside serve` with every released model, an own log in `folder`, one worker, and one client it knows."""
    directory = folder / "audit"
    make_log(directory)
    port = free_port()
    environment = {
        "BEDSIDE_SERVER_PORT": str(port),
        "BEDSIDE_CONFIG": str(client.write_config(folder)),
        "BEDSIDE_STATE_DIRECTORY": str(folder / "state"),
        "BEDSIDE_AUDIT_DIRECTORY": str(directory),
        "BEDSIDE_AUDIT_ORIGIN": ORIGIN,
        "BEDSIDE_AUDIT_DEADLINE_MS": "10000",  # a slow disk must show as time, not as refusals
        "BEDSIDE_FHIR_DEADLINE_S": "30",  # a call's, of which the log's is a part
        "BEDSIDE_MODELS_ENABLED": " ".join(released_models()),
    }
    with running(["-m", "bedside", "serve"], port, environment) as server:
        yield server


@contextmanager
def floor_server() -> Iterator[Server]:
    """The floor under the same server."""
    port = free_port()
    with running(["-m", "benchmarks.floor", str(port)], port, {}) as server:
        yield server


@contextmanager
def peer_server(peer: Peer) -> Iterator[Server]:
    """HealthChain, offering the same service ids."""
    port = free_port()
    script = str(Path(__file__).with_name("peer_healthchain.py"))
    with running([script, str(port), *peer.service_ids], port, {}, peer.python) as server:
        yield server


@contextmanager
def all_servers(folder: Path, client: BenchmarkClient, peer: Peer | None) -> Iterator[dict[str, Server]]:
    """Every server of the comparison, by name, at once."""
    with ExitStack() as stack:
        servers = {
            "floor": stack.enter_context(floor_server()),
            "bedside": stack.enter_context(bedside_server(folder, client)),
        }
        if peer is not None:
            servers["healthchain"] = stack.enter_context(peer_server(peer))
        yield servers


def compare(
    servers: Mapping[str, Server],
    paths: Mapping[str, str],
    body: bytes,
    clients: int,
    plan: Plan,
    client: BenchmarkClient,
) -> dict[str, dict[str, float]]:
    """Server name to its figures for calls with this body; all are sent a JWT, and Bedside alone checks it."""
    calls = plan.calls_small if len(body) < 200_000 else plan.calls_large
    for name, server in servers.items():
        put_load(server.port, paths[name], body, clients=1, tokens=client.tokens(10), seconds=plan.seconds)
    rounds: dict[str, list[Load]] = {name: [] for name in servers}
    used = dict.fromkeys(servers, 0.0)
    for _ in range(plan.rounds):
        for name, server in servers.items():
            tokens = client.tokens(calls)
            before = server.processor_s()
            load = put_load(server.port, paths[name], body, clients=clients, tokens=tokens, seconds=plan.seconds)
            used[name] += server.processor_s() - before
            rounds[name].append(load)
    return {name: asdict(_figures(loads, used[name])) for name, loads in rounds.items()}


def cold_starts(folder: Path, peer: Peer | None, starts: int) -> dict[str, float]:
    """Server name to the median time from starting its process to its first 200."""
    seconds: dict[str, list[float]] = {}
    for number in range(starts):
        with floor_server() as server:
            seconds.setdefault("floor", []).append(server.cold_start_s)
        with bedside_server(folder / f"start-{number}", BenchmarkClient.new()) as server:
            seconds.setdefault("bedside", []).append(server.cold_start_s)
        if peer is not None:
            with peer_server(peer) as server:
                seconds.setdefault("healthchain", []).append(server.cold_start_s)
    return {name: round(statistics.median(times), 2) for name, times in seconds.items()}


def _figures(loads: list[Load], processor_s: float) -> Figures:
    calls = sum(len(load.latencies_s) for load in loads)
    return Figures(
        p50_ms=round(statistics.median(load.quantile_ms(0.5) for load in loads), 2),
        p99_ms=round(statistics.median(load.quantile_ms(0.99) for load in loads), 2),
        per_second=round(statistics.median(load.per_second for load in loads), 1),
        processor_ms=round(
            1e3 * processor_s / calls, 3
        ),  # summed over the rounds, as the kernel counts in steps of 10 ms
    )
