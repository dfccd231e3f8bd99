"""The one place where everything is wired together: clock, randomness, files, network and models meet here.

`build_app` is what the WSGI server calls in each worker process. Only here is a clock read or the environment looked at.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from multiprocessing.util import Finalize
from pathlib import Path

import msgspec
from flask import Flask

from audit.entry import ConfigEntry, format_time
from audit.errors import AuditError
from audit.log import AuditLog, LogConfig
from bedside.config import Config, ConfigError, load_config
from bedside.logs import configure_logging
from cds_service.app import create_app
from cds_service.decision import Context
from cds_service.gather import Fetched
from cds_service.pipeline import Desk
from cds_service.request import FhirAuthorization
from cds_service.services import services_of
from fhir_adapters.client import FhirClient, fetch_all
from fhir_adapters.errors import FhirUpstreamError, OriginNotAllowedError
from model_artifacts.errors import ModelError
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel
from smart_app.app import add_model_pages

log = logging.getLogger("bedside.wiring")

PACKAGES = ("audit", "bedside", "cds_service", "fhir_adapters", "model_artifacts", "smart_app")


def read_config(environment: Mapping[str, str] | None = None) -> Config:
    """The configuration named by the environment.

    Raises:
        ConfigError: it cannot be used.
    """
    env = os.environ if environment is None else environment
    path = env.get("BEDSIDE_CONFIG")
    return load_config(Path(path) if path else None, env)


def now() -> datetime:
    """The present moment, aware UTC."""
    return datetime.now(UTC)


def load_models(config: Config) -> dict[str, ReleasedModel]:
    """The enabled models, verified.

    Raises:
        ConfigError: a model that is not installed is enabled.
        ModelError: a model folder is unreadable or altered.
    """
    packages = model_packages()
    unknown = [name for name in config.models.enabled if name not in packages]
    if unknown:
        raise ConfigError(f"models.enabled: expected some of {', '.join(packages)}, got {', '.join(unknown)}")
    return {name: ReleasedModel.load(packages[name]) for name in config.models.enabled}


def log_config(config: Config) -> LogConfig:
    """The audit log's own configuration."""
    audit = config.audit
    return LogConfig(
        directory=audit.directory,
        origin=audit.origin,
        tenant=audit.tenant,
        deadline_s=audit.deadline_ms / 1000,
        head_path=audit.head_file,
    )


def open_log(config: Config) -> AuditLog:
    """The audit log, opened for appending.

    Raises:
        AuditError: it is missing, unreadable, or was rolled back.
    """
    return AuditLog.open(log_config(config), clock=now)


def software_digest(models: Iterable[ReleasedModel]) -> str:
    """SHA-256 over every Python file that decides an answer: Bedside's packages and the models' folders, by name and bytes."""
    roots = {Path(str(files(package))) for package in PACKAGES} | {model.folder for model in models}
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


class HospitalFhir:
    """Asks the EHR's FHIR server, within the configured limits and only at the configured addresses."""

    def __init__(self, config: Config) -> None:
        self._fhir = config.fhir
        self._allowed = frozenset(server.rstrip("/") for server in config.fhir.allowed_servers)

    def __call__(self, server: str, token: FhirAuthorization | None, urls: Mapping[str, str]) -> Fetched:
        """Key to documents, or to the reason there are none."""
        if server.rstrip("/") not in self._allowed:
            return dict.fromkeys(urls, OriginNotAllowedError("fhir server: expected an allowed one, got another"))
        try:
            return self._fetch(server, token, urls)
        except FhirUpstreamError as refused:
            return dict.fromkeys(urls, refused)

    def _fetch(self, server: str, token: FhirAuthorization | None, urls: Mapping[str, str]) -> Fetched:
        with FhirClient(
            server,
            None if token is None else token.access_token,
            allowed_origins=self._allowed,
            timeout_s=self._fhir.deadline_s,
            deadline=time.monotonic() + self._fhir.deadline_s,
            max_pages=self._fhir.max_pages,
            max_bytes=self._fhir.max_response_bytes,
        ) as client:
            answers = fetch_all(client, urls.values())
        return {key: answers[url] for key, url in urls.items()}


def build_desk(config: Config) -> Desk:
    """Everything a hook call needs, made from the configuration."""
    models = load_models(config)
    audit_log = open_log(config)
    context = Context(
        tenant=config.audit.tenant,
        software=software_digest(models.values()),
        config=config_digest(config),
        index_key=audit_log.keys.index_key,
    )
    return Desk(
        services=services_of(models.values()),
        fetch=HospitalFhir(config),
        log=audit_log,
        context=context,
        clock=now,
        new_uuid=lambda: str(uuid.uuid4()),
        model_page=lambda model_id: f"{config.public_url}/models/{model_id}",
        smart_launch_url=config.smart_app.launch_url or None,
    )


def build_app() -> Flask:
    """The WSGI application of one worker process; what keeps it from starting is one line of the operations log."""
    configure_logging()
    try:
        return _build_app()
    except (ConfigError, ModelError, AuditError) as exc:
        log.error("cannot start", extra={"why": str(exc)})
        raise SystemExit(2) from exc


def _build_app() -> Flask:
    config = read_config()
    require_way_in(config)
    log.warning("open to every caller on this machine, for evaluation only", extra={"host": config.server.host})
    desk = build_desk(config)
    # Closing commits what waits and seals the store, so that any later change of it shows. A worker process ends by
    # multiprocessing's exit function, which runs finalizers and not atexit.
    Finalize(None, desk.log.close, exitpriority=0)
    _record_start(desk, config)
    app = create_app(desk, max_body_bytes=config.server.max_body_bytes)
    add_model_pages(app, {service.model.manifest.id: service.model for service in desk.services})
    gc.collect()
    gc.set_threshold(10_000, 10, 10)  # a call makes thousands of objects and no cycles
    gc.freeze()  # what lives now lives as long as the process: the collector need not look at it again
    return app


def require_way_in(config: Config) -> None:
    """Returns if callers can be let in; raises ConfigError, for the service is closed unless configured."""
    if not config.access.open_on_loopback:
        raise ConfigError("access.open_on_loopback: expected true, as no other way to let callers in is configured")


def _record_start(desk: Desk, config: Config) -> None:
    entry = ConfigEntry(
        id=desk.log.new_entry_id(),
        time=format_time(desk.clock()),
        clock="unsynchronised",
        tenant=config.audit.tenant,
        software=desk.context.software,
        software_version=version("bedside"),
        config=desk.context.config,
        models=tuple(service.model.identity.artifact_sha256 for service in desk.services),
    )
    desk.log.record(entry)
