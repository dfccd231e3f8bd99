"""What the drills share: a log with entries like those of a real day, and the full verification of it from outside.

Entries are decisions with every part filled in, of a size that the drill chooses, with or without a sealed payload. Another
store to attack is one more case in `each_log`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audit.entry import (
    CardShown,
    DecisionEntry,
    Entry,
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
from audit.errors import StorageError
from audit.keys import VKEY_FILE, init_keys, load_vkeys
from audit.log import AuditLog, LogConfig, create_log
from audit.payloads import SealedPayload
from audit.storage.opening import STORE_FILE, open_scan
from audit.vault import patient_subject
from audit.verify import LogReport, Trust, verify_log
from benchmarks.drills import DrillSkippedError
from benchmarks.drills.postgresql_server import running_postgresql

ORIGIN = "drill.example/cds-audit/north/1"
TENANT = "north"
LEAF_BYTES = 2_048  # the bar's
_DIGEST = "5a" * 32
_SCOPE_BYTES = 200


def now() -> datetime:
    return datetime.now(UTC)


def new_log(directory: Path, *, page_size: int = 4096, **changes: Any) -> LogConfig:
    """An empty log with new keys in a new directory; `changes` as in LogConfig."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = LogConfig(directory, ORIGIN, TENANT, **({"deadline_s": 10.0} | changes))
    create_log(config, init_keys(directory, ORIGIN, os.urandom), page_size=page_size)
    return config


def open_log(config: LogConfig) -> AuditLog:
    return AuditLog.open(config, clock=now)


def each_log(workspace: Path, **changes: Any) -> Iterator[tuple[str, LogConfig]]:
    """An empty log in each kind of store that this machine has, by the store's name; a server runs only for its turn.

    It is a server that has been in use (`PostgresqlServer.break_in`), as those in hospitals are.
    """
    yield "sqlite", new_log(workspace / "sqlite", **changes)
    with ExitStack() as resources:
        try:
            server = resources.enter_context(running_postgresql())
            server.break_in()
            directory = workspace / "postgresql"
            directory.mkdir(mode=0o700)
            server.write_url(directory / "database-url")
            place = {"store": "postgresql", "database_url_file": "database-url", "schema": "drill"}
            (directory / STORE_FILE).write_text(json.dumps(place), encoding="utf-8")
            config = new_log(directory, **changes)
        except (DrillSkippedError, StorageError):
            return
        yield "postgresql", config


def decision(
    log: AuditLog, leaf_bytes: int = 0, payload: bytes | None = None, patient: str = "4711", **changes: Any
) -> tuple[Entry, SealedPayload | None]:
    """What `record` takes: a decision about a patient, padded to `leaf_bytes`, its payload sealed under the patient's key."""
    entry_id = log.new_entry_id()
    moment = now()
    if "clock" not in changes:
        changes["clock"] = log.clock_status(moment)
    entry = replace_fields(_TEMPLATE, **({"id": entry_id, "time": format_time(moment)} | changes))
    sealed = None
    if payload is not None:
        key = log.vault.key_for(patient_subject(patient))
        sealed = log.seal(entry_id, "decision/v1", payload, key)
        entry = replace_fields(entry, patient=key.commitment(entry_id), payload=sealed.reference)
    return _padded(entry, leaf_bytes), sealed


def replace_fields(entry: DecisionEntry, **changes: Any) -> DecisionEntry:
    """The entry with other fields."""
    return DecisionEntry(**({name: getattr(entry, name) for name in entry.__struct_fields__} | changes))


def trust_of(config: LogConfig, heads: Iterable[bytes] = ()) -> Trust:
    """What an outsider knows: the public key, and the heads he kept."""
    return Trust(load_vkeys(config.directory / VKEY_FILE), config.origin, tuple(heads))


def verify(config: LogConfig, heads: Iterable[bytes] = ()) -> LogReport:
    """The report of a full verification by an outsider, the log's own head included; raises AuditError."""
    known = (config.head_file.read_bytes(), *heads)
    scan = open_scan(config.directory)
    try:
        return verify_log(scan, trust_of(config, known))
    finally:
        scan.close()


def without_deadline(config: LogConfig) -> LogConfig:
    """For drills in which a slow machine must show as time and not as refusals."""
    return replace(config, deadline_s=30.0)


def _padded(entry: DecisionEntry, leaf_bytes: int) -> DecisionEntry:
    """The entry with scopes added until it has `leaf_bytes`, as from a client with many."""
    missing = leaf_bytes - len(format_entry(entry)) if leaf_bytes else 0
    if missing < 4:  # a scope needs quotation marks, a comma, and a letter
        return entry
    scopes = []
    while missing > 3:
        size = min(missing - 3, _SCOPE_BYTES)
        scopes.append("p" * size)
        missing -= size + 3
    request = entry.request
    padded = Request(
        **{name: getattr(request, name) for name in request.__struct_fields__} | {"scopes": (*request.scopes, *scopes)}
    )
    return replace_fields(entry, request=padded)


_TEMPLATE = DecisionEntry(
    id="0" * 32,
    time="2026-03-01T08:00:00.000000Z",
    clock="synchronised",
    tenant=TENANT,
    service=Service(id="prevent-cvd", version="1.0.0"),
    software=_DIGEST,
    config=_DIGEST,
    request=Request(
        hook="patient-view",
        hook_instance="d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        body=_DIGEST,
        prefetch_present=("patient", "labs"),
        prefetch_missing=("conditions",),
        prefetch_failed=(),
        fhir_origin="https://fhir.example.org",
        scopes=("patient/Observation.rs",),
    ),
    requester=Requester(issuer="https://ehr.example.org", subject="ehr-client", practitioner=_DIGEST, role="doctor"),
    patient=None,
    model=ModelUse(
        id="prevent_cvd",
        version="1.0.0",
        artefact=_DIGEST,
        manifest=_DIGEST,
        thresholds=_DIGEST,
        card=_DIGEST,
        status="active",
    ),
    inputs=Inputs(commitment=_DIGEST, present=9, missing=1, stale=0),
    output=Output(band="high", decision="consider-statin"),
    abstention=(),
    explanation=Explanation(method="integrated-gradients", commitment=_DIGEST),
    cards=(CardShown(uuid="0c8b6f0e-9b5c-4b39-8d4f-f7a2a5a3a7b1", indicator="warning", text=_DIGEST, suggestions=()),),
    system_actions=(),
    latency_us={"assess": 900, "gather": 120},
    status="ok",
    payload=None,
)
