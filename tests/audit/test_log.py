import os
import threading
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from audit.entry import format_entry, parse_entry
from audit.entry_operations import GapEntry
from audit.errors import (
    AppendError,
    EntryConflictError,
    EntryError,
    ForkError,
    KeyFileError,
    LogClosedError,
    NoSuchEntryError,
    PayloadError,
    RollbackError,
    StorageError,
)
from audit.log import AuditLog, create_log
from audit.merkle import EMPTY_ROOT, LeafIndex, TreeSize, leaf_hash
from audit.proof import check_proof, parse_proof, proven_leaf
from audit.storage import Query
from tests.audit.stores import both_stores

pytestmark = both_stores


def _vkeys(log: AuditLog) -> list:
    return [log.keys.signer.verifier_key]


def test_log_acknowledges_with_a_receipt_that_stands_alone(log, make_entry) -> None:
    for expected_index in range(20):
        entry, _ = make_entry(log)
        receipt = log.append(entry)
        proof = parse_proof(receipt.proof_text.encode())
        checkpoint = check_proof(proof, leaf_hash(entry), _vkeys(log), origin=receipt.origin)
        assert receipt.index == proof.index == expected_index
        assert receipt.tree_size == checkpoint.size == expected_index + 1
        assert receipt.leaf_hash == proven_leaf(proof) == leaf_hash(entry)
        assert log.entry(receipt.index) == entry


def test_log_appends_several_in_one_commit(log, make_entry) -> None:
    receipts = log.append_all([make_entry(log) for _ in range(9)])
    assert [receipt.index for receipt in receipts] == list(range(9))
    assert {receipt.tree_size for receipt in receipts} == {9}
    for receipt in receipts:
        check_proof(parse_proof(receipt.proof_text.encode()), receipt.leaf_hash, _vkeys(log))


def test_log_proves_every_entry_in_the_newest_checkpoint(log, make_entry) -> None:
    entries = [make_entry(log)[0] for _ in range(13)]
    for entry in entries:
        log.append(entry)
    for index, entry in enumerate(entries):
        proof = log.prove(LeafIndex(index))
        assert proof.extra == entry
        assert check_proof(proof, leaf_hash(entry), _vkeys(log)).size == 13


def test_log_reads_entries_in_order_from_any_place(log, make_entry) -> None:
    entries = [make_entry(log)[0] for _ in range(5)]
    assert list(log.entries()) == []
    log.append_all([(entry, None) for entry in entries])
    assert list(log.entries()) == entries
    assert list(log.entries(LeafIndex(3))) == entries[3:]
    assert list(log.entries(LeafIndex(5))) == []


def test_log_gives_ids_that_are_uuids_and_rise_with_time(log) -> None:
    made = [log.new_entry_id() for _ in range(200)]
    assert {(uuid.UUID(hex=one).version, uuid.UUID(hex=one).variant) for one in made} == {(7, uuid.RFC_4122)}
    assert made == sorted(made)  # the clock of this test moves a second with each look
    assert len({one[-15:] for one in made}) == 200


def test_log_acknowledges_an_entry_again_at_the_same_place(log, make_entry) -> None:
    entry, sealed = make_entry(log, b"payload")
    first = log.append(entry, sealed)
    log.append(*make_entry(log))
    again = log.append(entry, sealed)
    assert (again.index, again.entry_id, again.leaf_hash) == (first.index, first.entry_id, first.leaf_hash)
    assert again.tree_size == 2
    check_proof(parse_proof(again.proof_text.encode()), leaf_hash(entry), _vkeys(log))
    twice = log.append_all([make_entry(log, entry_id="ab" * 16)] * 2)
    assert {receipt.index for receipt in twice} == {2}


def test_log_refuses_other_bytes_under_a_taken_id(log, make_entry) -> None:
    entry_id = log.new_entry_id()
    log.append(*make_entry(log, entry_id=entry_id))
    with pytest.raises(EntryConflictError):
        log.append(*make_entry(log, entry_id=entry_id, status="error"))
    assert open_checkpoint(log.checkpoint(), _vkeys(log)).size == 1


def test_log_returns_the_payload_of_an_entry(log, make_entry) -> None:
    receipt = log.append(*make_entry(log, b"eGFR 41.5"))
    bare = log.append(*make_entry(log))
    assert log.payload(receipt.index) == b"eGFR 41.5"
    for index in (bare.index, LeafIndex(99)):
        with pytest.raises(NoSuchEntryError):
            log.payload(index)


