"""The schema of a log in PostgreSQL: one for each log, with the log's tables and its vault's.

    entries, facts, checkpoints, payloads, erasures, anchors      as in `sqlite_schema`
    patient_keys, holds, requests, request_subjects               as in `vault_store`

What is done for PostgreSQL alone: texts sort by their bytes, whatever the database's collation; a 2 KB entry stays in its row,
for one kept beside it costs four more writes; and no statistics are taken of what may have to be forgotten, for PostgreSQL
would keep samples of it in its catalogue.

Append-only by rights and by trigger. Roles that `grant_rights` knows, best group roles of the site's own:
    writer   adds to the log, reads it, takes payloads away, keeps the vault; can't change or delete what was logged
    reader   reads the log, to verify it; nothing of the vault
The owner of the schema can do all of it, so a service best connects as a member of the writer role. A trigger refuses UPDATE,
DELETE and TRUNCATE of what was logged, of everyone who doesn't take it away first. Neither replaces the signatures: a
superuser is stopped by nothing, and only seen.
"""

import re
from hashlib import sha256

from audit.errors import StorageError
from audit.storage import StoredCheckpoint
from audit.storage.postgresql_session import Session
from audit.storage.postgresql_url import DatabaseUrl
from audit.storage.vault_store import LOOKUP_BYTES

FORM = "bedside log, version 2"
_NAME = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}\Z")
_ROLE = re.compile(r"[^\x00-\x1f\"]{1,63}\Z")
# Rows up to nearly a page stay whole; PostgreSQL's own threshold is 2 KB, just the size of an entry.
_WHOLE_ROWS = "WITH (toast_tuple_target = 8160)"
GROWING = ("entries", "facts", "checkpoints", "erasures", "anchors")
_TEXT = 'text COLLATE "C" NOT NULL'

TABLES = (
    f"CREATE TABLE entries (idx bigint PRIMARY KEY, hashes bytea NOT NULL, entry bytea NOT NULL) {_WHOLE_ROWS}",
    f"""CREATE TABLE facts (idx bigint PRIMARY KEY, entry_id bytea NOT NULL, type {_TEXT}, time {_TEXT}, service {_TEXT},
    model {_TEXT}, status {_TEXT}, actor {_TEXT})""",
    f"CREATE TABLE checkpoints (size bigint PRIMARY KEY, note bytea NOT NULL) {_WHOLE_ROWS}",
    f"CREATE TABLE payloads (idx bigint PRIMARY KEY, key_ref bigint NOT NULL, sealed bytea, erasure {_TEXT}) {_WHOLE_ROWS}",
    f"CREATE TABLE erasures (id {_TEXT} PRIMARY KEY, salt bytea NOT NULL)",
    f"""CREATE TABLE anchors (size bigint NOT NULL, kind {_TEXT}, authority {_TEXT}, evidence bytea NOT NULL, time {_TEXT},
    PRIMARY KEY (size, kind, authority))""",
    f"""CREATE TABLE patient_keys (key_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lookup bytea NOT NULL UNIQUE CHECK (length(lookup) = {LOOKUP_BYTES}),
    wrapped bytea NOT NULL, wrapping_key {_TEXT}, created {_TEXT})""",
    f"""CREATE TABLE holds (hold {_TEXT} PRIMARY KEY, lookup bytea NOT NULL, placed {_TEXT}, until text COLLATE "C",
    reason {_TEXT})""",
    f"CREATE TABLE requests (id {_TEXT} PRIMARY KEY, kind {_TEXT}, body bytea NOT NULL, state {_TEXT}, created {_TEXT})",
    f"""CREATE TABLE request_subjects (id {_TEXT}, position integer NOT NULL, lookup bytea NOT NULL,
    PRIMARY KEY (id, position))""",
    "CREATE UNIQUE INDEX facts_by_id ON facts (entry_id)",
    "CREATE INDEX facts_by_time ON facts (time)",
    "CREATE INDEX payloads_by_key ON payloads (key_ref)",
    "CREATE INDEX holds_by_lookup ON holds (lookup)",
)
# Nothing to gain from compressing: an entry costs more time than it saves, a sealed payload can't be made smaller.
_UNCOMPRESSED = (("entries", "entry"), ("entries", "hashes"), ("payloads", "sealed"))
_UNSAMPLED = (
    ("payloads", "sealed"),
    ("patient_keys", "lookup"),
    ("patient_keys", "wrapped"),
    ("holds", "lookup"),
    ("requests", "body"),
    ("request_subjects", "lookup"),
)
REFUSAL = """CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE insufficient_privilege USING MESSAGE = 'what was logged stays'; END$$"""

WRITER_RIGHTS = (
    "SELECT, INSERT ON entries, facts, checkpoints, erasures, anchors",
    "SELECT, INSERT, UPDATE (sealed, erasure) ON payloads",
    "SELECT, INSERT, UPDATE (wrapped, wrapping_key), DELETE ON patient_keys",
    "SELECT ON SEQUENCE patient_keys_key_ref_seq",
    "SELECT, INSERT, DELETE ON holds",
    "SELECT, INSERT, UPDATE (state, body) ON requests",
    "SELECT, INSERT, DELETE ON request_subjects",
)
READER_RIGHTS = ("SELECT ON entries, facts, checkpoints, payloads, erasures, anchors",)


