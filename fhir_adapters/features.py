"""Model inputs from a record: single features and irregular event sequences, each value with unit, time and source.

Rules, the same for both:

1. nothing observed after `as_of` (or outside [start, end]) is used; it is set aside as "future";
2. a value counts in the unit of its spec: converted with the analyte, never assumed. Missing, unknown or unfitting units,
   two units that contradict each other, bounds ("<0.02"), words, and values outside [low, high] are set aside with the reason;
3. for `latest` and `first` the newest (oldest) recorded result decides. If it can't be read the feature is absent and says
   why, naming its source: an older value must not stand in for a result that exists. Only an entry that records that nothing
   was measured (dataAbsentReason, no value) is passed over;
4. for `mean`, `min` and `max` a result in the window that can't be read makes the feature absent, as the true aggregate is
   unknown; an implausible one is an artefact and is left out. `count` counts the usable ones;
5. a value older than `max_age` is "stale"; for aggregates `max_age` is the window;
6. preliminary results, and times taken from `issued`, are used, and `note` says so.

Must not import cds_service or model_artifacts. To add a statistic: a member of `STATISTICS` and a test.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from statistics import fmean
from typing import Literal

import numpy as np
import numpy.typing as npt

from fhir_adapters.analytes import ANALYTES
from fhir_adapters.codes import Code, CodeKey, keys
from fhir_adapters.errors import UnitError
from fhir_adapters.instants import Precision
from fhir_adapters.mappings.observation import ObservedValue
from fhir_adapters.reasons import Reason, SetAside
from fhir_adapters.record import PatientRecord
from fhir_adapters.units import canonical_unit, conversion

Statistic = Literal["latest", "first", "mean", "min", "max", "count"]

_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {"mean": fmean, "min": min, "max": max}
_HOUR = timedelta(hours=1)
# The unit's code and its words must lead to one number, up to rounding in the tables.
_CONTRADICTION = 0.01


def _check(unit: str, analyte: str | None) -> None:
    if canonical_unit(unit) is None:
        raise UnitError("unknown", "a unit of the table")
    if analyte is not None and analyte not in ANALYTES:
        raise UnitError("unknown", "an analyte of the table")


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One input of a model: which codes, in which unit, what is plausible, how old it may be, which statistic.

    `low` and `high` are in `unit`, both allowed. Raises: UnitError for a unit or an analyte that isn't in the
    tables.
    """

    name: str
    label: str
    codes: tuple[Code, ...]
    unit: str
    analyte: str | None = None
    low: float | None = None
    high: float | None = None
    max_age: timedelta | None = None
    statistic: Statistic = "latest"
    keys: frozenset[CodeKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.unit, self.analyte)
        object.__setattr__(self, "keys", keys(*self.codes))


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """A number in `unit`, or None with `absence`; `observed_at` and `source` name the deciding result in both cases."""

    name: str
    label: str
    value: float | None
    unit: str
    observed_at: datetime | None = None
    source: str | None = None
    absence: str | None = None
    note: str | None = None
    precision: Precision = "minute"


