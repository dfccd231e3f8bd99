"""Counts what models see and say, beside the calls, and writes the counts to the log as `sketch/v1`: never a value.

Each worker process counts for itself; sketches add up. Counting takes microseconds, comes after the decision is durable, and
no failure of it reaches a call. A thread writes a model version's counts every `every_decisions` decisions or `every_s`
seconds, and on closing, but never counts of fewer than `least` decisions: such wait in memory for more, and at the end are
dropped, which the operations log says. So a process that is killed loses one interval at most, or what never came to `least`.

A patient's first decision of a day is counted, in each process and for each model version, and later ones are not: opening a
chart twenty times would weigh it twentyfold. For that the vault's numbers of the day's patients are kept, in memory alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import msgspec

from audit.entry import format_time
from audit.entry_monitoring import OutputCounts, SketchedModel, SketchEntry
from audit.errors import AuditError, EntryError
from audit.fields import Code
from cds_service.desk import Book
from cds_service.observed import Observed
from fhir_adapters.record import build_record
from fhir_adapters.resources import PatientId
from model_artifacts.manifest import Sha256
from model_artifacts.runtime import ReleasedModel
from model_artifacts.sketch import REFERENCE_FILE, Bins, OutputTally, Reference, Sketch, model_bins

log = logging.getLogger("bedside.monitor")

MILLION = 1_000_000
STOP_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Pace:
    """When counts are written: after so many decisions or seconds, whichever comes first, but not of fewer than `least`."""

    every_decisions: int
    every_s: float
    least: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What decisions of one model version are counted in, and the digest of the file that the bins are from."""

    reference: Reference
    sha256: Sha256 | None


def counted_in(model: ReleasedModel) -> Counted:
    """What decisions of `model` are counted in. An input or output whose name is no code of the log's is left out, and said.

    Raises:
        ReferenceFileError: its reference can't be read, or names what the model doesn't have.
    """
    nobody = model.inputs.extract(build_record(PatientId("nobody"), ()), datetime(2000, 1, 1, tzinfo=UTC))
    reference = model_bins(model.manifest, model.folder, (item.name for item in nobody.evidence))
    inputs, outputs = tuple(filter(_is_code, reference.inputs)), tuple(filter(_is_code, reference.outputs))
    left_out = len(reference.inputs) + len(reference.outputs) - len(inputs) - len(outputs)
    if left_out:
        log.warning(
            "inputs not monitored", extra={"model": model.identity.id, "inputs": left_out, "why": "name is no code"}
        )
    sha256 = model.manifest.files.get(REFERENCE_FILE)
    return Counted(
        msgspec.structs.replace(reference, inputs=inputs, outputs=outputs), None if sha256 is None else Sha256(sha256)
    )


def _is_code(bins: Bins) -> bool:
    try:
        msgspec.convert(bins.name, Code)
    except msgspec.ValidationError:
        return False
    return True


@dataclass(slots=True)
class _Window:
    """What one model version did for one tenant since the last sketch."""

    model: ReleasedModel
    tenant: str
    status: str
    sketch: Sketch
    since: datetime
    until: datetime
    began_s: float
    decisions: int = 0
    shown: int = 0
    alerts: int = 0
    results: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Day:
    """Whose first decision of the day was counted, inside the population (True) and outside."""

    day: date
    seen: set[tuple[int, bool]] = field(default_factory=set)


_Key = tuple[str, str, str]


