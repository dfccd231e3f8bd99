"""Old synthetic histories moved to the present.

Every date of one patient moves by the same time, the birth date too, so that ages and intervals stay what they were.
The rule for each bundle is the field `shift` of `patients/index.json`:

    newest-to-yesterday          whole days; the newest date of the history falls on the day before now
    icu-admission-50-hours-ago   whole minutes; the admission (start of the earliest Encounter) lies 50 hours back,
                                 so that the stay's first 48 hours are just complete
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from demo.bundles import Resource, rewrite_strings, strings
from demo.errors import BundleError
from demo.instants import Shift, parse_span, shift_date

_DATE_ELEMENTS = frozenset({"start", "end", "issued", "authoredOn", "lastUpdated", "date", "recorded"})
_DATE_SUFFIXES = ("DateTime", "Date", "Instant")
_ICU_HOURS = timedelta(hours=50)


class ShiftRule(StrEnum):
    """Where a patient's dates are moved to; the values are those of `index.json`."""

    NEWEST_TO_YESTERDAY = "newest-to-yesterday"
    ICU_ADMISSION_50_HOURS_AGO = "icu-admission-50-hours-ago"


def shifted_to_now(resources: Sequence[Resource], rule: ShiftRule, now: datetime) -> tuple[Resource, ...]:
    """Copies of one patient's resources with every date moved by `rule`. Raises BundleError."""
    shift = find_shift(resources, rule, now)

    def move(key: str, text: str) -> str:
        return shift_date(text, shift) if _is_date(key, text) else text

    return tuple(rewrite_strings(resource, move) for resource in resources)


def find_shift(resources: Sequence[Resource], rule: ShiftRule, now: datetime) -> Shift:
    """How far `rule` moves this patient's dates at `now`. Raises BundleError where nothing is dated."""
    match rule:
        case ShiftRule.NEWEST_TO_YESTERDAY:
            newest = max(_dates(resources), default=None)
            if newest is None:
                raise BundleError("bundle: expected at least one dated resource")
            yesterday = now.date() - timedelta(days=1)
            return Shift(newest, yesterday - newest.astimezone(now.tzinfo).date())
        case ShiftRule.ICU_ADMISSION_50_HOURS_AGO:
            admission = min(_encounter_starts(resources), default=None)
            if admission is None:
                raise BundleError("bundle: expected an Encounter with a start")
            return Shift(admission, now.replace(second=0, microsecond=0) - _ICU_HOURS - admission)
        case _:
            assert_never(rule)


def _dates(resources: Sequence[Resource]) -> list[datetime]:
    clinical = [resource for resource in resources if resource["resourceType"] != "Patient"]
    return [parse_span(text).low for key, text in strings(clinical) if _is_date(key, text)]


def _encounter_starts(resources: Sequence[Resource]) -> list[datetime]:
    return [
        parse_span(encounter["period"]["start"]).low
        for encounter in resources
        if encounter["resourceType"] == "Encounter" and encounter.get("period", {}).get("start")
    ]


def _is_date(key: str, text: str) -> bool:
    if key not in _DATE_ELEMENTS and not key.endswith(_DATE_SUFFIXES):
        return False
    try:
        parse_span(text)
    except ValueError:
        return False
    return True
