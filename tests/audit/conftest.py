"""What the tests of the log share: a log in a temporary directory, and entries to put in."""

import itertools
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.entry import (
    CardShown,
    DecisionEntry,
    Explanation,
    Inputs,
    ModelUse,
    Output,
    Request,
    Requester,
    Service,
    format_entry,
    format_time,
)
from audit.keys import KeyRing, init_keys
from audit.log import AuditLog, LogConfig, create_log
from audit.payloads import SealedPayload
from audit.storage.opening import write_place
from tests.audit.stores import PostgresqlFiles, SqliteFiles, StoreFiles
from tests.postgresql import owner_session, postgresql_fixture, postgresql_place, second_host  # noqa: F401 - for every test

ORIGIN = "hospital.example/cds-audit/north/1"
START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
DIGEST = "5a" * 32

MakeEntry = Callable[..., tuple[bytes, SealedPayload | None]]
OpenLog = Callable[..., AuditLog]


def _decision(entry_id: str, **changes: Any) -> DecisionEntry:
    """A decision with every part filled in."""
    fields: dict[str, Any] = {
        "id": entry_id,
        "time": format_time(START),
        "clock": "synchronised",
        "tenant": "north",
        "service": Service(id="prevent-cvd", version="1.0.0"),
        "software": DIGEST,
        "config": DIGEST,
        "request": Request(
            hook="patient-view",
            hook_instance="d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
            body=DIGEST,
            prefetch_present=("patient", "labs"),
            prefetch_missing=("conditions",),
            prefetch_failed=(),
            fhir_origin="https://fhir.example.org",
            scopes=("patient/Observation.rs",),
        ),
        "requester": Requester(
            issuer="https://ehr.example.org", subject="ehr-client", practitioner=DIGEST, role="doctor"
        ),
        "patient": DIGEST,
        "model": ModelUse(
            id="prevent_cvd",
            version="1.0.0",
            artefact=DIGEST,
            manifest=DIGEST,
            thresholds=DIGEST,
            card=DIGEST,
            status="active",
        ),
        "inputs": Inputs(commitment=DIGEST, present=9, missing=1, stale=0),
        "output": Output(band="high", decision="consider-statin"),
        "abstention": (),
        "explanation": Explanation(method="integrated-gradients", commitment=DIGEST),
        "cards": (
            CardShown(uuid="0c8b6f0e-9b5c-4b39-8d4f-f7a2a5a3a7b1", indicator="warning", text=DIGEST, suggestions=()),
        ),
        "system_actions": (),
        "latency_us": {"gather": 120, "assess": 900},
        "status": "ok",
        "payload": None,
    }
    return DecisionEntry(**(fields | changes))


def _make_entry(log: AuditLog, plaintext: bytes | None = None, **changes: Any) -> tuple[bytes, SealedPayload | None]:
    entry_id = changes.pop("entry_id", None) or log.new_entry_id()
    if plaintext is None:
        return format_entry(_decision(entry_id, **changes)), None
    sealed = log.seal(entry_id, "decision/v1", plaintext, log.vault.key_for("patient:p1"))
    return format_entry(_decision(entry_id, payload=sealed.reference, **changes)), sealed


@pytest.fixture(name="decision")
def decision_fixture() -> Callable[..., DecisionEntry]:
    """Makes a decision with every part filled in: decision(entry_id, **changes)."""
    return _decision


@pytest.fixture
def make_entry() -> MakeEntry:
    """Makes what `append` takes: make_entry(log, plaintext=None, **changes)."""
    return _make_entry


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """A clock that moves one second with each look at it."""
    ticks = itertools.count()
    return lambda: START + timedelta(seconds=next(ticks))


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """The store that `make_log` makes its log in: SQLite, unless the test is one for both."""
    return getattr(request, "param", "sqlite")


@pytest.fixture
def store_files(request: pytest.FixtureRequest, store: str) -> StoreFiles:
    """What lies under a log of this store."""
    return SqliteFiles() if store == "sqlite" else PostgresqlFiles(request.getfixturevalue("postgresql"))


@pytest.fixture
def make_log(tmp_path: Path, store: str, request: pytest.FixtureRequest) -> Callable[..., tuple[LogConfig, KeyRing]]:
    """Makes an empty log: make_log(page_size=4096, **config); the deadline is generous, since test machines stall."""

    def make(page_size: int = 4096, **changes: Any) -> tuple[LogConfig, KeyRing]:
        directory = tmp_path / "log"
        directory.mkdir(mode=0o700)
        config = LogConfig(directory, ORIGIN, "north", **({"deadline_s": 10.0} | changes))
        keys = init_keys(directory, ORIGIN, os.urandom)
        if store == "postgresql":
            write_place(directory, request.getfixturevalue("postgresql_place")())
        create_log(config, keys, page_size=page_size)
        return config, keys

    return make


@pytest.fixture
def open_log(clock: Callable[[], datetime]) -> Iterator[OpenLog]:
    """Opens a log that the end of the test closes: open_log(config)."""
    opened: list[AuditLog] = []

    def open_one(config: LogConfig) -> AuditLog:
        opened.append(AuditLog.open(config, clock=clock))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


@pytest.fixture
def log(make_log: Callable[..., tuple[LogConfig, KeyRing]], open_log: OpenLog) -> AuditLog:
    """An empty log, open."""
    config, _ = make_log()
    return open_log(config)
