"""Which store a log directory names: SQLite in the directory itself, or whatever `store.json` says.

    {"store": "postgresql", "database_url_file": "/etc/bedside/database-url", "schema": "north_1"}

So every verb takes a directory, whatever the store; a further store is one more case in each function here.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from audit.errors import StorageError
from audit.storage import Scan, Storage, StoredCheckpoint
from audit.storage.sqlite import SqliteStorage
from audit.storage.sqlite_scan import SqliteScan
from audit.storage.sqlite_schema import create_database
from audit.storage.vault_sqlite import DEFAULT_WAIT_S, VAULT_FILE, SqliteVaultStore, create_vault
from audit.storage.vault_store import VaultStore

STORE_FILE = "store.json"


@dataclass(frozen=True, slots=True)
class PostgresqlPlace:
    """A schema of a database; the file holds the URL, password and all, and is read by its owner only."""

    database_url_file: Path
    schema: str


def read_place(directory: Path) -> PostgresqlPlace | None:
    """Where the log of `directory` keeps its store; None: SQLite, in the directory.

    Raises:
        StorageError: `store.json` can't be used.
    """
    path = directory / STORE_FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
        if found.pop("store") != "postgresql" or set(found) != {"database_url_file", "schema"}:
            raise ValueError
        return PostgresqlPlace(directory / found["database_url_file"], str(found["schema"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        message = f'{STORE_FILE}: expected {{"store": "postgresql", "database_url_file": …, "schema": …}}'
        raise StorageError(message) from exc


def create_storage(directory: Path, checkpoint: StoredCheckpoint, *, page_size: int = 4096) -> None:
    """Makes the store of a new log; raises StorageError."""
    if read_place(directory) is not None:
        raise StorageError("store: postgresql isn't available")
    create_database(directory, checkpoint, page_size=page_size)


def open_storage(directory: Path) -> Storage:
    """The store of the log in `directory`, open for serving; raises StorageError."""
    if read_place(directory) is not None:
        raise StorageError("store: postgresql isn't available")
    return SqliteStorage(directory)


def open_scan(directory: Path) -> Scan:
    """A snapshot of the store for verification; raises StorageError, VerificationError."""
    if read_place(directory) is not None:
        raise StorageError("store: postgresql isn't available")
    return SqliteScan(directory)


def open_vault(
    directory: Path, vault_directory: Path | None = None, *, create: bool = False, wait_s: float = DEFAULT_WAIT_S
) -> VaultStore:
    """The vault of the log in `directory`; with `create`, made if there is none. A write that can't begin in `wait_s` fails.

    Raises:
        StorageError: it can't be opened.
    """
    if read_place(directory) is not None:
        raise StorageError("vault: postgresql isn't available")
    place = vault_directory or directory
    if create and not (place / VAULT_FILE).exists():
        create_vault(place)
    return SqliteVaultStore(place, wait_s=wait_s)
