import random

import pytest

from audit.errors import ForkError, RollbackError, VerificationError
from audit.log import LogConfig
from audit.storage.opening import open_scan, read_place
from audit.storage.postgresql_schema import REFUSAL
from audit.verify import LogReport, Trust, verify_log

pytestmark = pytest.mark.parametrize("store", ["postgresql"], indirect=True)


@pytest.fixture
def filled(make_log, open_log, make_entry) -> tuple[LogConfig, Trust]:
    """A closed log of nine entries, each second with a payload, in eight batches; and what to trust."""
    config, keys = make_log()
    log = open_log(config)
    items = [make_entry(log, b"payload" * 20 if number % 2 else None) for number in range(9)]
    for item in items[:-2]:
        log.append(*item)
    log.append_all(items[-2:])
    log.close()
    return config, Trust((keys.signer.verifier_key,), config.origin, (config.head_file.read_bytes(),))


def _verify(config: LogConfig, trust: Trust) -> LogReport:
    scan = open_scan(config.directory)
    try:
        return verify_log(scan, trust)
    finally:
        scan.close()


def test_postgresql_scan_finds_a_log_that_holds(filled) -> None:
    report = _verify(*filled)
    assert (report.entries, report.checkpoints, report.payloads, report.heads) == (9, 9, 4, 1)


def test_postgresql_scan_holds_for_the_empty_log(make_log) -> None:
    config, keys = make_log()
    assert _verify(config, Trust((keys.signer.verifier_key,))).entries == 0


@pytest.mark.parametrize(
    ("statement", "index", "part"),
    [
        ("UPDATE entries SET entry = replace(convert_from(entry, 'UTF8'), 'high', 'lows')::bytea WHERE idx = 3", 3, "entry"),
        ("UPDATE entries SET hashes = set_byte(hashes, 0, 255 - get_byte(hashes, 0)) WHERE idx = 3", 3, "entry"),
        ("UPDATE entries SET hashes = set_byte(hashes, 40, 255 - get_byte(hashes, 40)) WHERE idx = 3", 3, "nodes"),
        ("UPDATE facts SET status = 'other' WHERE idx = 4", 4, "columns"),
        ("UPDATE facts SET entry_id = '\\x00' WHERE idx = 4", 4, "columns"),
        ("DELETE FROM facts WHERE idx = 4", 4, "columns"),
        ("DELETE FROM payloads WHERE idx = 5", 5, "payload"),
        ("UPDATE payloads SET sealed = set_byte(sealed, 30, 255 - get_byte(sealed, 30)) WHERE idx = 5", 5, "payload"),
        ("DELETE FROM entries WHERE idx = 6", 6, "entry"),
        ("INSERT INTO payloads SELECT 700, key_ref, sealed, erasure FROM payloads WHERE idx = 5", 700, "payloads and facts"),
        ("INSERT INTO facts SELECT -1, '\\x01', type, time, service, model, status, actor FROM facts WHERE idx = 5", -1,
         "payloads and facts"),
        ("DELETE FROM checkpoints WHERE size = 9", 7, "entry"),
        ("UPDATE checkpoints SET note = set_byte(note, 60, 255 - get_byte(note, 60)) WHERE size = 5", 4,
         "checkpoint of size 5"),
        ("DELETE FROM entries WHERE idx = 8", 8, "entry"),
    ],
)  # fmt: skip
def test_postgresql_scan_names_the_first_bad_index(filled, store_files, statement: str, index: int, part: str) -> None:
    config, trust = filled
    store_files.change(config, statement)
    with pytest.raises(VerificationError) as caught:
        _verify(config, trust)
    assert (caught.value.index, caught.value.part) == (index, part)


