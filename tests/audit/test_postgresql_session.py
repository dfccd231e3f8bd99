import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit.errors import StorageError
from audit.storage.postgresql_session import DEFAULT_LIMITS, Limits, Session, SessionKeeper
from audit.storage.postgresql_url import DatabaseUrl, TlsFiles, parse_database_url
from audit.storage.postgresql_wire import array
from benchmarks.drills.postgresql_server import PostgresqlServer
from tests.postgresql import write_certificate

Open = Callable[..., Session]


@pytest.fixture
def url(postgresql: PostgresqlServer) -> DatabaseUrl:
    return parse_database_url(postgresql.url())


@pytest.fixture
def open_session(url: DatabaseUrl) -> Iterator[Open]:
    opened: list[Session] = []

    def open_one(limits: Limits = DEFAULT_LIMITS) -> Session:
        opened.append(Session(url, "public", limits))
        return opened[-1]

    yield open_one
    for session in opened:
        session.close()


def _refusing_tls(reply: bytes) -> int:
    """The port of something that answers the first message with `reply` and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(8)
        connection.sendall(reply)
        connection.close()
        listener.close()

    threading.Thread(target=serve).start()
    port: int = listener.getsockname()[1]
    return port


def test_postgresql_session_talks_tls_to_the_server_its_certificate_vouches_for(open_session) -> None:
    assert open_session().script("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [
        [True, "TLSv1.3"]
    ]


def test_postgresql_session_talks_through_a_unix_socket(postgresql: PostgresqlServer) -> None:
    session = Session(parse_database_url(postgresql.url(unix=True)), "public")
    assert session.script("SELECT inet_server_addr()") == [[None]]
    session.close()


def test_postgresql_session_refuses_a_server_nobody_vouches_for(url: DatabaseUrl, tmp_path: Path) -> None:
    stranger, _ = write_certificate(tmp_path)
    for root in (str(stranger), None):
        with pytest.raises(StorageError, match="the server's certificate"):
            Session(DatabaseUrl(url.host, url.port, url.user, url.password, url.database, TlsFiles(root)), "public")


def test_postgresql_session_refuses_a_certificate_of_another_name(url: DatabaseUrl, monkeypatch) -> None:
    found = socket.getaddrinfo("127.0.0.1", url.port, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)
    other = DatabaseUrl("db.example.org", url.port, url.user, url.password, url.database, url.tls)
    with pytest.raises(StorageError, match=r"certificate: Hostname mismatch"):
        Session(other, "public")


@pytest.mark.parametrize("reply", [b"N", b"E", b""])
def test_postgresql_session_sends_nothing_in_clear_to_a_server_without_tls(reply: bytes) -> None:
    url = parse_database_url(f"postgresql://user:pass@127.0.0.1:{_refusing_tls(reply)}/logs")
    with pytest.raises(StorageError, match="speaks no TLS"):
        Session(url, "public")


@pytest.mark.parametrize("unix", [True, False])
def test_postgresql_session_tells_what_is_wrong_and_no_secret(postgresql: PostgresqlServer, unix) -> None:
    secret = "wr0ng" * 3
    with pytest.raises(StorageError, match=r"password refused \(SQLSTATE 28P01\)") as caught:
        Session(parse_database_url(postgresql.url(unix=unix, password=secret)), "public")
    assert secret not in "".join(traceback.format_exception(caught.value))
    host = "%2Ftmp" if unix else "127.0.0.1"
    nowhere = parse_database_url(f"postgresql://b:{secret}@{host}:1/l?sslmode=disable")
    with pytest.raises(StorageError, match=r"ConnectionRefusedError|FileNotFoundError") as caught:
        Session(nowhere, "public")
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_postgresql_session_gives_back_every_value_it_was_given(open_session) -> None:
    session = open_session()
    texts = ['a"b\\c{d},', "", "NULL", " é\n", "'"]
    values = [b"", b"\x00\xff\\", None, bytes(range(256))]
    assert session.rows("SELECT * FROM unnest($1::text[])", array(texts)) == [[text] for text in texts]
    assert session.rows("SELECT * FROM unnest($1::bytea[])", array(values)) == [[value] for value in values]
    assert session.rows("SELECT * FROM unnest($1::bytea[])", array([])) == []
    assert session.rows("SELECT * FROM unnest($1::bytea[])", array([None])) == [[None]]
    assert session.rows("SELECT * FROM unnest($1::bigint[])", array([1, None, -(2**63)])) == [[1], [None], [-(2**63)]]
    assert session.row("SELECT $1::bytea, $2::bigint, $3::text, $4::text", values[1], 7, texts[0], None) == [
        values[1], 7, texts[0], None,
    ]  # fmt: skip


def test_postgresql_session_depends_on_no_setting_of_role_or_database(
    postgresql: PostgresqlServer, open_session
) -> None:
    settings = {
        "bytea_output": "escape", "synchronous_commit": "off", "default_transaction_isolation": "serializable",
        "search_path": "pg_catalog", "statement_timeout": "0", "client_encoding": "LATIN1",
    }  # fmt: skip
    postgresql.administer(*(f"ALTER ROLE log_owner SET {name} = '{value}'" for name, value in settings.items()))
    try:
        session = open_session()
        found = {name: session.script(f"SHOW {name}")[0][0] for name in settings}
    finally:
        postgresql.administer("ALTER ROLE log_owner RESET ALL")
    assert found == {
        "bytea_output": "hex", "synchronous_commit": "on", "default_transaction_isolation": "read committed",
        "search_path": '"public", pg_temp', "statement_timeout": "3s", "client_encoding": "UTF8",
    }  # fmt: skip


def test_postgresql_session_waits_for_no_statement_longer_than_it_said(open_session) -> None:
    session = open_session(Limits(statement_ms=100))
    begin = time.monotonic()
    with pytest.raises(StorageError, match="not done in time"):
        session.script("SELECT pg_sleep(5)")
    assert time.monotonic() - begin < 2
    assert (session.broken, session.lost) == (True, False)
    with pytest.raises(StorageError, match="the connection is lost"):
        session.script("SELECT 1")


def test_postgresql_session_waits_for_no_lock_longer_than_it_said(open_session) -> None:
    open_session().script("BEGIN; SELECT pg_advisory_xact_lock(77)")
    with pytest.raises(StorageError, match="lock not free in time"):
        open_session(Limits(lock_ms=100)).script("BEGIN; SELECT pg_advisory_xact_lock(77)")


def test_postgresql_session_that_idles_in_a_transaction_gives_its_lock_back(open_session) -> None:
    """As after a host lost power: the server can't see it, and frees the lock all the same."""
    idle = open_session(Limits(idle_ms=200))
    idle.script("BEGIN; SELECT pg_advisory_xact_lock(78)")
    begin = time.monotonic()
    open_session().script("BEGIN; SELECT pg_advisory_xact_lock(78)")
    assert 0.1 < time.monotonic() - begin < 2
    with pytest.raises(StorageError):
        idle.commit([])
    assert idle.lost


