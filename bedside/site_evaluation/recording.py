"""The entry in the log that a model was evaluated: which version, by whom, and the digest of the report.

The kind is `model/v1` with action `evaluate`; its reason is `report:` and the SHA-256 of `local-validation.json`.
"""

from __future__ import annotations

import sys

from audit.entry import format_time
from audit.entry_operations import ModelEntry
from audit.errors import AuditError
from audit.log import AuditLog
from audit.operators import present_operator
from bedside.config import Config
from bedside.environment import now
from bedside.tenants import tenant_log
from model_artifacts.assessment import ModelIdentity

ACTION = "evaluate"


def record_evaluation(config: Config, tenant: str | None, identity: ModelIdentity, report_sha256: str) -> int:
    """Exit code 0 if it is recorded or there is no log here, 1 if there is one that can't be written; standard error says so.

    Raises:
        ConfigError: no such tenant.
    """
    place = tenant_log(config, tenant)
    if not place.directory.exists():
        sys.stderr.write(f"bedside: no log in {place.directory}, so that this evaluation is not recorded\n")
        return 0
    try:
        audit_log = AuditLog.open(place, clock=now)
        try:
            audit_log.record(_entry(audit_log, identity, report_sha256))
        finally:
            audit_log.close()
    except AuditError as exc:
        sys.stderr.write(f"bedside: the report is written, and that it was made could not be logged: {exc}\n")
        return 1
    return 0


def _entry(audit_log: AuditLog, identity: ModelIdentity, report_sha256: str) -> ModelEntry:
    moment = now()
    return ModelEntry(
        id=audit_log.new_entry_id(),
        time=format_time(moment),
        clock=audit_log.clock_status(moment),
        tenant=audit_log.config.tenant,
        action=ACTION,
        model=identity.id,
        version=identity.version,
        artefact=identity.artifact_sha256,
        manifest=identity.manifest_sha256,
        card=identity.card_sha256,
        replaces=None,
        reason=f"report:{report_sha256}",
        operator=present_operator(audit_log.keys.index_key),
    )