def test_log_stores_no_payload_in_clear(log, make_entry, store_files) -> None:
    log.append(*make_entry(log, b"canary-4711" * 3))
    for name, data in store_files.copy(log.config).items():
        assert b"canary-4711" not in data, name


def test_log_notices_a_changed_payload_when_reading(log, make_entry, store_files) -> None:
    receipt = log.append(*make_entry(log, b"value"))
    store_files.change(log.config, "UPDATE payloads SET sealed = x'00'")
    with pytest.raises(PayloadError):
        log.payload(receipt.index)


def test_log_refuses_what_it_may_not_hold(log, make_entry) -> None:
    entry, sealed = make_entry(log, b"payload")
    with pytest.raises(EntryError, match="another payload"):
        log.append(entry, None)
    with pytest.raises(EntryError, match="another payload"):
        log.append(make_entry(log)[0], sealed)
    with pytest.raises(EntryError, match="tenant"):
        log.append(*make_entry(log, tenant="south"))
    with pytest.raises(EntryError):
        log.append(b'{"name":"Jane Doe"}')
    assert open_checkpoint(log.checkpoint(), _vkeys(log)).size == 0


def test_log_finds_entries_by_time_type_and_service(log, make_entry, clock) -> None:
    for day in (1, 2, 3):
        log.append(*make_entry(log, time=f"2026-03-0{day}T00:00:00.000000Z"))
    gap = GapEntry(
        id=log.new_entry_id(), time="2026-03-04T00:00:00.000000Z", clock="ok", tenant="north",
        since="2026-03-04T00:00:00.000000Z", until="2026-03-04T00:00:00.000000Z", reason="test", unacknowledged=0,
    )  # fmt: skip
    log.append(format_entry(gap))
    assert [found.index for found in log.find(Query())] == [3, 2, 1, 0]
    assert [found.index for found in log.find(Query(type="gap/v1"))] == [3]
    assert [found.index for found in log.find(Query(service="prevent-cvd", limit=2))] == [2, 1]
    assert [found.index for found in log.find(Query(since="2026-03-02", until="2026-03-03T23"))] == [2, 1]
    assert log.index_of(gap.id) == 3
    assert log.index_of("00" * 16) is None


def test_log_keeps_what_it_acknowledged_across_reopening(make_log, open_log, make_entry) -> None:
    config, _ = make_log()
    first = open_log(config)
    entry, sealed = make_entry(first, b"payload")
    receipt = first.append(entry, sealed)
    first.close()
    second = open_log(config)
    assert second.entry(receipt.index) == entry
    assert second.append(*make_entry(second)).index == 1


def test_log_orders_by_index_when_the_clock_goes_back(log, make_entry) -> None:
    log.append(*make_entry(log, time="2026-03-02T00:00:00.000000Z"))
    assert log.append(*make_entry(log, time="2026-03-01T23:00:00.000000Z")).index == 1


def test_log_opened_while_the_clock_is_behind_knows_the_latest_time_and_not_the_last(
    make_log, open_log, make_entry
) -> None:
    config, _ = make_log()
    log = open_log(config)
    log.append(*make_entry(log, time="2026-03-02T00:00:00.000000Z"))
    log.append(*make_entry(log, time="2026-03-01T23:00:00.000000Z"))
    log.close()
    behind = datetime(2026, 3, 1, 23, 1, tzinfo=UTC)
    assert open_log(config).clock_status(behind) == "stepped-back"


def test_log_from_many_threads_gives_each_entry_one_place(log, make_entry) -> None:
    receipts: list = []

    def write() -> None:
        receipts.extend(log.append(*make_entry(log, b"payload")) for _ in range(25))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receipt.index for receipt in receipts) == list(range(200))
    for receipt in receipts:
        check_proof(parse_proof(receipt.proof_text.encode()), receipt.leaf_hash, _vkeys(log))


def test_log_opened_twice_is_one_log(make_log, open_log, make_entry) -> None:
    config, _ = make_log()
    first, second = open_log(config), open_log(config)
    indices = [log.append(*make_entry(log)).index for _ in range(5) for log in (first, second)]
    assert indices == list(range(10))


def test_log_rolled_back_refuses_to_open(make_log, open_log, make_entry, store_files) -> None:
    config, _ = make_log()
    log = open_log(config)
    log.append(*make_entry(log))
    log.close()
    old = store_files.copy(config)
    log = open_log(config)
    log.append(*make_entry(log))
    log.close()
    store_files.put_back(config, old)
    with pytest.raises(RollbackError) as caught:
        open_log(config)
    assert (b"\n2\n" in caught.value.known, b"\n1\n" in caught.value.found) == (True, True)


