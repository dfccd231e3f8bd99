"""The configuration's part in `bedside audit erase | hold | retention`: whose log, which officers, which retention rule."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from audit.approvals import Officer, check_officers
from audit.commands import custody as commands
from audit.commands.opening import DEADLINE_S
from audit.custody import Custody
from audit.errors import AuditError
from audit.log import AuditLog
from audit.note import parse_vkey
from audit.retention import RetentionRule
from audit.storage.opening import open_storage
from bedside.config import Config, ConfigError
from bedside.environment import now, read_config
from bedside.tenants import log_configs

# Besides the deadlines of a call and of the log.
_MARGIN_S = 1.0


def fill_erase(parser: argparse.ArgumentParser) -> None:
    """Adds its verbs."""
    commands.fill_erase(parser, open_custody)


def fill_hold(parser: argparse.ArgumentParser) -> None:
    """Adds its verbs."""
    commands.fill_hold(parser, open_custody)


def fill_retention(parser: argparse.ArgumentParser) -> None:
    """Adds its verbs."""
    commands.fill_retention(parser, open_custody)


@contextmanager
def open_custody(options: argparse.Namespace) -> Iterator[Custody]:
    """What acts of custody need, for the length of a block.

    Raises:
        ConfigError: no such tenant, or officers or a retention rule that can't be used.
        AuditError: the log or its vault can't be opened.
    """
    config = read_config()
    officers, rule = read_officers(config), retention_rule(config)
    tenants = {one.tenant: one for one in log_configs(config)}
    tenant = options.tenant or config.audit.tenant
    if tenant not in tenants:
        raise ConfigError(f"--tenant: expected one of {', '.join(tenants)}, got {tenant}")
    # No clinician waits here, so the log and the vault may be waited for.
    log = AuditLog.open(replace(tenants[tenant], deadline_s=DEADLINE_S), clock=now)
    with ExitStack() as resources:
        resources.callback(log.close)
        previous = []
        for directory in getattr(options, "previous", ()):
            previous.append(open_storage(directory))
            resources.callback(previous[-1].close)
        settle_s = settling_s(config)
        yield Custody(log, log.vault, officers, rule, now, os.urandom, settle_s, previous=tuple(previous))


def settling_s(config: Config) -> float:
    """By then an entry whose key was read before it was destroyed is in the log, or never will be.

    A key is read within a call, and a call is answered within the longest deadline that a client has; then the log has its own.
    """
    calls = [config.fhir.deadline_s, *(client.deadline_s for client in config.clients)]
    return max(calls) + config.audit.deadline_ms / 1000 + _MARGIN_S


def read_officers(config: Config) -> tuple[Officer, ...]:
    """The registered officers.

    Raises:
        ConfigError: a key that can't be read, or two who can't be told apart.
    """
    try:
        officers = tuple(Officer(one.name, parse_vkey(one.vkey), one.roles) for one in config.officers)
        check_officers(officers)
    except AuditError as exc:
        raise ConfigError(f"officers: {exc}") from exc
    return officers


def retention_rule(config: Config) -> RetentionRule:
    """How long payloads are kept.

    Raises:
        ConfigError: not as long as they have to be.
    """
    audit = config.audit
    try:
        return RetentionRule(audit.retention_years, audit.retention_floor_years, audit.retention_law)
    except AuditError as exc:
        raise ConfigError(f"audit.retention_years: {exc}") from exc
