"""Reads Observation (https://hl7.org/fhir/R4/observation.html): one `ObservedValue` per value, components included.

What a value is: a number with a unit, a number with a comparator ("<0.02": a bound, not a value), words, or coded answers.
`valueString` that spells a number ("6.3", "<0.02 ng/mL") is read as one. Status handling: entered-in-error and cancelled never
come here; final, amended and corrected count; preliminary, unknown and any other status are kept and flagged; what is only
registered has no result yet, whatever is sent with it.

When a value was observed: effectiveDateTime, effectiveInstant, or the end of effectivePeriod (a 24-hour mean is known at its
end); `issued` only if there is none of these, and then `timing` says so. A date without a time counts from its first moment.

To read one more value type: a branch in `_read_value`, its member in `resources.py`, an example in the tests.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import itemgetter

import msgspec

from fhir_adapters.codes import UCUM, Code, CodeKey, canonical_system
from fhir_adapters.errors import InstantError
from fhir_adapters.instants import Precision, parse_instant, parse_instants, parse_interval, precision_of
from fhir_adapters.mappings.elements import first_code, read_codes, read_interval, read_period, read_text
from fhir_adapters.reasons import Reason, SetAside
from fhir_adapters.resources import Observation, ObservationComponent, WireQuantity
from fhir_adapters.units import canonical_unit

FINAL = frozenset({"final", "amended", "corrected"})
CORRECTED = frozenset({"amended", "corrected"})

_NUMBER = re.compile(r"\s*(<=|>=|<|>)?\s*([+-]?\d{1,12}(?:\.\d{1,12})?)\s*(\D.{0,30})?")


class ObservedValue(msgspec.Struct, frozen=True, gc=False):
    """One observed value with its unit, its time and the Observation it comes from.

    `value` is None for words, answers, and what was not measured (`absent_reason`). `unit` is the unit as sent, best reading
    first; `unit_label` is a second spelling sent beside it, to be checked for contradiction. `earliest` and `latest` bound
    the time of observation; they differ from `observed_at` for periods and for dates without a time.
    """

    key: CodeKey
    status: str
    source: str | None
    observed_at: datetime | None
    earliest: datetime | None
    latest: datetime | None
    timing: str
    value: float | None = None
    comparator: str | None = None
    unit: str | None = None
    unit_label: str | None = None
    text: str = ""
    answers: tuple[Code, ...] = ()
    absent_reason: str | None = None
    issued: str = ""

    @property
    def preliminary(self) -> bool:
        return self.status not in FINAL

    @property
    def precision(self) -> Precision:
        """How exactly `observed_at`, the first moment of a day or of a period's end, is known."""
        return (
            "minute" if self.observed_at is None or self.latest is None else precision_of(self.observed_at, self.latest)
        )

    @property
    def rank(self) -> int:
        """Which of two results for one code and time stands: corrected over final over preliminary."""
        return status_rank(self.status)


def status_rank(status: str) -> int:
    """2 for corrected results, 1 for final ones, 0 for what may still change."""
    return 2 if status in CORRECTED else 1 if status in FINAL else 0


def read_observation(
    observation: Observation, component: ObservationComponent | None, key: CodeKey, source: str | None
) -> ObservedValue:
    """The value of an Observation, or of one of its components, under the code that was asked for."""
    holder = observation if component is None else component
    observed_at, earliest, latest, timing = _read_time(observation)
    value, comparator, unit, label, text, answers = _read_value(holder)
    absent = None
    if holder.data_absent_reason is not None:
        absent = first_code(holder.data_absent_reason) or "unknown"
        value = None
    return ObservedValue(
        key,
        observation.status or "unknown",
        source,
        observed_at,
        earliest,
        latest,
        timing,
        value,
        comparator,
        unit,
        label,
        text,
        answers,
        absent,
        observation.issued or "",
    )


def observed_at(observations: Sequence[Observation]) -> Sequence[datetime | None]:
    """When each was observed, as `ObservedValue.observed_at`; all at once cost a twentieth of reading them whole."""
    texts = [observation.effective_date_time for observation in observations]
    moments = None if None in texts else parse_instants(texts)  # type: ignore[arg-type]
    return [_read_time(observation)[0] for observation in observations] if moments is None else moments


_Time = tuple[datetime | None, datetime | None, datetime | None, str]
_UNDATED: _Time = (None, None, None, "none")
_Reading = tuple[float | None, str | None, str | None, str | None, str, tuple[Code, ...]]


