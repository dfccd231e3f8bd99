"""A head that another wrote: nothing is built on one that no key in force signed, or on one beyond the end of the log."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from audit.checkpoint import Checkpoint, format_checkpoint, sign_checkpoint
from audit.committer import Appendable, _rows
from audit.entry import format_entry, parse_entry, read_header
from audit.entry_operations import GapEntry, SwitchEntry
from audit.errors import AppendError, EpochEndedError, KeyFileError, UnsignedHeadError
from audit.keys import Ed25519Signer, KeyRing, load_keys
from audit.log import AuditLog, LogConfig
from audit.merkle import LeafIndex, extend, leaf_hash, read_frontier, root
from audit.note import Note, Signature, Signer, format_note
from audit.rotation import retire, rotate
from audit.storage import Foreseen, Query, StoredCheckpoint
from audit.storage.opening import open_storage
from tests.audit.stores import both_stores
from tests.audit.test_rotation import _opener
from tests.audit.writer import TIME, write_entry

pytestmark = both_stores
NOW = datetime(2026, 3, 2, tzinfo=UTC)
Sign = Callable[[Checkpoint], bytes]


@pytest.fixture
def config(make_log: Callable[..., tuple[LogConfig, KeyRing]]) -> LogConfig:
    """Of a log with two entries."""
    made, _ = make_log()
    with _opener(made)() as log:
        for _ in range(2):
            write_entry(log)
    return made


def _entry(entry_id: str) -> bytes:
    return format_entry(
        GapEntry(
            id=entry_id,
            time=TIME,
            clock="ok",
            tenant="north",
            since=TIME,
            until=TIME,
            reason="forged",
            unacknowledged=0,
        )
    )


def _inject(config: LogConfig, sign: Sign, entry: bytes | None = None) -> int:
    """The index of an entry put into the store by whoever can write there, under a checkpoint that `sign` makes."""
    storage = open_storage(config.directory)
    try:
        with storage.exclusive() as transaction:
            before = read_frontier(transaction.newest_checkpoint().size, transaction.node)
            data = _entry(os.urandom(16).hex()) if entry is None else entry
            item = Appendable(read_header(data), data, leaf_hash(data), None)
            after, completed = extend(before, [item.leaf])
            note = sign(Checkpoint(config.origin, after.size, root(after)))
            transaction.append(_rows(before.size, [item], completed), StoredCheckpoint(after.size, note))
    finally:
        storage.close()
    return int(before.size)


def _by(signers: Sequence[Signer]) -> Sign:
    return lambda checkpoint: sign_checkpoint(checkpoint, signers)


def _size(config: LogConfig) -> int:
    storage = open_storage(config.directory)
    try:
        return int(storage.newest_checkpoint().size)
    finally:
        storage.close()


def _forgeries(config: LogConfig) -> dict[str, Sign]:
    """Checkpoints that somebody without a key can make."""
    nobody = Ed25519Signer(config.origin, os.urandom(32))
    ours = load_keys(config.directory).signer.verifier_key
    empty = Signature(ours.name, ours.key_id, bytes(64))
    return {
        "nobody's key": _by([nobody]),
        "our key id": lambda checkpoint: format_note(Note(format_checkpoint(checkpoint), (empty,))),
        "no note": lambda checkpoint: format_checkpoint(checkpoint).encode(),
    }


@pytest.mark.parametrize("forgery", ["nobody's key", "our key id", "no note"])
def test_head_guard_builds_on_no_checkpoint_that_the_log_did_not_sign(config: LogConfig, forgery: str) -> None:
    with _opener(config)() as running:
        write_entry(running)
        _inject(config, _forgeries(config)[forgery])
        for _ in range(2):
            with pytest.raises(
                AppendError, match="the newest checkpoint, of size 4, isn't signed by the log"
            ) as caught:
                write_entry(running)
            assert isinstance(caught.value.__cause__, UnsignedHeadError)
        assert _size(config) == 4
        (noted,) = [path.read_text() for path in (config.directory / "gaps").iterdir()]
        assert '"reason":"storage"' in noted
        assert '"unacknowledged":2' in noted
    with pytest.raises(UnsignedHeadError, match="isn't signed by the log"):
        AuditLog.open(config, clock=lambda: NOW)


def test_head_guard_builds_on_no_checkpoint_of_another_log_or_size(config: LogConfig) -> None:
    keys = load_keys(config.directory)
    with _opener(config)() as running:
        write_entry(running)
        _inject(config, lambda checkpoint: sign_checkpoint(replace(checkpoint, origin="another"), keys.signers))
        with pytest.raises(AppendError, match="filed under size 4, isn't the one of that size of this log"):
            write_entry(running)


def test_head_guard_builds_on_no_head_that_only_a_retired_key_signed(config: LogConfig) -> None:
    stolen = load_keys(config.directory).signers
    rotate(config.directory, _opener(config), NOW, os.urandom)
    retire(config.directory, _opener(config), NOW)
    with _opener(config)() as running:
        write_entry(running)
        _inject(config, _by(stolen))
        with pytest.raises(AppendError, match="isn't signed by a key in force, only by retired ones"):
            write_entry(running)
        assert _size(config) == 6
    with pytest.raises(UnsignedHeadError, match="isn't signed by a key in force, only by retired ones"):
        AuditLog.open(config, clock=lambda: NOW)


def test_head_guard_knows_a_retired_key_where_the_host_still_signs_with_it(config: LogConfig, tmp_path: Path) -> None:
    """The host's key files are those of the overlap: both keys, of which one was retired elsewhere."""
    rotate(config.directory, _opener(config), NOW, os.urandom)
    stolen, overlap = load_keys(config.directory).signers[:1], tmp_path / "keys"
    shutil.copytree(config.directory / "keys", overlap)
    retire(config.directory, _opener(config), NOW)
    shutil.rmtree(config.directory / "keys")
    shutil.copytree(overlap, config.directory / "keys")
    with _opener(config)() as running:
        write_entry(running)
        _inject(config, _by(stolen))
        with pytest.raises(AppendError, match="only by retired ones"):
            write_entry(running)
    with pytest.raises(UnsignedHeadError, match="only by retired ones"):
        AuditLog.open(config, clock=lambda: NOW)


