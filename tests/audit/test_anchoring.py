from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from audit.anchoring import FIRST_PAUSE, LONGEST_PAUSE, Anchoring, Outsiders
from audit.checkpoint import open_checkpoint, parse_checkpoint
from audit.cosignature import Cosigner
from audit.entry import parse_entry
from audit.entry_operations import AnchorEntry
from audit.errors import StorageError
from audit.heads import read_heads
from audit.log import AuditLog
from audit.merkle import TreeSize
from audit.note import parse_note
from audit.outside import Ask
from audit.storage import Anchor, StoredCheckpoint
from audit.timestamps import TimestampAuthority, check_timestamp, load_roots
from audit.witnessing import KnownWitness, ask_cosignature
from bedside.outside import Outside, Place
from tests.audit.memory_log import Tree, leaves
from tests.audit.outsiders import answering, running_witness
from tests.audit.stores import StoreFiles, both_stores
from tests.audit.time_authority import TimeAuthority
from tests.conftest import free_port

KEY = Cosigner("witness.example/w1", bytes(32)).verifier_key


class Clock:
    """Shows what it was set to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def moment() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def stamps(tmp_path_factory: pytest.TempPathFactory) -> TimeAuthority:
    return TimeAuthority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What runs until the test ends."""
    with ExitStack() as stack:
        yield stack


def _add(log: AuditLog, make_entry: Callable, count: int = 1) -> None:
    for _ in range(count):
        log.append(*make_entry(log))


def _ask(*places: KnownWitness | TimestampAuthority) -> Ask:
    return Outside(Place(place.url) for place in places)


def _witness(running: ExitStack, log: AuditLog, place: Path, name: str = "witness.example/w1") -> KnownWitness:
    return running.enter_context(running_witness(place, log.keys.verifier_keys, name))


def _authority(running: ExitStack, stamps: TimeAuthority) -> TimestampAuthority:
    return TimestampAuthority("stamps", running.enter_context(stamps.running()).url, load_roots(stamps.roots))


def _dead(witness: KnownWitness) -> KnownWitness:
    return KnownWitness(witness.key, f"http://127.0.0.1:{free_port()}")


def _entries(log: AuditLog) -> list[AnchorEntry]:
    found = [parse_entry(entry) for entry in log.entries()]
    return [entry for entry in found if isinstance(entry, AnchorEntry)]


def test_anchoring_keeps_evidence_head_and_entry_of_each_outsider(
    log: AuditLog, make_entry: Callable, moment: Clock, running: ExitStack, stamps: TimeAuthority, tmp_path: Path
) -> None:
    one = _witness(running, log, tmp_path / "w1")
    two = _witness(running, log, tmp_path / "w2", "witness.example/w2")
    authority = _authority(running, stamps)
    _add(log, make_entry, 3)
    note = log.checkpoint()
    outsiders = Outsiders(_ask(one, two, authority), (one, two), (authority,))
    done = Anchoring(log, outsiders, moment).round()
    assert done.failures == ()
    anchors = log.storage.anchors()
    assert set(anchors) == set(done.anchors)
    assert {(anchor.kind, anchor.authority, anchor.size) for anchor in anchors} == {
        ("cosignature", "witness.example/w1", 3),
        ("cosignature", "witness.example/w2", 3),
        ("rfc3161", "stamps", 3),
    }
    for anchor in anchors:
        if anchor.kind == "rfc3161":
            check_timestamp(anchor.evidence, note, authority.roots)
            assert stamps.verifies(anchor.evidence, note)
    for witness in (one, two):
        (anchor,) = [anchor for anchor in anchors if anchor.authority == witness.name]
        opened = open_checkpoint(anchor.evidence, log.keys.verifier_keys, witness_keys=[witness.key], quorum=1)
        assert opened == parse_checkpoint(parse_note(note).text)
    assert {head for _, head in read_heads(log.config.heads_directory)} == {
        anchor.evidence for anchor in anchors if anchor.kind == "cosignature"
    }
    entries = _entries(log)
    assert {(entry.kind, entry.authority, entry.size, entry.evidence, entry.time) for entry in entries} == {
        (anchor.kind, anchor.authority, anchor.size, sha256(anchor.evidence).hexdigest(), anchor.time)
        for anchor in anchors
    }
    assert {entry.root for entry in entries} == {opened.root.hex()}


def test_anchoring_asks_for_news_alone(
    log: AuditLog, make_entry: Callable, moment: Clock, running: ExitStack, stamps: TimeAuthority, tmp_path: Path
) -> None:
    """Entries that tell of anchors are none, or each round would make the next one necessary."""
    witness, authority = _witness(running, log, tmp_path / "w1"), _authority(running, stamps)
    outsiders = Outsiders(_ask(witness, authority), (witness,), (authority,), timedelta(0))
    anchoring = Anchoring(log, outsiders, moment)
    assert anchoring.round().anchors == ()  # an empty log is no news either
    _add(log, make_entry)
    assert len(anchoring.round().anchors) == 2
    assert anchoring.round().anchors == ()
    assert Anchoring(log, outsiders, moment).round().anchors == ()  # nor after a restart
    _add(log, make_entry)
    assert {anchor.size for anchor in anchoring.round().anchors} == {4}


