import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit.add_checkpoint import AddCheckpoint, format_add_checkpoint, format_size
from audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from audit.cosignature import Cosigner, attach_cosignatures, cosigned_time_s
from audit.errors import KeyFileError, StorageError
from audit.key_history import KeyPeriod, format_periods
from audit.keys import Ed25519Signer
from audit.merkle import EMPTY_ROOT, Sha256, TreeSize
from audit.note import format_vkey, parse_note, parse_vkey
from audit.witness import SizeConflictError, Witness, WitnessRefusalError, known_logs
from audit.witness_app.app import open_witness
from audit.witness_state import MAX_FORKS, WitnessState, init_witness, load_cosigner, origin_hash
from tests.audit.memory_log import Tree, leaves
from tests.programs import need

ROOT = Path(__file__).parents[2]
VECTOR = ROOT / "tests" / "vectors" / "audit" / "witness_add_checkpoint.json"
NAME = "witness.example/w1"
LOG = Ed25519Signer("hospital.example/cds-audit/north/1", bytes(range(32)))
NEXT = Ed25519Signer("hospital.example/cds-audit/north/1", bytes(range(1, 33)))
OTHER = Ed25519Signer("hospital.example/cds-audit/south/1", bytes(range(2, 34)))
HONEST = Tree(LOG, leaves(300))
FORK = Tree(LOG, leaves(300, 5, " rewritten"))
NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)

MakeWitness = Callable[..., Witness]


@pytest.fixture
def make_witness(tmp_path: Path) -> MakeWitness:
    """Opens the witness of one state directory again and again, as a restart does."""
    directory = tmp_path / "witness"
    init_witness(directory, NAME, os.urandom)

    def make(*keys: Ed25519Signer, now: datetime = NOW) -> Witness:
        logs = known_logs([key.verifier_key for key in keys or (LOG,)])
        return Witness(load_cosigner(directory), logs, WitnessState(directory), lambda: now)

    return make


def _cosigned(witness: Witness, tree: Tree, old: int, new: int) -> Checkpoint:
    """The checkpoint that the witness's answer cosigns, checked as a verifier does."""
    cosigned = attach_cosignatures(tree.note(new), witness.add_checkpoint(tree.request(old, new)), witness.verifier_key)
    return open_checkpoint(cosigned.note, [tree.signer.verifier_key], witness_keys=[witness.verifier_key], quorum=1)


def _status(witness: Witness, body: bytes) -> int:
    with pytest.raises(WitnessRefusalError) as refused:
        witness.add_checkpoint(body)
    return refused.value.status


def _answer(witness: Witness, body: bytes) -> tuple[int, str]:
    """Status and body as they go over HTTP."""
    try:
        return 200, witness.add_checkpoint(body).decode()
    except SizeConflictError as refused:
        return refused.status, format_size(refused.size).decode()
    except WitnessRefusalError as refused:
        return refused.status, str(refused)


def _conflict(witness: Witness, body: bytes) -> int:
    with pytest.raises(SizeConflictError) as refused:
        witness.add_checkpoint(body)
    assert refused.value.status == 409
    return refused.value.size


def test_witness_answers_the_foreign_requests_as_the_specification_says(tmp_path: Path) -> None:
    """The vector expects 403 for an unknown log, as tlog-witness once did; it has said 404 since."""
    vector = json.loads(VECTOR.read_text())
    init_witness(tmp_path, vector["witness_name"], os.urandom)
    logs = known_logs([parse_vkey(vector["log_vkey"])])
    witness = Witness(load_cosigner(tmp_path), logs, WitnessState(tmp_path), lambda: NOW)
    answers = [_answer(witness, request["body"].encode()) for request in vector["requests"]]
    unknown = [place for place, one in enumerate(vector["requests"]) if "unknown log" in one["asserts"]]
    expected = [404 if place in unknown else one["status"] for place, one in enumerate(vector["requests"])]
    assert [status for status, _ in answers] == expected
    assert [vector["requests"][place]["status"] for place in unknown] == [403]
    for (_, text), request in zip(answers, vector["requests"], strict=True):
        if request["asserts"].startswith("body == "):
            assert text == json.loads(request["asserts"].removeprefix("body == "))
        else:
            assert json.loads(request["asserts"].removeprefix("body contains ")) in text


