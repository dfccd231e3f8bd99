"""`python -m benchmarks.populations --data DIR`: public patients through the whole pipeline, and what became of each.

Every chart goes through `answer` once per service, as a call whose prefetch an EHR would make from the service's templates,
one day after the newest date in the chart (the clock is handed in). What the log then holds is what is counted. At the end
the log is verified as `bedside audit verify` does. Nothing may fail; an abstention with its reason is a result.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from audit.entry import DecisionEntry, format_entry, format_time, parse_entry
from audit.entry_operations import ConfigEntry
from audit.merkle import LeafIndex
from bedside.cli import main as bedside
from benchmarks.challenge import EVERY, challenge_charts, challenge_stays, compare
from benchmarks.desks import caller_of, only_book, opened_desk
from benchmarks.machine import describe
from benchmarks.report import ROOT, machine_words, table, write_results, write_section
from benchmarks.sources import Chart, mimic, public_requests, synthea, us_core
from cds_service.desk import Desk
from cds_service.errors import ServiceError
from cds_service.pipeline import answer
from cds_service.response import RECEIPT_KEY
from cds_service.services import CdsService
from fhir_adapters.errors import InstantError
from fhir_adapters.instants import parse_interval
from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId

RESULTS = ROOT / "benchmarks" / "populations.json"
DEFAULT_DATA = ROOT.parent / "shared" / "data"


@dataclass(slots=True)
class Clock:
    """The time that the Desk is told."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass(slots=True)
class Tally:
    """What became of the calls of one source to one service."""

    calls: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    bands: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """As it goes into the results."""
        counts = {
            name: dict(sorted(getattr(self, name).items())) for name in ("outcomes", "reasons", "bands", "set_aside")
        }
        return {"calls": self.calls, "seconds": round(self.seconds, 2), **counts}


def send(body: bytes, service: CdsService, desk: Desk, tally: Tally) -> None:
    """One call, counted by what the log says of it; an error that is nobody's answer counts as "failed"."""
    tally.calls += 1
    begin = time.perf_counter()
    try:
        given = answer(body, service, caller_of(desk), desk)
    except ServiceError as refused:
        tally.outcomes[f"refused: {type(refused).__name__}"] += 1
        return
    except Exception as exc:  # noqa: BLE001 - counted, named and shown: finding these is what the run is for
        tally.outcomes[f"failed: {type(exc).__name__}"] += 1
        return
    finally:
        tally.seconds += time.perf_counter() - begin
    index = json.loads(given)["extension"][RECEIPT_KEY]["index"]
    entry = parse_entry(only_book(desk).log.entry(LeafIndex(index)))
    assert isinstance(entry, DecisionEntry)
    tally.outcomes[entry.status] += 1
    tally.reasons.update(entry.abstention)
    if entry.output is not None and entry.output.band is not None:
        tally.bands[entry.output.band] += 1


def run_charts(charts: Iterable[Chart], desk: Desk, clock: Clock) -> dict[str, Tally]:
    """Service id to what became of the charts there."""
    tallies = {service.id: Tally() for service in desk.services}
    for chart in charts:
        clock.now = _day_after(chart.newest())
        for service in desk.services:
            prefetch = {query.name: chart.answer(query) for query in service.queries}
            documents = [json.dumps(document).encode() for document in prefetch.values()]
            send(_call(service, chart.patient_id, prefetch), service, desk, tallies[service.id])
            record = build_record(PatientId(chart.patient_id), documents)
            tallies[service.id].set_aside.update(f"{item.resource_type}: {item.reason}" for item in record.set_aside)
    return tallies


def run_requests(requests: Iterable[tuple[str, bytes]], desk: Desk, clock: Clock) -> dict[str, Tally]:
    """The public calls as they are, to every service."""
    clock.now = datetime.now(UTC)
    tallies = {service.id: Tally() for service in desk.services}
    for _, body in requests:
        for service in desk.services:
            send(body, service, desk, tallies[service.id])
    return tallies


def read_documents(documents: Iterable[dict[str, Any]]) -> Counter[str]:
    """The documents as records of one patient: how many hold something readable, and what was set aside."""
    counts: Counter[str] = Counter()
    for document in documents:
        record = build_record(PatientId("example"), [json.dumps(document).encode()])
        counts["documents"] += 1
        counts.update(f"{item.resource_type}: {item.reason}" for item in record.set_aside)
    return counts


def prefetched_charts(requests: Iterable[tuple[str, bytes]]) -> Iterator[Chart]:
    """The public calls' patients, with whatever resources their prefetch holds."""
    for _, body in requests:
        call = json.loads(body)
        patient_id = call.get("context", {}).get("patientId")
        resources = tuple((None, item) for item in _resources(call.get("prefetch") or {}))
        if patient_id and resources:
            yield Chart(str(patient_id).removeprefix("Patient/"), resources)


def _resources(value: Any) -> Iterator[dict[str, Any]]:
    """Every resource that lies anywhere in a prefetch, Bundles opened."""
    if isinstance(value, list):
        for item in value:
            yield from _resources(item)
    elif isinstance(value, dict):
        if "resourceType" in value and value["resourceType"] != "Bundle":
            yield value
        else:
            for item in value.values():
                yield from _resources(item)


def _call(service: CdsService, patient_id: str, prefetch: dict[str, Any]) -> bytes:
    context = {"userId": "Practitioner/1", "patientId": patient_id}
    call = {"hook": service.hooks[0], "hookInstance": str(uuid.uuid4()), "context": context, "prefetch": prefetch}
    return json.dumps(call).encode()


def _day_after(text: str) -> datetime:
    try:
        return parse_interval(text).end + timedelta(days=1)
    except InstantError:
        return datetime.now(UTC)


