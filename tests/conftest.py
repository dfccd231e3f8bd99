"""What the service's tests share: the released models, a log, a desk in-process, and a server as it is run."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, settings

from audit.keys import init_keys
from audit.log import AuditLog, LogConfig, create_log
from cds_service.auth import OpenGate
from cds_service.decision import Context
from cds_service.desk import Book, Desk, Quiet
from cds_service.hooks import PARSERS
from cds_service.services import services_of
from cds_service.ward import Ward
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel
from tests.cds_service.callers import CLIENT
from tests.conformance.every_response import every_response, only_valid_responses  # noqa: F401 - for every test
from tests.end_to_end.fhir_double import FhirDouble, running_fhir
from tests.memory import memory_folder

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
ORIGIN = "tests.example/cds-audit/north/1"
TENANT = "north"
EVERY_HOOK = "risk-at-every-hook"
START_DEADLINE_S = 60.0

# A busy machine is slow, and that is no failure of what is tested.
settings.register_profile("bedside", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bedside")


def pytest_configure() -> None:
    """Lays `tmp_path` in memory where there is room, unless PYTEST_DEBUG_TEMPROOT says otherwise: =/tmp for a disk."""
    place = memory_folder()
    if place is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(place))


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def released_packages() -> dict[str, str]:
    """The registered models whose folder holds a whole release."""
    return {
        name: package
        for name, package in model_packages().items()
        if all((Path(str(files(package))) / name).exists() for name in ("manifest.toml", "MODEL_CARD.md"))
    }


@pytest.fixture(scope="session")
def models() -> dict[str, ReleasedModel]:
    return {name: ReleasedModel.load(package) for name, package in released_packages().items()}


@pytest.fixture(scope="session")
def prevent(models: dict[str, ReleasedModel]) -> ReleasedModel:
    return models["prevent_cvd"]


@pytest.fixture
def audit_log(tmp_path: Path) -> Iterator[AuditLog]:
    directory = tmp_path / "audit"
    directory.mkdir()
    config = LogConfig(directory, ORIGIN, tenant=TENANT, deadline_s=5.0)
    create_log(config, init_keys(directory, ORIGIN, os.urandom))
    log = AuditLog.open(config, clock=lambda: NOW)
    yield log
    log.close()


MakeDesk = Callable[..., Desk]


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    opened = Ward.open(tmp_path / "ward.sqlite3")
    yield opened
    opened.close()


@pytest.fixture
def make_desk(audit_log: AuditLog, ward: Ward, models: dict[str, ReleasedModel]) -> MakeDesk:
    """`make_desk(fetch=…, models=…, log=…, any field of Desk=…)`: a desk over the real log, its uuids counted."""
    counter = itertools.count(1)

    def make(
        fetch: Callable[..., Any] | None = None,
        models: dict[str, ReleasedModel] = models,
        log: AuditLog = audit_log,
        **changes: Any,
    ) -> Desk:
        def fetched(_access: object, *asked: Any) -> Any:
            return pytest.fail("nothing was to be fetched") if fetch is None else fetch(*asked)

        desk = Desk(
            services=services_of(models.values()),
            clients=(CLIENT,),
            gate=OpenGate(CLIENT),
            fetch=fetched,
            books={TENANT: Book(log, Context(TENANT, "5a" * 32, "6b" * 32, log.keys.index_key))},
            ward=ward,
            quiet=Quiet(None, per_user=False),
            shadow_models=frozenset(),
            clock=lambda: NOW,
            new_uuid=lambda: str(uuid.UUID(int=next(counter))),
            model_page=lambda model_id: f"https://cds.example.org/models/{model_id}",
            smart_launch_url=None,
            public_url="https://cds.example.org",
            trusted_proxies=(),
            open_discovery=False,
            workers=1,
            reserve_s=0.3,
            ready=lambda: (),
        )
        return replace(desk, **changes)

    return make


@dataclass(frozen=True, slots=True)
class RunningBedside:
    """`bedside serve` in a process of its own."""

    url: str
    audit: Path
    stderr: Path
    fhir: FhirDouble
    ehr_port: int
    environment: dict[str, str]

    def post(
        self, body: bytes, service: str = "prevent-cvd", content_type: str = "application/json"
    ) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.post(
                f"{self.url}/cds-services/{service}", data=body, headers={"Content-Type": content_type}, timeout=20
            )

    def get(self, path: str) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{self.url}{path}", timeout=20)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `bedside` with this server's configuration."""
        return run_bedside(*arguments, environment=self.environment)


def clean_environment(**variables: str) -> dict[str, str]:
    """The environment without any BEDSIDE_ setting of the machine."""
    return {k: v for k, v in os.environ.items() if not k.startswith("BEDSIDE_")} | variables


def run_bedside(
    *arguments: str, environment: dict[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`bedside` with these arguments, ended after a minute at the latest."""
    command = [sys.executable, "-m", "bedside", *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="session")
def bedside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBedside]:
    folder = tmp_path_factory.mktemp("bedside")
    port, ehr_port = free_port(), free_port()
    with running_fhir() as fhir:
        allowed = [*fhir.base_urls, f"http://127.0.0.1:{ehr_port}/fhir"]
        config = folder / "bedside.toml"
        config.write_text(
            f"[server]\nport = {port}\n[access]\nopen_on_loopback = true\n"
            f"[fhir]\ndeadline_s = 4.0\nmax_pages = 3\nallowed_servers = {allowed}\n"
            f'[audit]\ndirectory = "{folder / "audit"}"\norigin = "{ORIGIN}"\ndeadline_ms = 5000\n'
            f'[models]\nenabled = {list(released_packages())}\n[state]\ndirectory = "{folder / "state"}"\n'
            '[[services]]\nmodel = "prevent_cvd"\n'
            f'[[services]]\nmodel = "prevent_cvd"\nid = "{EVERY_HOOK}"\nhooks = {list(PARSERS)}\n'
        )
        environment = clean_environment(BEDSIDE_CONFIG=str(config))
        made = run_bedside("audit", "init", "--origin", ORIGIN, environment=environment)
        assert made.returncode == 0, made.stderr
        stderr = folder / "stderr"
        server = RunningBedside(f"http://127.0.0.1:{port}", folder / "audit", stderr, fhir, ehr_port, environment)
        with stderr.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "bedside", "serve"], env=environment, stdout=sink, stderr=sink
            )
            try:
                await_answer(process, f"{server.url}/cds-services")
                yield server
            finally:
                process.terminate()
                process.wait(20)


def await_answer(process: subprocess.Popen[bytes], url: str) -> None:
    """Returns when `url` answers 200."""
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with requests.Session() as session:
                session.trust_env = False
                if session.get(url, timeout=1).status_code == 200:
                    return
        except requests.RequestException:
            time.sleep(0.05)
    pytest.fail(f"{url} did not answer; exit code {process.poll()}")