def test_witness_follows_a_log_as_it_grows(make_witness: MakeWitness) -> None:
    witness = make_witness()
    for old, new in [(0, 1), (1, 2), (2, 7), (7, 8), (8, 256), (256, 300)]:
        assert _cosigned(witness, HONEST, old, new).size == new


def test_witness_begins_with_any_size_of_a_log_it_never_saw(make_witness: MakeWitness) -> None:
    assert _cosigned(make_witness(), HONEST, 0, 300).root == HONEST.root(300)


def test_witness_cosigns_the_empty_tree(make_witness: MakeWitness) -> None:
    witness = make_witness()
    assert _cosigned(witness, HONEST, 0, 0).root == EMPTY_ROOT
    assert _cosigned(witness, HONEST, 0, 3).size == 3


def test_witness_refuses_an_empty_tree_with_another_root(make_witness: MakeWitness) -> None:
    note = sign_checkpoint(Checkpoint(LOG.verifier_key.name, TreeSize(0), Sha256(bytes(32))), [LOG])
    assert _status(make_witness(), format_add_checkpoint(AddCheckpoint(TreeSize(0), (), note))) == 422


def test_witness_cosigns_the_same_checkpoint_again_with_the_time_of_now(make_witness: MakeWitness) -> None:
    _cosigned(make_witness(), HONEST, 0, 5)
    later = make_witness(now=NOW + timedelta(hours=1))
    _cosigned(later, HONEST, 5, 5)
    time_s = cosigned_time_s(later.newest(origin_hash(LOG.verifier_key.name)), later.verifier_key)
    assert time_s == int((NOW + timedelta(hours=1)).timestamp())


def test_witness_knows_several_logs_apart(make_witness: MakeWitness) -> None:
    witness = make_witness(LOG, OTHER)
    other = Tree(OTHER, leaves(20))
    _cosigned(witness, HONEST, 0, 9)
    _cosigned(witness, other, 0, 4)
    _cosigned(witness, HONEST, 9, 10)
    assert _conflict(witness, other.request(0, 5)) == 4


def test_witness_refuses_a_log_it_does_not_know(make_witness: MakeWitness) -> None:
    assert _status(make_witness(), Tree(OTHER, leaves(3)).request(0, 2)) == 404


def test_witness_refuses_a_signature_of_nobody_it_trusts(make_witness: MakeWitness) -> None:
    stranger = Tree(Ed25519Signer(LOG.verifier_key.name, bytes(32)), leaves(3))
    assert _status(make_witness(), stranger.request(0, 2)) == 403


def test_witness_refuses_one_logs_signature_under_anothers_origin(make_witness: MakeWitness) -> None:
    witness = make_witness(LOG, OTHER)
    note = HONEST.note(3, origin=OTHER.verifier_key.name)
    assert _status(witness, format_add_checkpoint(AddCheckpoint(TreeSize(0), (), note))) == 403


def test_witness_refuses_any_wrong_signature_of_a_trusted_key(make_witness: MakeWitness) -> None:
    wrong = HONEST.note(4).split(b"\n\n")[1]
    note = HONEST.note(3) + wrong  # the first line holds, the second is of another checkpoint
    assert _status(make_witness(), format_add_checkpoint(AddCheckpoint(TreeSize(0), (), note))) == 403


def test_witness_takes_either_key_while_the_log_rotates_its_own(make_witness: MakeWitness) -> None:
    witness = make_witness(LOG, NEXT)
    assert _cosigned(witness, HONEST, 0, 5).size == 5
    assert _cosigned(witness, Tree(NEXT, leaves(300)), 5, 6).size == 6
    assert _cosigned(make_witness(NEXT), Tree(NEXT, leaves(300)), 6, 7).size == 7


def test_witness_takes_no_longer_tree_from_the_thief_of_a_retired_key(tmp_path: Path) -> None:
    """The key's last size is in the file, as `keys list` prints it: what only that key signs beyond is refused."""
    init_witness(tmp_path / "witness", NAME, os.urandom)
    periods = [KeyPeriod(LOG.verifier_key, 0, 9), KeyPeriod(NEXT.verifier_key, 8, None)]
    (tmp_path / "keys").write_text(format_periods(periods) + "# wrapping key wrap:00000000\n")
    witness = open_witness(tmp_path / "witness", [str(tmp_path / "keys")])
    assert _status(witness, Tree(NEXT, leaves(300)).request(0, 7)) == 403
    assert _cosigned(witness, HONEST, 0, 9).size == 9
    assert _status(witness, HONEST.request(9, 10)) == 403
    assert _status(witness, HONEST.request(9, 300)) == 403
    both = sign_checkpoint(Checkpoint(LOG.verifier_key.name, TreeSize(10), HONEST.root(10)), [LOG, NEXT])
    witness.add_checkpoint(format_add_checkpoint(AddCheckpoint(TreeSize(9), HONEST.proof(9, 10), both)))
    assert _cosigned(witness, Tree(NEXT, leaves(300)), 10, 20).size == 20