class SketchMonitor:
    """A worker's counts; safe in many threads. Must be made in the process that uses it, and closed before its logs."""

    def __init__(
        self,
        books: Mapping[str, Book],
        pace: Pace,
        clock: Callable[[], datetime],
        *,
        written: Callable[[str], None] = lambda _tenant: None,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`written` is called with the tenant after each sketch, in the monitor's thread."""
        self._books, self._pace, self._clock = books, pace, clock
        self._bins: dict[str, Counted] = {}  # by a manifest's SHA-256
        self._written, self._elapsed_s = written, elapsed_s
        self._lock = threading.Lock()  # guards the windows and days
        self._windows: dict[_Key, _Window] = {}
        self._days: dict[_Key, _Day] = {}
        self._unsent: list[SketchEntry] = []  # of the thread alone
        self._due, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def prepare(self, model: ReleasedModel) -> Counted:
        """What its decisions are counted in, read once; raises as `counted_in`."""
        manifest = model.identity.manifest_sha256
        known = self._bins.get(manifest)
        if known is None:
            known = self._bins[manifest] = counted_in(model)
        return known

    def close(self) -> None:
        """Writes what there is, as far as it may be written, and ends."""
        self._stopped.set()
        self._due.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)
        if not self._thread.is_alive():
            self.write(everything=True)
            self._withhold()

    def note(self, observed: Observed) -> None:
        """See `Monitor.note`."""
        try:
            with self._lock:
                window = self._count(observed)
                full = window.decisions >= self._pace.every_decisions and self._may_go(window)
        except Exception as exc:  # noqa: BLE001 - the decision is durable and waits to be shown: counting must not keep it
            log.error("decision not counted", extra={"error": type(exc).__name__})
            return
        if full:
            self._due.set()

    def write(self, *, everything: bool = False) -> None:
        """Writes the sketches that are due, or all that may be written; what the log doesn't take is tried again later."""
        with self._lock:
            due = [
                key
                for key, window in self._windows.items()
                if self._may_go(window) and (everything or self._is_due(window))
            ]
            taken = [self._windows.pop(key) for key in due]
        entries, self._unsent = [*self._unsent, *map(self._entry, taken)], []
        written = {entry.tenant: None for entry in entries if self._recorded(entry)}
        if not self._stopped.is_set():
            for tenant in written:
                self._written(tenant)

    def _recorded(self, entry: SketchEntry) -> bool:
        """Whether the log took it. What it doesn't take now is kept: the same entry again is the same, counted once."""
        try:
            self._books[entry.tenant].log.record(entry)
        except EntryError as exc:
            log.error("sketch dropped", extra={"tenant": entry.tenant, "why": str(exc)})
            return False
        except AuditError as exc:
            self._unsent.append(entry)
            log.error("sketch not recorded", extra={"tenant": entry.tenant, "error": type(exc).__name__})
            return False
        return True

    def _count(self, observed: Observed) -> _Window:
        model, moment = observed.model, observed.moment
        key = (observed.tenant, model.identity.manifest_sha256, "shadow" if observed.shadow else "active")
        window = self._windows.get(key)
        if window is None:
            sketch = Sketch(self.prepare(model).reference)
            window = _Window(model, observed.tenant, key[2], sketch, moment, moment, self._elapsed_s())
            self._windows[key] = window
        window.since, window.until = min(window.since, moment), max(window.until, moment)
        window.decisions += 1
        window.results[observed.status] += 1
        window.shown += bool(observed.indicators)
        window.alerts += any(indicator != "info" for indicator in observed.indicators)
        if observed.assessment is not None and self._is_first(key, observed):
            window.sketch.add(observed.assessment)
        return window

    def _is_first(self, key: _Key, observed: Observed) -> bool:
        """Whether this is the patient's first decision of the day, in this process, inside or outside the population."""
        day = self._days.get(key)
        if day is None or day.day != observed.moment.date():
            day = self._days[key] = _Day(observed.moment.date())
        outside = getattr(observed.assessment, "outside_population", False)
        before = len(day.seen)
        day.seen.add((observed.patient, not outside))
        return len(day.seen) > before

    def _may_go(self, window: _Window) -> bool:
        return window.sketch.counted >= self._pace.least

    def _is_due(self, window: _Window) -> bool:
        age_s = self._elapsed_s() - window.began_s
        return window.decisions >= self._pace.every_decisions or age_s >= self._pace.every_s

    def _entry(self, window: _Window) -> SketchEntry:
        audit_log, moment, identity = self._books[window.tenant].log, self._clock(), window.model.identity
        sha256 = self.prepare(window.model).sha256
        return SketchEntry(
            id=audit_log.new_entry_id(),
            time=format_time(moment),
            clock=audit_log.clock_status(moment),
            tenant=window.tenant,
            model=SketchedModel(
                identity.id, identity.version, identity.artifact_sha256, identity.manifest_sha256, sha256
            ),
            status=window.status,
            since=format_time(window.since),
            until=format_time(window.until),
            decisions=window.decisions,
            results=dict(window.results),
            abstentions=dict(window.sketch.abstentions),
            outside=window.sketch.outside,
            shown=window.shown,
            alerts=window.alerts,
            counted=window.sketch.counted,
            inputs={name: tuple(counts) for name, counts in window.sketch.inputs.items()},
            outputs={name: _output(tally) for name, tally in window.sketch.outputs.items()},
        )

    def _withhold(self) -> None:
        """Says what is dropped: counts of so few would come close to telling about single patients."""
        with self._lock:
            left = list(self._windows.values())
            self._windows.clear()
        for window in left:
            log.info(
                "sketch withheld",
                extra={
                    "tenant": window.tenant,
                    "model": window.model.identity.id,
                    "decisions": window.decisions,
                    "counted": window.sketch.counted,
                    "least": self._pace.least,
                },
            )

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._due.wait(self._pace.every_s / 4)
            self._due.clear()
            try:
                self.write()
            except Exception as exc:  # noqa: BLE001 - border: a thread that ends would stop counting, and nobody would see it
                log.error("monitoring failed", extra={"why": f"{type(exc).__name__}: {exc}"})


def _output(tally: OutputTally) -> OutputCounts:
    return OutputCounts(tuple(tally.counts), round(tally.total * MILLION), round(tally.variance * MILLION))