def test_postgresql_scan_finds_any_flipped_byte(filled, owner_session) -> None:
    """Of a few dozen chosen at random from every column of bytes; each is put back."""
    config, trust = filled
    columns = {"entries": ("entry", "hashes"), "checkpoints": ("note",), "payloads": ("sealed",)}
    chosen = random.Random()
    for table, names in columns.items():
        for column in names:
            key = "size" if table == "checkpoints" else "idx"
            session = owner_session(_schema(config))
            rows = session.script(f"SELECT {key}, length({column}) FROM {table}")
            for _ in range(4):
                at, length = chosen.choice(rows)
                byte = chosen.randrange(length)
                flipped = f"set_byte({column}, {byte}, 255 - get_byte({column}, {byte}))"
                flip = f"UPDATE {table} SET {column} = {flipped} WHERE {key} = {at}"
                _unguarded(session, table, flip)
                with pytest.raises(VerificationError):
                    _verify(config, trust)
                _unguarded(session, table, flip)
    assert _verify(config, trust).entries == 9


def test_postgresql_scan_compares_with_heads_kept_elsewhere(filled, make_entry, open_log, store_files) -> None:
    config, trust = filled
    older = store_files.copy(config)
    log = open_log(config)
    log.append(*make_entry(log))
    known = log.checkpoint()
    log.close()
    trust = Trust(trust.log_keys, trust.origin, (known,))
    assert _verify(config, trust).entries == 10
    store_files.put_back(config, older)
    with pytest.raises(RollbackError):
        _verify(config, trust)
    config.head_file.write_bytes(_newest(config))
    log = open_log(config)
    log.append(*make_entry(log))
    log.close()
    with pytest.raises(ForkError):
        _verify(config, trust)


def _newest(config: LogConfig) -> bytes:
    scan = open_scan(config.directory)
    newest = list(scan.checkpoints())[-1].note
    scan.close()
    return newest


FORMS = {
    "a trigger that is off": (
        "ALTER TABLE entries DISABLE TRIGGER only_grows", "ALTER TABLE entries ENABLE ALWAYS TRIGGER only_grows",
    ),
    "a trigger that a replica's session passes": (
        "ALTER TABLE facts ENABLE TRIGGER only_grows", "ALTER TABLE facts ENABLE ALWAYS TRIGGER only_grows",
    ),
    "another trigger": (
        "CREATE TRIGGER more BEFORE INSERT ON facts FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        "DROP TRIGGER more ON facts",
    ),
    "a function with another body": (
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        REFUSAL.replace("CREATE", "CREATE OR REPLACE", 1),
    ),
    "one more column": ("ALTER TABLE facts ADD COLUMN name text", "ALTER TABLE facts DROP COLUMN name"),
    "another default": ("ALTER TABLE facts ALTER type SET DEFAULT 'x'", "ALTER TABLE facts ALTER type DROP DEFAULT"),
    "a column that may be null": ("ALTER TABLE facts ALTER actor DROP NOT NULL", "ALTER TABLE facts ALTER actor SET NOT NULL"),
    "another type": ("ALTER TABLE payloads ALTER key_ref TYPE numeric", "ALTER TABLE payloads ALTER key_ref TYPE bigint"),
    "samples of what may be forgotten": (
        "ALTER TABLE patient_keys ALTER wrapped SET STATISTICS 10", "ALTER TABLE patient_keys ALTER wrapped SET STATISTICS 0",
    ),
    "a missing index": ("DROP INDEX facts_by_id", "CREATE UNIQUE INDEX facts_by_id ON facts (entry_id)"),
    "one more table": ("CREATE TABLE more ()", "DROP TABLE more"),
    "a view": ("CREATE VIEW more AS SELECT 1", "DROP VIEW more"),
    "a child": ("CREATE TABLE more () INHERITS (facts)", "DROP TABLE more"),
    "a table that a crash empties": ("ALTER TABLE payloads SET UNLOGGED", "ALTER TABLE payloads SET LOGGED"),
    "a rule": ("CREATE RULE r AS ON INSERT TO anchors DO INSTEAD NOTHING", "DROP RULE r ON anchors"),
    "row security": ("ALTER TABLE facts ENABLE ROW LEVEL SECURITY", "ALTER TABLE facts DISABLE ROW LEVEL SECURITY"),
    "a policy": ("CREATE POLICY p ON facts USING (idx < 3)", "DROP POLICY p ON facts"),
    "another version": ("COMMENT ON SCHEMA {schema} IS 'x'", "COMMENT ON SCHEMA {schema} IS 'bedside log, version 2'"),
}  # fmt: skip