def test_witness_is_told_one_period_of_a_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="expected it once, got two periods"):
        known_logs([LOG.verifier_key, KeyPeriod(LOG.verifier_key, 0, 9)])
    init_witness(tmp_path / "witness", NAME, os.urandom)
    (tmp_path / "keys").write_text(f"{format_vkey(LOG.verifier_key)} 0\n")
    with pytest.raises(KeyFileError, match="verifier keys keys: "):
        open_witness(tmp_path / "witness", [str(tmp_path / "keys")])


def test_witness_keeps_no_strangers_signatures(make_witness: MakeWitness) -> None:
    witness = make_witness()
    note = sign_checkpoint(Checkpoint(LOG.verifier_key.name, TreeSize(3), HONEST.root(3)), [OTHER, LOG, OTHER, NEXT])
    witness.add_checkpoint(format_add_checkpoint(AddCheckpoint(TreeSize(0), (), note)))
    kept = parse_note(witness.newest(origin_hash(LOG.verifier_key.name)))
    assert [one.name for one in kept.signatures] == [LOG.verifier_key.name, NAME]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n\n",
        b"old 0\n\nno note\n",
        HONEST.request(0, 3)[:-1],
        HONEST.request(0, 3).replace(b"old 0", b"old 00"),
        format_add_checkpoint(AddCheckpoint(TreeSize(4), (), HONEST.note(3))),
        b"old 0\n\n" + sign_checkpoint(Checkpoint(LOG.verifier_key.name, TreeSize(3), Sha256(bytes(31))), [LOG]),
    ],
    ids=["empty", "no note", "no signatures", "cut", "leading zero", "old beyond new", "root of 31 bytes"],
)
def test_witness_calls_a_bad_request_by_its_name(make_witness: MakeWitness, body: bytes) -> None:
    assert _status(make_witness(), body) == 400


def test_witness_tells_the_size_it_cosigned_last(make_witness: MakeWitness) -> None:
    witness = make_witness()
    _cosigned(witness, HONEST, 0, 9)
    assert _conflict(witness, HONEST.request(0, 20)) == 9
    assert _conflict(witness, HONEST.request(8, 20)) == 9
    assert _conflict(witness, HONEST.request(10, 20)) == 9


def test_witness_refuses_what_does_not_follow(make_witness: MakeWitness) -> None:
    witness = make_witness()
    _cosigned(witness, HONEST, 0, 9)
    proof, note = HONEST.proof(9, 20), HONEST.note(20)
    wrong = [
        AddCheckpoint(TreeSize(9), (), note),
        AddCheckpoint(TreeSize(9), proof[:-1], note),
        AddCheckpoint(TreeSize(9), (*proof, Sha256(bytes(32))), note),
        AddCheckpoint(TreeSize(9), (Sha256(bytes(32)), *proof[1:]), note),
        AddCheckpoint(TreeSize(9), proof, HONEST.note(21)),
        AddCheckpoint(TreeSize(9), FORK.proof(9, 20), FORK.note(20)),
        AddCheckpoint(TreeSize(9), HONEST.proof(9, 20), FORK.note(20)),
        AddCheckpoint(TreeSize(9), (Sha256(bytes(32)),), HONEST.note(9)),
    ]
    assert [_status(witness, format_add_checkpoint(one)) for one in wrong] == [422] * len(wrong)
    assert _cosigned(witness, HONEST, 9, 20).size == 20


def test_witness_refuses_a_proof_from_nothing(make_witness: MakeWitness) -> None:
    body = format_add_checkpoint(AddCheckpoint(TreeSize(0), (Sha256(bytes(32)),), HONEST.note(3)))
    assert _status(make_witness(), body) == 422


