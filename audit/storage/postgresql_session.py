"""One session with a PostgreSQL server: a connection whose every wait has an end, and its prepared statements.

Built on `pg8000.native` (see `postgresql_wire`) and not on its `dbapi`: that one begins transactions by itself and rewrites
placeholders, and here both must stand as written.

What holds for every session:
(1) the server proves who it is by its certificate, save on loopback and Unix sockets (`postgresql_url`);
(2) connecting, each statement, each wait for a lock and each read of the socket has a time limit, and a server that lost
    us gives our locks back: a transaction that idles is ended, so a host that lost power holds the log for 2 s at most;
(3) nothing depends on the settings of server, database or role: texts are UTF-8, bytes are hex, names are looked up in the
    log's schema alone;
(4) any failure is a StorageError with the SQLSTATE or the kind of error and none of its text, which may hold values; the
    session is of no use afterwards and says so in `broken`.

A pooler between us and the server must keep one session for one client: transaction pooling takes settings and prepared
statements apart.
"""

import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from pg8000.exceptions import DatabaseError, Error
from scramp import ScramException

from audit.errors import StorageError
from audit.storage.postgresql_url import DatabaseUrl, TlsFiles
from audit.storage.postgresql_wire import Value, WireConnection, bound

MIN_SERVER_VERSION = 140_000  # the oldest release that its makers still keep (November 2026)
CONNECT_TIMEOUT_S = 2.0
# The order of these says who gives up first, so that the server's own word reaches us: lock, statement, socket.
LOCK_TIMEOUT_MS = 2_500
STATEMENT_TIMEOUT_MS = 3_000
SOCKET_TIMEOUT_S = 4.0
# From the lock to the commit one batch needs some 20 ms; a signing token may take some hundred.
IDLE_TIMEOUT_MS = 2_000
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_PLAIN = {
    "28P01": "password refused",
    "28000": "login refused",
    "3D000": "no such database",
    "3F000": "no such schema",
    "42P01": "no such table",
    "42501": "no right to",
    "53300": "too many connections",
    "55P03": "lock not free in time",
    "57014": "not done in time",
    "57P03": "the server is starting or stopping",
    "25006": "read-only",
    "53100": "disk full",
    "23505": "there already",
}
# The server ended the session: by its administrator, after a crash, while stopping, because it idled in a transaction.
_ENDED = {"57P01", "57P02", "57P03", "25P03"}

