"""`bedside doctor`: what is configured, what would refuse to start, and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import apsw
import onnxruntime

from audit.errors import AuditError
from bedside.config import Config, ConfigError
from bedside.wiring import load_models, open_log, read_config
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
    if not config.access.open_on_loopback:
        raise ConfigError("no caller is let in: set access.open_on_loopback for an evaluation on this machine")
    return "OPEN to every caller on this machine, for evaluation only"


def _sqlite(_config: Config) -> str:
    return apsw.sqlite_lib_version()


def _models(config: Config) -> str:
    return ", ".join(f"{name} {model.manifest.version}" for name, model in load_models(config).items())


def _audit_log(config: Config) -> str:
    audit_log = open_log(config)
    try:
        return (
            f"{config.audit.origin}, head:\n      " + audit_log.checkpoint().decode().replace("\n", "\n      ").strip()
        )
    finally:
        audit_log.close()
