"""`bedside switch`: what is off for a tenant, and switching it. Every process of the service knows at its next call.

Switching off acts first and is logged then: a log that fails must not keep a dangerous model running. Switching on is logged
first: what can't be recorded does not come back. For the same reason a model that no longer loads doesn't keep anything from
being switched off: the running service has it still.
"""

from __future__ import annotations

import argparse
import sys
from typing import Literal

import msgspec

from audit.entry import format_time
from audit.entry_operations import SwitchEntry
from audit.errors import AuditError
from audit.fields import Code
from audit.log import AuditLog, LogConfig
from audit.operators import present_operator
from bedside.config import Config, ConfigError
from bedside.environment import now, read_config
from bedside.offered import build_services, load_models
from bedside.state import open_ward
from bedside.tenants import tenant_log
from cds_service.ward import Scope
from model_artifacts.errors import ModelError

REASONS = ("safety", "drift", "maintenance", "evaluation", "other")


def fill(parser: argparse.ArgumentParser) -> None:
    """Adds its verbs."""
    switch_verbs = parser.add_subparsers(dest="switch_verb", required=True, metavar="VERB")
    for verb in ("off", "on"):
        one = switch_verbs.add_parser(verb, help=f"switch {verb}; acts at the next call")
        what = one.add_mutually_exclusive_group(required=True)
        what.add_argument("--service", metavar="ID", help="one service")
        what.add_argument("--model", metavar="ID", help="every service of one model")
        what.add_argument("--all", action="store_true", help="everything of the tenant")
        one.add_argument("--reason", choices=REASONS, required=True)
        one.add_argument("--tenant", metavar="NAME", help="whose; default: audit.tenant")
        one.set_defaults(run=run_switch)
    switch_verbs.add_parser("list", help="what is off").set_defaults(run=list_switches)


def run_switch(options: argparse.Namespace) -> int:
    """Exit code 0 if it is done and logged, 1 if it is off and could not be logged.

    Raises:
        ConfigError: no such tenant, service or model.
        ModelError: a model can't be loaded, so nothing is switched on.
        AuditError: switching on could not be logged, so it stays off.
        WardUnavailableError: the state can't be written.
    """
    config, off = read_config(), options.switch_verb == "off"
    place = tenant_log(config, options.tenant)
    tenant = place.tenant
    scope, name = _target(config, options, tenant)
    with open_ward(config) as ward:
        if off:
            ward.set_switch(scope, name, tenant=tenant, off=True, reason=options.reason, moment=now())
            try:
                _record(place, scope, name, options.reason, off=True)
            except AuditError as exc:
                sys.stderr.write(f"bedside: {scope} {name} is off, and that could not be logged: {exc}\n")
                return 1
        else:
            _record(place, scope, name, options.reason, off=False)
            ward.set_switch(scope, name, tenant=tenant, off=False, reason=options.reason, moment=now())
    sys.stdout.write(f"{scope} {name} of tenant {tenant}: {'off' if off else 'on'}\n")
    return 0


def list_switches(_options: argparse.Namespace) -> int:
    """Prints what is off, one line each."""
    with open_ward(read_config()) as ward:
        switches = ward.switches()
    for switch in switches:
        since = format_time(switch.since)
        sys.stdout.write(
            f"off: {switch.scope} {switch.name} of tenant {switch.tenant} since {since}: {switch.reason}\n"
        )
    if not switches:
        sys.stdout.write("nothing is off\n")
    return 0


def _target(config: Config, options: argparse.Namespace, tenant: str) -> tuple[Scope, str]:
    """What is to be switched; a misspelt name would leave the one that was meant running."""
    if options.all:
        return "tenant", tenant
    scope: Literal["service", "model"] = "model" if options.model is not None else "service"
    name: str = options.model if scope == "model" else options.service
    try:
        known = _known(config, scope)
    except (ModelError, ImportError) as exc:
        if options.switch_verb == "on":
            raise
        sys.stderr.write(f"bedside: {exc}; whether there is a {scope} {name} was not checked\n")
        return scope, _code(scope, name)
    if name not in known:
        raise ConfigError(f"--{scope}: expected one of {', '.join(sorted(known))}, got {name}")
    return scope, name


def _known(config: Config, scope: Scope) -> set[str]:
    services = build_services(config, load_models(config))
    return {service.model.manifest.id if scope == "model" else service.id for service in services}


def _code(scope: Scope, name: str) -> str:
    try:
        return msgspec.convert(name, Code)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"--{scope}: expected letters, digits and ._:+-, got {name!r}") from exc


def _record(place: LogConfig, scope: Scope, name: str, reason: str, *, off: bool) -> None:
    audit_log = AuditLog.open(place, clock=now)
    try:
        moment = now()
        operator = present_operator(audit_log.keys.index_key)
        entry = SwitchEntry(
            id=audit_log.new_entry_id(),
            time=format_time(moment),
            clock=audit_log.clock_status(moment),
            tenant=place.tenant,
            scope=scope,
            name=name,
            off=off,
            reason=reason,
            operator=operator,
        )
        audit_log.record(entry)
    finally:
        audit_log.close()
