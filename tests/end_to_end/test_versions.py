"""A version of a model on its way, over the service as it is run: in shadow, promoted while calls come in, gone back from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from audit.merkle import LeafIndex
from audit.storage.sqlite import SqliteStorage
from bedside.cli import main
from cds_service.response import RECEIPT_KEY
from tests.cds_service import patients
from tests.conftest import ORIGIN, await_answer, clean_environment, free_port
from tests.model_artifacts.candidates import make_candidate
from tests.model_artifacts.signer import Signer

WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Service:
    folder: Path
    port: int
    environment: dict[str, str]
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> str:
        """What `bedside` prints; in this process, which has everything imported."""
        self.capsys.readouterr()
        code, told = main(arguments), self.capsys.readouterr()
        assert code == 0, told.out + told.err
        return told.out

    def call(self) -> dict[str, Any]:
        """The decision's leaf behind a call that is answered with one card."""
        body = patients.encoded(patients.call(patients.prefetch(datetime.now(UTC))))
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                f"http://127.0.0.1:{self.port}/cds-services/prevent-cvd",
                data=body,
                headers={"Content-Type": "application/json", "Connection": "close"},
                timeout=20,
            )
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["cards"]) == 1
        return self.leaves()[answer.json()["extension"][RECEIPT_KEY]["index"]]

    def promoted(self) -> dict[str, Any] | None:
        """The decision by the new version; None while the old one answers, or while a slow host's only worker is starting."""
        try:
            leaf = self.call()
        except requests.ConnectionError:
            return None
        return leaf if leaf["model"]["version"] == "9.1.0" else None

    def leaves(self) -> list[dict[str, Any]]:
        with self.storage() as storage:
            size = storage.newest_checkpoint().size
            return [json.loads(storage.entry(LeafIndex(index)) or b"null") for index in range(size)]

    def shadows(self) -> list[dict[str, Any]]:
        decisions = [leaf for leaf in self.leaves() if leaf["_t"] == "decision/v1"]
        return [leaf for leaf in decisions if leaf["model"]["status"] == "shadow"]

    @contextmanager
    def storage(self) -> Iterator[SqliteStorage]:
        storage = SqliteStorage(self.folder / "audit")
        try:
            yield storage
        finally:
            storage.close()

    @contextmanager
    def served(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / "stderr").open("ab") as sink:
            command = [sys.executable, "-m", "bedside", "serve"]
            process = subprocess.Popen(command, env=self.environment, stdout=sink, stderr=sink)
            try:
                await_answer(process, f"http://127.0.0.1:{self.port}/cds-services")
                yield process
            finally:
                process.terminate()
                process.wait(20)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Service:
    signer = Signer(tmp_path / "keys", "maker.pub")
    make_candidate(tmp_path / "candidate", signer, replacing={'code = "from-7.5"': 'code = "middle"'})
    port, config = free_port(), tmp_path / "bedside.toml"
    config.write_text(
        f"[server]\nport = {port}\n[access]\nopen_on_loopback = true\n"
        f'[audit]\ndirectory = "{tmp_path / "audit"}"\norigin = "{ORIGIN}"\ndeadline_ms = 5000\n'
        f'[models]\nenabled = ["prevent_cvd"]\ntrusted_keys = ["{signer.public_file}"]\n'
        f'[state]\ndirectory = "{tmp_path / "state"}"\n'
    )
    for name in [name for name in os.environ if name.startswith("BEDSIDE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BEDSIDE_CONFIG", str(config))
    made = Service(tmp_path, port, clean_environment(BEDSIDE_CONFIG=str(config)), capsys)
    made.run("audit", "init", "--origin", ORIGIN)
    return made


def test_versions_go_from_shadow_into_force_and_back_on_a_running_service(service: Service) -> None:
    candidate = str(service.folder / "candidate")
    service.run("model", "shadow", "prevent_cvd", "--candidate", candidate, "--reason", "evaluation")
    with service.served() as process:
        shown = service.call()
        assert (shown["model"]["version"], shown["output"]["band"]) == ("1.0.0", "from-7.5")
        beside = _awaited(service.shadows)[0]
        assert (beside["model"]["version"], beside["output"]["band"]) == ("9.1.0", "middle")
        assert beside["cards"] == []
        compared = service.run("model", "compare", "prevent_cvd")
        assert "in the log: 0 of 1 calls alike (0.0 %)\n  from-7.5 -> middle: 1\n" in compared

        service.run("model", "promote", "prevent_cvd", "--candidate", candidate, "--reason", "new-release")
        assert service.call()["model"]["version"] == "1.0.0"  # what runs goes on
        process.send_signal(signal.SIGHUP)
        promoted = _awaited(service.promoted)
        assert promoted["output"]["band"] == "middle"
        service.run("model", "rollback", "prevent_cvd", "--reason", "safety")
    with service.served():
        assert service.call()["model"]["version"] == "1.0.0"
    index = next(i for i, leaf in enumerate(service.leaves()) if leaf["id"] == promoted["id"])
    assert "answer-reproduced" in service.run("audit", "replay", str(index))
    told = service.run("model", "show", "prevent_cvd")
    actions = [line.split()[2] for line in told.splitlines() if line.startswith("log: ")]
    assert actions == ["rollback", "promote", "deploy", "shadow"]
    service.run("audit", "verify", "--log", str(service.folder / "audit"))


def _awaited(look: Any) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail("what was waited for did not come")