def _read_value(holder: Observation | ObservationComponent) -> _Reading:
    quantity = holder.value_quantity
    if quantity is not None:
        unit, label = _read_unit(quantity)
        return quantity.value, quantity.comparator, unit, label, "", ()
    if holder.value_codeable_concept is not None:
        concept = holder.value_codeable_concept
        return None, None, None, None, read_text(concept), read_codes(concept)
    if holder.value_string is not None:
        return _read_string(holder.value_string)
    if holder.value_integer is not None:
        return float(holder.value_integer), None, "1", None, "", ()
    if holder.value_boolean is not None:
        return None, None, None, None, str(holder.value_boolean).lower(), ()
    return None, None, None, None, "", ()


def _read_string(text: str) -> _Reading:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None, None, None, None, text, ()
    comparator, number, unit = match.groups()
    if unit is not None and canonical_unit(unit) is None:
        return None, None, None, None, text, ()  # "2+ protein", "10 days ago": words that start with a digit
    return float(number), comparator, unit, None, text, ()


def _read_unit(quantity: WireQuantity) -> tuple[str | None, str | None]:
    """The unit and a second spelling. A UCUM code binds; a local one counts only if the table knows it."""
    code, label = quantity.code, quantity.unit
    if not code or code == label:
        return label or None, None
    ucum = quantity.system is None or canonical_system(quantity.system) == UCUM
    if not ucum and label and canonical_unit(code) is None:
        return label, None
    return code, label


def _read_time(observation: Observation) -> _Time:
    text = observation.effective_date_time or observation.effective_instant
    if text is not None:
        return _read_moment(text, "effective")
    period = observation.effective_period
    if period is not None:
        whole = read_period(period)
        if whole is None:
            return _UNDATED
        end = read_interval(period.end)
        return end.start if end is not None else whole.start, whole.start, whole.end, "period"
    return _read_moment(observation.issued, "issued") if observation.issued else _UNDATED


def _read_moment(text: str, timing: str) -> _Time:
    """The time a dateTime gives. One that can't be read is not replaced by another: then the value is undated."""
    try:
        if len(text) > 10:
            instant = parse_instant(text)
            return instant, instant, instant, timing
        day = parse_interval(text)
    except InstantError:
        return _UNDATED
    return day.start, day.start, day.end, timing


def settle(values: Iterable[ObservedValue]) -> tuple[tuple[ObservedValue, ...], tuple[SetAside, ...]]:
    """The values that stand, oldest first, and the undated, superseded and repeated ones.

    Of results with one code and one time only those of the highest `rank` stand, and equal ones count once. Several
    different ones of the same rank all stand, the last issued last.
    """
    set_aside: list[SetAside] = []
    dated: list[tuple[datetime, ObservedValue]] = []
    for value in values:
        if value.observed_at is None:
            set_aside.append(SetAside("Observation", value.source, Reason.NO_TIME))
        else:
            dated.append((value.observed_at, value))
    dated.sort(key=_moment)
    settled: list[ObservedValue] = []
    first = 0
    for last, (moment, value) in enumerate(dated, 1):
        if last < len(dated) and dated[last][0] == moment:
            continue
        if last - first == 1:
            settled.append(value)
        else:
            settled.extend(_settle_moment([pair[1] for pair in dated[first:last]], set_aside))
        first = last
    return tuple(settled), tuple(set_aside)


_moment = itemgetter(0)


def _settle_moment(group: list[ObservedValue], set_aside: list[SetAside]) -> list[ObservedValue]:
    """What stands of the values observed at one moment; values of different codes don't touch each other."""
    highest: dict[CodeKey, int] = {}
    for value in group:
        highest[value.key] = max(value.rank, highest.get(value.key, 0))
    distinct: dict[object, ObservedValue] = {}
    for value in sorted(group, key=lambda value: (value.issued, value.source or "")):
        if value.rank < highest[value.key]:
            set_aside.append(SetAside("Observation", value.source, Reason.SUPERSEDED))
            continue
        unit = canonical_unit(value.unit or "") or value.unit
        content = (value.key, value.value, value.comparator, unit, value.text, value.answers, value.absent_reason)
        if content in distinct:
            set_aside.append(SetAside("Observation", value.source, Reason.DUPLICATE))
        else:
            distinct[content] = value
    return list(distinct.values())
