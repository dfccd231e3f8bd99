import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.errors import AppendError, StorageError
from audit.log import LogConfig
from audit.merkle import LeafIndex, TreeSize
from audit.rotation import rotate
from audit.storage import Anchor, Erasure, Query, StoredCheckpoint
from audit.storage.opening import PostgresqlPlace, open_scan, open_storage, read_place
from audit.storage.postgresql import PostgresqlStorage
from audit.storage.postgresql_schema import create_schema, grant_rights, lock_key
from audit.storage.postgresql_session import Session
from audit.storage.postgresql_url import load_database_url
from audit.verify import Trust, verify_log
from tests.audit.test_rotation import _opener
from tests.postgresql import PATIENT

pytestmark = pytest.mark.parametrize("store", ["postgresql"], indirect=True)
ROOT = Path(__file__).parent.parent.parent


def _place(config: LogConfig) -> PostgresqlPlace:
    place = read_place(config.directory)
    assert place is not None
    return place


@pytest.fixture(name="session_of")
def session_of_fixture(owner_session) -> Callable[[LogConfig], Session]:
    """Opens a session of the log's owner: session_of(config)."""
    return lambda config: owner_session(_place(config).schema)


def _verify(config: LogConfig, keys) -> int:
    scan = open_scan(config.directory)
    try:
        trust = Trust((keys.signer.verifier_key,), config.origin, (config.head_file.read_bytes(),))
        return verify_log(scan, trust).entries
    finally:
        scan.close()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_postgresql_reads_the_head_after_the_lock_and_not_as_of_the_wait(make_log, session_of) -> None:
    """Two connections: whoever waits for the lock must see what its holder committed, though his wait began before that."""
    config, _ = make_log()
    place = _place(config)
    waiter = PostgresqlStorage(lambda: load_database_url(place.database_url_file), place.schema, limits=PATIENT)
    key = lock_key(place.schema, "log")
    stale: list[int] = []
    seen: list[int] = []

    def wait() -> None:
        with waiter.exclusive() as transaction:
            seen.append(transaction.newest_checkpoint().size)

    def wait_wrongly() -> None:
        session = session_of(config)
        # Lock and head in one statement: one snapshot, taken before the wait.
        stale.append(
            session.script(f"BEGIN; SELECT max(size) FROM checkpoints, pg_advisory_xact_lock({key}); ROLLBACK")[0][0]
        )

    holder = session_of(config)
    holder.script(f"BEGIN; SELECT pg_advisory_xact_lock({key})")
    threads = [threading.Thread(target=wait), threading.Thread(target=wait_wrongly)]
    for thread in threads:
        thread.start()
    waiting = f"SELECT count(*)::int FROM pg_locks WHERE NOT granted AND objid::bigint = {key & 0xFFFFFFFF}"
    watcher = session_of(config)
    _until(lambda: watcher.script(waiting) == [[2]])
    holder.script("INSERT INTO checkpoints VALUES (41, 'note')")
    holder.commit([])
    for thread in threads:
        thread.join()
    assert (seen, stale) == ([41], [0])
    waiter.close()


def test_postgresql_gives_the_peaks_of_a_head_that_another_process_wrote(
    make_log, open_log, make_entry, second_host
) -> None:
    config, keys = make_log()
    ours, theirs = open_log(config), open_log(second_host(config))
    for number in range(1, 12):
        log = (ours, theirs)[number % 2]
        receipts = log.append_all([make_entry(log) for _ in range(number)])
        assert receipts[-1].tree_size == number * (number + 1) // 2
    assert _verify(config, keys) == 66


def test_postgresql_writes_a_batch_in_two_journeys_also_where_another_process_wrote(
    make_log, open_log, make_entry, second_host, monkeypatch
) -> None:
    config, _ = make_log()
    ours, theirs = open_log(config), open_log(second_host(config))
    for log in (ours, theirs, ours, theirs):
        log.append(*make_entry(log))
    item, own = make_entry(ours), make_entry(ours)
    asked: list[str] = []
    rows, script, commit = Session.rows, Session.script, Session.commit

    def noting(ask):
        def note(session, statement, *values):
            asked.append(statement if isinstance(statement, str) else "COMMIT")
            return ask(session, statement, *values)

        return note

    for name, ask in (("rows", rows), ("script", script), ("commit", commit)):
        monkeypatch.setattr(Session, name, noting(ask))
    ours.append(*own)
    foreign = list(asked)
    asked.clear()
    ours.append(*item)
    alone = list(asked)
    for journeys in (foreign, alone):
        assert len(journeys) == 2
        assert journeys[0].startswith("BEGIN")
        assert journeys[1] == "COMMIT"


