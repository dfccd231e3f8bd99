from pathlib import Path

from benchmarks.drills import throughput
from benchmarks.drills.loading import Outcome
from benchmarks.drills.workload import new_log


def test_throughput_measures_an_open_and_a_closed_loop(tmp_path: Path) -> None:
    config = new_log(tmp_path / "log")
    at_rate = throughput.measure(config, 0.4, 100)
    assert 1 <= int(at_rate["offered"]) <= 44  # a stalled machine offers less, never more
    assert (at_rate["lost"], at_rate["refused"]) == (0, 0)
    assert 0 < float(at_rate["p50_ms"]) <= float(at_rate["p99_ms"])
    closed = throughput.measure(config, 0.2, None)
    assert int(closed["per_s"]) > 0
    assert closed["lost"] == 0


def test_throughput_tells_fairness_and_loss(tmp_path: Path) -> None:
    config = new_log(tmp_path / "log")
    slow = Outcome(offered=1, acknowledged={"aa" * 16: 0}, latencies_s=[0.1], began=0.0, ended=2.0)
    fast = Outcome(offered=4, acknowledged={f"{n:032x}": n for n in range(4)}, latencies_s=[0.2], began=0.0, ended=2.0)
    figures = throughput.summarise(config, [slow, fast])
    assert (figures["per_s"], figures["fairness"], figures["lost"], figures["p99_ms"]) == (2, 0.25, 5, 200.0)
