"""How long records are kept: a duty to keep them, and then a duty to let them go.

    kept for       10 years, unless the tenant says otherwise
    at least       6 years (45 CFR 164.316(b)(2)(i)), unless the tenant names a law of its own
    never below    183 days (Regulation (EU) 2024/1689, Articles 19 and 26(6): six months)

A law that is named lets an erasure come before the duty ends, never before those 183 days. What is due is told by the time
that entries say they are of. Pure.
"""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from math import ceil

from audit.entry import format_time
from audit.errors import RetentionError
from audit.storage import KeptPayload

DEFAULT_YEARS = 10
FLOOR_YEARS = 6
FLOOR = timedelta(days=183)
LONGEST_YEARS = 1000  # what is kept for longer would begin before years have four digits
ENDED = "ended"
_LONGEST_YEAR_DAYS = 366


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """A tenant's rule; `law` is the code of the law that lets records be kept for less than six years, "" for none."""

    years: float = DEFAULT_YEARS
    floor_years: float = FLOOR_YEARS
    law: str = ""

    def __post_init__(self) -> None:
        """Raises RetentionError where the rule would let records go too early, or reckons with years that there aren't."""
        if self.floor_years < FLOOR_YEARS and not self.law:
            message = (
                f"retention: expected a floor of {FLOOR_YEARS} years where no law is named, got {self.floor_years:g}"
            )
            raise RetentionError(message)
        floor_years = max(self.floor_years, FLOOR.days / _LONGEST_YEAR_DAYS)
        if self.years > LONGEST_YEARS:
            message = f"retention: expected at most {LONGEST_YEARS} years, got {self.years:g}"
            raise RetentionError(message)
        if not self.years >= floor_years:
            message = f"retention: expected at least {floor_years:g} years, got {self.years:g}"
            raise RetentionError(message)

    def latest_due(self, now: datetime) -> str:
        """The latest entry time whose duty has ended at `now`."""
        return format_time(_years_before(now, self.years))

    def check_ended(self, newest: str | None, now: datetime, override: str | None) -> str:
        """How the duty was met for records of which `newest` is the last (None: there are none): `ended`, or the law.

        Raises:
            RetentionError: it hasn't ended, and no law that this tenant names lets it be cut short; or 183 days aren't over.
        """
        if override is not None and (not self.law or override != self.law):
            message = f"retention: expected the law {self.law or '(none is named)'} to be overridden by, got {override}"
            raise RetentionError(message)
        if newest is None or newest <= self.latest_due(now):
            return ENDED
        if override is None:
            message = f"retention: has to be kept for {self.years:g} years, the newest record is of {newest[:10]}"
            raise RetentionError(message)
        if newest > format_time(now - FLOOR):
            message = (
                f"retention: has to be kept for {FLOOR.days} days by any law, the newest record is of {newest[:10]}"
            )
            raise RetentionError(message)
        return override


@dataclass(frozen=True, slots=True)
class Due:
    """What may go: keys with every payload under them, and single payloads whose key has newer ones."""

    key_refs: tuple[int, ...]
    payloads: tuple[KeptPayload, ...]


@dataclass(frozen=True, slots=True)
class YearCount:
    """The payloads of one year (UTC): how many there are, how many may go, and how many might if no hold kept them."""

    year: str
    payloads: int
    due: int
    held: int


def count_years(
    payloads: Iterable[KeptPayload], latest_due: str, held_key_refs: Container[int]
) -> tuple[YearCount, ...]:
    """A count for each year, the oldest first; constant memory."""
    total: Counter[str] = Counter()
    due: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for payload in payloads:
        year = payload.time[:4]
        total[year] += 1
        if payload.time <= latest_due:
            (held if payload.key_ref in held_key_refs else due)[year] += 1
    return tuple(YearCount(year, total[year], due[year], held[year]) for year in sorted(total))


def find_due(payloads: Iterable[KeptPayload], latest_due: str, held_key_refs: Container[int], limit: int) -> Due:
    """What of `payloads`, which come in order of key, is due and not held: at most `limit` payloads.

    A key goes with its payloads where all of them go, so that no key is left of whom nothing is kept.
    """
    key_refs: list[int] = []
    single: list[KeptPayload] = []
    taken = 0
    for key_ref, kept in groupby(payloads, key=lambda payload: payload.key_ref):
        if key_ref in held_key_refs:
            continue
        group = list(kept)
        due = [payload for payload in group if payload.time <= latest_due]
        if taken + len(due) > limit:
            single += due[: limit - taken]
            break
        taken += len(due)
        if len(due) == len(group):
            key_refs.append(key_ref)
        else:
            single += due
    return Due(tuple(key_refs), tuple(single))


def _years_before(moment: datetime, years: float) -> datetime:
    """The same day `years` before; of 29 February the 28th, and any part of a year long, so that nothing is due a day early."""
    whole = int(years)
    moment = moment.astimezone(UTC) - timedelta(days=ceil((years - whole) * _LONGEST_YEAR_DAYS))
    try:
        return moment.replace(year=moment.year - whole)
    except ValueError:
        return moment.replace(year=moment.year - whole, day=28)
