"""The one place where everything is wired together: clock, randomness, files, network and models meet here.

`build_app` is what the WSGI server calls in each worker process. A clock is read or the environment looked at only here and in
`bedside.environment`.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from importlib.resources import files
from multiprocessing.util import Finalize
from pathlib import Path

import msgspec
from flask import Flask

from audit.errors import AuditError
from bedside.clients import networks, open_client, registered_clients
from bedside.config import Config, ConfigError
from bedside.drift.watching import Watch
from bedside.environment import now, read_config
from bedside.hospital import HospitalFhir, fetch_key_set
from bedside.logs import configure_logging
from bedside.offered import build_services, load_candidates, load_models
from bedside.outsiders import start_anchoring
from bedside.starting import record_start
from bedside.state import WARD_FILE, open_state
from bedside.tenants import open_logs
from cds_service.app import create_app
from cds_service.auth import Gate, OpenGate
from cds_service.candidates import CandidateRuns
from cds_service.clients import CdsClient
from cds_service.decision import Context
from cds_service.desk import Book, Desk, Quiet
from cds_service.errors import ServiceError
from cds_service.jti_store import JtiStore
from cds_service.key_sets import KeySets
from cds_service.monitor import Pace, SketchMonitor
from cds_service.services import CdsService
from cds_service.ward import Ward
from model_artifacts.archive import keep_model
from model_artifacts.errors import ModelError
from model_artifacts.local_validity import site_section
from model_artifacts.runtime import ReleasedModel
from smart_app.app import add_model_pages

log = logging.getLogger("bedside.wiring")

MODEL_S = 0.05  # a model takes 5 ms; ten times that is kept for it
PACKAGES = ("audit", "bedside", "cds_service", "fhir_adapters", "model_artifacts", "smart_app")


def software_digest(models: Iterable[ReleasedModel]) -> str:
    """SHA-256 over every Python file that decides an answer: Bedside's packages and the models', by name and bytes."""
    roots = {Path(str(files(package))) for package in PACKAGES} | {model.code for model in models}
    digest = hashlib.sha256()
    for root in sorted(roots):
        for path in sorted(root.rglob("*.py")):
            digest.update(
                f"{root.name}/{path.relative_to(root)}\n".encode() + hashlib.sha256(path.read_bytes()).digest()
            )
    return digest.hexdigest()


def config_digest(config: Config) -> str:
    """SHA-256 over the configuration in force."""
    return hashlib.sha256(msgspec.json.encode(config, enc_hook=str, order="sorted")).hexdigest()


def build_desk(config: Config) -> Desk:
    """Everything a hook call needs, made from the configuration."""
    models = load_models(config)
    for model in models.values():
        keep_model(model, config.model_archive)
    services = build_services(config, models)
    clients = registered_clients(config)
    _check_clients(config, clients, services)
    software, settings = software_digest(models.values()), config_digest(config)
    books = {
        tenant: Book(audit_log, Context(tenant, software, settings, audit_log.keys.index_key))
        for tenant, audit_log in open_logs(config).items()
    }
    state = open_state(config)
    ward = Ward.open(state / WARD_FILE)
    return Desk(
        services=services,
        clients=clients,
        gate=_build_gate(config, clients, state),
        fetch=HospitalFhir(config),
        books=books,
        ward=ward,
        quiet=Quiet(timedelta(seconds=config.ward.quiet_s) or None, config.ward.quiet_per == "user"),
        shadow_models=frozenset(config.models.shadow),
        clock=now,
        new_uuid=lambda: str(uuid.uuid4()),
        model_page=lambda model_id: f"{config.public_url}/models/{model_id}",
        smart_launch_url=config.smart_app.launch_url or None,
        public_url=config.public_url,
        trusted_proxies=networks("access.trusted_proxies", config.access.trusted_proxies),
        open_discovery=config.access.open_discovery,
        workers=config.server.workers,
        reserve_s=_reserve_s(config),
        ready=lambda: _not_ready(books, ward),
    )


def _reserve_s(config: Config) -> float:
    """Of a call's deadline, what the model and the log may need."""
    return config.audit.deadline_ms / 1000 + MODEL_S