Row: TypeAlias = list[Any]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the server may take; 0 ms is no limit. `by_index`: it is to find rows by index, as serving does."""

    connect_s: float = CONNECT_TIMEOUT_S
    lock_ms: int = LOCK_TIMEOUT_MS
    statement_ms: int = STATEMENT_TIMEOUT_MS
    socket_s: float = SOCKET_TIMEOUT_S
    idle_ms: int = IDLE_TIMEOUT_MS
    by_index: bool = True


DEFAULT_LIMITS = Limits()
# For what reads or rewrites whole tables: an hour for one statement, and the socket outlasts it.
LONG_LIMITS = Limits(lock_ms=60_000, statement_ms=3_600_000, socket_s=3_700.0, idle_ms=0, by_index=False)


class Session:
    """An open connection; one caller at a time.

    `broken`: of no use any more. `lost`: because the connection ended, as it does when a server was restarted meanwhile; what
    was asked then may be asked again of a new session.
    """

    def __init__(self, url: DatabaseUrl, schema: str, limits: Limits = DEFAULT_LIMITS) -> None:
        """Connects; `schema` is checked already. Raises StorageError."""
        self.broken = False
        self.lost = False
        self._prepared: dict[str, tuple[bytes, Any, Any]] = {}
        with _as_storage_error("connect"):
            self._socket = _connect(url, limits.connect_s)
            try:
                self._connection = WireConnection(
                    url.user,
                    password=url.password,
                    database=url.database,
                    application_name="bedside",
                    startup_params=_settings(schema, limits),
                    ssl_context=False,  # the socket is encrypted already
                    sock=self._socket,
                )
            except BaseException:
                _cut(self._socket)
                raise
            self._socket.settimeout(limits.socket_s)
        self._check_version()

    def script(self, statements: str) -> list[Row]:
        """Runs statements without values in one round trip; the rows of all. Each sees what was committed before it."""
        with self._guarded():
            return self._connection.run(statements) or []

    def rows(self, statement: str, *values: Value) -> list[Row]:
        """The rows of one statement, prepared at its first use."""
        name, columns, input_functions = self._prepare(statement)
        with self._guarded():
            context = self._connection.execute_named(name, bound(values), columns, input_functions, statement)
        rows: list[Row] = context.rows or []
        return rows

    def row(self, statement: str, *values: Value) -> Row | None:
        """The first row, or None."""
        rows = self.rows(statement, *values)
        return rows[0] if rows else None

    def commit(self, statements: Iterable[tuple[str, Sequence[Value]]]) -> None:
        """Runs these statements, which give no rows, and COMMIT, all in one round trip.

        Raises:
            StorageError: it isn't sure that all is durable where it must be.
        """
        steps = [(self._prepare(statement)[0], values) for statement, values in statements]
        last, columns, input_functions = self._prepare("COMMIT")
        with self._guarded():
            self._connection.notices.clear()
            for name, values in steps:
                # Not awaited one by one: where a step fails the server skips all after it, COMMIT too.
                self._connection.send_BIND(name, bound(values))
                self._connection.send_EXECUTE()
            self._connection.execute_named(last, (), columns, input_functions, "COMMIT")
            if self._connection.notices:
                # A synchronous standby was given up on: the commit is on one disk only, which the server merely mentions.
                raise StorageError("store: the server says that the commit may not be durable everywhere")

    def warnings(self) -> list[str]:
        """What the server warned of since the last look, as SQLSTATEs."""
        found = [notice.get(b"C", b"").decode("ascii", "replace") for notice in self._connection.notices]
        self._connection.notices.clear()
        return found

    def close(self) -> None:
        """Ends the session without waiting for anything; an open transaction is rolled back."""
        if not self.broken:
            with suppress(Error, OSError):
                self._socket.settimeout(0.5)
                self._connection.close()
        self._drop()

    def _prepare(self, statement: str) -> tuple[bytes, Any, Any]:
        known = self._prepared.get(statement)
        if known is None:
            with self._guarded():
                known = self._connection.prepare_statement(statement, ())
            self._prepared[statement] = known
        return known

    def _check_version(self) -> None:
        version = int(self.script("SELECT current_setting('server_version_num')")[0][0])
        if version < MIN_SERVER_VERSION:
            self.close()
            message = f"store: expected PostgreSQL {MIN_SERVER_VERSION // 10_000} or later, got {version // 10_000}"
            raise StorageError(message)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self.broken:
            raise StorageError("store: the connection is lost")
        try:
            with _as_storage_error("use"):
                yield
        except BaseException as exc:
            self.lost = _is_lost(exc.__cause__)
            self._drop()
            raise

    def _drop(self) -> None:
        """Cuts the connection: after a failure its state is unknown."""
        if not self.broken:
            self.broken = True
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            with suppress(Error, OSError, ValueError):
                self._connection.close()
            _cut(self._socket)


class SessionKeeper:
    """Keeps a session for one caller at a time, and connects anew when it was lost."""

    def __init__(self, connect: Callable[[], Session]) -> None:
        self._connect = connect
        self._session: Session | None = None

    def ask(self, ask: Callable[[Session], _T]) -> _T:
        """What `ask` gives; asked of a new session, once, where the kept one turns out to be lost.

        So `ask` must be something that may be done twice: a read, or the begin of a transaction.
        """
        if self._session is not None and not self._session.broken:
            try:
                return ask(self._session)
            except StorageError:
                if not self._session.lost:
                    raise
        self.drop()
        self._session = self._connect()
        return ask(self._session)

    def drop(self) -> None:
        """Ends the session, which rolls back what it was about."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