def test_postgresql_scan_knows_its_schema_to_the_letter(filled, owner_session) -> None:
    config, trust = filled
    session = owner_session(_schema(config))
    for change, undo in FORMS.values():
        session.script(change.format(schema=_schema(config)))
        with pytest.raises(VerificationError, match="the schema isn't the log's"):
            _verify(config, trust)
        session.script(undo.format(schema=_schema(config)))
    session.script("ALTER TABLE entries SET (autovacuum_enabled = off)")
    assert _verify(config, trust).entries == 9


@pytest.mark.parametrize(
    ("index", "table"), [("facts_by_time", "facts"), ("payloads_by_key", "payloads"), ("facts_by_id", "facts")]
)
def test_postgresql_scan_finds_an_index_that_lacks_rows(
    make_log, open_log, make_entry, postgresql, index: str, table: str
) -> None:
    """As a fault of memory or disk may leave one: the rows are all there, and looking for one finds nothing."""
    config, keys = make_log()
    name = f"'{_schema(config)}.{index}'::regclass"
    postgresql.administer(f"UPDATE pg_index SET indisready = false WHERE indexrelid = {name}")
    log = open_log(config)
    log.append(*make_entry(log, b"payload"))
    log.close()
    postgresql.administer(f"UPDATE pg_index SET indisready = true WHERE indexrelid = {name}")
    with pytest.raises(VerificationError, match=f"an index of {table}"):
        _verify(config, Trust((keys.signer.verifier_key,)))


def test_postgresql_scan_walks_the_pages_where_amcheck_is_there(filled, postgresql, owner_session) -> None:
    config, trust = filled
    grant = "GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO log_owner"
    postgresql.administer("CREATE EXTENSION amcheck", grant)
    try:
        assert _verify(config, trust).entries == 9
        session = owner_session(_schema(config))
        path = session.script("SELECT pg_relation_filepath('facts_by_time')")[0][0]
        session.script("CHECKPOINT")
        postgresql.stop()
        file = postgresql.data / path
        file.write_bytes(file.read_bytes().replace(b"2026-03-01", b"9026-03-01", 1))  # one key, and the order is gone
        postgresql.start()
        with pytest.raises(VerificationError, match="refused by the server"):
            _verify(config, trust)
    finally:
        postgresql.administer("DROP EXTENSION amcheck")


def test_postgresql_scan_runs_no_function_of_another_user_that_is_named_as_amcheck_s(filled, postgresql) -> None:
    body = "$$BEGIN RAISE 'run as %', current_user; END$$"
    postgresql.administer(
        "CREATE ROLE mallory",
        "CREATE SCHEMA aaa AUTHORIZATION mallory",
        "GRANT USAGE ON SCHEMA aaa TO public",
        f"SET ROLE mallory; CREATE FUNCTION aaa.bt_index_check(regclass, boolean) RETURNS void LANGUAGE plpgsql AS {body}",
    )
    try:
        assert _verify(*filled).entries == 9
        postgresql.administer("CREATE EXTENSION amcheck")
        assert _verify(*filled).entries == 9
    finally:
        postgresql.administer("DROP EXTENSION IF EXISTS amcheck", "DROP SCHEMA aaa CASCADE", "DROP ROLE mallory")


def test_postgresql_scan_reads_one_snapshot(filled, open_log, make_entry) -> None:
    config, trust = filled
    scan = open_scan(config.directory)
    log = open_log(config)
    log.append(*make_entry(log))
    assert verify_log(scan, trust).entries == 9
    scan.close()


def _schema(config: LogConfig) -> str:
    place = read_place(config.directory)
    assert place is not None
    return place.schema


def _unguarded(session, table: str, statement: str) -> None:
    """Runs a statement that the trigger would refuse."""
    if table != "payloads":
        session.script(f"ALTER TABLE {table} DISABLE TRIGGER only_grows")
    session.script(statement)
    if table != "payloads":
        session.script(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER only_grows")