def test_witness_refuses_huge_jumps_without_proof(make_witness: MakeWitness) -> None:
    witness = make_witness()
    _cosigned(witness, HONEST, 0, 9)
    name = LOG.verifier_key.name
    for size in (2**62, 2**63 - 1):
        note = sign_checkpoint(Checkpoint(name, TreeSize(size), Sha256(bytes(32))), [LOG])
        for proof in ((), HONEST.proof(9, 300), tuple(Sha256(bytes(32)) for _ in range(63))):
            assert _status(witness, format_add_checkpoint(AddCheckpoint(TreeSize(9), proof, note))) == 422
    assert _cosigned(witness, HONEST, 9, 10).size == 10


def test_witness_refuses_a_replayed_request(make_witness: MakeWitness) -> None:
    witness = make_witness()
    earlier = [HONEST.request(0, 5), HONEST.request(5, 9), HONEST.request(9, 20)]
    for body in earlier:
        witness.add_checkpoint(body)
    assert [_conflict(witness, body) for body in earlier] == [20, 20, 20]


def test_witness_never_cosigns_a_smaller_tree(make_witness: MakeWitness) -> None:
    witness = make_witness()
    _cosigned(witness, HONEST, 0, 20)
    assert _conflict(witness, HONEST.request(9, 10)) == 20
    assert _status(witness, format_add_checkpoint(AddCheckpoint(TreeSize(20), (), HONEST.note(9)))) == 400


def test_witness_keeps_the_proof_that_a_log_forked_and_no_more_than_has_room(
    make_witness: MakeWitness, tmp_path: Path
) -> None:
    witness = make_witness()
    _cosigned(witness, HONEST, 0, 9)
    folder = tmp_path / "witness" / "logs" / origin_hash(LOG.verifier_key.name)
    for place in range(MAX_FORKS + 3):
        fork = Tree(LOG, leaves(9, 5, f" rewritten {place}"))
        for _ in range(2):
            assert _status(witness, format_add_checkpoint(AddCheckpoint(TreeSize(9), (), fork.note(9)))) == 422
    forks = sorted(folder.glob("fork-*.note"))
    assert len(forks) == MAX_FORKS
    other = open_checkpoint(forks[0].read_bytes(), [LOG.verifier_key])
    assert other.size == 9
    assert other.root != HONEST.root(9)


def test_witness_remembers_after_a_restart(make_witness: MakeWitness) -> None:
    _cosigned(make_witness(), HONEST, 0, 9)
    again = make_witness()
    assert _conflict(again, FORK.request(0, 9)) == 9
    assert _status(again, format_add_checkpoint(AddCheckpoint(TreeSize(9), (), FORK.note(9)))) == 422
    assert _cosigned(again, HONEST, 9, 20).size == 20


@pytest.mark.parametrize("damage", ["cut", "other key", "flipped"])
def test_witness_with_a_damaged_state_signs_nothing(make_witness: MakeWitness, tmp_path: Path, damage: str) -> None:
    _cosigned(make_witness(), HONEST, 0, 9)
    path = tmp_path / "witness" / "logs" / origin_hash(LOG.verifier_key.name) / "checkpoint"
    note = path.read_bytes()
    if damage == "cut":
        path.write_bytes(note[:40])
    elif damage == "flipped":
        path.write_bytes(note.replace(b"\n9\n", b"\n8\n"))
    else:
        cosigner = Cosigner(NAME, bytes(32))
        path.write_bytes(note.split(b"\xe2\x80\x94 " + NAME.encode())[0])
        assert cosigner.verifier_key != make_witness().verifier_key
    with pytest.raises(StorageError, match="expected a checkpoint cosigned by"):
        make_witness().add_checkpoint(HONEST.request(9, 20))


def test_witness_signs_nothing_it_cannot_keep(make_witness: MakeWitness, tmp_path: Path) -> None:
    witness = make_witness()
    _cosigned(witness, HONEST, 0, 9)
    folder = tmp_path / "witness" / "logs" / origin_hash(LOG.verifier_key.name)
    (folder / "checkpoint").rename(folder / "kept")
    (folder / "checkpoint").mkdir()  # a rename onto it fails, also for root
    with pytest.raises(StorageError):
        witness.add_checkpoint(HONEST.request(9, 20))
    (folder / "checkpoint").rmdir()
    (folder / "kept").rename(folder / "checkpoint")
    assert _cosigned(witness, HONEST, 9, 20).size == 20


