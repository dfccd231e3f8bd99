"""The configuration's `[[clients]]` as the service's `CdsClient`s, each field checked where it stands."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable

from bedside.config import Config, ConfigError, check_https
from bedside.tables import ClientTable
from cds_service.bearer import ALGORITHMS
from cds_service.clients import CdsClient, Network
from cds_service.quirks import Quirk, profile_quirks

OPEN_CLIENT = "open"
PUBLIC_KEYS = frozenset({"https://sandbox.cds-hooks.org"})  # issuers whose private keys anyone can read
_ISSUER = re.compile(r"[\x21-\x7e]{1,255}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WEB_ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]+")


def registered_clients(config: Config) -> tuple[CdsClient, ...]:
    """The clients of the configuration, in its order.

    Raises:
        ConfigError: a field has a value it can't have; the message names client and field.
    """
    clients = tuple(_client(table, config) for table in config.clients)
    _require_distinct("clients.id", (client.id for client in clients))
    _require_distinct("clients.issuer with token_tenant", ((client.issuer, client.token_tenant) for client in clients))
    for client in clients:
        if client.token_tenant is None and sum(other.issuer == client.issuer for other in clients) > 1:
            raise ConfigError(f"clients {client.id}.token_tenant: expected one, as others have the same issuer")
    return clients


def open_client(config: Config) -> CdsClient:
    """The client that everyone is on an open service: no credentials, the FHIR servers of `[fhir]`."""
    return CdsClient(
        id=OPEN_CLIENT,
        tenant=config.audit.tenant,
        issuer=None,
        token_tenant=None,
        audiences=frozenset(),
        algorithms=frozenset(),
        jwks_url=None,
        jwks_file=None,
        allowed_jku=frozenset(),
        subject=None,
        certificates=frozenset(),
        fhir_servers=frozenset(server.rstrip("/") for server in config.fhir.allowed_servers),
        networks=(),
        cors_origins=frozenset(),
        services=frozenset(),
        shadow_models=frozenset(),
        takes_system_actions=False,
        quirks=frozenset(),
        deadline_s=config.fhir.deadline_s,
        calls_per_minute=0,
    )


def networks(name: str, texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks in CIDR form.

    Raises:
        ConfigError: one isn't a network, or is all addresses.
    """
    found = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            raise ConfigError(f"{name}: expected networks such as 10.20.0.0/16, got {text!r}") from None
        if network.prefixlen < (8 if network.version == 4 else 32):
            raise ConfigError(f"{name}: expected networks no wider than /8 (IPv4) or /32 (IPv6), got {text}")
        found.append(network)
    return tuple(found)


def _client(table: ClientTable, config: Config) -> CdsClient:
    place = f"clients {table.id}."
    _check_keys(table, place)
    for field in ("audiences", "services", "shadow_models", "fhir_servers", "allowed_jku"):
        if "" in getattr(table, field):
            raise ConfigError(f"{place}{field}: expected no empty text among them")
    for url in (*table.allowed_jku, *table.fhir_servers, *([table.jwks_url] if table.jwks_url else [])):
        check_https(f"{place}fhir_servers, jwks_url or allowed_jku", url)
    _check_each(f"{place}cors_origins", table.cors_origins, _WEB_ORIGIN, "web origins such as https://ehr.example")
    _check_each(f"{place}certificates_sha256", table.certificates_sha256, _SHA256, "64 hex digits each")
    quirks = _quirks(table, place)
    if table.system_actions and {Quirk.CDS_HOOKS_1_0, Quirk.SYSTEM_ACTIONS_IN_EXTENSION} & quirks == {
        Quirk.CDS_HOOKS_1_0
    }:
        raise ConfigError(f"{place}system_actions: expected false, as CDS Hooks 1.0 has none")
    return CdsClient(
        id=table.id,
        tenant=_tenant(table, config, place),
        issuer=table.issuer,
        token_tenant=table.token_tenant or None,
        audiences=frozenset(table.audiences),
        algorithms=frozenset(table.algorithms),
        jwks_url=table.jwks_url or None,
        jwks_file=table.jwks_file,
        allowed_jku=frozenset(table.allowed_jku),
        subject=table.subject or None,
        certificates=frozenset(table.certificates_sha256),
        fhir_servers=frozenset(server.rstrip("/") for server in table.fhir_servers),
        networks=networks(f"{place}networks", table.networks),
        cors_origins=frozenset(table.cors_origins),
        services=frozenset(table.services),
        shadow_models=frozenset(table.shadow_models),
        takes_system_actions=table.system_actions,
        quirks=quirks,
        deadline_s=table.deadline_s or config.fhir.deadline_s,
        calls_per_minute=table.calls_per_minute,
    )


def _check_keys(table: ClientTable, place: str) -> None:
    if not _ISSUER.fullmatch(table.issuer):
        raise ConfigError(f"{place}issuer: expected up to 255 visible ASCII characters")
    unknown = sorted(set(table.algorithms) - ALGORITHMS)
    if unknown or not table.algorithms:
        raise ConfigError(
            f"{place}algorithms: expected some of {', '.join(sorted(ALGORITHMS))}, got {', '.join(unknown) or 'none'}"
        )
    if not (table.jwks_url or table.jwks_file or table.allowed_jku):
        raise ConfigError(f"{place}jwks_url, jwks_file or allowed_jku: expected one, or its JWTs can't be checked")
    if table.issuer in PUBLIC_KEYS and table.fhir_servers:
        raise ConfigError(f"{place}fhir_servers: expected none, as anyone can sign as {table.issuer}")
    if table.jwks_url and table.jwks_file:
        raise ConfigError(f"{place}jwks_url, jwks_file: expected one of the two, got both")


def _tenant(table: ClientTable, config: Config, place: str) -> str:
    tenants = (config.audit.tenant, *(tenant.name for tenant in config.tenants))
    tenant = table.tenant or config.audit.tenant
    if tenant not in tenants:
        raise ConfigError(f"{place}tenant: expected one of {', '.join(tenants)}, got {tenant}")
    return tenant


def _quirks(table: ClientTable, place: str) -> frozenset[Quirk]:
    try:
        return profile_quirks(table.profile, table.quirks)
    except ValueError as exc:
        raise ConfigError(f"{place}profile, quirks: {exc}") from exc


def _check_each(name: str, values: Iterable[str], form: re.Pattern[str], expected: str) -> None:
    for value in values:
        if not form.fullmatch(value):
            raise ConfigError(f"{name}: expected {expected}, got {value!r}")


def _require_distinct(name: str, values: Iterable[object]) -> None:
    repeated = [value for value, times in Counter(values).items() if times > 1]
    if repeated:
        raise ConfigError(f"{name}: expected each only once, got {repeated[0]} several times")
