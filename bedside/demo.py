"""`bedside demo`: Bedside and a pocket EHR on this machine, a real patient-view, and the proof that it was recorded.

The pocket EHR is another program (`python -m demo`); it is started as one and talks to Bedside over HTTP as any EHR does.
Each demonstration gets a folder and a log of its own; nothing is deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from audit.keys import load_vkeys
from audit.verify import Trust, verify_receipt
from bedside.config import ConfigError

ORIGIN = "demo.localhost/cds-audit/default/1"
START_DEADLINE_S = 60.0  # a cold start takes one or two seconds; a busy machine may need more


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds its arguments."""
    parser.add_argument("--port", type=int, default=8712, help="Bedside's port")
    parser.add_argument("--ehr-port", type=int, default=8713, help="the pocket EHR's port")
    parser.add_argument("--directory", type=Path, default=Path("var/demo"), help="where the log of this run goes")
    parser.add_argument("--once", action="store_true", help="stop after the cards are shown and verified")
    parser.set_defaults(run=run_demo)


def run_demo(options: argparse.Namespace) -> int:
    """Exit code 0 if every call was answered and every receipt and the whole log verified."""
    for port in (options.port, options.ehr_port):
        _require_free(port)
    folder = options.directory.absolute() / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder.mkdir(parents=True)
    url = f"http://127.0.0.1:{options.port}"
    key = str(folder / "ehr-key.pem")
    ehr = ["-m", "demo", "--port", str(options.ehr_port), "--bedside", url, "--key-file", key]
    environment = os.environ | {"BEDSIDE_CONFIG": str(_write_config(folder, options))}
    _say("1. A new decision log, with keys of its own")
    if code := _run(
        ["-m", "bedside", "audit", "init", "--log", str(folder / "audit"), "--origin", ORIGIN], environment
    ):
        return code
    with (
        (folder / "operations.log").open("wb") as operations,
        _started(["-m", "bedside", "serve"], environment, f"{url}/health", operations),
    ):
        _say("2. The pocket EHR opens its patients' records: patient-view, with prefetch and through FHIR")
        receipts = folder / "receipts"
        code = _run([*ehr, "--once", "--receipts", str(receipts)], environment)
        _say("3. What became of the cards, from the log")
        code = code or _run(["-m", "bedside", "report", "feedback"], environment)
        _say("4. The receipts that came with the answers, checked with the log's public key alone")
        if not code:
            _verify_receipts(receipts, folder / "audit" / "log.vkey")
        _say("5. The whole log, re-hashed entry by entry; then one decision repeated from its encrypted inputs")
        code = code or _run(["-m", "bedside", "audit", "verify", str(folder / "audit")], environment)
        code = code or _run(["-m", "bedside", "audit", "replay", "latest"], environment)
        _say(
            "6. A bundle for an auditor, checked by the one-file verifier in it: Python's standard library, nothing of ours"
        )
        bundle = folder / "bundle"
        export = ["-m", "bedside", "audit", "export", "bundle", "--log", str(folder / "audit"), "-o", str(bundle)]
        code = code or _run(export, environment)
        code = code or _run(
            ["-I", "-S", str(bundle / "verify.py"), "--key", str(folder / "audit" / "log.vkey")], environment
        )
        if options.once or code:
            return code
        with _started(ehr, environment, f"http://127.0.0.1:{options.ehr_port}/"):
            _say("Open in a browser, and stop with Ctrl-C:")
            _say(f"  http://127.0.0.1:{options.ehr_port}/   the pocket EHR: patients and their cards")
            _say(f"  {url}/models   what the models are for and how they were measured")
            _wait()
    return 0


def _require_free(port: int) -> None:
    """Another server on the port would answer in our place, and be shown as if it were ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise ConfigError(f"port {port}: {exc.strerror}; see --port and --ehr-port") from exc


def _write_config(folder: Path, options: argparse.Namespace) -> Path:
    path, ehr = folder / "bedside.toml", f"http://127.0.0.1:{options.ehr_port}"
    path.write_text(
        f"[server]\nport = {options.port}\n\n"
        f'[[clients]]\nid = "pocket-ehr"\nissuer = "{ehr}"\nallowed_jku = ["{ehr}/.well-known/jwks.json"]\n'
        f'fhir_servers = ["{ehr}/fhir"]\n\n'
        f'[audit]\ndirectory = {json.dumps(str(folder / "audit"))}\norigin = "{ORIGIN}"\n\n'
        f"[state]\ndirectory = {json.dumps(str(folder / 'state'))}\n"
    )
    return path


def _run(arguments: list[str], environment: dict[str, str]) -> int:
    sys.stdout.flush()
    return subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode  # noqa: S603 - ours


def _verify_receipts(receipts: Path, vkey: Path) -> None:
    """One line per receipt.

    Raises:
        AuditError: a receipt doesn't verify.
    """
    trust = Trust(load_vkeys(vkey))
    reports = [verify_receipt(path.read_bytes(), trust) for path in receipts.glob("*.tlog-proof")]
    for report in sorted(reports, key=lambda report: report.index):
        sys.stdout.write(f"valid: index {report.index} of {report.checkpoint.size} in {report.checkpoint.origin}\n")


@contextmanager
def _started(
    arguments: list[str], environment: dict[str, str], ready_url: str, log: IO[bytes] | None = None
) -> Iterator[None]:
    """Runs a server until the block ends, its log in `log` or here; asked to stop and, if it will not, stopped."""
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stderr=log)  # noqa: S603 - ours
    try:
        _await_ready(process, ready_url)
        yield
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the server to end, and ends it if it will not."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def _await_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - loopback http
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise SystemExit(f"bedside demo: {url} did not answer; operations.log in the folder of this run may say why")


def _wait() -> None:
    """Until Ctrl-C, or until asked to end: then the servers this program started end with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        _say("stopping")


def _say(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")
    sys.stdout.flush()
