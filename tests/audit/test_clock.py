import logging
from datetime import UTC, datetime, timedelta

from audit.clock import ASK_AGAIN_S, TOLERANCE, ClockGuard, kernel_synchronised

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def _yes() -> bool:
    return True


def test_clock_in_step_with_a_reference_says_so() -> None:
    assert ClockGuard(None, synchronised=_yes).status(NOON) == "synchronised"
    assert ClockGuard(None, synchronised=lambda: False).status(NOON) == "unsynchronised"


def test_clock_asks_the_kernel() -> None:
    assert kernel_synchronised() in (True, False)


def test_clock_stepping_back_raises_the_alarm_once(caplog) -> None:
    guard = ClockGuard(None, synchronised=_yes)
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
    assert ClockGuard(NOON, synchronised=_yes).status(NOON - HOUR) == "stepped-back"


def test_clock_of_another_host_may_differ_a_little() -> None:
    guard = ClockGuard(NOON, synchronised=_yes)
    assert guard.status(NOON - TOLERANCE) == "synchronised"
    assert guard.status(NOON - TOLERANCE - timedelta(microseconds=1)) == "stepped-back"


def test_clock_is_asked_again_and_not_for_every_entry() -> None:
    answers, elapsed_s = [True, False, True], [0.0]
    guard = ClockGuard(None, synchronised=lambda: answers.pop(0), elapsed_s=lambda: elapsed_s[0])
    told = []
    for moment_s in (0.0, ASK_AGAIN_S - 0.1, ASK_AGAIN_S, 2 * ASK_AGAIN_S - 0.1, 2 * ASK_AGAIN_S):
        elapsed_s[0] = moment_s
        told.append(guard.status(NOON))
    assert told == ["synchronised", "synchronised", "unsynchronised", "unsynchronised", "synchronised"]
    assert not answers
