import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import apsw
import pytest

from audit import group_commit
from audit.entry import parse_entry
from audit.entry_operations import GapEntry
from audit.errors import AppendError, AppendTimeoutError, LogClosedError, LogOverloadedError
from audit.log import AuditLog
from audit.merkle import LeafIndex
from audit.storage import Query
from audit.storage.opening import open_storage
from audit.storage.sqlite import SqliteStorage
from audit.storage.sqlite_scan import SqliteScan
from audit.storage.vault_sqlite import SqliteVaultStore, create_vault
from audit.verify import Trust, verify_log

NAME = "faulty"


class Disk:
    """What the next operations meet."""

    def __init__(self) -> None:
        self.failing: frozenset[str] = frozenset()
        self.running = threading.Event()
        self.running.set()

    @contextmanager
    def fails(self, *operations: str) -> Iterator[None]:
        self.failing = frozenset(operations)
        yield
        self.failing = frozenset()

    @contextmanager
    def hangs(self) -> Iterator[None]:
        self.running.clear()
        yield
        self.running.set()

    def meet(self, operation: str) -> None:
        if operation == "sync":
            self.running.wait()
        if operation in self.failing:
            raise apsw.IOError
        if operation == "write" and "space" in self.failing:
            raise apsw.FullError


class FaultyFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: object, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.meet("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.meet("sync")
        super().xSync(flags)


class FaultyVFS(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(NAME, "")

    def xOpen(self, name: object, flags: list[int]) -> FaultyFile:
        return FaultyFile(self._disk, name, flags)


@pytest.fixture(scope="module")
def disk() -> Iterator[Disk]:
    shared = Disk()
    vfs = FaultyVFS(shared)
    yield shared
    vfs.unregister()


@pytest.fixture
def open_faulty(disk: Disk, make_log, clock) -> Iterator[Callable[..., AuditLog]]:
    """Opens a log on the disk that fails when told to: open_faulty(deadline_s, max_waiting)."""
    opened: list[AuditLog] = []

    def open_one(deadline_s: float = 0.25, max_waiting: int = 100) -> AuditLog:
        config, keys = make_log(deadline_s=deadline_s, max_waiting=max_waiting)
        create_vault(config.directory)
        storage, vault = SqliteStorage(config.directory, vfs=NAME), SqliteVaultStore(config.directory)
        opened.append(AuditLog(config, lambda: keys, storage, vault, clock, os.urandom))
        return opened[0]

    yield open_one
    opened[0].close()


def _gap(log: AuditLog) -> GapEntry:
    (found,) = log.find(Query(type="gap/v1"))
    entry = parse_entry(log.entry(LeafIndex(found.index)))
    assert isinstance(entry, GapEntry)
    return entry


@pytest.mark.parametrize("fault", ["write", "sync", "space"])
def test_group_commit_fails_closed_while_the_disk_fails(open_faulty, make_entry, disk, fault) -> None:
    log = open_faulty(deadline_s=1.0)
    log.append(*make_entry(log))
    with disk.fails(fault):
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(AppendError):
                log.append(*make_entry(log))
            assert time.monotonic() - started < 3.0
    assert log.append(*make_entry(log)).index == 2
    assert (_gap(log).reason, _gap(log).unacknowledged) == ("storage", 3)
    report = verify_log(SqliteScan(log.config.directory), Trust((log.keys.signer.verifier_key,)))
    assert report.entries == 3


def test_group_commit_releases_the_caller_while_the_disk_hangs(open_faulty, make_entry, disk) -> None:
    log = open_faulty(deadline_s=0.4)
    log.append(*make_entry(log))
    written, waiting = make_entry(log), make_entry(log)
    with disk.hangs():
        started = time.monotonic()
        with pytest.raises(AppendTimeoutError) as caught:
            log.append(*written)
        assert 0.4 <= time.monotonic() - started < 3.0
        assert not caught.value.withdrawn
        with pytest.raises(AppendTimeoutError) as caught:
            log.append(*waiting)
        assert caught.value.withdrawn
    assert log.append(*written).index == 1
    assert log.index_of(parse_entry(waiting[0]).id) is None
    log.append(*make_entry(log))
    assert (_gap(log).reason, _gap(log).unacknowledged) == ("deadline", 2)


def test_group_commit_tells_the_gap_of_a_process_that_died(open_faulty, make_entry, make_log, disk) -> None:
    log = open_faulty()
    with disk.fails("write"), pytest.raises(AppendError):
        log.append(*make_entry(log))
    (left,) = (log.config.directory / "gaps").iterdir()
    (left.parent / "dead.gap").write_bytes(left.read_bytes())  # as a killed process leaves it: no lock on it
    again = AuditLog.open(log.config, clock=lambda: datetime(2026, 3, 1, 9, tzinfo=UTC))
    again.append(*make_entry(again))
    again.close()
    assert (_gap(log).reason, _gap(log).unacknowledged) == ("storage", 1)
    assert [path.name for path in left.parent.iterdir()] == [left.name]


def test_group_commit_sheds_when_too_many_wait(open_faulty, make_entry, disk) -> None:
    log = open_faulty(max_waiting=4)
    errors: list[Exception] = []

    def write(entry: bytes) -> None:
        try:
            log.append(entry)
        except AppendError as exc:
            errors.append(exc)

    with disk.hangs():
        threads = [threading.Thread(target=write, args=(make_entry(log)[0],)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(errors) == 20
    assert sum(isinstance(error, LogOverloadedError) for error in errors) >= 1


def test_group_commit_sheds_before_it_looks_at_the_entry(open_faulty, make_entry, disk) -> None:
    log = open_faulty(max_waiting=2)
    waiting = [threading.Thread(target=_append_quietly, args=(log, make_entry(log)[0])) for _ in range(3)]
    with disk.hangs():
        for thread in waiting:
            thread.start()
            time.sleep(0.02)
        with pytest.raises(LogOverloadedError):
            log.append(b"this would be no entry")
        for thread in waiting:
            thread.join()
    until = time.monotonic() + 20
    while not log._group._requests.empty():  # what was withdrawn stays in it until the disk goes on
        assert time.monotonic() < until
    log.append(*make_entry(log))
    assert _gap(log).unacknowledged == 4


def _append_quietly(log: AuditLog, entry: bytes) -> None:
    with suppress(AppendError):
        log.append(entry)


def test_group_commit_batches_what_arrived_during_the_previous_commit(open_faulty, make_entry, disk) -> None:
    log = open_faulty(deadline_s=10)
    receipts: list = []
    threads = [threading.Thread(target=lambda: receipts.append(log.append(*make_entry(log)))) for _ in range(6)]
    with disk.hangs():
        for thread in threads:
            thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    sizes = {receipt.tree_size for receipt in receipts}
    assert (len(receipts), max(sizes)) == (6, 6)
    assert len(sizes) <= 3


@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
def test_group_commit_batches_what_arrived_before_its_turn(make_log, open_log, make_entry) -> None:
    """Another process has the lock: whoever comes meanwhile needn't wait for a batch of his own."""
    config, _ = make_log()
    log, other = open_log(config), open_storage(config.directory)
    receipts: list = []
    threads = [threading.Thread(target=lambda: receipts.append(log.append(*make_entry(log)))) for _ in range(4)]
    with other.exclusive():
        for thread in threads:
            thread.start()
            time.sleep(0.05)
    for thread in threads:
        thread.join()
    other.close()
    assert [receipt.tree_size for receipt in receipts] == [4] * 4


@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
def test_group_commit_never_writes_what_was_withdrawn_before_its_turn(make_log, open_log, make_entry) -> None:
    config, _ = make_log(deadline_s=0.1)
    log, other = open_log(config), open_storage(config.directory)
    entry, payload = make_entry(log)
    with other.exclusive(), pytest.raises(AppendTimeoutError) as caught:
        log.append(entry, payload)
    other.close()
    assert caught.value.withdrawn
    log.append(*make_entry(log))
    assert log.index_of(parse_entry(entry).id) is None
    assert [one.type for one in log.find(Query())] == ["decision/v1", "gap/v1"]


def test_group_commit_closed_while_the_disk_hangs_leaves_open_what_the_commit_will_write_to(
    open_faulty, make_entry, disk, tmp_path, monkeypatch
) -> None:
    """The descriptors' numbers would go to other files, and the commit go on into those."""
    monkeypatch.setattr(group_commit, "_CLOSE_TIMEOUT_S", 0.2)
    log = open_faulty()
    log.append(*make_entry(log))
    with disk.hangs():
        with pytest.raises(AppendTimeoutError):
            log.append(*make_entry(log))
        closing = threading.Thread(target=log.close)
        closing.start()
        closing.join(3)
        hung = closing.is_alive()
        victims = [(tmp_path / f"victim-{number}").open("w+b") for number in range(8)]
    log._group._thread.join(20)
    assert not log._group._thread.is_alive()
    assert [os.fstat(victim.fileno()).st_size for victim in victims] == [0] * 8
    assert not hung
    for victim in victims:
        victim.close()
    assert log.config.head_file.read_bytes() == log.checkpoint()
    assert b"\n2\n" in log.checkpoint()
    item = make_entry(log)
    with pytest.raises(LogClosedError):
        log.append(*item)
    log.vault.close()  # what `close` left to the end of the process
    log.storage.close()