def test_anchoring_stamps_at_most_so_often(
    log: AuditLog, make_entry: Callable, moment: Clock, running: ExitStack, stamps: TimeAuthority
) -> None:
    authority = _authority(running, stamps)
    outsiders = Outsiders(_ask(authority), (), (authority,), timedelta(hours=1))
    sizes = []
    for minutes in (0, 30, 59, 60, 90, 121):
        moment.now = datetime(2026, 3, 1, 8, 0, tzinfo=UTC) + timedelta(minutes=minutes)
        _add(log, make_entry)
        done = Anchoring(log, outsiders, moment).round()  # also across restarts
        sizes += [(minutes, anchor.size) for anchor in done.anchors]
    assert sizes == [(0, 1), (60, 5), (121, 8)]


def test_anchoring_one_outsider_that_fails_costs_the_others_nothing(
    log: AuditLog, make_entry: Callable, moment: Clock, running: ExitStack, tmp_path: Path
) -> None:
    one = _witness(running, log, tmp_path / "w1")
    dead = _dead(_witness(running, log, tmp_path / "w2", "witness.example/w2"))
    stranger = TimestampAuthority("stamps", one.url, ())
    _add(log, make_entry)
    done = Anchoring(log, Outsiders(_ask(one, dead), (dead, one), (stranger,)), moment).round()
    assert [anchor.authority for anchor in done.anchors] == ["witness.example/w1"]
    assert [name for name, _ in done.failures] == ["witness.example/w2", "stamps"]


def test_anchoring_lets_an_outsider_that_fails_rest_longer_each_time(
    log: AuditLog, make_entry: Callable, moment: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(lambda _: (503, {}, b"")) as server:
        witness = KnownWitness(KEY, server.url)
        anchoring = Anchoring(log, Outsiders(_ask(witness), (witness,)), moment)
        _add(log, make_entry)
        start, asked = moment.now, []
        for minutes in range(400):
            moment.now = start + timedelta(minutes=minutes)
            if anchoring.round().failures:
                asked.append(minutes)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 32]
    assert set(pauses[6:]) == {60}
    assert timedelta(minutes=1) == FIRST_PAUSE
    assert timedelta(hours=1) == LONGEST_PAUSE
    events = [record for record in caplog.records if record.message == "anchoring failed"]
    assert len(events) == len(asked)
    assert (events[0].authority, events[0].kind) == ("witness.example/w1", "cosignature")
    assert "it answered 503" in events[0].why


def test_anchoring_goes_on_where_an_outsider_comes_back(
    log: AuditLog, make_entry: Callable, moment: Clock, running: ExitStack, tmp_path: Path
) -> None:
    port = free_port()
    _add(log, make_entry)
    with running_witness(tmp_path / "w1", log.keys.verifier_keys) as known:
        witness = KnownWitness(known.key, f"http://127.0.0.1:{port}")
    anchoring = Anchoring(log, Outsiders(_ask(witness), (witness,)), moment)
    assert anchoring.round().anchors == ()
    running.enter_context(running_witness(tmp_path / "w1", log.keys.verifier_keys, port=port))
    assert anchoring.round().failures == ()  # it still rests
    moment.now += FIRST_PAUSE
    assert [anchor.size for anchor in anchoring.round().anchors] == [1]


def test_anchoring_stops_between_outsiders(
    log: AuditLog, make_entry: Callable, moment: Clock, running: ExitStack, tmp_path: Path
) -> None:
    one = _witness(running, log, tmp_path / "w1")
    two = _witness(running, log, tmp_path / "w2", "witness.example/w2")
    _add(log, make_entry)
    asked = iter([False, True, True, True, True])
    done = Anchoring(log, Outsiders(_ask(one, two), (one, two)), moment).round(lambda: next(asked))
    assert [anchor.authority for anchor in done.anchors] == ["witness.example/w1"]
    assert len(_entries(log)) == 1


