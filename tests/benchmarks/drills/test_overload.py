from pathlib import Path

from benchmarks.drills import overload
from benchmarks.drills.loading import Load, Outcome, offer, quantile_ms
from benchmarks.drills.workload import decision, new_log, open_log

LOAD = Load(1.0, None, 2, 0, 0, 10)


def test_overload_ends_every_offer_and_loses_nothing(tmp_path: Path) -> None:
    figures = overload.run(tmp_path, 0.05)
    assert int(figures["offered"]) > 100
    assert int(figures["acknowledged"]) > 0
    never = ("silent", "acknowledged_not_durable", "gaps_untold", "waiting_above_bound")
    assert {figures[name] for name in never} == {0}


def test_overload_counts_what_must_not_happen(tmp_path: Path) -> None:
    config = new_log(tmp_path / "log")
    log = open_log(config)
    receipt = log.record(*decision(log))
    log.close()
    lying = Outcome(offered=5, shed=1, refused=1, acknowledged={"ab" * 16: 0}, latencies_s=[0.1], most_waiting=99)
    lying.last_offered = lying.ended = lying.recovered = 2.0
    figures = overload.judge(config, [lying], LOAD)
    assert (figures["silent"], figures["acknowledged_not_durable"], figures["gaps_untold"]) == (3, 1, 1)
    assert (figures["waiting_above_bound"], figures["recovery_s"], receipt.index) == (1, 1.0, 0)


def test_loading_in_a_closed_loop_offers_what_was_prepared(tmp_path: Path) -> None:
    outcomes = offer(new_log(tmp_path / "log"), Load(30.0, None, 2, 2048, 100, 10), processes=2)
    assert [outcome.offered for outcome in outcomes] == [10, 10]
    assert sorted(index for outcome in outcomes for index in outcome.acknowledged.values()) == list(range(20))


def test_loading_in_an_open_loop_keeps_its_rate(tmp_path: Path) -> None:
    (outcome,) = offer(new_log(tmp_path / "log"), Load(0.5, 40.0, 2, 0, 0, 100), processes=1)
    assert 1 <= outcome.offered <= 20  # a stalled machine offers less, never more
    assert outcome.last_offered - outcome.began < 0.5


def test_loading_gives_quantiles() -> None:
    seconds = [number / 1000 for number in range(100)]
    assert (quantile_ms(seconds, 0.5), quantile_ms(seconds, 0.99), quantile_ms([], 0.5)) == (50.0, 99.0, 0.0)
