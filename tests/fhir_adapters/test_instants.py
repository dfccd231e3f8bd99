from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapters.errors import InstantError
from fhir_adapters.instants import Interval, age_bounds, age_years, parse_instant, parse_instants, parse_interval


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", utc(2024, 1, 1), utc(2024, 12, 31, 23, 59, 59, 999999)),
        ("2024-02", utc(2024, 2, 1), utc(2024, 2, 29, 23, 59, 59, 999999)),
        ("2024-12", utc(2024, 12, 1), utc(2024, 12, 31, 23, 59, 59, 999999)),
        ("2024-03-05", utc(2024, 3, 5), utc(2024, 3, 5, 23, 59, 59, 999999)),
    ],
)
def test_instants_partial_dates_are_intervals(text: str, start: datetime, end: datetime) -> None:
    assert parse_interval(text) == Interval(start, end)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-03-05T10:00:00Z", utc(2024, 3, 5, 10)),
        ("2024-03-05T10:00:00+02:00", utc(2024, 3, 5, 8)),
        ("2024-03-05T22:30:00.123-05:00", utc(2024, 3, 6, 3, 30, 0, 123000)),
        ("2024-03-05T10:00Z", utc(2024, 3, 5, 10)),
        ("2016-12-31T23:59:60Z", utc(2016, 12, 31, 23, 59, 59)),
    ],
)
def test_instants_times_become_utc(text: str, moment: datetime) -> None:
    assert parse_interval(text) == Interval(moment, moment)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "24",
            "2024-13",
            "2024-02-30",
            "2024-1-1",
            "20240101",
            "2024-W01-1",
            "2024-W01-1T10:00:00Z",
            "-2024",
            "2024-",
        ),
        *("2024-03-05T10:00:00", "2024-03-05 10:00:00Z", "2024-03-05T25:00:00Z", "yesterday", "٢٠٢٤", "0000", "9999"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2024-03-05Tlater"),
    ],
)
def test_instants_refuses_what_denotes_no_known_time(text: str) -> None:
    with pytest.raises(InstantError) as caught:
        parse_interval(text)
    assert not text.isdigit() or text not in str(caught.value) or len(text) < 3


@given(st.one_of(st.text(), st.from_regex(r"\A[0-9T:Z+.\-]{0,30}\Z"), st.datetimes().map(str)))
def test_instants_raises_nothing_foreign(text: str) -> None:
    try:
        interval = parse_interval(text)
    except InstantError:
        return
    assert interval.start <= interval.end
    assert interval.start.tzinfo is UTC


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1), timezones=OFFSETS))  # noqa: DTZ001
def test_instants_reads_every_written_time(moment: datetime) -> None:
    assert parse_interval(moment.isoformat()).start == moment


def test_instants_age_of_a_full_birth_date() -> None:
    birth = parse_interval("1960-06-15")
    assert age_years(birth, utc(2026, 6, 14, 23)) == 65
    assert age_years(birth, utc(2026, 6, 15)) == 66


def test_instants_age_of_a_birth_year_is_an_interval() -> None:
    birth = parse_interval("1960")
    assert age_bounds(birth, utc(2026, 6, 15)) == (65, 66)
    assert age_years(birth, utc(2026, 6, 15)) is None
    assert age_years(birth, utc(2026, 12, 31)) == 66


def test_instants_age_of_a_birth_month() -> None:
    birth = parse_interval("1960-05")
    assert age_years(birth, utc(2026, 6, 1)) == 66
    assert age_years(birth, utc(2026, 5, 15)) is None


def test_instants_leap_day_birthday_and_unborn() -> None:
    birth = parse_interval("2004-02-29")
    assert age_years(birth, utc(2026, 2, 28)) == 21
    assert age_years(birth, utc(2026, 3, 1)) == 22
    assert age_years(birth, utc(2000, 1, 1)) is None


def _one_by_one(texts: list[str]) -> list[datetime] | None:
    try:
        return [parse_instant(text) for text in texts]
    except InstantError:
        return None


_OFTEN = r"\A[0-2]\d{3}-[01]\d-[0-3]\d[Tt ][0-2]\d:[0-5]\d:[0-6]\d(\.\d{1,8})?(Z|z|[+-][0-2]\d:?[0-5]\d)\Z"


@given(st.lists(st.from_regex(_OFTEN) | st.datetimes(timezones=st.timezones()).map(datetime.isoformat), max_size=3))
def test_instants_read_at_once_are_those_read_one_by_one(texts: list[str]) -> None:
    at_once = parse_instants(texts)
    if at_once is not None:
        assert at_once == _one_by_one(texts)
        assert all(moment.tzinfo is UTC for moment in at_once)


def test_instants_reads_the_common_forms_at_once() -> None:
    texts = ["2024-03-05T10:00:00Z", "2024-03-05T22:30:00.123Z", "2024-03-05T10:00:00+02:00"]
    assert parse_instants(texts) == _one_by_one(texts)