def test_log_forked_refuses_to_open(make_log, open_log, make_entry, store_files) -> None:
    config, _ = make_log()
    empty = store_files.copy(config)
    log = open_log(config)
    log.append(*make_entry(log))
    log.close()
    head_file = config.directory / "head"
    known = head_file.read_bytes()
    store_files.put_back(config, empty)
    head_file.write_bytes(sign_checkpoint(Checkpoint(config.origin, TreeSize(0), EMPTY_ROOT), [log.keys.signer]))
    log = open_log(config)
    log.append_all([make_entry(log), make_entry(log)])
    log.close()
    head_file.write_bytes(known)
    with pytest.raises(ForkError):
        open_log(config)


def test_log_rolled_back_under_way_stops_appending(make_log, open_log, make_entry, store_files) -> None:
    config, _ = make_log()
    log = open_log(config)
    for _ in range(3):
        log.append(*make_entry(log))
    store_files.change(config, "DELETE FROM checkpoints WHERE size = 3")
    with pytest.raises(AppendError, match="rolled back"):
        log.append(*make_entry(log))


def test_log_forked_under_way_stops_appending(make_log, open_log, make_entry, store_files) -> None:
    config, _ = make_log()
    ours, theirs = open_log(config), open_log(config)
    for log in (ours, theirs):
        log.append(*make_entry(log))
    store_files.change(config, "UPDATE checkpoints SET note = x'00' WHERE size = 1")
    with pytest.raises(AppendError, match="the log forked"):
        ours.append(*make_entry(ours))


def test_log_without_head_file_refuses_to_open(make_log, open_log) -> None:
    config, _ = make_log()
    (config.directory / "head").unlink()
    with pytest.raises(StorageError, match="head file"):
        open_log(config)


def test_log_with_an_older_head_opens(make_log, open_log, make_entry) -> None:
    """A crash between commit and head file leaves the head behind the store, which is harmless."""
    config, _ = make_log()
    log = open_log(config)
    log.append(*make_entry(log))
    behind = (config.directory / "head").read_bytes()
    log.append(*make_entry(log))
    log.close()
    (config.directory / "head").write_bytes(behind)
    assert open_log(config).append(*make_entry(log)).index == 2


def test_log_opens_beside_a_head_that_still_ends_as_a_longer_one_did(make_log, open_log, make_entry) -> None:
    """A process killed between the write and the cut, when a retired key makes checkpoints shorter."""
    config, _ = make_log()
    log = open_log(config)
    log.append(*make_entry(log))
    log.close()
    head = config.directory / "head"
    newest = head.read_bytes()
    head.write_bytes(newest + newest[-50:])
    log = open_log(config)
    log.append(*make_entry(log))
    assert head.read_bytes() == log.checkpoint()


def test_log_keeps_its_head_where_it_is_told(tmp_path: Path, make_log, open_log, make_entry) -> None:
    config, _ = make_log(head_path=tmp_path / "elsewhere")
    log = open_log(config)
    log.append(*make_entry(log))
    assert (tmp_path / "elsewhere").read_bytes() == log.checkpoint()
    assert (config.directory / "head").readlink() == tmp_path / "elsewhere"


def test_log_of_another_origin_refuses_to_open(make_log, open_log) -> None:
    config, _ = make_log()
    with pytest.raises(KeyFileError, match="expected one of hospital"):
        open_log(replace(config, origin="hospital.example/other"))


def test_log_is_never_made_over_another(make_log) -> None:
    config, keys = make_log()
    with pytest.raises(StorageError, match="exists already"):
        create_log(config, keys)


def test_log_closed_or_forked_away_refuses_appends(log, make_entry) -> None:
    item = make_entry(log)
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            log.append(*item)
        except LogClosedError:
            os.write(write, b"refused")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 20) == b"refused"
    log.close()
    with pytest.raises(LogClosedError):
        log.append(*item)


def test_log_records_a_value_as_it_appends_its_bytes(log, make_entry) -> None:
    entry, sealed = make_entry(log, b"value")
    receipt = log.record(parse_entry(entry), sealed)
    assert log.append(entry, sealed) == receipt
    with pytest.raises(EntryError, match="another payload"):
        log.record(parse_entry(entry), None)
