from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo.bundles import Resource, strings
from demo.errors import BundleError
from demo.instants import age_in_years, parse_span
from demo.shift import ShiftRule, shifted_to_now

RawBundle = Callable[[], dict[str, Any]]


def _resources(bundle: dict[str, Any]) -> list[Resource]:
    return [entry["resource"] for entry in bundle["entry"]]


def _instants(resources: list[Resource] | tuple[Resource, ...]) -> list[datetime]:
    return [parse_span(text).low for key, text in strings(resources) if key in ("effectiveDateTime", "start", "end")]


def test_shift_puts_the_newest_date_on_yesterday(raw_chart: RawBundle, now: datetime) -> None:
    moved = shifted_to_now(_resources(raw_chart()), ShiftRule.NEWEST_TO_YESTERDAY, now)
    newest = max(_instants(moved))
    assert newest.date() == datetime(2026, 11, 23, tzinfo=UTC).date()
    assert newest.hour == 8  # whole days: the time of day stays


def test_shift_keeps_every_interval(raw_chart: RawBundle, now: datetime) -> None:
    before = _resources(raw_chart())
    after = shifted_to_now(before, ShiftRule.NEWEST_TO_YESTERDAY, now)
    deltas = {new - old for old, new in zip(_instants(before), _instants(after), strict=True)}
    assert len(deltas) == 1


def test_shift_keeps_the_age_at_the_newest_result(raw_chart: RawBundle, now: datetime) -> None:
    before = _resources(raw_chart())
    after = shifted_to_now(before, ShiftRule.NEWEST_TO_YESTERDAY, now)
    ages = [age_in_years(bundle[0]["birthDate"], max(_instants(bundle))) for bundle in (before, after)]
    assert ages == [49, 49]


def test_shift_leaves_the_original_untouched(raw_chart: RawBundle, now: datetime) -> None:
    before = _resources(raw_chart())
    shifted_to_now(before, ShiftRule.NEWEST_TO_YESTERDAY, now)
    assert before == _resources(raw_chart())


def test_shift_of_a_stay_puts_admission_50_hours_back(raw_stay: RawBundle, now: datetime) -> None:
    _, encounter, pulse = shifted_to_now(_resources(raw_stay()), ShiftRule.ICU_ADMISSION_50_HOURS_AGO, now)
    admission = parse_span(encounter["period"]["start"]).low
    assert admission == now.replace(second=0) - timedelta(hours=50)
    assert parse_span(pulse["effectiveDateTime"]).low - admission == timedelta(hours=26)


def test_shift_of_a_stay_keeps_the_age_of_a_partial_birth_date(raw_stay: RawBundle, now: datetime) -> None:
    patient, encounter, _ = shifted_to_now(_resources(raw_stay()), ShiftRule.ICU_ADMISSION_50_HOURS_AGO, now)
    assert age_in_years(patient["birthDate"], parse_span(encounter["period"]["start"]).low) == 2008 - 1950
    assert len(patient["birthDate"]) == 4


def test_shift_changes_only_elements_that_are_dates(now: datetime) -> None:
    note = {"resourceType": "Observation", "id": "2020-01-01", "valueString": "2020-01-01", "issued": "2020-01-01"}
    (moved,) = shifted_to_now([note], ShiftRule.NEWEST_TO_YESTERDAY, now)
    assert moved == {**note, "issued": "2026-11-23"}


@pytest.mark.parametrize("rule", ShiftRule)
def test_shift_refuses_a_bundle_without_dates(rule: ShiftRule, now: datetime) -> None:
    with pytest.raises(BundleError):
        shifted_to_now([{"resourceType": "Patient", "id": "1"}], rule, now)
