"""The configuration's witnesses and time-stamping authorities, and what is done with them beside the service.

`compare_with_witnesses` goes before the logs are opened, `start_anchoring` after; its loops are closed before the logs are.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography.x509 import ObjectIdentifier

from audit.anchor_loop import AnchorLoop
from audit.anchoring import Outsiders
from audit.errors import AuditError, FormatError
from audit.keys import VKEY_FILE, load_vkeys
from audit.log import AuditLog, LogConfig
from audit.note import VerifierKey
from audit.publish import NothingCosignedError, Publisher
from audit.timestamps import TimestampAuthority, load_roots
from audit.witness_heads import keep_witness_heads
from audit.witnessing import KnownWitness, known_witness
from bedside.clients import networks
from bedside.config import Config, ConfigError, check_https
from bedside.outside import Outside, Place
from bedside.tables import AuthorityTable, ExportTable, WitnessTable
from fhir_adapters.outbound import AddressPolicy

log = logging.getLogger("bedside.outsiders")

Outsider: TypeAlias = WitnessTable | AuthorityTable | ExportTable


def known_witnesses(config: Config) -> tuple[KnownWitness, ...]:
    """The witnesses of the configuration, in its order.

    Raises:
        ConfigError: one can't be used, or two have one name or one key's name.
    """
    _require_distinct("witnesses", (table.name for table in config.witnesses))
    witnesses = tuple(_witness(table) for table in config.witnesses)
    _require_distinct("witnesses, by the names in their keys", (witness.name for witness in witnesses))
    return witnesses


def known_authorities(config: Config) -> tuple[TimestampAuthority, ...]:
    """The time-stamping authorities of the configuration, in its order.

    Raises:
        ConfigError: one can't be used, or two have one name.
    """
    _require_distinct("timestamp_authorities", (table.name for table in config.timestamp_authorities))
    return tuple(_authority(table) for table in config.timestamp_authorities)


def way_out(config: Config) -> Outside:
    """The way out to them and nobody else; raises ConfigError."""
    return Outside(
        Place(url, _policy(kind, table), _ca_file(kind, table))
        for kind, tables in (
            ("witnesses", config.witnesses),
            ("timestamp_authorities", config.timestamp_authorities),
            ("export_destinations", config.export_destinations),
        )
        for table in tables
        for url in (table.url, getattr(table, "monitoring_url", ""))
    )


def outsiders(config: Config, audit_log: AuditLog) -> Outsiders:
    """Whom `audit_log` is anchored with, and where it is published; raises ConfigError."""
    witnesses = known_witnesses(config)
    return Outsiders(
        ask=way_out(config),
        witnesses=witnesses,
        authorities=known_authorities(config),
        stamp_every=timedelta(seconds=config.audit.timestamp_every_s),
        publish=_publishing(config, audit_log, cosigned=bool(witnesses)),
    )


def are_any(config: Config) -> bool:
    """Whether there is anything to do beside the service."""
    return bool(config.witnesses or config.timestamp_authorities or config.audit.publish_directory)


def compare_with_witnesses(config: Config, logs: Iterable[LogConfig]) -> None:
    """Brings what the witnesses hold to where opening each log will be compared with it; call it before.

    For all logs side by side: many tenants wait no longer than one for a witness that doesn't answer.

    Raises:
        ConfigError: as `known_witnesses`.
        AuditError: a head can't be kept.
    """
    witnesses, ask = known_witnesses(config), way_out(config)
    asked = list(logs)
    with ThreadPoolExecutor(max(len(asked), 1), thread_name_prefix="witnesses") as pool:
        list(pool.map(lambda one: keep_witness_heads(one, witnesses, ask), asked))


def start_anchoring(config: Config, logs: Iterable[AuditLog], clock: Callable[[], datetime]) -> tuple[AnchorLoop, ...]:
    """Running loops, to be closed before the logs are; none where there is nothing to do.

    Raises:
        ConfigError: as `outsiders`.
    """
    if not are_any(config):
        return ()
    every_s = config.audit.outside_every_s
    loops = tuple(AnchorLoop(one, outsiders(config, one), every_s=every_s, clock=clock) for one in logs)
    for loop in loops:
        loop.start()
    return loops


def _witness(table: WitnessTable) -> KnownWitness:
    place = f"witnesses {table.name}"
    check_https(f"{place}.url", table.url)
    if table.monitoring_url:
        check_https(f"{place}.monitoring_url", table.monitoring_url)
    try:
        return known_witness(table.vkey, table.url, table.monitoring_url)
    except FormatError as exc:
        raise ConfigError(f"{place}.vkey: {exc}") from exc


def _authority(table: AuthorityTable) -> TimestampAuthority:
    place = f"timestamp_authorities {table.name}"
    check_https(f"{place}.url", table.url)
    try:
        roots = load_roots(table.roots_file)
    except AuditError as exc:
        raise ConfigError(f"{place}.roots_file: {exc}") from exc
    try:
        policy = ObjectIdentifier(table.policy) if table.policy else None
    except ValueError as exc:
        raise ConfigError(f"{place}.policy: expected an OID, got {table.policy!r}") from exc
    return TimestampAuthority(table.name, table.url, roots, policy)


def _policy(kind: str, table: Outsider) -> AddressPolicy:
    return AddressPolicy(networks(f"{kind} {table.name}.networks", table.networks))


def _ca_file(kind: str, table: Outsider) -> str | None:
    if table.ca_file is not None and not table.ca_file.is_file():
        raise ConfigError(f"{kind} {table.name}.ca_file {table.ca_file}: expected a file")
    return None if table.ca_file is None else str(table.ca_file)


def _publishing(config: Config, audit_log: AuditLog, *, cosigned: bool) -> Callable[[], None] | None:
    """Publishes the log as far as its witnesses have seen it, or all of it where it has none."""
    if config.audit.publish_directory is None:
        return None
    folder: Path = config.audit.publish_directory / audit_log.config.tenant

    publishers: dict[tuple[VerifierKey, ...], Publisher] = {}  # a new one where a key was rotated meanwhile

    def publish() -> None:
        keys = load_vkeys(audit_log.config.directory / VKEY_FILE)
        try:
            publishers.setdefault(keys, Publisher(folder, keys)).publish(audit_log.storage, cosigned=cosigned)
        except NothingCosignedError as exc:  # once a witness signs, the round that brings it publishes
            log.info("not published", extra={"tenant": audit_log.config.tenant, "why": str(exc)})

    return publish


def _require_distinct(place: str, names: Iterable[str]) -> None:
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise ConfigError(f"{place}: expected each only once, got {repeated[0]} several times")
