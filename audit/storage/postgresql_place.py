"""A log's place in PostgreSQL, opened: what `opening` calls, and imports only where a log lies there.

The URL's file is read again at each connecting, so that a password can be changed while the log is open.
"""

from collections.abc import Callable
from pathlib import Path

from audit.storage import StoredCheckpoint
from audit.storage.postgresql import PostgresqlStorage
from audit.storage.postgresql_scan import PostgresqlScan
from audit.storage.postgresql_schema import check_free, create_schema, grant_rights
from audit.storage.postgresql_url import DatabaseUrl, load_database_url
from audit.storage.vault_postgresql import PostgresqlVaultStore


def create(url_file: Path, schema: str, checkpoint: StoredCheckpoint) -> None:
    """Makes the schema; raises StorageError."""
    create_schema(load_database_url(url_file), schema, checkpoint)


def check(url_file: Path, schema: str) -> None:
    """Returns if there is room for a new log; raises StorageError."""
    check_free(load_database_url(url_file), schema)


def grant(url_file: Path, schema: str, *, writer_role: str | None, reader_role: str | None) -> None:
    """Gives the roles their rights; raises StorageError."""
    grant_rights(load_database_url(url_file), schema, writer_role=writer_role, reader_role=reader_role)


def open_store(url_file: Path, schema: str, lock_file: Path) -> PostgresqlStorage:
    """The store; raises StorageError."""
    return PostgresqlStorage(_urls(url_file), schema, lock_file=lock_file)


def open_scan(url_file: Path, schema: str) -> PostgresqlScan:
    """A snapshot; raises StorageError."""
    return PostgresqlScan(load_database_url(url_file), schema)


def open_vault(url_file: Path, schema: str, wait_s: float) -> PostgresqlVaultStore:
    """The vault; raises StorageError."""
    return PostgresqlVaultStore(_urls(url_file), schema, wait_s=wait_s)


def _urls(url_file: Path) -> Callable[[], DatabaseUrl]:
    return lambda: load_database_url(url_file)