def test_postgresql_reads_no_more_facts_than_came_since(
    make_log, open_log, make_entry, second_host, session_of
) -> None:
    """A host without the new key, beside one that has it, and a log that was long before."""
    config, _ = make_log()
    first = open_log(config)
    for _ in range(30):
        first.append_all([make_entry(first) for _ in range(100)])
    first.close()
    here, there = open_log(config), open_log(second_host(config))
    for log in (here, there):
        log.append(*make_entry(log))
    with _opener(config)() as rotating:
        rotate(config.directory, lambda: nullcontext(rotating), datetime(2026, 3, 2, tzinfo=UTC), os.urandom)
    before = _facts_read(session_of(config))
    for _ in range(10):
        for log in (here, there):
            log.append(*make_entry(log))
    for log in (here, there):
        log.storage._writer.ask(lambda session: session.script("SELECT pg_stat_force_next_flush()"))
    assert 20 <= _facts_read(session_of(config)) - before < 200


def _facts_read(session: Session) -> int:
    statement = "SELECT (seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_user_tables WHERE relname = 'facts'"
    return session.script(f"{statement} AND schemaname = current_schema()")[0][0]


def test_postgresql_takes_back_a_batch_that_lost_its_session(make_log, make_entry, open_log, session_of) -> None:
    config, keys = make_log()
    log = open_log(config)
    log.append(*make_entry(log))
    storage = open_storage(config.directory)
    with storage.exclusive() as transaction:
        session_of(config).script(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        )
        with pytest.raises(StorageError):
            transaction.append([], StoredCheckpoint(TreeSize(5), b"note"))
    with storage.exclusive() as transaction:
        assert transaction.newest_checkpoint().size == 1
    storage.close()
    assert log.append(*make_entry(log)).index == 1
    assert _verify(config, keys) == 2


def test_postgresql_appends_again_at_once_after_sessions_were_lost(make_log, open_log, make_entry, session_of) -> None:
    config, _ = make_log()
    log = open_log(config)
    log.append(*make_entry(log))
    other = session_of(config)
    other.script(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'log_owner'"
    )
    assert log.append(*make_entry(log)).index == 1
    assert log.entry(LeafIndex(1))


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_postgresql_refuses_a_server_that_may_lose_what_it_acknowledged(
    make_log, open_log, make_entry, postgresql, setting
) -> None:
    config, _ = make_log()
    log = open_log(config)
    item = make_entry(log)
    postgresql.administer(f"ALTER SYSTEM SET {setting} = off", "SELECT pg_reload_conf()")
    try:
        _until(lambda: postgresql.administer(f"SHOW {setting}") == "off")
        with pytest.raises(StorageError, match=f"runs with {setting}=off"):
            open_log(config)
        with pytest.raises(AppendError, match=f"runs with {setting}=off"):
            log.append(*item)
        with pytest.raises(StorageError, match=f"runs with {setting}=off"):
            create_schema(
                load_database_url(_place(config).database_url_file), "other", StoredCheckpoint(TreeSize(0), b"")
            )
    finally:
        postgresql.administer(f"ALTER SYSTEM RESET {setting}", "SELECT pg_reload_conf()")
    _until(lambda: postgresql.administer(f"SHOW {setting}") == "on")
    assert log.append(*item).index in (0, 1)


def test_postgresql_refuses_to_open_what_is_no_log_or_would_be_empty_after_a_crash(
    make_log, postgresql, session_of
) -> None:
    config, _ = make_log()
    place = _place(config)
    url = load_database_url(place.database_url_file)
    with pytest.raises(StorageError, match="expected bedside log, version 2, in schema nothing"):
        PostgresqlStorage(lambda: url, "nothing")
    with pytest.raises(StorageError, match="small letters"):
        PostgresqlStorage(lambda: url, 'x"; DROP SCHEMA y; --')
    session = session_of(config)
    session.script("ALTER TABLE payloads SET UNLOGGED")
    with pytest.raises(StorageError, match="a table is unlogged"):
        PostgresqlStorage(lambda: url, place.schema)


def test_postgresql_makes_a_log_in_an_empty_schema_and_in_no_other(make_log, postgresql) -> None:
    config, _ = make_log()
    url = load_database_url(_place(config).database_url_file)
    first = StoredCheckpoint(TreeSize(0), b"note")
    postgresql.administer("CREATE SCHEMA given AUTHORIZATION log_owner", "CREATE SCHEMA used AUTHORIZATION log_owner",
                          "CREATE TABLE used.something ()")  # fmt: skip
    create_schema(url, "given", first)
    for schema in ("given", "used"):
        with pytest.raises(StorageError, match=f"schema {schema} exists already"):
            create_schema(url, schema, first)
    postgresql.administer("DROP SCHEMA given CASCADE", "DROP SCHEMA used CASCADE")


