from pathlib import Path

from benchmarks.drills import two_hosts
from tests.programs import need


def test_two_hosts_write_one_log_and_one_is_killed_in_mid_batch(tmp_path: Path) -> None:
    need("initdb")
    figures = two_hosts.run(tmp_path, scale=0.01)
    assert figures["kills_in_mid_batch"] == 2
    assert (figures["lost"], figures["duplicate_indices"], figures["receipts_broken"]) == (0, 0, 0)
    assert int(figures["entries"]) >= int(figures["acknowledged"]) > 20
    assert (figures["heads_in_the_log"], figures["hosts"]) == (2, 2)
    assert int(figures["turns"]) > 2
    assert float(figures["longest_pause_s"]) < 10