def _check_clients(config: Config, clients: tuple[CdsClient, ...], services: tuple[CdsService, ...]) -> None:
    for client in clients:
        if client.deadline_s <= _reserve_s(config):
            raise ConfigError(
                f"clients {client.id}.deadline_s: expected more than {_reserve_s(config):g}, which the model and "
                f"audit.deadline_ms may take, got {client.deadline_s:g}"
            )
    ids, models = {service.id for service in services}, {service.model.manifest.id for service in services}
    for place, named, known in (
        *((f"clients {client.id}.services", client.services, ids) for client in clients),
        *((f"clients {client.id}.shadow_models", client.shadow_models, models) for client in clients),
        ("models.shadow", config.models.shadow, models),
    ):
        unknown = sorted(set(named) - known)
        if unknown:
            raise ConfigError(f"{place}: expected some of {', '.join(sorted(known))}, got {', '.join(unknown)}")


def _build_gate(config: Config, clients: tuple[CdsClient, ...], state: Path) -> Gate | OpenGate:
    if config.access.open_on_loopback:
        return OpenGate(open_client(config))
    return Gate(clients, KeySets(fetch_key_set, time.monotonic), JtiStore.open(state / "jti.sqlite3"), now)


def _not_ready(books: Mapping[str, Book], ward: Ward) -> tuple[str, ...]:
    """What keeps a call from being answered: a log whose store can't be read, or the ward's state. Anyone may ask."""
    lacking = []
    for tenant, book in books.items():
        try:
            book.log.checkpoint()
        except AuditError as exc:
            log.error("log not ready", extra={"tenant": tenant, "error": type(exc).__name__})
            lacking.append("log")
    try:
        ward.switches()
    except ServiceError:
        lacking.append("state")
    return tuple(dict.fromkeys(lacking))


def build_app() -> Flask:
    """The WSGI application of one worker process; what keeps it from starting is one line of the operations log."""
    configure_logging()
    try:
        return _build_app()
    except (ConfigError, ModelError, AuditError, ServiceError) as exc:
        log.error("cannot start", extra={"why": str(exc)})
        raise SystemExit(2) from exc


def _build_app() -> Flask:
    config = read_config()
    require_way_in(config)
    if config.access.open_on_loopback:
        log.warning("open to every caller on this machine, for evaluation only", extra={"host": config.server.host})
    desk = build_desk(config)
    # Closing commits what waits and seals the store, so that any later change of it shows. A worker process ends by
    # multiprocessing's exit function, which runs finalizers and not atexit.
    for book in desk.books.values():
        Finalize(None, book.log.close, exitpriority=0)
    record_start(desk)
    for loop in start_anchoring(config, [book.log for book in desk.books.values()], now):
        Finalize(None, loop.close, exitpriority=10)  # before the logs
    desk = _with_candidates(config, _monitored(config, desk))
    app = create_app(desk, max_body_bytes=config.server.max_body_bytes)
    if config.access.open_on_loopback:
        # A web page whose name was rebound to this machine must not read from it: it would come by that name.
        app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost", "[::1]"]
    models = {service.model.manifest.id: service.model for service in desk.services}
    add_model_pages(app, models, partial(site_section, config.local_validation))
    gc.collect()
    gc.set_threshold(10_000, 10, 10)  # a call makes thousands of objects and no cycles
    gc.freeze()  # what lives now lives as long as the process: the collector need not look at it again
    return app


def _monitored(config: Config, desk: Desk) -> Desk:
    """The desk whose decisions are counted, and looked at for drift."""
    paced = config.monitoring
    watch = Watch(config, {tenant: book.log for tenant, book in desk.books.items()}, now)
    pace = Pace(paced.every_decisions, paced.every_s, paced.least)
    monitor = SketchMonitor(desk.books, pace, now, written=watch)
    for service in desk.services:
        monitor.prepare(service.model)
    monitor.start()
    Finalize(None, monitor.close, exitpriority=10)  # before the logs
    return replace(desk, monitor=monitor)


def _with_candidates(config: Config, desk: Desk) -> Desk:
    """The desk beside which versions run in shadow, each kept so that its decisions can be repeated."""
    models = load_candidates(config)
    if not models:
        return desk
    for model in models.values():
        keep_model(model, config.model_archive)
    runs = CandidateRuns(models)
    runs.start()
    Finalize(None, runs.close, exitpriority=20)  # before the monitor, which counts what they say
    return replace(desk, candidates=runs)


def require_way_in(config: Config) -> None:
    """Returns if callers can be let in; raises ConfigError, for the service is closed unless configured."""
    if not config.access.open_on_loopback and not registered_clients(config):
        raise ConfigError("clients: expected at least one, as nobody could call; docs/connect-an-ehr.md says how")
