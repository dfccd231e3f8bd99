"""Which store a log directory names: SQLite in the directory itself, or whatever `store.json` says.

    {"store": "postgresql", "database_url_file": "/etc/bedside/database-url", "schema": "north_1"}

A log that goes on in a new epoch adds "vault_schema": the one that holds the vault, which is the first epoch's.
So every verb takes a directory, whatever the store; a further store is one more case in each function here.
"""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from audit.errors import StorageError
from audit.storage import Scan, Storage, StoredCheckpoint
from audit.storage.sqlite import LOCK_FILE, SqliteStorage
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
    vault_schema: str | None = None

    def following(self, schema: str) -> "PostgresqlPlace":
        """Another schema of the same database, with the same vault."""
        return PostgresqlPlace(self.database_url_file, schema, self.vault_schema or self.schema)


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
        if found.pop("store") != "postgresql" or set(found) - {"vault_schema"} != {"database_url_file", "schema"}:
            raise ValueError
        return PostgresqlPlace(
            directory / found["database_url_file"],
            str(found["schema"]),
            found.get("vault_schema") and str(found["vault_schema"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        message = f'{STORE_FILE}: expected {{"store": "postgresql", "database_url_file": …, "schema": …}}'
        raise StorageError(message) from exc


def write_place(directory: Path, place: PostgresqlPlace) -> None:
    """Leaves `store.json` for a log that is to lie in PostgreSQL.

    Raises:
        StorageError: the directory names a store already.
    """
    value = {"store": "postgresql", "database_url_file": str(place.database_url_file), "schema": place.schema}
    if place.vault_schema is not None:
        value["vault_schema"] = place.vault_schema
    try:
        with (directory / STORE_FILE).open("x", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")
    except FileExistsError as exc:
        message = f"{STORE_FILE}: exists already"
        raise StorageError(message) from exc


def check_free(place: PostgresqlPlace) -> None:
    """Returns if a log can be made there; raises StorageError."""
    _postgresql().check(place.database_url_file, place.schema)


def grant_rights(place: PostgresqlPlace, *, writer_role: str | None, reader_role: str | None) -> None:
    """Gives roles of the database their rights in a log's schema; raises StorageError."""
    _postgresql().grant(place.database_url_file, place.schema, writer_role=writer_role, reader_role=reader_role)


def create_storage(directory: Path, checkpoint: StoredCheckpoint, *, page_size: int = 4096) -> None:
    """Makes the store of a new log; raises StorageError."""
    place = read_place(directory)
    if place is None:
        create_database(directory, checkpoint, page_size=page_size)
    else:
        _postgresql().create(place.database_url_file, place.schema, checkpoint)


def open_storage(directory: Path) -> Storage:
    """The store of the log in `directory`, open for serving; raises StorageError."""
    place = read_place(directory)
    if place is None:
        return SqliteStorage(directory)
    store: Storage = _postgresql().open_store(place.database_url_file, place.schema, directory / LOCK_FILE)
    return store


def open_scan(directory: Path) -> Scan:
    """A snapshot of the store for verification; raises StorageError, VerificationError."""
    place = read_place(directory)
    if place is None:
        return SqliteScan(directory)
    scan: Scan = _postgresql().open_scan(place.database_url_file, place.schema)
    return scan


def open_vault(
    directory: Path, vault_directory: Path | None = None, *, create: bool = False, wait_s: float = DEFAULT_WAIT_S
) -> VaultStore:
    """The vault of the log in `directory`; with `create`, made if there is none. What can't be done in `wait_s` fails.

    In PostgreSQL the vault is made with its log and lies beside it, whatever `vault_directory` says: each host must reach it.

    Raises:
        StorageError: it can't be opened.
    """
    found = read_place(directory)
    if found is not None:
        vault: VaultStore = _postgresql().open_vault(
            found.database_url_file, found.vault_schema or found.schema, wait_s
        )
        return vault
    place = vault_directory or directory
    if create and not (place / VAULT_FILE).exists():
        create_vault(place)
    return SqliteVaultStore(place, wait_s=wait_s)


def _postgresql() -> ModuleType:
    """Imported only where a log lies there: whoever has none needs no client of it."""
    try:
        return importlib.import_module("audit.storage.postgresql_place")
    except ImportError as exc:
        raise StorageError("store: postgresql isn't available; install bedside[postgresql]") from exc
