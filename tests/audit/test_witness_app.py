"""The witness as it is run: real processes, asked over real sockets."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from audit.add_checkpoint import MAX_BODY_BYTES, AddCheckpoint, format_add_checkpoint
from audit.checkpoint import open_checkpoint
from audit.cosignature import attach_cosignatures
from audit.keys import Ed25519Signer
from audit.merkle import TreeSize
from audit.note import VerifierKey, format_vkey
from audit.witness_app.app import BODY_WITHIN_S, THREADS
from audit.witness_state import init_witness, origin_hash
from tests.audit.memory_log import Tree, leaves

ROOT = Path(__file__).parents[2]
NAME = "witness.example/w1"
LOG = Ed25519Signer("hospital.example/cds-audit/north/1", bytes(range(32)))
HONEST = Tree(LOG, leaves(60))
FORK = Tree(LOG, leaves(60, 5, " rewritten"))
START_S = 60.0
SERVE = (
    "import sys; from pathlib import Path; from audit.witness_app.serving import serve_witness;"
    "serve_witness(Path(sys.argv[1]), [Path(sys.argv[2])], '127.0.0.1', int(sys.argv[3]))"
)


class Served:
    """A witness process, and the bytes it answers."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        arguments = [
            sys.executable,
            "-c",
            SERVE,
            str(directory / "witness"),
            str(directory / "log.vkey"),
            str(self.port),
        ]
        # A session of its own: ending it ends the worker with it, and nobody else.
        self.process = subprocess.Popen(arguments, cwd=ROOT, start_new_session=True)
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            except OSError:
                assert self.process.poll() is None, "the witness ended"
                assert time.monotonic() < deadline, "the witness doesn't answer"
                time.sleep(0.05)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read()
        finally:
            connection.close()

    def push(self, body: bytes) -> tuple[int, str, bytes]:
        return self.ask("POST", "/add-checkpoint", body)

    def end(self, told: signal.Signals = signal.SIGTERM) -> None:
        if told == signal.SIGKILL:
            os.killpg(self.process.pid, told)
        else:
            self.process.send_signal(told)
        self.process.wait(30)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("witness")
    (place / "log.vkey").write_text(format_vkey(LOG.verifier_key))
    return place


@pytest.fixture(scope="module")
def key(directory: Path) -> VerifierKey:
    return init_witness(directory / "witness", NAME, os.urandom)


@contextmanager
def _served(directory: Path) -> Iterator[Served]:
    served = Served(directory)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def served(directory: Path, key: VerifierKey) -> Iterator[Served]:
    with _served(directory) as one:
        yield one


def test_witness_over_http_answers_by_the_letter(served: Served, key: VerifierKey) -> None:
    """One witness, asked in this order: growth, conflict, refusals, what it gives out, and bodies out of bounds."""
    hashed = origin_hash(LOG.verifier_key.name)
    assert served.ask("GET", f"/{hashed}/checkpoint")[0] == 404
    status, _, lines = served.push(HONEST.request(0, 5))
    assert status == 200
    cosigned = attach_cosignatures(HONEST.note(5), lines, key)
    assert open_checkpoint(cosigned.note, [LOG.verifier_key], witness_keys=[key], quorum=1).size == 5
    assert served.push(HONEST.request(0, 9)) == (409, "text/x.tlog.size", b"5\n")
    assert served.push(HONEST.request(5, 9))[0] == 200
    assert served.push(format_add_checkpoint(AddCheckpoint(TreeSize(9), (), FORK.note(9))))[0] == 422
    assert served.push(format_add_checkpoint(AddCheckpoint(TreeSize(9), (), FORK.note(8))))[0] == 400
    assert served.push(Tree(Ed25519Signer("else/1", bytes(32)), leaves(2)).request(0, 2))[0] == 404
    assert served.push(Tree(Ed25519Signer(LOG.verifier_key.name, bytes(32)), leaves(2)).request(0, 2))[0] == 403
    assert served.push(b"")[0] == 400
    assert served.push(HONEST.request(9, 12) + bytes(MAX_BODY_BYTES))[0] == 413
    assert served.ask("GET", "/add-checkpoint")[0] == 405
    assert served.ask("GET", "/nothing")[0] == 404
    status, content_type, note = served.ask("GET", f"/{hashed}/checkpoint")
    assert (status, content_type) == (200, "text/plain; charset=utf-8")
    assert open_checkpoint(note, [LOG.verifier_key], witness_keys=[key], quorum=1).root == HONEST.root(9)


