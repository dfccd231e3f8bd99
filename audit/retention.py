"""How long records are kept: a duty to keep them, and then a duty to let them go.

    kept for       10 years, unless the tenant says otherwise
    at least       6 years (45 CFR 164.316(b)(2)(i)), unless the tenant names a law of its own
    never below    183 days (Regulation (EU) 2024/1689, Articles 19 and 26(6): six months)

A law that is named lets an erasure come before the duty ends, never before those 183 days. What is due is told by the time
that entries say they are of. Pure.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from audit.entry import format_time
from audit.errors import RetentionError

DEFAULT_YEARS = 10
FLOOR_YEARS = 6
FLOOR = timedelta(days=183)
ENDED = "ended"


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """A tenant's rule; `law` is the code of the law that lets records be kept for less than six years, "" for none."""

    years: int = DEFAULT_YEARS
    floor_years: int = FLOOR_YEARS
    law: str = ""

    def __post_init__(self) -> None:
        """Raises RetentionError where the rule would let records go too early."""
        if self.floor_years < FLOOR_YEARS and not self.law:
            message = (
                f"retention: expected a floor of {FLOOR_YEARS} years where no law is named, got {self.floor_years}"
            )
            raise RetentionError(message)
        if self.years < max(self.floor_years, 1):
            message = f"retention: expected at least {max(self.floor_years, 1)} years, got {self.years}"
            raise RetentionError(message)

    def latest_due(self, now: datetime) -> str:
        """The latest entry time whose duty has ended at `now`."""
        return format_time(min(_years_before(now, self.years), now - FLOOR))

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
            message = f"retention: has to be kept for {self.years} years, the newest record is of {newest[:10]}"
            raise RetentionError(message)
        if newest > format_time(now - FLOOR):
            message = (
                f"retention: has to be kept for {FLOOR.days} days by any law, the newest record is of {newest[:10]}"
            )
            raise RetentionError(message)
        return override


@dataclass(frozen=True, slots=True)
class KeptPayload:
    """A payload that is still there: whose, and the time of its entry; `held` where a legal hold keeps it."""

    index: int
    key_ref: int
    time: str
    held: bool


@dataclass(frozen=True, slots=True)
class Due:
    """What may go: keys with every payload under them, and single payloads whose key has newer ones."""

    key_refs: tuple[int, ...]
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class YearCount:
    """The payloads of one year (UTC): how many there are, how many are due, and how many of the due a hold keeps."""

    year: str
    payloads: int
    due: int
    held: int


def count_years(payloads: Iterable[KeptPayload], latest_due: str) -> tuple[YearCount, ...]:
    """A count for each year, the oldest first; constant memory."""
    total: Counter[str] = Counter()
    due: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for payload in payloads:
        year = payload.time[:4]
        total[year] += 1
        if payload.time <= latest_due:
            due[year] += 1
            held[year] += payload.held
    return tuple(YearCount(year, total[year], due[year] - held[year], held[year]) for year in sorted(total))


def find_due(payloads: Iterable[KeptPayload], latest_due: str, limit: int) -> Due:
    """What of `payloads`, which come grouped by key, is due and not held: at most `limit` payloads.

    A key goes with its payloads where all of them go, so that no key is left of whom nothing is kept.
    """
    key_refs: list[int] = []
    indices: list[int] = []
    taken = 0
    for key_ref, group in _by_key(payloads):
        due = [payload.index for payload in group if payload.time <= latest_due and not payload.held]
        if taken + len(due) > limit:
            indices += due[: limit - taken]
            break
        taken += len(due)
        if due and len(due) == len(group):
            key_refs.append(key_ref)
        else:
            indices += due
    return Due(tuple(key_refs), tuple(indices))


def _by_key(payloads: Iterable[KeptPayload]) -> Iterable[tuple[int, list[KeptPayload]]]:
    group: list[KeptPayload] = []
    for payload in payloads:
        if group and group[0].key_ref != payload.key_ref:
            yield group[0].key_ref, group
            group = []
        group.append(payload)
    if group:
        yield group[0].key_ref, group


def _years_before(moment: datetime, years: int) -> datetime:
    """The same day `years` before; of 29 February the 28th, so that nothing is due a day early."""
    moment = moment.astimezone(UTC)
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        return moment.replace(year=moment.year - years, day=28)
