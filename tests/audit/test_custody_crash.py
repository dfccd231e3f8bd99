"""Acts of custody killed after each of their steps, and carried on."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit import erasure, holds
from audit.custody import DONE, approve, find
from audit.entry import parse_entry
from audit.entry_custody import ErasureEntry
from audit.errors import VerificationError
from audit.merkle import LeafIndex
from audit.vault import patient_subject
from tests.audit.custody_log import ADA, BEN, Room, make_room, marker

VICTIM = Path(__file__).parent / "custody_victim.py"
ROOT = Path(__file__).parent.parent.parent
Kill = Callable[[Room, str, str, str, int], str]


@pytest.fixture(scope="module")
def kill() -> Iterator[Kill]:
    """Carries out a request in a process that dies at a step; says whether it died."""
    command = [sys.executable, str(VICTIM)]
    victim = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert victim.stdin is not None
    assert victim.stdout is not None

    def one(room: Room, request: str, act: str, step: str, time: int) -> str:
        job = {"directory": str(room.directory), "request": request, "act": act, "step": step, "time": time}
        print(json.dumps(job), file=victim.stdin, flush=True)
        return victim.stdout.readline().strip()

    yield one
    victim.stdin.close()
    victim.stdout.close()
    assert victim.wait(10) == 0


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return make_room(tmp_path / "log")


def _request(room: Room) -> str:
    with room.custody() as custody:
        row = erasure.request_erasure(custody, ["p1", "p2"], ADA, "gdpr-17")
        return approve(custody, row.id, BEN).id


def test_erasure_a_signature_and_what_it_approves_are_one_step(room: Room) -> None:
    """A crash must not leave a request that has all its signatures and waits for another."""
    steps: list[str] = []
    with room.custody(steps.append) as custody:
        row = erasure.request_erasure(custody, ["p1"], ADA, "gdpr-17")
        approve(custody, row.id, BEN)
        holds.request_hold(custody, ["p1"], ADA, "litigation")
    assert steps == ["requested", "approved", "approved"]


STEPS = [
    ("running", 1),
    ("destroyed", 1),
    ("payloads", 1),
    ("taken", 1),
    ("payloads", 2),
    ("logged", 1),
    ("recorded", 1),
    ("recorded", 2),
    ("forgotten", 1),
    ("done", 1),
]


@pytest.mark.parametrize(("step", "time"), STEPS)
def test_erasure_killed_at_any_step_is_carried_on(room: Room, kill: Kill, step: str, time: int) -> None:
    request = _request(room)
    assert kill(room, request, "erasure", step, time) == "killed"
    with room.custody() as custody:
        if find(custody, request).state != DONE:
            erasure.carry_out(custody, request)
        row = find(custody, request)
        index = custody.log.index_of(request)
        assert (row.state, row.subjects) == (DONE, ())
        assert index is not None
        entry = parse_entry(custody.log.entry(index))
        assert isinstance(entry, ErasureEntry)
        assert (entry.subjects, entry.payloads) == (2, 4)
        assert custody.log.index_of(request) == custody.log.storage.newest_checkpoint().size - 1, "logged twice"
        assert [custody.vault.find(patient_subject(patient)) for patient in ("p1", "p2")] == [None, None]
        assert custody.log.payload(LeafIndex(4)) == marker("p0", 1)
    assert (room.verify().payloads, room.verify().erased) == (4, 4)


@pytest.mark.parametrize(
    ("step", "time", "verifies"), [("destroyed", 1, True), ("payloads", 1, False), ("taken", 1, False)]
)
def test_erasure_killed_is_no_silent_loss(room: Room, kill: Kill, step: str, time: int, *, verifies: bool) -> None:
    request = _request(room)
    assert kill(room, request, "erasure", step, time) == "killed"
    if verifies:
        assert room.verify().erased == 0
    else:
        with pytest.raises(VerificationError, match=f"erasure {request} isn't in the log, or not completed"):
            room.verify()


def test_erasure_killed_again_and_again_is_carried_on(room: Room, kill: Kill) -> None:
    request = _request(room)
    for step, time in (
        ("running", 1),
        ("destroyed", 1),
        ("payloads", 1),
        ("taken", 1),
        ("logged", 1),
        ("forgotten", 1),
    ):
        assert kill(room, request, "erasure", step, time) == "killed", step
    assert kill(room, request, "erasure", "nowhere", 1) == "survived"
    assert room.verify().erased == 4


@pytest.mark.parametrize("step", ["placed", "logged", "recorded", "done"])
def test_hold_killed_at_any_step_is_carried_on(room: Room, kill: Kill, step: str) -> None:
    with room.custody() as custody:
        request = holds.request_hold(custody, ["p1", "p2"], ADA, "litigation").id
    assert kill(room, request, "hold", step, 1) == "killed"
    with room.custody() as custody:
        if find(custody, request).state != DONE:
            holds.carry_out(custody, request)
        assert len(custody.store.holds()) == 2
        assert custody.log.storage.newest_checkpoint().size == 10


@pytest.mark.parametrize("step", ["logged", "released", "recorded"])
def test_hold_release_killed_at_any_step_is_carried_on(room: Room, kill: Kill, step: str) -> None:
    with room.custody() as custody:
        holds.carry_out(custody, holds.request_hold(custody, ["p1", "p2"], ADA, "litigation").id)
        release = holds.request_release(custody, [hold.hold for hold in custody.store.holds()], ADA, "settled")
        request = approve(custody, release.id, BEN).id
    assert kill(room, request, "hold", step, 1) == "killed"
    with room.custody() as custody:
        holds.carry_out(custody, request)
        assert custody.store.holds() == []
        assert custody.log.storage.newest_checkpoint().size == 12