def test_postgresql_session_comes_back_from_a_server_that_hangs(
    postgresql: PostgresqlServer, url, open_session
) -> None:
    limits = Limits(connect_s=0.2, socket_s=0.2)
    session = open_session(limits)
    postgresql.pause()
    try:
        begin = time.monotonic()
        with pytest.raises(StorageError, match="TimeoutError"):
            session.script("SELECT 1")
        with pytest.raises(StorageError, match="TimeoutError"):
            Session(url, "public", limits)
        session.close()
        assert time.monotonic() - begin < 2
    finally:
        postgresql.resume()
    assert not session.lost


def test_postgresql_session_commits_all_or_nothing(open_session) -> None:
    session, other = open_session(), open_session()
    session.script("CREATE TABLE commits (n bigint PRIMARY KEY)")
    try:
        session.script("BEGIN")
        session.commit([("INSERT INTO commits VALUES ($1)", (number,)) for number in (1, 2)])
        session.script("BEGIN")
        with pytest.raises(StorageError, match="there already"):
            session.commit([("INSERT INTO commits VALUES ($1)", (number,)) for number in (3, 3, 4)])
        assert other.script("SELECT n FROM commits ORDER BY n") == [[1], [2]]
    finally:
        other.script("DROP TABLE commits")


def test_postgresql_session_acknowledges_no_commit_that_a_standby_was_to_have(
    postgresql: PostgresqlServer, open_session
) -> None:
    """Whoever cancels the wait for a synchronous standby makes the server report success, with a warning."""
    session = open_session()
    session.script("CREATE TABLE standby (n bigint)")
    postgresql.administer("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    try:
        _until(lambda: session.script("SHOW synchronous_standby_names") == [["nobody"]])
        failed: list[StorageError] = []

        def commit() -> None:
            session.script("BEGIN")
            try:
                session.commit([("INSERT INTO standby VALUES ($1)", (1,))])
            except StorageError as exc:
                failed.append(exc)

        thread = threading.Thread(target=commit)
        thread.start()
        waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        _until(lambda: postgresql.administer(waiting) == "t")
        thread.join()
    finally:
        postgresql.administer(
            "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()", "DROP TABLE standby"
        )
    assert "may not be durable everywhere" in str(failed[0])
    assert session.broken


def test_postgresql_session_keeper_connects_anew_where_the_server_ended_the_session(postgresql, open_session) -> None:
    keeper = SessionKeeper(open_session)
    first = keeper.ask(lambda session: session.script("SELECT pg_backend_pid()"))
    assert keeper.ask(lambda session: session.script("SELECT pg_backend_pid()")) == first
    postgresql.administer(f"SELECT pg_terminate_backend({first[0][0]})")
    assert keeper.ask(lambda session: session.script("SELECT pg_backend_pid()")) != first


def test_postgresql_session_keeper_asks_once_where_the_server_was_slow(open_session) -> None:
    keeper, asked = SessionKeeper(lambda: open_session(Limits(statement_ms=50))), []
    keeper.ask(lambda session: session.script("SELECT 1"))

    def ask(session: Session) -> object:
        asked.append(session)
        return session.script("SELECT pg_sleep(3)")

    with pytest.raises(StorageError, match="not done in time"):
        keeper.ask(ask)
    assert len(asked) == 1


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