def test_witness_shown_two_views_at_once_cosigns_one_tree(make_witness: MakeWitness) -> None:
    """Both forks of one log are pushed by many threads, through witnesses that share nothing but the state directory."""
    _cosigned(make_witness(), HONEST, 0, 5)
    signed: list[Checkpoint] = []
    refused: list[int] = []
    start = threading.Barrier(8)

    def push(tree: Tree) -> None:
        witness, known = make_witness(), 5
        start.wait()
        for size in range(6, 30):
            if size < known:
                continue
            try:
                signed.append(_cosigned(witness, tree, known, size))
                known = size
            except SizeConflictError as exc:
                known = exc.size
            except WitnessRefusalError as exc:
                refused.append(exc.status)

    threads = [threading.Thread(target=push, args=(tree,)) for tree in (HONEST, FORK) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tree for one in signed for tree in (HONEST, FORK) if tree.root(one.size) == one.root}) == 1
    assert set(refused) <= {400, 422}
    assert 422 in refused
    assert make_witness().newest(origin_hash(LOG.verifier_key.name)).split(b"\n")[1] == b"29"


ONCE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from audit.witness_app.app import open_witness
witness = open_witness(Path(sys.argv[1]), [sys.argv[2]])
sys.stdout.buffer.write(witness.add_checkpoint(Path(sys.argv[3]).read_bytes()))
"""


@pytest.mark.parametrize(("place", "kept"), [(1, 9), (2, 20)], ids=["before the file is in place", "before the answer"])
def test_witness_killed_between_keeping_and_answering_signs_no_other_tree(
    make_witness: MakeWitness, tmp_path: Path, place: int, kept: int
) -> None:
    """The first fsync syncs the file, the second the directory after the rename; SIGKILL comes with either."""
    _cosigned(make_witness(), HONEST, 0, 9)
    (tmp_path / "log.vkey").write_text(format_vkey(LOG.verifier_key))
    (tmp_path / "body").write_bytes(HONEST.request(9, 20))
    script = [sys.executable, "-c", ONCE, str(tmp_path / "witness"), str(tmp_path / "log.vkey"), str(tmp_path / "body")]
    traced = [need("strace"), "-f", "-qq", "-o", os.devnull, "-e", "trace=fsync"]
    traced += ["-e", f"inject=fsync:signal=SIGKILL:when={place}", *script]
    done = subprocess.run(traced, capture_output=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode != 0
    assert done.stdout == b""
    again = make_witness()
    assert _status(again, format_add_checkpoint(AddCheckpoint(TreeSize(9), FORK.proof(9, 20), FORK.note(20)))) in (
        409,
        422,
    )
    if kept == 9:
        assert _cosigned(again, HONEST, 9, 20).size == 20
    else:
        assert _conflict(again, HONEST.request(9, 20)) == 20
        assert _cosigned(again, HONEST, 20, 20).size == 20


def test_witness_gives_out_the_newest_cosigned_checkpoint(make_witness: MakeWitness) -> None:
    witness = make_witness()
    hashed = origin_hash(LOG.verifier_key.name)
    with pytest.raises(WitnessRefusalError, match="no checkpoint"):
        witness.newest(hashed)
    _cosigned(witness, HONEST, 0, 9)
    _cosigned(witness, HONEST, 9, 20)
    note = witness.newest(hashed)
    opened = open_checkpoint(note, [LOG.verifier_key], witness_keys=[witness.verifier_key], quorum=1)
    assert (opened.size, opened.root) == (20, HONEST.root(20))
    for stranger in ("", "..", hashed.upper(), origin_hash("other")):
        with pytest.raises(WitnessRefusalError):
            witness.newest(stranger)


def test_witness_is_no_log_and_a_log_no_witness(tmp_path: Path) -> None:
    seed = os.urandom(32)
    logs = known_logs([Ed25519Signer("log.example/1", seed).verifier_key])
    with pytest.raises(KeyFileError, match="one that is no log's"):
        Witness(Cosigner(NAME, seed), logs, WitnessState(tmp_path), lambda: NOW)
    with pytest.raises(KeyFileError, match="expected a log's"):
        known_logs([Cosigner(NAME, seed).verifier_key])


def test_witness_is_made_once(tmp_path: Path) -> None:
    key = init_witness(tmp_path, NAME, os.urandom)
    assert load_cosigner(tmp_path).verifier_key == key
    assert parse_vkey((tmp_path / "witness.vkey").read_text().strip()) == key
    with pytest.raises(KeyFileError, match="exists already"):
        init_witness(tmp_path, NAME, os.urandom)