@dataclass(frozen=True, slots=True)
class FeatureVector:
    """The features in the order of the specs, and every value that was looked at and not used."""

    values: tuple[FeatureValue, ...]
    as_of: datetime
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One variable of an event sequence, identified by its position among the specs; see `FeatureSpec`."""

    variable: str
    label: str
    codes: tuple[Code, ...]
    unit: str
    analyte: str | None = None
    low: float | None = None
    high: float | None = None
    keys: frozenset[CodeKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.unit, self.analyte)
        object.__setattr__(self, "keys", keys(*self.codes))


@dataclass(frozen=True, slots=True)
class EventSequence:
    """Events by time: hours since `start` (n,) float64, index of the spec (n,) int32, value in its unit (n,) float64."""

    times_h: npt.NDArray[np.float64]
    variable: npt.NDArray[np.int32]
    values: npt.NDArray[np.float64]
    sources: tuple[str | None, ...]
    observed_at: tuple[datetime, ...]
    set_aside: tuple[SetAside, ...]


_Reading = tuple[float | None, Reason | None, str]


def read_number(observed: ObservedValue, spec: FeatureSpec | EventSpec) -> _Reading:
    """The value in the spec's unit, or the reason it can't be used and words for it without the value (rule 2)."""
    value = observed.value
    if observed.status == "registered":
        return None, Reason.NO_VALUE, ""
    if value is None:
        worded = observed.text or observed.answers
        return None, Reason.NOT_A_NUMBER if worded and observed.absent_reason is None else Reason.NO_VALUE, ""
    if observed.comparator:
        return None, Reason.COMPARATOR, ""
    try:
        number = _in_unit(value, observed, spec)
    except UnitError as error:
        return None, Reason.UNIT, str(error)
    if (spec.low is not None and number < spec.low) or (spec.high is not None and number > spec.high):
        return None, Reason.IMPLAUSIBLE, ""
    return number, None, ""


def _in_unit(value: float, observed: ObservedValue, spec: FeatureSpec | EventSpec) -> float:
    number = conversion(observed.unit or "", spec.unit, spec.analyte)(value)
    label = observed.unit_label
    if label is not None and canonical_unit(label) is not None:
        other = conversion(label, spec.unit, spec.analyte)(value)
        if abs(other - number) > _CONTRADICTION * abs(number):
            raise UnitError("contradictory", canonical_unit(spec.unit) or "", canonical_unit(label))
    return number


def extract(record: PatientRecord, specs: Iterable[FeatureSpec], as_of: datetime) -> FeatureVector:
    """The features of this record as they stood at `as_of` (aware)."""
    set_aside: list[SetAside] = []
    values = tuple(_extract_one(record, spec, as_of, set_aside) for spec in specs)
    return FeatureVector(values, as_of, tuple(set_aside))


def _extract_one(record: PatientRecord, spec: FeatureSpec, as_of: datetime, set_aside: list[SetAside]) -> FeatureValue:
    timeline = record.timeline(spec.keys)
    set_aside.extend(timeline.set_aside)
    past = bisect_right(timeline.moments, as_of)
    later = range(past, len(timeline.moments))
    set_aside.extend(_aside(timeline[position], Reason.FUTURE, spec.name) for position in later)
    if spec.statistic == "latest":
        return _single(spec, map(timeline.__getitem__, reversed(range(past))), as_of, set_aside)
    values = [timeline[position] for position in range(past)]
    return (_single if spec.statistic == "first" else _aggregate)(spec, values, as_of, set_aside)


def _single(
    spec: FeatureSpec, ordered: Iterable[ObservedValue], as_of: datetime, set_aside: list[SetAside]
) -> FeatureValue:
    """The first result of the order that records a measurement decides (rule 3)."""
    passed_over, results = Reason.MISSING, iter(ordered)
    for observed in results:
        number, reason, words = read_number(observed, spec)
        if spec.max_age is not None and as_of - _moment(observed) > spec.max_age:
            number, reason, words = None, Reason.STALE, ""
        if reason is not None:
            set_aside.append(_aside(observed, reason, spec.name, words))
        if reason is Reason.NO_VALUE or (reason is Reason.STALE and spec.statistic == "first"):
            passed_over = reason
            continue
        return FeatureValue(
            *(spec.name, spec.label, number, spec.unit, observed.observed_at, observed.source),
            absence=reason,
            note=_joined(_note(observed), _rival(number, observed, next(results, None), spec)),
            precision=observed.precision,
        )
    return FeatureValue(spec.name, spec.label, None, spec.unit, absence=passed_over)


def _aside(observed: ObservedValue, reason: Reason, name: str, words: str = "") -> SetAside:
    return SetAside("Observation", observed.source, reason, f"{name}: {words}" if words else name)


def _aggregate(
    spec: FeatureSpec, past: list[ObservedValue], as_of: datetime, set_aside: list[SetAside]
) -> FeatureValue:
    """The statistic over the window (rule 4), with source and time of the value that decides it."""
    window = [v for v in past if spec.max_age is None or as_of - _moment(v) <= spec.max_age]
    numbers: list[float] = []
    used: list[ObservedValue] = []
    unread: Reason | None = None
    for observed in window:
        number, reason, words = read_number(observed, spec)
        if number is not None:
            numbers.append(number)
            used.append(observed)
            continue
        assert reason is not None
        set_aside.append(
            SetAside("Observation", observed.source, reason, f"{spec.name}: {words}" if words else spec.name)
        )
        if reason in {Reason.UNIT, Reason.COMPARATOR, Reason.NOT_A_NUMBER}:
            unread = reason
    if spec.statistic == "count":
        value: float | None = float(len(numbers))
        absence = None
    else:
        absence = unread or (None if numbers else _empty(past, window))
        value = None if absence else _AGGREGATES[spec.statistic](numbers)
    named = _deciding(spec, value, numbers, used)
    at, source = (named.observed_at, named.source) if named else (None, None)
    return FeatureValue(
        *(spec.name, spec.label, value, spec.unit, at, source),
        absence=absence,
        note=_note(named) if named else None,
        precision=named.precision if named else "minute",
    )


def _deciding(
    spec: FeatureSpec, value: float | None, numbers: list[float], used: list[ObservedValue]
) -> ObservedValue | None:
    """The newest of those that are the least or greatest; of a mean or a count, and where there is no value, the newest.

    Whoever looks up what a card names must find the number that the card shows.
    """
    decides = [observed for observed, number in zip(used, numbers, strict=True) if number == value]
    chosen = decides if decides and spec.statistic in {"min", "max"} else used
    return chosen[-1] if chosen else None


def _empty(past: list[ObservedValue], window: list[ObservedValue]) -> Reason:
    if window:
        return Reason.IMPLAUSIBLE
    return Reason.STALE if past else Reason.MISSING


def _rival(number: float | None, observed: ObservedValue, other: ObservedValue | None, spec: FeatureSpec) -> str | None:
    """Words for a second, different result of the same moment: the record doesn't say which of the two is right."""
    if number is None or other is None or other.observed_at != observed.observed_at:
        return None
    second, _, _ = read_number(other, spec)
    if second is None or abs(second - number) <= _CONTRADICTION * abs(number):
        return None
    return f"another result of the same time says {second:.4g}"