def measure(data: Path, folder: Path, limit: int | None) -> dict[str, Any]:
    """Every count of the run, ready for JSON; at most `limit` charts of each source."""
    clock, results = Clock(), dict[str, Any]()
    requests, stays = list(public_requests(data)), challenge_stays(data)[:limit]
    with opened_desk(folder / "log", clock) as desk:
        types = {query.resource for service in desk.services for query in service.queries}
        sources: dict[str, Iterable[Chart]] = {
            "synthea": synthea(data),
            "mimic": mimic(data, types),
            "challenge": challenge_charts(stays),
            "public requests' prefetch as charts": prefetched_charts(requests),
        }
        begin = time.perf_counter()
        runs = {name: run_charts(_first(charts, limit), desk, clock) for name, charts in sources.items()}
        runs["public requests as sent"] = run_requests(requests, desk, clock)
        results["runs"] = {n: {s: t.to_json() for s, t in by_service.items()} for n, by_service in runs.items()}
        results["seconds"] = round(time.perf_counter() - begin, 1)
        results["us_core"] = dict(sorted(read_documents(us_core(data)).items()))
        results["challenge"] = compare(stays)
        results["log"] = {"appends_per_second": {str(n): round(append_rate(desk, n)) for n in (1, 16)}}
    results["log"] |= _verify(folder / "log")
    return {"machine": describe(), **results}


def append_rate(desk: Desk, callers: int, appends: int = 160) -> float:
    """Entries a second that `callers` at once get acknowledged, each durable before the next."""
    with ThreadPoolExecutor(callers) as pool:
        begin = time.perf_counter()
        list(pool.map(lambda _: record_start(desk), range(appends)))
        return appends / (time.perf_counter() - begin)


def record_start(desk: Desk) -> None:
    """Appends an entry of the smallest kind a service writes: the one that says it started."""
    book = only_book(desk)
    entry = ConfigEntry(
        id=book.log.new_entry_id(),
        time=format_time(desk.clock()),
        clock="unsynchronised",
        tenant=book.context.tenant,
        software=book.context.software,
        software_version="0",
        config=book.context.config,
        models=(),
    )
    book.log.append(format_entry(entry))


def _first(charts: Iterable[Chart], limit: int | None) -> Iterator[Chart]:
    for number, chart in enumerate(charts):
        if limit is not None and number >= limit:
            return
        yield chart


def _verify(directory: Path) -> dict[str, Any]:
    """What `bedside audit verify` says of the log that the run wrote, and how long it took."""
    begin = time.perf_counter()
    status = bedside(["audit", "verify", str(directory)])
    return {"verify_status": status, "verify_seconds": round(time.perf_counter() - begin, 2)}


def _challenge_words(compared: dict[str, Any]) -> str:
    if not compared["stays"]:
        return "Not run: reading the challenge's data needs them and the `train` extra."
    counts = ", ".join(f"{what} {count}" for what, count in compared["outcomes"].items())
    return (
        f"{compared['stays']} stays, every {EVERY}th, written as FHIR and read back: {counts}. Largest difference between the "
        f"probability through FHIR and the one from the training arrays: {compared['largest_difference']:.1e}."
    )


def format_results(results: dict[str, Any]) -> str:
    """The section of docs/measurements.md."""
    parts = ["## Public patients", _HOW, machine_words(results["machine"])]
    for name, by_service in results["runs"].items():
        for service_id, tally in by_service.items():
            rate = tally["calls"] / tally["seconds"] if tally["seconds"] else 0.0
            parts.append(
                f"### {name}, {service_id}: {tally['calls']} calls in {tally['seconds']:.1f} s ({rate:.0f} a second)"
            )
            rows = [
                (f"{kind}: {what}", str(count))
                for kind, key in (
                    ("", "outcomes"),
                    ("abstained", "reasons"),
                    ("band", "bands"),
                    ("set aside", "set_aside"),
                )
                for what, count in tally[key].items()
            ]
            parts.append(table(("what", "count"), [(what.removeprefix(": "), count) for what, count in rows]))
    rows = list(results["us_core"].items())
    parts += [
        "### US Core examples as documents",
        table(("what", "count"), [(what, str(count)) for what, count in rows]),
    ]
    parts += ["### Challenge stays, FHIR beside the training arrays", _challenge_words(results["challenge"])]
    log = results["log"]
    verdict = "holds" if log["verify_status"] == 0 else "DOES NOT HOLD"
    rates = " and ".join(f"{rate} from {callers}" for callers, rate in log["appends_per_second"].items())
    parts.append(
        f"`bedside audit verify` on the log of this run: it {verdict} ({log['verify_seconds']:.2f} s). "
        f"The log acknowledged, each entry durable and signed: {rates} callers at once, entries a second."
    )
    return "\n\n".join(parts)


_HOW = (
    "`python -m benchmarks.populations`. Every chart is one call per service through the whole pipeline, with its log, and the "
    "prefetch an EHR would make of it, one day after its newest date. One call can have several reasons to abstain."
)


def main(arguments: list[str] | None = None) -> int:
    """Runs it; 1 if anything failed or the log does not hold, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.populations", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, default=DEFAULT_DATA, help="folder of the public data (default: ../shared/data)"
    )
    parser.add_argument("--limit", type=int, help="at most so many patients of each source")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options.data, Path(folder), options.limit)
    section = format_results(results)
    sys.stdout.write(section + "\n")
    if not options.dry:
        write_results(RESULTS, results)
        write_section("populations", section)
    outcomes = [what for run in results["runs"].values() for tally in run.values() for what in tally["outcomes"]]
    return int(any(what.startswith("failed") for what in outcomes) or results["log"]["verify_status"] != 0)


if __name__ == "__main__":
    sys.exit(main())
