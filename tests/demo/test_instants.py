from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.instants import Shift, age_in_years, parse_span, shift_date

ANCHOR = datetime(2020, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("2024", timedelta(days=366)),
        ("2024-02", timedelta(days=29)),
        ("2024-12", timedelta(days=31)),
        ("2024-02-29", timedelta(days=1)),
        ("2024-02-29T10:00", timedelta(minutes=1)),
        ("2024-02-29T10:00:00Z", timedelta(seconds=1)),
        ("2024-02-29T10:00:00.123+01:00", timedelta(milliseconds=1)),
    ],
)
def test_instants_span_is_as_long_as_the_precision(text: str, length: timedelta) -> None:
    span = parse_span(text)
    assert span.high - span.low == length


@pytest.mark.parametrize(
    "text", ["", "24", "2024-13", "2024-02-30", "2024-02-03T25:00:00Z", "ge2024", "2024-02-03 10:00"]
)
def test_instants_refuse_what_is_no_date(text: str) -> None:
    with pytest.raises(ValueError):
        parse_span(text)


@given(
    st.integers(0, 3_000_000_000).map(lambda seconds: datetime(1930, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)),
    st.integers(-20_000, 20_000),
    st.sampled_from(["Z", "+00:00", "-05:00", "+05:30"]),
)
def test_instants_shift_moves_by_exactly_the_delta(when: datetime, minutes: int, zone: str) -> None:
    text = f"{when:%Y-%m-%dT%H:%M:%S}.120{zone}"
    delta = timedelta(minutes=minutes)
    moved = shift_date(text, Shift(ANCHOR, delta))
    assert parse_span(moved).low - parse_span(text).low == delta
    assert moved.endswith(f".120{zone}")


def test_instants_shift_keeps_partial_dates_partial() -> None:
    shift = Shift(ANCHOR, timedelta(days=366 + 31))
    assert shift_date("1970-11", shift) == "1971-12"
    assert shift_date("1970", shift) == "1971"
    assert shift_date("1970-02-28", shift) == "1971-04-01"


def test_instants_age_counts_completed_years() -> None:
    assert age_in_years("1970-06-15", datetime(2020, 6, 14, tzinfo=UTC)) == 49
    assert age_in_years("1970-06-15", datetime(2020, 6, 15, tzinfo=UTC)) == 50
    assert age_in_years("1970", datetime(2020, 6, 15, tzinfo=UTC)) == 50
