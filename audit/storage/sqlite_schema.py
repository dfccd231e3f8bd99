"""The schema of the embedded store, and how a connection to it is made.

    entries      idx, hashes, entry: the perfect nodes that leaf idx completes, and its bytes; node (level, position) is the
                 32 bytes at 32 * level in row ((position + 1) << level) - 1
    facts        idx, and copies of what the entry is found by; the id as its 16 bytes
    checkpoints  size, note
    payloads     idx, key_ref, erasure (the id of what erased it, else ''), sealed (NULL once erased); the long column last
    erasures     id, salt
    anchors      size, kind, authority, evidence, time

Entry ids rise with time, so every index but the payloads' grows at its end only, and appending costs the same at any size.
SQLite before 3.51.3 (fixed also in 3.50.7 and 3.44.6) can lose committed rows when several connections write and checkpoint
(the WAL-reset race), so such a library is refused; apsw brings its own.
"""

from pathlib import Path

import apsw

from audit.errors import StorageError
from audit.storage import StoredCheckpoint

DATABASE_FILE = "log.sqlite3"
APPLICATION_ID = 0x42445341  # "BDSA", so that file(1) can tell a log
SCHEMA_VERSION = 2
# The WAL-reset race: https://sqlite.org/wal.html#the_wal_reset_bug; series -> first fixed patch.
_FIRST_FIXED = (3, 51, 3)
_BACKPORTS = {(3, 50): 7, (3, 44): 6}
# Only a process that opens or closes the file can make us wait: writers queue at the flock.
_BUSY_TIMEOUT_MS = 2_000

SCHEMA = (
    "CREATE TABLE entries (idx INTEGER PRIMARY KEY, hashes BLOB NOT NULL, entry BLOB NOT NULL) STRICT",
    """CREATE TABLE facts (idx INTEGER PRIMARY KEY, entry_id BLOB NOT NULL, type TEXT NOT NULL, time TEXT NOT NULL,
    service TEXT NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL, actor TEXT NOT NULL) STRICT""",
    "CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT",
    """CREATE TABLE payloads (idx INTEGER PRIMARY KEY, key_ref INTEGER NOT NULL, erasure TEXT NOT NULL,
    sealed BLOB) STRICT""",
    "CREATE TABLE erasures (id TEXT PRIMARY KEY, salt BLOB NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE anchors (size INTEGER NOT NULL, kind TEXT NOT NULL, authority TEXT NOT NULL, evidence BLOB NOT NULL,
    time TEXT NOT NULL, PRIMARY KEY (size, kind, authority)) STRICT, WITHOUT ROWID""",
    "CREATE UNIQUE INDEX facts_by_id ON facts (entry_id)",
    "CREATE INDEX facts_by_time ON facts (time)",
    "CREATE INDEX payloads_by_key ON payloads (key_ref)",
    "CREATE INDEX payloads_by_erasure ON payloads (erasure) WHERE erasure <> ''",
)


def check_sqlite_version(version: str) -> None:
    """Returns if this SQLite release is free of the WAL-reset race.

    Raises:
        StorageError: it isn't.
    """
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    if (major, minor, patch) >= _FIRST_FIXED or patch >= _BACKPORTS.get((major, minor), patch + 1):
        return
    message = f"sqlite: expected 3.51.3 or later (or 3.50.7, 3.44.6), got {version}: it can lose committed entries"
    raise StorageError(message)


def connect(path: Path | str, flags: int, vfs: str | None = None) -> apsw.Connection:
    """A connection that trusts nothing in the file and makes every commit durable; apsw errors pass through.

    `path` may be a URI, with the flag for one.
    """
    check_sqlite_version(apsw.sqlitelibversion())
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
    connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
    connection.execute("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA secure_delete=ON")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def create_database(directory: Path, checkpoint: StoredCheckpoint, *, page_size: int = 4096) -> None:
    """Makes the store of a new log, with the checkpoint of the empty tree.

    Raises:
        StorageError: there is one already, or it can't be written.
    """
    path = directory / DATABASE_FILE
    if path.exists():
        message = f"store: {path.name} exists already"
        raise StorageError(message)
    try:
        connection = connect(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        connection.execute(f"PRAGMA page_size={page_size:d}; PRAGMA journal_mode=WAL")
        with connection:
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}")
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO checkpoints VALUES (?, ?)", (checkpoint.size, checkpoint.note))
        connection.close()
        path.chmod(0o600)
    except (apsw.Error, OSError) as exc:
        raise StorageError("store: can't be made") from exc
