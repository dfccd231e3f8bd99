"""Entries about a model's version, in every tenant's log: what isn't recorded everywhere doesn't happen."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from audit.entry import format_time
from audit.entry_operations import ModelEntry
from audit.errors import AuditError
from audit.log import AuditLog
from audit.operators import operator_digest, present_operator
from bedside.config import Config
from bedside.environment import now
from bedside.tenants import log_configs
from model_artifacts.assessment import ModelIdentity

# No clinician waits for it.
DEADLINE_S = 10.0
NOT_DONE = "not-done"


@dataclass(frozen=True, slots=True)
class Change:
    """What is done with a version, why, and by whom: an account's name, None for the one that this process runs as."""

    action: str
    reason: str
    operator: str | None = None


def record_change(config: Config, identity: ModelIdentity, change: Change, replaces: ModelIdentity | None) -> None:
    """Records the change in every tenant's log; returns when all have it.

    Raises:
        AuditError: one of them doesn't. Those that had it were told that nothing came of it, where they could be.
    """
    with ExitStack() as opened:
        logs = [opened.enter_context(closing(log)) for log in _open(config)]
        done: list[AuditLog] = []
        try:
            for log in logs:
                log.record(_entry(log, identity, change, replaces))
                done.append(log)
        except AuditError:
            _take_back(done, identity, change)
            raise


def take_back(config: Config, identity: ModelIdentity, change: Change) -> None:
    """Tells every tenant's log that a change which was recorded didn't come about; what fails is said on standard error."""
    with ExitStack() as opened:
        try:
            logs = [opened.enter_context(closing(log)) for log in _open(config)]
        except AuditError as exc:
            sys.stderr.write(f"bedside: the log couldn't be told that nothing came of it: {exc}\n")
            return
        _take_back(logs, identity, change)


def _take_back(logs: Iterable[AuditLog], identity: ModelIdentity, change: Change) -> None:
    action = "shadow-end" if change.action == "shadow" else "withdraw"
    undone = replace(change, action=action, reason=NOT_DONE)
    for log in logs:
        try:
            log.record(_entry(log, identity, undone, None))
        except AuditError as exc:
            tenant = log.config.tenant
            sys.stderr.write(f"bedside: the log of tenant {tenant} couldn't be told that nothing came of it: {exc}\n")


def _open(config: Config) -> Iterable[AuditLog]:
    for place in log_configs(config):
        yield AuditLog.open(replace(place, deadline_s=DEADLINE_S), clock=now)


def _entry(log: AuditLog, identity: ModelIdentity, change: Change, replaces: ModelIdentity | None) -> ModelEntry:
    moment, key = now(), log.keys.index_key
    return ModelEntry(
        id=log.new_entry_id(),
        time=format_time(moment),
        clock=log.clock_status(moment),
        tenant=log.config.tenant,
        action=change.action,
        model=identity.id,
        version=identity.version,
        artefact=identity.artifact_sha256,
        manifest=identity.manifest_sha256,
        card=identity.card_sha256,
        replaces=None if replaces is None else replaces.artifact_sha256,
        reason=change.reason,
        operator=present_operator(key) if change.operator is None else operator_digest(key, change.operator),
    )