def test_head_guard_refuses_to_start_with_a_key_retired_since_this_host_saw_the_log(
    config: LogConfig, tmp_path: Path
) -> None:
    stolen, before = load_keys(config.directory), tmp_path / "before"
    shutil.copytree(config.directory / "keys", before)
    head = config.head_file.read_bytes()
    rotate(config.directory, _opener(config), NOW, os.urandom)
    retire(config.directory, _opener(config), NOW)
    _inject(config, _by(stolen.signers))
    # as on a host that was away meanwhile: its own keys and head, and only its own key listed
    config.head_file.write_bytes(head)
    shutil.rmtree(config.directory / "keys")
    shutil.copytree(before, config.directory / "keys")
    vkeys = config.directory / "log.vkey"
    vkeys.write_text(vkeys.read_text().splitlines()[0] + "\n")
    with pytest.raises(KeyFileError, match="retired, and its successor isn't among the key files here"):
        AuditLog.open(config, clock=lambda: NOW)


def _close_log(log: AuditLog) -> None:
    log.record(
        SwitchEntry(
            id=log.new_entry_id(),
            time=TIME,
            clock="ok",
            tenant="north",
            scope="log",
            name="2",
            off=True,
            reason="key-compromise",
            operator=None,
        )
    )


def test_head_guard_finds_the_end_of_the_log_below_what_the_stolen_key_added(config: LogConfig) -> None:
    stolen = load_keys(config.directory).signers
    with _opener(config)() as running:
        write_entry(running)
        head = config.head_file.read_bytes()
        with _opener(config)() as other:
            _close_log(other)
        for _ in range(3):
            _inject(config, _by(stolen))
        for _ in range(2):
            with pytest.raises(AppendError, match=r"the log is closed \(key-compromise\); it goes on in epoch 2"):
                write_entry(running)
    config.head_file.write_bytes(head)  # as on another host, which wasn't running meanwhile
    with pytest.raises(EpochEndedError, match="goes on in epoch 2"):
        AuditLog.open(config, clock=lambda: NOW)
    AuditLog.open(config, clock=lambda: NOW, reading=True).close()


def test_head_guard_has_the_process_that_closed_the_log_stop_too(config: LogConfig) -> None:
    with _opener(config)() as running:
        _close_log(running)
        with pytest.raises(AppendError, match="goes on in epoch 2"):
            write_entry(running)
    assert _size(config) == 3


def test_head_guard_looks_at_what_came_since_and_at_no_more(config: LogConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without the new key, beside one that has it: nothing is searched, whatever the log's size."""
    alone = load_keys(config.directory)
    rotate(config.directory, _opener(config), NOW, os.urandom)
    with _opener(config)() as here:
        there = AuditLog.open(config, clock=lambda: NOW, keys=alone)
        starts: list[int] = []
        for log in (here, there):
            kind = type(log.storage)
            monkeypatch.setattr(kind, "find", lambda self, query: pytest.fail("a search under the lock"))
        with there.storage.exclusive() as transaction:
            rows = type(transaction)
        ask = rows.entries_of

        def noting(self: object, types: Sequence[str], start: int, last: int) -> list[bytes]:
            starts.append(start)
            return ask(self, types, start, last)

        monkeypatch.setattr(rows, "entries_of", noting)
        for _ in range(3):
            for log in (here, there):
                write_entry(log)
        assert starts == [3, 3, 4, 5, 6, 7]
        there.close()


def test_storage_gives_the_entries_of_these_types_and_the_last_one(config: LogConfig) -> None:
    with _opener(config)() as log:
        _close_log(log)
        log_size = log.storage.newest_checkpoint().size
        for start, last, expected in ((0, 0, [0, 2]), (0, 1, [1, 2]), (0, 2, [2]), (3, 1, [1]), (2, 2, [2])):
            with log.storage.exclusive() as transaction:
                found = transaction.entries_of(("switch/v1", "keyrotate/v1"), start, last)
            assert found == [log.entry(index) for index in expected]
        assert log_size == 3
        assert [one.index for one in log.find(Query(type="switch/v1"))] == [2]
        assert isinstance(parse_entry(log.entry(2)), SwitchEntry)


def test_storage_answers_what_was_foreseen_as_it_answers_what_was_not(config: LogConfig) -> None:
    with _opener(config)() as log:
        _close_log(log)
        logged = [parse_entry(log.entry(index)).id for index in range(3)]
        asked = [logged[2], "0" * 32, logged[0]]
        types = ("switch/v1", "keyrotate/v1")
        for since in range(4):
            answers = []
            for foreseen in ((), (asked, types, since), (asked[:1], types[:1], since)):
                with log.storage.exclusive(partial(Foreseen, *foreseen)) as transaction:
                    answers.append((transaction.places(asked), transaction.entries_of(types, since, LeafIndex(2))))
            places, entries = answers[0]
            assert places == {logged[0]: (0, log.entry(0)), logged[2]: (2, log.entry(2))}
            assert entries == [log.entry(2)]
            assert answers[1:] == answers[:1] * 2