def test_witness_over_http_reads_a_chunked_body_no_further_than_it_may(served: Served) -> None:
    for _ in range(5):  # an answer is lost where the server closes while more is still coming
        with socket.create_connection(("127.0.0.1", served.port), 30) as connection, suppress(ConnectionError):
            connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n")
            chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
            with suppress(ConnectionError):
                for _ in range(4):
                    connection.sendall(chunk)
                connection.sendall(b"0\r\n\r\n")
            if answer := connection.recv(64):
                assert answer.split(b" ")[1] == b"413"
                return
    pytest.fail("no answer")


def test_witness_answers_others_while_callers_send_half_a_body(served: Served) -> None:
    """More callers than there are threads; what they began is given up in time, and their connections are closed."""
    slow = [socket.create_connection(("127.0.0.1", served.port), 30) for _ in range(THREADS + 8)]
    try:
        for connection in slow:
            connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 2000\r\n\r\nold 0\n")
        time.sleep(0.2)
        started = time.monotonic()
        assert served.ask("GET", "/nothing")[0] == 404
        assert served.push(b"")[0] == 400
        assert time.monotonic() - started < BODY_WITHIN_S / 2
        for connection in slow:
            answer = b"".join(iter(lambda one=connection: one.recv(4096), b""))
            assert answer.split(b" ")[1] == b"408"
    finally:
        for connection in slow:
            connection.close()


def test_witness_processes_on_one_state_cosign_one_of_two_views_and_survive_kill(tmp_path: Path) -> None:
    """Two processes, each pushed one fork of a log by threads while one of them is killed; then both start again."""
    place = tmp_path
    (place / "log.vkey").write_text(format_vkey(LOG.verifier_key))
    own = init_witness(place / "witness", NAME, os.urandom)
    answers: list[tuple[bytes, Tree, int]] = []
    with _served(place) as one, _served(place) as other:
        assert one.push(HONEST.request(0, 5))[0] == 200

        def push(served: Served, tree: Tree) -> None:
            known = 5
            for size in range(6, 60):
                try:
                    status, _, body = served.push(tree.request(known, max(known, size)))
                except (OSError, http.client.HTTPException):
                    return
                if status == 200:
                    answers.append((body, tree, max(known, size)))
                    known = max(known, size)
                elif status == 409:
                    known = int(body)

        threads = [threading.Thread(target=push, args=pair) for pair in [(one, HONEST), (other, FORK)] * 2]
        for thread in threads:
            thread.start()
        while not answers and any(thread.is_alive() for thread in threads):
            time.sleep(0.005)
        other.end(signal.SIGKILL)
        for thread in threads:
            thread.join()
        one.end()
        assert one.process.returncode == 0
    signed = [
        open_checkpoint(
            attach_cosignatures(tree.note(size), lines, own).note, [LOG.verifier_key], witness_keys=[own], quorum=1
        )
        for lines, tree, size in answers
    ]
    views = {tree for seen in signed for tree in (HONEST, FORK) if tree.root(seen.size) == seen.root}
    assert len(views) == 1
    with _served(place) as again:
        (view,) = views
        liar = FORK if view is HONEST else HONEST
        status, _, body = again.push(HONEST.request(0, 5))
        assert status == 409
        kept = int(body)
        assert kept >= max(seen.size for seen in signed)
        assert again.push(format_add_checkpoint(AddCheckpoint(TreeSize(kept), (), liar.note(kept))))[0] == 422
        assert again.push(view.request(kept, 60))[0] == 200