def test_postgresql_lets_nothing_that_was_logged_be_changed(make_log, open_log, make_entry, session_of) -> None:
    """By a trigger, even of the owner, even while he poses as a replica."""
    config, _ = make_log()
    log = open_log(config)
    log.append(*make_entry(log, b"payload"))
    for table, column in (
        ("entries", "entry"),
        ("facts", "type"),
        ("checkpoints", "note"),
        ("anchors", "kind"),
        ("erasures", "id"),
    ):
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            session = session_of(config)
            with pytest.raises(StorageError, match="no right to"):
                session.script(statement)


def test_postgresql_gives_a_writer_the_right_to_add_and_no_more(make_log, open_log, make_entry, postgresql) -> None:
    config, _ = make_log()
    place = _place(config)
    owner = load_database_url(place.database_url_file)
    postgresql.administer(
        "CREATE ROLE writers", "CREATE ROLE readers", "CREATE ROLE service LOGIN PASSWORD 'p' IN ROLE writers"
    )
    try:
        grant_rights(owner, place.schema, writer_role="writers", reader_role="readers")
        place.database_url_file.write_text(postgresql.url(user="service", password="p"))
        log = open_log(config)
        log.append(*make_entry(log, b"payload"))
        log.storage.keep_anchor(Anchor(TreeSize(1), "rfc3161", "tsa", b"evidence", "2026"))
        with log.storage.exclusive() as transaction:
            assert transaction.erase(Erasure("ab" * 16, b"salt"), indices=[LeafIndex(0)]) == (0,)
        log.vault.store.destroy_keys([1], "2026")
        for statement in ("UPDATE payloads SET idx = 7", "DELETE FROM payloads", "ALTER TABLE facts DISABLE TRIGGER ALL",
                          "DROP TABLE anchors", "TRUNCATE entries", "UPDATE patient_keys SET lookup = lookup"):  # fmt: skip
            session = Session(load_database_url(place.database_url_file), place.schema)
            with pytest.raises(StorageError, match="no right to"):
                session.script(statement)
        with pytest.raises(StorageError, match="no right to rewrite payloads"):
            log.storage.scrub()
        log.close()
    finally:
        place.database_url_file.write_text(postgresql.url())
        postgresql.administer("DROP OWNED BY writers, readers, service", "DROP ROLE service, writers, readers")


def test_postgresql_reads_the_url_again_when_it_connects(make_log, open_log, make_entry, postgresql) -> None:
    config, _ = make_log()
    place = _place(config)
    postgresql.administer("CREATE ROLE changing LOGIN PASSWORD 'old' IN ROLE log_owner")
    try:
        place.database_url_file.write_text(postgresql.url(user="changing", password="old"))
        log = open_log(config)
        log.append(*make_entry(log))
        place.database_url_file.write_text(postgresql.url(user="changing", password="new"))
        postgresql.administer("ALTER ROLE changing PASSWORD 'new'",
                              "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'changing'")  # fmt: skip
        assert log.append(*make_entry(log)).index == 1
        log.close()
    finally:
        postgresql.administer("DROP OWNED BY changing", "DROP ROLE changing")


def test_postgresql_finds_rows_by_index_though_the_tables_are_small(make_log, open_log, make_entry, session_of) -> None:
    """A plan that reads the whole table would be kept while the log grows."""
    config, _ = make_log()
    log = open_log(config)
    before = _scans(session_of(config))
    for _ in range(8):  # more often than PostgreSQL makes a plan for each execution
        entry, payload = make_entry(log, b"payload")
        index = log.append(entry, payload).index
        log.prove(index)
        log.payload(index)
        log.find(Query(since="2026", limit=3))
        log.storage.checkpoint(TreeSize(index))
        log.storage.entries(index, 5)
        log.storage.nodes(1, 0, 4)
        log.storage.payloads_under(1)
        log.storage.kept_payloads(0, 0, 5)
    for keeper in (log.storage._reader, log.storage._writer):
        keeper.ask(lambda session: session.script("SELECT pg_stat_force_next_flush()"))
    after = _scans(session_of(config))
    for table in ("entries", "facts", "checkpoints", "payloads"):
        assert after[table][0] == before[table][0], f"{table} was read whole"
        assert after[table][1] > before[table][1]


def _scans(session: Session) -> dict[str, list[int]]:
    """How often each table was read whole, and by an index."""
    statement = "SELECT relname, seq_scan, idx_scan FROM pg_stat_user_tables WHERE schemaname = current_schema()"
    return {row[0]: row[1:] for row in session.script(statement)}


def test_postgresql_waits_for_each_batchs_sync_whatever_the_session_says(make_log, open_log) -> None:
    """As through a pooler, which keeps what others set."""
    config, _ = make_log()
    storage = open_log(config).storage
    show = "SELECT current_setting('synchronous_commit')"
    storage._writer.ask(lambda session: session.script("SET synchronous_commit = off"))
    with storage.exclusive() as transaction:
        assert transaction._session.script(show) == [["on"]]
    assert storage._writer.ask(lambda session: session.script(show)) == [["off"]]
