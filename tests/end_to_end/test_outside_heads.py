"""A service with a witness and a published log: what it leaves outside, and what a rewrite by its own operator meets."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from audit.storage import Query
from audit.storage.sqlite import SqliteStorage
from tests.cds_service import patients
from tests.conftest import ORIGIN, clean_environment, free_port, run_bedside

WAIT_S = 30.0
WITNESS = "witness.example/w1"


@dataclass(frozen=True, slots=True)
class Site:
    """A hospital's folder, its environment, and the address of its service."""

    folder: Path
    environment: dict[str, str]
    url: str

    @property
    def log(self) -> Path:
        return self.folder / "audit"

    @contextmanager
    def serving(self) -> Iterator[None]:
        with _running(self.environment, self.folder, "serve", awaited=f"{self.url}/ready"):
            yield

    def call(self) -> None:
        body = patients.encoded(patients.call(None))
        headers = {"Content-Type": "application/json"}
        assert requests.post(f"{self.url}/cds-services/prevent-cvd", data=body, headers=headers).status_code == 412

    def cosigned_size(self) -> int:
        """The size of the newest head that the witness signed, as this site keeps it."""
        heads = [path.read_text() for path in (self.log / "heads").glob("*") if WITNESS in path.read_text()]
        return max((int(head.split("\n")[1]) for head in heads), default=0)


@contextmanager
def _running(environment: dict[str, str], folder: Path, *verb: str, awaited: str) -> Iterator[None]:
    with (folder / "stderr").open("ab") as sink:
        process = subprocess.Popen([sys.executable, "-m", "bedside", *verb], env=environment, stdout=sink, stderr=sink)
        try:
            _until(lambda: _answers(awaited), f"{awaited} answers")
            yield
        finally:
            process.terminate()
            process.wait(WAIT_S)


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


def _answers(url: str) -> bool:
    """Whether a server is there and, where it can tell, ready."""
    try:
        return requests.get(url, timeout=1).status_code in (200, 404)
    except requests.RequestException:
        return False


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose log a running witness cosigns every half second."""
    port, witness_port = free_port(), free_port()
    environment = clean_environment(BEDSIDE_CONFIG=str(tmp_path / "bedside.toml"))
    state, audit = tmp_path / "elsewhere", tmp_path / "audit"
    bare = clean_environment()
    assert run_bedside("audit", "init", "--log", str(audit), "--origin", ORIGIN, environment=bare).returncode == 0
    made = run_bedside("audit", "witness", "init", "--state", str(state), "--name", WITNESS, environment=bare)
    assert made.returncode == 0, made.stderr
    witness = f"http://127.0.0.1:{witness_port}"
    (tmp_path / "bedside.toml").write_text(
        f"[server]\nport = {port}\n[access]\nopen_on_loopback = true\n"
        f'[audit]\ndirectory = "{audit}"\norigin = "{ORIGIN}"\ndeadline_ms = 5000\n'
        f'publish_directory = "{tmp_path / "published"}"\noutside_every_s = 0.5\n'
        f'[models]\nenabled = ["prevent_cvd"]\n[state]\ndirectory = "{tmp_path / "state"}"\n'
        f'[[witnesses]]\nname = "w1"\nurl = "{witness}"\nmonitoring_url = "{witness}"\nvkey = "{made.stdout.strip()}"\n'
    )
    serve = ("audit", "witness", "serve", "--state", str(state), "--listen", f"127.0.0.1:{witness_port}")
    with _running(bare, tmp_path, *serve, "--log", str(audit / "log.vkey"), awaited=f"{witness}/unknown"):
        yield Site(tmp_path, environment, f"http://127.0.0.1:{port}")


def test_outside_heads_are_cosigned_published_and_told_in_the_log(site: Site) -> None:
    with site.serving():
        site.call()
        _until(lambda: site.cosigned_size() >= 3, "the witness signed the call's entry")
        published = site.folder / "published" / "default"
        _until(lambda: WITNESS in (published / "checkpoint").read_text(), "the cosigned head is published")
        storage = SqliteStorage(site.log)
        try:
            _until(lambda: bool(storage.find(Query(type="anchor/v1"))), "the log tells of it")
        finally:
            storage.close()
    for target in (published, site.log):
        verified = run_bedside("audit", "verify", str(target), environment=site.environment)
        assert verified.returncode == 0, verified.stdout + verified.stderr


def test_outside_heads_of_a_witness_stop_a_start_on_a_log_that_was_put_back_whole(site: Site) -> None:
    """The operator puts back the whole folder: store, head file and heads. The witness remembers."""
    copy = site.folder / "copy"
    with site.serving():
        site.call()
    shutil.copytree(site.log, copy)
    with site.serving():
        known = site.cosigned_size()
        site.call()
        _until(lambda: site.cosigned_size() > known, "the witness signed the new entries")
    shutil.rmtree(site.log)
    shutil.copytree(copy, site.log)
    refused = run_bedside("serve", environment=site.environment)
    assert refused.returncode != 0
    assert "rolled back" in refused.stdout + refused.stderr
