"""`bedside doctor`: what is configured, what would refuse to start, and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial

import apsw
import onnxruntime

from audit.approvals import PRIVACY_OFFICER
from audit.clock import kernel_synchronised
from audit.errors import AuditError
from audit.storage.sqlite_schema import check_sqlite_version
from bedside.clients import registered_clients
from bedside.config import Config, ConfigError
from bedside.custody import read_officers, retention_rule
from bedside.environment import read_config
from bedside.hospital import fetch_key_set
from bedside.offered import build_services, load_models
from bedside.outsiders import known_authorities, known_witnesses, way_out
from bedside.tenants import open_logs
from cds_service.clients import CdsClient
from cds_service.key_sets import parse_key_set
from fhir_adapters.errors import FhirUpstreamError
from model_artifacts.errors import ModelError


def fill(parser: argparse.ArgumentParser) -> None:
    """It takes no arguments."""
    parser.set_defaults(run=examine)


def examine(_options: argparse.Namespace) -> int:
    """Prints one line per check; exit code 1 if one fails."""
    config = read_config()
    checks: tuple[tuple[str, Callable[[Config], str]], ...] = (
        ("configuration", lambda config: f"{config.public_url}, tenant {config.audit.tenant}"),
        ("access", _access),
        ("key sets", _key_sets),
        ("sqlite", _sqlite),
        ("onnxruntime", lambda _config: onnxruntime.__version__),
        ("models", _models),
        ("services", _services),
        ("clock", _clock),
        ("audit log", _audit_log),
        ("outside heads", _outside_heads),
        ("custody", _custody),
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


def _key_sets(config: Config) -> str:
    """Each client's keys, read now as they will be when it calls."""
    lines = [
        f"\n      {client.id}: {_key_count(client, read, place)}"
        for client in registered_clients(config)
        for place, read in _key_places(client)
    ]
    return "".join(lines) or "none needed"


def _key_places(client: CdsClient) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for url in sorted({*client.allowed_jku, *filter(None, [client.jwks_url])}):
        yield url, partial(fetch_key_set, client, url)
    if client.jwks_file is not None:
        yield str(client.jwks_file), client.jwks_file.read_bytes


def _key_count(client: CdsClient, read: Callable[[], bytes], place: str) -> str:
    try:
        count = len(parse_key_set(read()))
    except (FhirUpstreamError, OSError, ValueError) as exc:
        raise ConfigError(f"{client.id}: {place} can't be read: {exc}") from exc
    if not count:
        raise ConfigError(f"{client.id}: {place} holds no key that may check signatures")
    return f"{count} keys at {place}"


def _sqlite(_config: Config) -> str:
    version = apsw.sqlite_lib_version()
    check_sqlite_version(version)
    return f"{version}, free of the race in which a write-ahead log loses committed rows"


def _clock(_config: Config) -> str:
    return "synchronised" if kernel_synchronised() else "NOT kept in step with any reference; entries will say so"


def _outside_heads(config: Config) -> str:
    """Who else keeps the logs' heads; whether they answer is asked by `bedside audit anchor`."""
    witnesses = [f"witness {one.name}" for one in known_witnesses(config)]
    authorities = [f"time stamps by {one.name}" for one in known_authorities(config)]
    way_out(config)
    return ", ".join([*witnesses, *authorities]) or "NONE: nothing outside shows that the operator rewrote a log"


def _custody(config: Config) -> str:
    officers, rule = read_officers(config), retention_rule(config)
    able = sum(PRIVACY_OFFICER in officer.roles for officer in officers)
    few = "" if able >= 2 else ", TOO FEW for an erasure, which takes two"
    return f"payloads kept for {rule.years:g} years; {able} privacy officers{few}"


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
