import json
from pathlib import Path

import pytest

from benchmarks.drills import crash
from benchmarks.drills.workload import decision, each_log, new_log, open_log


def test_crash_of_writers_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    config = new_log(tmp_path / "log")
    figures = crash.attack(config, tmp_path, kills=5)
    assert figures["kills"] == 5
    assert int(figures["acknowledged"]) > 20
    assert (figures["lost"], figures["duplicate_indices"], figures["receipts_broken"]) == (0, 0, 0)
    assert int(figures["entries"]) >= int(figures["acknowledged"])


@pytest.mark.parametrize(
    ("forge", "figure"),
    [
        (lambda lines: [lines[0] | {"id": "00" * 16}], "lost"),
        (lambda lines: [lines[0], lines[1] | {"proof": lines[0]["proof"]}], "duplicate_indices"),
        (lambda lines: [lines[0] | {"proof": lines[0]["proof"].replace("index 0", "index 1")}], "receipts_broken"),
    ],
)
def test_crash_counts_an_acknowledgement_that_the_log_does_not_bear_out(tmp_path: Path, forge, figure) -> None:
    config = new_log(tmp_path / "log")
    log = open_log(config)
    receipts = [log.record(*decision(log)) for _ in range(3)]
    log.close()
    lines = [{"id": receipt.entry_id, "proof": receipt.proof_text} for receipt in receipts]
    output = tmp_path / "acknowledged"
    output.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sound = crash.judge(config, [output])
    assert (sound["acknowledged"], sound["lost"], sound["duplicate_indices"], sound["receipts_broken"]) == (3, 0, 0, 0)
    output.write_text("".join(json.dumps(line) + "\n" for line in forge(lines)))
    assert crash.judge(config, [output])[figure] == 1


def test_crash_counts_receipts_of_another_history(tmp_path: Path) -> None:
    """The same keys, another tree: receipts verify, and their root isn't one of this log's."""
    config = new_log(tmp_path / "log")
    empty = {path.name: path.read_bytes() for path in config.directory.iterdir() if path.is_file()}
    output = tmp_path / "acknowledged"
    log = open_log(config)
    receipt = log.record(*decision(log))
    log.close()
    output.write_text(json.dumps({"id": receipt.entry_id, "proof": receipt.proof_text}) + "\n")
    for name, content in empty.items():
        (config.directory / name).write_bytes(content)
    (config.directory / "log.sqlite3.seal").unlink(missing_ok=True)
    log = open_log(config)
    log.record(*decision(log))
    log.close()
    figures = crash.judge(config, [output])
    assert (figures["lost"], figures["receipts_broken"]) == (1, 1)


def test_workload_gives_a_log_in_each_store_and_leaves_of_the_size_asked_for(tmp_path: Path) -> None:
    stores = []
    for store, config in each_log(tmp_path):
        log = open_log(config)
        index = log.record(*decision(log, 2048, b"payload")).index
        assert 2040 <= len(log.entry(index)) <= 2048
        assert log.payload(index) == b"payload"
        log.close()
        stores.append(store)
    assert stores[0] == "sqlite"
