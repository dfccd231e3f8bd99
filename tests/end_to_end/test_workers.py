"""What happens to the service when a worker process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import requests

from tests.cds_service import patients
from tests.conftest import ORIGIN, await_answer, clean_environment, free_port, run_bedside


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(task) for task in tasks]


def _workers(pid: int) -> list[int]:
    """The processes that serve: all below the supervisor but multiprocessing's resource tracker."""
    below = [child for task in _children(pid) for child in (task, *_children(task))]
    return [child for child in below if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_workers_one_that_is_killed_is_replaced_and_the_log_stays_whole(tmp_path: Path) -> None:
    """Once the supervisor ended with its worker."""
    port, audit = free_port(), tmp_path / "audit"
    (tmp_path / "bedside.toml").write_text(
        f"[server]\nport = {port}\n[access]\nopen_on_loopback = true\n"
        f'[audit]\ndirectory = "{audit}"\norigin = "{ORIGIN}"\ndeadline_ms = 5000\n[models]\nenabled = ["prevent_cvd"]\n'
    )
    environment = clean_environment(BEDSIDE_CONFIG=str(tmp_path / "bedside.toml"))
    assert run_bedside("audit", "init", "--origin", ORIGIN, environment=environment).returncode == 0
    url = f"http://127.0.0.1:{port}/cds-services"
    body = patients.encoded(patients.call(None))
    process = subprocess.Popen([sys.executable, "-m", "bedside", "serve"], env=environment, stderr=subprocess.DEVNULL)
    try:
        await_answer(process, url)
        assert (
            requests.post(f"{url}/prevent-cvd", data=body, headers={"Content-Type": "application/json"}).status_code
            == 412
        )
        (worker,) = _workers(process.pid)
        os.kill(worker, signal.SIGKILL)
        time.sleep(0.2)
        await_answer(process, url)
        assert (
            requests.post(f"{url}/prevent-cvd", data=body, headers={"Content-Type": "application/json"}).status_code
            == 412
        )
    finally:
        process.terminate()
        process.wait(20)
    verified = run_bedside("audit", "verify", str(audit), environment=environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "valid: 5 entries" in verified.stdout  # two starts, a model that is new at the first, two calls
