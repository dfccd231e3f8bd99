import logging
from datetime import UTC, datetime, timedelta

from audit.clock import TOLERANCE, ClockGuard, kernel_synchronised

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_clock_in_step_with_a_reference_says_so() -> None:
    assert ClockGuard(None, synchronised=True).status(NOON) == "synchronised"
    assert ClockGuard(None, synchronised=False).status(NOON) == "unsynchronised"


def test_clock_asks_the_kernel() -> None:
    assert kernel_synchronised() in (True, False)


def test_clock_stepping_back_raises_the_alarm_once(caplog) -> None:
    guard = ClockGuard(None, synchronised=True)
    guard.status(NOON)
    with caplog.at_level(logging.ERROR):
        assert [guard.status(NOON - HOUR + timedelta(seconds=n)) for n in range(3)] == ["stepped-back"] * 3
    (alarm,) = caplog.records
    assert (alarm.getMessage(), alarm.behind_s) == ("clock stepped back", 3600)
    assert guard.status(NOON + HOUR) == "synchronised"
    with caplog.at_level(logging.ERROR):
        guard.status(NOON)
    assert len(caplog.records) == 2


def test_clock_behind_the_newest_entry_of_the_log_is_stepped_back() -> None:
    assert ClockGuard(NOON, synchronised=True).status(NOON - HOUR) == "stepped-back"


def test_clock_of_another_host_may_differ_a_little() -> None:
    guard = ClockGuard(NOON, synchronised=True)
    assert guard.status(NOON - TOLERANCE) == "synchronised"
    assert guard.status(NOON - TOLERANCE - timedelta(microseconds=1)) == "stepped-back"
