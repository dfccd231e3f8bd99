"""`bedside doctor`: what is configured, what would refuse to start, and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import apsw
import onnxruntime

from audit.errors import AuditError
from bedside.clients import registered_clients
from bedside.config import Config, ConfigError
from bedside.wiring import build_services, load_models, open_logs, read_config
from model_artifacts.errors import ModelError


def add_doctor(verbs: Any) -> None:
    """Adds the verb."""
    verbs.add_parser("doctor", help="check the installation and configuration").set_defaults(run=examine)


def examine(_options: argparse.Namespace) -> int:
    """Prints one line per check; exit code 1 if one fails."""
    config = read_config()
    checks: tuple[tuple[str, Callable[[Config], str]], ...] = (
        ("configuration", lambda config: f"{config.public_url}, tenant {config.audit.tenant}"),
        ("access", _access),
        ("sqlite", _sqlite),
        ("onnxruntime", lambda _config: onnxruntime.__version__),
        ("models", _models),
        ("services", _services),
        ("audit log", _audit_log),
    )
    code = 0
    for name, check in checks:
        try:
            sys.stdout.write(f"ok    {name}: {check(config)}\n")
        except (ConfigError, ModelError, AuditError) as exc:
            sys.stdout.write(f"FAIL  {name}: {exc}\n")
            code = 1
    return code


def _access(config: Config) -> str:
    if config.access.open_on_loopback:
        return "OPEN to every caller on this machine, for evaluation only"
    clients = registered_clients(config)
    if not clients:
        raise ConfigError("no caller is let in: no [[clients]]; docs/connect-an-ehr.md says how to register one")
    return "".join(f"\n      {client.id}: {client.issuer}, tenant {client.tenant}" for client in clients)


def _sqlite(_config: Config) -> str:
    return apsw.sqlite_lib_version()


def _models(config: Config) -> str:
    return ", ".join(f"{name} {model.manifest.version}" for name, model in load_models(config).items())


def _services(config: Config) -> str:
    services = build_services(config, load_models(config))
    return "".join(f"\n      {service.id}: {', '.join(service.hooks)}" for service in services)


def _audit_log(config: Config) -> str:
    heads = []
    for audit_log in open_logs(config).values():
        try:
            heads.append(audit_log.checkpoint().decode().strip().replace("\n", "\n      "))
        finally:
            audit_log.close()
    return "head:\n      " + "\n      ".join(heads)
