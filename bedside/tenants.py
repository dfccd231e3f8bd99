"""The logs that the configuration names, one for each tenant. Imports nothing of the service: verbs of the log start by it."""

from __future__ import annotations

from collections import Counter

from audit.log import AuditLog, LogConfig
from bedside.config import Config, ConfigError
from bedside.environment import now
from bedside.tables import TenantTable


def log_config(config: Config) -> LogConfig:
    """The audit log's own configuration."""
    audit = config.audit
    return LogConfig(
        directory=audit.directory,
        origin=audit.origin,
        tenant=audit.tenant,
        deadline_s=audit.deadline_ms / 1000,
        head_path=audit.head_file,
        heads_path=audit.heads_directory,
        vault_directory=audit.vault_directory,
    )


def open_logs(config: Config) -> dict[str, AuditLog]:
    """Every tenant's log, opened for appending, by tenant.

    Raises:
        AuditError: one is missing, unreadable, or was rolled back.
        ConfigError: as `log_configs`.
    """
    return {one.tenant: AuditLog.open(one, clock=now) for one in log_configs(config)}


def log_configs(config: Config) -> tuple[LogConfig, ...]:
    """Every tenant's log's configuration.

    Raises:
        ConfigError: two tenants of one name, in one folder, or with one head file, heads directory or vault.
    """
    configs = (log_config(config), *(_tenant_log(config, tenant) for tenant in config.tenants))
    for counted in (
        Counter[object](one.tenant for one in configs),
        Counter[object](one.directory.resolve() for one in configs),
        Counter[object](one.head_file.resolve() for one in configs),
        Counter[object](one.heads_directory.resolve() for one in configs),
        Counter[object]((one.vault_directory or one.directory).resolve() for one in configs),
    ):
        repeated = [value for value, times in counted.items() if times > 1]
        if repeated:
            raise ConfigError(
                f"tenants: expected each name, directory, head file, heads directory and vault once, got {repeated[0]} twice"
            )
    return configs


def tenant_log(config: Config, tenant: str | None) -> LogConfig:
    """The configuration of one tenant's log; None is `audit.tenant`.

    Raises:
        ConfigError: no such tenant, or as `log_configs`.
    """
    configs = {one.tenant: one for one in log_configs(config)}
    name = config.audit.tenant if tenant is None else tenant
    if name not in configs:
        raise ConfigError(f"--tenant: expected one of {', '.join(configs)}, got {name}")
    return configs[name]


def _tenant_log(config: Config, tenant: TenantTable) -> LogConfig:
    deadline_s = config.audit.deadline_ms / 1000
    return LogConfig(
        tenant.directory,
        tenant.origin,
        tenant.name,
        deadline_s,
        head_path=tenant.head_file,
        heads_path=tenant.heads_directory,
        vault_directory=tenant.vault_directory,
    )