def check_schema_name(schema: str) -> str:
    """The name; raises StorageError where it isn't made of small letters, digits and underscores."""
    if _NAME.match(schema) is None:
        raise StorageError("schema: expected up to 63 small letters, digits and underscores, not beginning with pg_")
    return schema


def lock_key(schema: str, purpose: str) -> int:
    """The 64-bit key of an advisory lock: locks belong to one database, where a schema's name is its identity."""
    digest = sha256(f"bedside {purpose} lock/v1\n{schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def create_schema(url: DatabaseUrl, schema: str, checkpoint: StoredCheckpoint) -> None:
    """Makes the store of a new log, with the checkpoint of the empty tree.

    The schema is made, unless it is there and empty: who may make none in this database needs one of their own.

    Raises:
        StorageError: there is a log already, or something else, or the database refuses.
    """
    check_schema_name(schema)
    session = Session(url, schema)
    try:
        there = _check_free(session, schema)
        making = ["BEGIN", "SET LOCAL synchronous_commit = on", *_making(schema, there=there)]
        session.script("; ".join(making))
        session.commit([("INSERT INTO checkpoints VALUES ($1, $2)", (checkpoint.size, checkpoint.note))])
    finally:
        session.close()


def check_free(url: DatabaseUrl, schema: str) -> None:
    """Returns if `create_schema` would find room; raises StorageError."""
    check_schema_name(schema)
    session = Session(url, schema)
    try:
        _check_free(session, schema)
    finally:
        session.close()


def grant_rights(
    url: DatabaseUrl, schema: str, *, writer_role: str | None = None, reader_role: str | None = None
) -> None:
    """Gives each role its rights in the schema; asked again, it changes nothing.

    Raises:
        StorageError: no such role or schema, or the database refuses.
    """
    check_schema_name(schema)
    session = Session(url, schema)
    try:
        check_version(session, schema)
        for role, rights in ((writer_role, WRITER_RIGHTS), (reader_role, READER_RIGHTS)):
            if role is not None:
                session.script("; ".join(_grants(schema, rights, role)))
    finally:
        session.close()


def check_durable(session: Session) -> None:
    """Returns if a commit of this server lasts.

    Raises:
        StorageError: fsync or full_page_writes is off, or the server only follows another.
    """
    row = session.script(
        "SELECT current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery()::text"
    )[0]
    refuse_undurable(row[0], row[1])
    if row[2] != "false":
        raise StorageError("store: expected the server that writes, got a standby")


def refuse_undurable(fsync: str, full_page_writes: str) -> None:
    """Returns if both settings are on; raises StorageError."""
    for name, value in (("fsync", fsync), ("full_page_writes", full_page_writes)):
        if value != "on":
            message = f"store: the server runs with {name}={value}: a crash can lose what it acknowledged; expected on"
            raise StorageError(message)


def check_version(session: Session, schema: str) -> None:
    """Returns if `schema` holds a log of this version, in tables that survive a crash.

    Raises:
        StorageError: it doesn't.
    """
    row = session.row(
        "SELECT coalesce(obj_description(n.oid, 'pg_namespace'), ''), (SELECT count(*) FROM pg_class"
        " WHERE relnamespace = n.oid AND relpersistence <> 'p')::int FROM pg_namespace n WHERE nspname = $1",
        schema,
    )
    if row is None or row[0] != FORM:
        message = f"store: expected {FORM}, in schema {schema}"
        raise StorageError(message)
    if row[1]:
        raise StorageError("store: a table is unlogged: a crash would empty it")


def _check_free(session: Session, schema: str) -> bool:
    """Whether the schema is there, and empty, on a server that keeps what it acknowledges."""
    check_durable(session)
    encoding = session.script("SELECT current_setting('server_encoding')")[0][0]
    if encoding != "UTF8":
        message = f"store: expected a database in UTF8, got {encoding}"
        raise StorageError(message)
    rows = session.rows(
        "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = n.oid)::int,"
        " coalesce(obj_description(n.oid, 'pg_namespace'), '') FROM pg_namespace n WHERE nspname = $1",
        schema,
    )
    if rows and (rows[0][0] or rows[0][1]):
        message = f"store: schema {schema} exists already and holds something"
        raise StorageError(message)
    return bool(rows)


def _making(schema: str, *, there: bool) -> list[str]:
    statements = [] if there else [f'CREATE SCHEMA "{schema}"']
    statements += [*TABLES, REFUSAL]
    statements += [f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL" for table, column in _UNCOMPRESSED]
    statements += [f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0" for table, column in _UNSAMPLED]
    for table in GROWING:
        statements.append(
            f"CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        # Always: also where a session poses as a replica's.
        statements.append(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER only_grows")
    return [*statements, f"COMMENT ON SCHEMA \"{schema}\" IS '{FORM}'"]


def _grants(schema: str, rights: tuple[str, ...], role: str) -> list[str]:
    if _ROLE.match(role) is None:
        raise StorageError("role: expected up to 63 characters, no quotation mark")
    return [f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}"', *(f'GRANT {right} TO "{role}"' for right in rights)]