def _joined(*notes: str | None) -> str | None:
    return "; ".join(note for note in notes if note) or None


def _note(observed: ObservedValue) -> str | None:
    notes = []
    if observed.preliminary:
        notes.append("preliminary result" if observed.status == "preliminary" else "result not marked final")
    if observed.timing == "issued":
        notes.append("dated by its report")
    return "; ".join(notes) or None


def _moment(observed: ObservedValue) -> datetime:
    assert observed.observed_at is not None  # `settle` set the undated aside
    return observed.observed_at


def extract_events(record: PatientRecord, specs: Sequence[EventSpec], start: datetime, end: datetime) -> EventSequence:
    """The events in [start, end], sorted by time, then variable; what is later is set aside, what is earlier left out."""
    rows: list[tuple[datetime, int, float, str | None]] = []
    set_aside: list[SetAside] = []
    for index, spec in enumerate(specs):
        reading = record.read_observations(spec.keys)
        set_aside.extend(reading.set_aside)
        for observed in reading.values:
            at = _moment(observed)
            if at < start:
                continue
            number, reason, words = (None, Reason.FUTURE, "") if at > end else read_number(observed, spec)
            if number is not None:
                rows.append((at, index, number, observed.source))
            elif reason is not None:
                set_aside.append(_aside(observed, reason, spec.variable, words))
    rows.sort(key=itemgetter(0))  # stable, so one moment keeps the order of the specs
    return EventSequence(
        times_h=np.array([(row[0] - start) / _HOUR for row in rows], np.float64),
        variable=np.array([row[1] for row in rows], np.int32),
        values=np.array([row[2] for row in rows], np.float64),
        sources=tuple(row[3] for row in rows),
        observed_at=tuple(row[0] for row in rows),
        set_aside=tuple(set_aside),
    )
