from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import format_time
from audit.errors import RetentionError
from audit.merkle import LeafIndex
from audit.retention import Due, RetentionRule, YearCount, count_years, find_due
from audit.storage import KeptPayload

NOW = datetime(2036, 3, 1, 8, 0, tzinfo=UTC)
LAW = "de-630f-bgb"


def _kept(key_ref: int, index: int, year: int) -> KeptPayload:
    return KeptPayload(key_ref, LeafIndex(index), f"{year}-02-01T00:00:00.000000Z")


@pytest.mark.parametrize(
    ("years", "floor_years", "law"),
    [
        (5, 5, ""),
        (5.99, 6, ""),
        (5, 6, LAW),
        (9, 10, ""),
        (0.49, 0, LAW),
        (-1, 0, LAW),
        (10, 3, ""),
        (float("nan"), 6, ""),
    ],
)
def test_retention_rules_that_let_records_go_too_early_are_refused(years: float, floor_years: float, law: str) -> None:
    with pytest.raises(RetentionError):
        RetentionRule(years, floor_years, law)


@pytest.mark.parametrize(("years", "floor_years", "law"), [(6, 6, ""), (30, 10, ""), (0.5, 0, LAW), (3.5, 3, LAW)])
def test_retention_rules_that_keep_long_enough_hold(years: float, floor_years: float, law: str) -> None:
    assert RetentionRule(years, floor_years, law).years == years


@pytest.mark.parametrize("years", [1000.5, 3000, float("inf")])
def test_retention_of_more_years_than_the_calendar_has_is_refused(years: float) -> None:
    with pytest.raises(RetentionError, match="expected at most 1000 years, got"):
        RetentionRule(years)
    assert RetentionRule(1000).latest_due(NOW) == "1036-03-01T08:00:00.000000Z"


def test_retention_ends_after_ten_years_to_the_microsecond() -> None:
    rule = RetentionRule()
    assert rule.check_ended("2026-03-01T08:00:00.000000Z", NOW, None) == "ended"
    with pytest.raises(RetentionError, match=r"kept for 10 years, the newest record is of 2026-03-01$"):
        rule.check_ended("2026-03-01T08:00:00.000001Z", NOW, None)


def test_retention_of_no_records_has_ended() -> None:
    assert RetentionRule().check_ended(None, NOW, None) == "ended"


def test_retention_of_a_leap_day_does_not_end_a_day_early() -> None:
    rule, record = RetentionRule(), "2028-02-29T12:00:00.000000Z"
    with pytest.raises(RetentionError):
        rule.check_ended(record, datetime(2038, 2, 28, 23, tzinfo=UTC), None)
    assert rule.check_ended(record, datetime(2038, 3, 1, 12, tzinfo=UTC), None) == "ended"
    assert rule.latest_due(datetime(2028, 2, 29, 12, tzinfo=UTC)) == "2018-02-28T12:00:00.000000Z"


def test_retention_is_cut_short_by_the_law_the_tenant_names_and_no_other() -> None:
    rule, record = RetentionRule(law=LAW), "2030-01-01T00:00:00.000000Z"
    assert rule.check_ended(record, NOW, LAW) == LAW
    assert rule.check_ended("2020-01-01T00:00:00.000000Z", NOW, LAW) == "ended"
    for override in ("fr-l1111-7", "", "-"):
        with pytest.raises(RetentionError, match="expected the law"):
            rule.check_ended(record, NOW, override)
    with pytest.raises(RetentionError, match="none is named"):
        RetentionRule().check_ended(record, NOW, LAW)
    with pytest.raises(RetentionError, match="none is named"):
        RetentionRule().check_ended(record, NOW, "")


def test_retention_is_never_cut_below_183_days() -> None:
    rule = RetentionRule(law=LAW)
    assert rule.check_ended(format_time(NOW - timedelta(days=183)), NOW, LAW) == LAW
    with pytest.raises(RetentionError, match="183 days by any law"):
        rule.check_ended(format_time(NOW - timedelta(days=183) + timedelta(microseconds=1)), NOW, LAW)
    with pytest.raises(RetentionError, match="183 days by any law"):
        RetentionRule(0.5, 0, LAW).check_ended(format_time(NOW), NOW, LAW)


def test_retention_of_part_of_a_year_is_kept_for_as_many_days_as_the_longest_year_has() -> None:
    assert RetentionRule(0.5, 0, LAW).latest_due(NOW) == format_time(NOW - timedelta(days=183))
    assert RetentionRule(6.5).latest_due(NOW) == "2029-08-31T08:00:00.000000Z"


def test_retention_counts_each_year() -> None:
    payloads = [_kept(1, 0, 2020), _kept(1, 2, 2031), _kept(2, 3, 2019), _kept(3, 1, 2020)]
    counts = count_years(payloads, RetentionRule().latest_due(NOW), {3})
    assert counts == (YearCount("2019", 1, 1, 0), YearCount("2020", 2, 1, 1), YearCount("2031", 1, 0, 0))


def test_retention_takes_whole_keys_only_where_nothing_newer_is_under_them() -> None:
    older = _kept(2, 2, 2020)
    payloads = [_kept(1, 0, 2020), _kept(1, 1, 2021), older, _kept(2, 3, 2031), _kept(3, 4, 2031)]
    assert find_due(payloads, RetentionRule().latest_due(NOW), (), 100) == Due((1,), (older,))


def test_retention_takes_nothing_that_is_held() -> None:
    payloads = [_kept(1, 0, 2020), _kept(1, 1, 2021), _kept(2, 2, 2020)]
    assert find_due(payloads, RetentionRule().latest_due(NOW), {1}, 100) == Due((2,), ())


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(2018, 2034)), max_size=30),
    st.sets(st.integers(1, 4)),
    st.integers(1, 40),
)
def test_retention_takes_what_is_due_and_no_more_than_asked(
    rows: list[tuple[int, int]], held: set[int], limit: int
) -> None:
    payloads = [_kept(key_ref, index, year) for index, (key_ref, year) in enumerate(sorted(rows))]
    latest = RetentionRule().latest_due(NOW)
    found = find_due(payloads, latest, held, limit)
    under = {payload for payload in payloads if payload.key_ref in found.key_refs}
    due = {payload for payload in payloads if payload.time <= latest and payload.key_ref not in held}
    taken = under | set(found.payloads)
    assert not under & set(found.payloads)
    assert taken <= due
    assert len(taken) == min(limit, len(due))