def _settings(schema: str, limits: Limits) -> dict[str, str]:
    """The settings of a session, which come before those of server, database and role."""
    # A plan that is made while a table is small reads all of it, and is kept while the table grows.
    by_index = (
        dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off")
        | {"plan_cache_mode": "force_generic_plan"}
        if limits.by_index
        else {}
    )
    return by_index | {
        "jit": "off",
        "client_encoding": "UTF8",
        "bytea_output": "hex",
        "standard_conforming_strings": "on",
        "search_path": f'"{schema}", pg_temp',  # temporary tables last: they would come first
        "client_min_messages": "warning",
        "default_transaction_isolation": "read committed",
        "synchronous_commit": "on",
        "lock_timeout": f"{limits.lock_ms}",
        "statement_timeout": f"{limits.statement_ms}",
        "idle_in_transaction_session_timeout": f"{limits.idle_ms}",
        # A client whose host went away is noticed though nothing is sent to it, also while its session waits for the lock.
        "client_connection_check_interval": "500",
        "tcp_keepalives_idle": "2",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": "3",
    }


def _connect(url: DatabaseUrl, timeout_s: float) -> socket.socket:
    """An open socket, encrypted unless the URL says otherwise; its time limit holds until the login is through."""
    if url.is_unix:
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.settimeout(timeout_s)
    else:
        plain = socket.create_connection((url.host, url.port), timeout_s)
    try:
        if url.is_unix:
            plain.connect(f"{url.host}/.s.PGSQL.{url.port}")
        else:
            # A batch goes out in several pieces, and none is to wait for the answer to another.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return plain if url.tls is None else _encrypted(plain, url.host, url.tls)
    except BaseException:
        plain.close()
        raise


def _cut(connected: socket.socket) -> None:
    """Closes it now: `close` would wait for the files that pg8000 made of it, which the error may keep alive."""
    descriptor = connected.detach()
    if descriptor >= 0:
        os.close(descriptor)


def _encrypted(plain: socket.socket, host: str, files: TlsFiles) -> ssl.SSLSocket:
    """The socket after the handshake; https://www.postgresql.org/docs/current/protocol-flow.html §55.2.11."""
    context = ssl.create_default_context(cafile=files.root)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.certificate is not None:
        context.load_cert_chain(files.certificate, files.key)
    plain.sendall(_SSL_REQUEST)
    if plain.recv(1) != b"S":
        raise StorageError("store: the server speaks no TLS")
    return context.wrap_socket(plain, server_hostname=host)


@contextmanager
def _as_storage_error(action: str) -> Iterator[None]:
    try:
        yield
    except (Error, OSError, ScramException, struct.error, LookupError, ValueError) as exc:
        message = f"store: can't {action} the database: {_described(exc)}"
        raise StorageError(message) from exc


def _described(exc: BaseException) -> str:
    """What went wrong, by its code: the server's own words may hold values."""
    code = _code(exc)
    if code is not None:
        return f"{_PLAIN.get(code, 'refused by the server')} (SQLSTATE {code})"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the server's certificate: {exc.verify_message}"
    cause = exc.__cause__ if isinstance(exc.__cause__, OSError) else exc
    return type(cause).__name__


def _code(exc: BaseException | None) -> str | None:
    """The SQLSTATE that the server gave, if it gave one before the connection ended."""
    while exc is not None:
        if isinstance(exc, DatabaseError) and exc.args and isinstance(exc.args[0], dict):
            return str(exc.args[0].get("C"))
        exc = exc.__context__
    return None


def _is_lost(exc: BaseException | None) -> bool:
    code = _code(exc)
    if code is not None:
        return code in _ENDED
    # A server that didn't answer in time is not to be asked again at once.
    return isinstance(exc, Error | OSError) and not isinstance(exc, TimeoutError)