def test_anchoring_tells_loudly_where_a_witness_contradicts_the_log(
    log: AuditLog,
    make_entry: Callable,
    moment: Clock,
    running: ExitStack,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The witness has cosigned a larger tree under the log's key; its head is kept, so the next start refuses."""
    witness = _witness(running, log, tmp_path / "w1")
    other = Tree(log.keys.signer, leaves(9))

    class Store:
        def newest_checkpoint(self) -> StoredCheckpoint:
            return StoredCheckpoint(TreeSize(9), other.note(9))

        node = staticmethod(other.node)

    ask_cosignature(Store(), witness, _ask(witness))  # type: ignore[arg-type]
    _add(log, make_entry)
    done = Anchoring(log, Outsiders(_ask(witness), (witness,)), moment).round()
    assert done.anchors == ()
    (event,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert event.message == "witness contradicts the log"
    assert "it holds a tree of 9 entries, ours has 1" in event.why
    ((_, head),) = read_heads(log.config.heads_directory)
    assert head.startswith(other.note(9))


@both_stores
def test_anchoring_leaves_what_another_host_anchored(
    log: AuditLog, make_entry: Callable, moment: Clock, running: ExitStack, tmp_path: Path
) -> None:
    witness = _witness(running, log, tmp_path / "w1")
    _add(log, make_entry)
    anchoring = Anchoring(log, Outsiders(_ask(witness), (witness,)), moment)
    theirs = Anchor(TreeSize(1), "cosignature", witness.name, b"theirs", "2026-03-01T08:00:00.000000Z")
    assert log.storage.keep_anchor(theirs)
    assert not log.storage.keep_anchor(Anchor(TreeSize(1), "cosignature", witness.name, b"x", theirs.time))
    done = anchoring.round()
    assert (done.anchors, done.failures) == ((), ())
    assert log.storage.anchors() == [theirs]
    assert _entries(log) == []


def test_anchoring_keeps_the_anchor_where_the_head_cannot_be_kept(
    log: AuditLog, make_entry: Callable, moment: Clock, running: ExitStack, tmp_path: Path
) -> None:
    witness = _witness(running, log, tmp_path / "w1")
    _add(log, make_entry)
    log.config.heads_directory.write_bytes(b"no directory")
    done = Anchoring(log, Outsiders(_ask(witness), (witness,)), moment).round()
    assert len(done.anchors) == 1
    assert "heads directory" in done.failures[0][1]
    assert len(_entries(log)) == 1


def test_anchoring_publishes_what_is_new(log: AuditLog, make_entry: Callable, moment: Clock) -> None:
    published: list[int] = []
    anchoring = Anchoring(
        log, Outsiders(Outside(()), publish=lambda: published.append(log.storage.newest_checkpoint().size)), moment
    )
    _add(log, make_entry)
    anchoring.round()
    anchoring.round()
    _add(log, make_entry)
    anchoring.round()
    assert published == [1, 2]


def test_anchoring_says_where_publishing_fails_and_tries_again(
    log: AuditLog, make_entry: Callable, moment: Clock
) -> None:
    attempts = []

    def publish() -> None:
        attempts.append(1)
        raise StorageError("folder: is full")

    anchoring = Anchoring(log, Outsiders(Outside(()), publish=publish), moment)
    _add(log, make_entry)
    assert anchoring.round().failures == (("publishing", "folder: is full"),)
    anchoring.round()
    assert len(attempts) == 2


@both_stores
def test_anchoring_knows_the_newest_of_each_outsider(log: AuditLog) -> None:
    for size, kind, authority in [
        (3, "cosignature", "b"),
        (9, "cosignature", "a"),
        (20, "cosignature", "b"),
        (4, "rfc3161", "b"),
    ]:
        assert log.storage.keep_anchor(Anchor(TreeSize(size), kind, authority, b"%d" % size, "2026-03-01T08:00:00Z"))
    newest = [(one.kind, one.authority, one.size, one.evidence) for one in log.storage.newest_anchors()]
    assert newest == [("cosignature", "a", 9, b"9"), ("cosignature", "b", 20, b"20"), ("rfc3161", "b", 4, b"4")]


def test_anchoring_begins_without_reading_all_evidence(log: AuditLog, store_files: StoreFiles, moment: Clock) -> None:
    """Evidence of years is hundreds of megabytes; what has to be known is how far each outsider has come."""
    count, each = 5_000, 2_000
    store_files.change(
        log.config,
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        f" INSERT INTO anchors SELECT i, 'cosignature', 'w', zeroblob({each}), '2026-03-01T08:00:00.000000Z' FROM n",
    )
    tracemalloc.start()
    try:
        Anchoring(log, Outsiders(Outside(())), moment)
        assert tracemalloc.get_traced_memory()[1] < count * each / 10
    finally:
        tracemalloc.stop()
    assert [one.size for one in log.storage.newest_anchors()] == [count]


def test_anchoring_asks_again_soon_after_the_clock_was_put_right(
    log: AuditLog, make_entry: Callable, moment: Clock
) -> None:
    """An outsider that failed while the clock was a year ahead isn't left alone for that year."""
    with answering(lambda _: (503, {}, b"")) as server:
        witness = KnownWitness(KEY, server.url)
        _add(log, make_entry)
        anchoring = Anchoring(log, Outsiders(_ask(witness), (witness,)), moment)
        moment.now += timedelta(days=365)
        anchoring.round()
        moment.now -= timedelta(days=365)
        for _ in range(3):
            moment.now += LONGEST_PAUSE
            anchoring.round()
        assert len(server.asked) == 4
