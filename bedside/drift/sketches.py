"""The log's sketches, added up by model version and judged: for a period, and for the newest decisions alone.

A slip of units that began this morning is lost in a week's counts. So each version is judged twice: over the whole period, and
over its newest sketches, as many as hold the manifest's `minimum_decisions`. Memory is taken by the versions, not by the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from audit.entry import format_time, parse_entry
from audit.entry_monitoring import SketchedModel, SketchEntry
from audit.errors import StorageError
from audit.merkle import LeafIndex
from audit.storage import Query, Storage
from bedside.config import Config
from bedside.drift.versions import Version, Versions
from model_artifacts.errors import ReferenceFileError
from model_artifacts.manifest import Monitoring
from model_artifacts.sketch import OutputTally, Reference
from model_artifacts.sketch_judgement import Alarm, Judgement, Totals, judge

SKETCH = "sketch/v1"
_AT_ONCE = 200
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sketches: written from `since` to `until` (entry times, both inclusive), of one model; None: all."""

    since: str | None = None
    until: str | None = None
    model: str | None = None


@dataclass(slots=True)
class Found:
    """One version's sketches added up; `latest` are the newest that hold enough decisions."""

    model: SketchedModel
    status: str
    period: Totals = field(default_factory=Totals)
    latest: Totals = field(default_factory=Totals)


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found about one version; `version` and `reference` are None where it is neither kept nor installed."""

    model: SketchedModel
    status: str
    version: Version | None
    reference: Reference | None
    period: Judgement
    latest: Judgement
    alarms: tuple[Alarm, ...]

    @property
    def monitoring(self) -> Monitoring:
        """The bounds it is held to."""
        return Monitoring() if self.version is None else self.version.manifest.monitoring


def standing_selection(config: Config, moment: datetime, model: str | None = None) -> Selection:
    """The sketches of the configured period up to `moment`: what alarms are raised and cleared by."""
    return Selection(format_time(moment - timedelta(days=config.monitoring.period_days)), None, model)


def look_at(storage: Storage, versions: Versions, selection: Selection) -> tuple[Looked, ...]:
    """What the selected sketches say, by version, shadow runs apart.

    Raises:
        StorageError: the log can't be read.
        EntryError: an entry isn't one of ours.
        ReferenceFileError: a version's reference was altered, or is of other bins than its sketches.
    """
    found = add_up(
        read_sketches(storage, selection), lambda manifest: _monitoring(versions, manifest).minimum_decisions
    )
    return tuple(_judged(one, versions) for one in found)


def read_sketches(storage: Storage, selection: Selection) -> Iterator[SketchEntry]:
    """The selected sketches, newest first."""
    query = Query(selection.since, selection.until, SKETCH, model=selection.model, limit=_AT_ONCE)
    while page := storage.find(query):
        for summary in page:
            yield _sketch(storage, summary.index)
        query = replace(query, before=page[-1].index)


def add_up(entries: Iterable[SketchEntry], minimum: Callable[[str], int]) -> list[Found]:
    """The sums, newest first; `minimum` says by a manifest's digest how many decisions `latest` is to hold."""
    found: dict[tuple[str, str | None, str], Found] = {}
    for entry in entries:
        key = (entry.model.manifest, entry.model.reference, entry.status)
        one = found.setdefault(key, Found(entry.model, entry.status))
        if one.latest.counted < minimum(entry.model.manifest):
            add(one.latest, entry)
        add(one.period, entry)
    return list(found.values())


def add(totals: Totals, entry: SketchEntry) -> None:
    """Adds one sketch.

    Raises:
        ReferenceFileError: it counts one input or output in another number of bins than those before.
    """
    totals.sketches += 1
    totals.since = min(filter(None, (totals.since, entry.since)))
    totals.until = max(totals.until, entry.until)
    totals.decisions += entry.decisions
    totals.shown += entry.shown
    totals.alerts += entry.alerts
    totals.outside += entry.outside
    totals.counted += entry.counted
    totals.results.update(entry.results)
    totals.abstentions.update(entry.abstentions)
    for name, counts in entry.inputs.items():
        _add_counts(name, totals.inputs.setdefault(name, [0] * len(counts)), counts)
    for name, output in entry.outputs.items():
        tally = totals.outputs.setdefault(name, OutputTally([0] * len(output.counts)))
        _add_counts(name, tally.counts, output.counts)
        tally.total += output.sum_e6 / MILLION
        tally.variance += output.variance_e6 / MILLION


def _add_counts(name: str, sums: list[int], counts: tuple[int, ...]) -> None:
    if len(sums) != len(counts):
        raise ReferenceFileError(f"sketches of {name}: expected {len(sums)} counts in each, got {len(counts)}")
    for place, count in enumerate(counts):
        sums[place] += count


def _sketch(storage: Storage, index: LeafIndex) -> SketchEntry:
    data = storage.entry(index)
    entry = None if data is None else parse_entry(data)
    if not isinstance(entry, SketchEntry):
        message = f"store: entry {index} isn't the sketch it is filed as"
        raise StorageError(message)
    return entry


def _monitoring(versions: Versions, manifest: str) -> Monitoring:
    version = versions.find(manifest)
    return Monitoring() if version is None else version.manifest.monitoring


def _judged(found: Found, versions: Versions) -> Looked:
    version = versions.find(found.model.manifest)
    reference = None if version is None else version.reference(found.period.inputs.keys())
    monitoring = _monitoring(versions, found.model.manifest)
    period, latest = judge(found.period, reference, monitoring), judge(found.latest, reference, monitoring)
    return Looked(found.model, found.status, version, reference, period, latest, _merged(period, latest))


def _merged(period: Judgement, latest: Judgement) -> tuple[Alarm, ...]:
    """The period's alarms, and those that only the newest decisions give."""
    known = {(alarm.measure, alarm.of) for alarm in period.alarms}
    only = [alarm for alarm in latest.alarms if (alarm.measure, alarm.of) not in known]
    where = f"in the newest {latest.totals.counted} decisions counted: "
    return (*period.alarms, *(replace(alarm, words=where + alarm.words) for alarm in only))
