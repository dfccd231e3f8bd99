import logging

from benchmarks.drills import clock


def test_clock_that_falls_back_raises_the_alarm_each_time_and_changes_no_order(tmp_path) -> None:
    figures = clock.run(tmp_path, 0.03)
    assert (figures["falls"], figures["entries"], figures["alarms"]) == (3, 13, 4)
    assert (figures["out_of_order"], figures["alarms_missing"]) == (0, 0)


def test_clock_drill_misses_an_alarm_that_nobody_raises(tmp_path) -> None:
    logger = logging.getLogger("bedside.audit.clock")
    logger.disabled = True
    try:
        assert clock.run(tmp_path, 0.02)["alarms_missing"] == 3
    finally:
        logger.disabled = False
