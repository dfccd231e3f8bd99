"""FHIR dates as half-open spans of time, and their shifting.

Owns the reading of the FHIR R4 types date, dateTime and instant (https://hl7.org/fhir/R4/datatypes.html#dateTime).
A date-time without a zone is read as UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::(\d\d))?(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?")

END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
START_OF_TIME = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """From `low`, included, to `high`, excluded; both aware."""

    low: datetime
    high: datetime

    def contains(self, other: Span) -> bool:
        return self.low <= other.low and other.high <= self.high


@dataclass(frozen=True, slots=True)
class Shift:
    """All of one patient's dates move by `delta`; partial dates move as the calendar month of `anchor` does."""

    anchor: datetime
    delta: timedelta

    @property
    def months(self) -> int:
        moved = self.anchor + self.delta
        return (moved.year - self.anchor.year) * 12 + moved.month - self.anchor.month

    @property
    def years(self) -> int:
        return (self.anchor + self.delta).year - self.anchor.year


@lru_cache(maxsize=65536)
def parse_span(text: str) -> Span:
    """The span that a FHIR date, dateTime or instant stands for. Raises ValueError."""
    if whole := _DATE.fullmatch(text):
        return _date_span(*whole.groups())
    if (parts := _DATE_TIME.fullmatch(text)) is None:
        raise ValueError("expected a FHIR date or dateTime")
    low = datetime.fromisoformat(_wall_clock(parts)).replace(tzinfo=_zone(parts[5]))
    if parts[3] is None:
        return Span(low, low + timedelta(minutes=1))
    step = timedelta(seconds=1) if parts[4] is None else timedelta(milliseconds=1)
    return Span(low, low + step)


def _date_span(year: str, month: str | None, day: str | None) -> Span:
    low = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
    if day is not None:
        return Span(low, low + timedelta(days=1))
    if month is not None:
        return Span(low, _add_months(low, 1))
    return Span(low, _add_months(low, 12))


def _add_months(start: datetime, months: int) -> datetime:
    index = start.year * 12 + start.month - 1 + months
    return start.replace(year=index // 12, month=index % 12 + 1)


def _wall_clock(parts: re.Match[str]) -> str:
    fraction = f".{parts[4][:6]:0<6}" if parts[4] else ""
    return f"{parts[1]}T{parts[2]}:{parts[3] or '00'}{fraction}"


def _zone(text: str | None) -> timezone:
    if text in (None, "Z"):
        return UTC
    assert text is not None
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[4:6])))


def shift_date(text: str, shift: Shift) -> str:
    """The same date moved, written with the precision, fraction and zone it had. Raises ValueError."""
    if parts := _DATE_TIME.fullmatch(text):
        moved = datetime.fromisoformat(_wall_clock(parts)) + shift.delta
        seconds = f":{moved:%S}" if parts[3] is not None else ""
        fraction = f".{parts[4]}" if parts[4] else ""
        return f"{moved:%Y-%m-%dT%H:%M}{seconds}{fraction}{parts[5] or ''}"
    whole = _DATE.fullmatch(text)
    if whole is None:
        raise ValueError("expected a FHIR date or dateTime")
    start = _date_span(*whole.groups()).low
    if whole[3] is not None:
        return f"{start + shift.delta:%Y-%m-%d}"
    if whole[2] is not None:
        return f"{_add_months(start, shift.months):%Y-%m}"
    return f"{start.year + shift.years:04d}"


def age_in_years(birth_date: str, now: datetime) -> int:
    """Completed years at `now`; a partial birth date counts from its first day."""
    birth = parse_span(birth_date).low
    return now.year - birth.year - ((now.month, now.day) < (birth.month, birth.day))
