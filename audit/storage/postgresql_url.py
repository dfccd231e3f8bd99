"""Database URLs: where PostgreSQL is, who we are there, and how it proves who it is.

    postgresql://user:password@host:5432/database?sslmode=verify-full&sslrootcert=/etc/bedside/ca.pem
    postgresql://user:password@/database?host=/var/run/postgresql&port=5432        a Unix socket

As libpq reads them (https://www.postgresql.org/docs/current/libpq-connect.html §34.1.1.2), with one host and these parameters
only: host, port, sslmode, sslrootcert, sslcert, sslkey. `sslmode` is `verify-full`, the default, or `disable`, which is
for loopback and Unix sockets alone: the modes between look safe and aren't. User, password and database are percent-encoded
where need be. The password appears in no error and no repr.
"""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from audit.errors import KeyFileError, StorageError
from audit.private_files import read_private

DEFAULT_PORT = 5432
_SCHEMES = ("postgresql", "postgres")
_PARAMETERS = {"host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey"}
_FORM = "postgresql://user:password@host:port/database?sslmode=verify-full"


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A parsed URL; a `host` that begins with a slash is the folder of a Unix socket. `tls` is None where it isn't wanted."""

    host: str
    port: int
    user: str
    password: str | None = field(repr=False)
    database: str
    tls: "TlsFiles | None"

    @property
    def is_unix(self) -> bool:
        return self.host.startswith("/")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Whom we trust to vouch for the server (None: the system's authorities), and our own certificate where it asks."""

    root: str | None = None
    certificate: str | None = None
    key: str | None = None


def load_database_url(path: Path) -> DatabaseUrl:
    """The URL in a file that is its owner's alone.

    Raises:
        StorageError: unreadable, open to group or others, or no URL of ours.
    """
    try:
        text = read_private(path)
    except KeyFileError as exc:
        message = str(exc).replace("key file", "database URL file", 1)
        raise StorageError(message) from exc
    return parse_database_url(text)


def parse_database_url(text: str) -> DatabaseUrl:
    """The parsed URL.

    Raises:
        StorageError: another form, or a connection that isn't safe. The message holds nothing of user or password.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
        asked = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _refused(f"expected {_FORM}") from None
    parameters = dict(asked)
    if len(parameters) != len(asked) or not set(parameters) <= _PARAMETERS:
        # Unnamed: a password with a bare question mark in it would be read as one.
        raise _refused(f"expected each of {', '.join(sorted(_PARAMETERS))} once at most, and no other parameter")
    host = parameters.get("host") or unquote(parts.hostname or "")
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in _SCHEMES or parts.fragment or not (parts.username and host and database) or "," in host:
        raise _refused(f"expected {_FORM}")
    password = None if parts.password is None else unquote(parts.password)
    number = _port(parameters.get("port"), port)
    return DatabaseUrl(host, number, unquote(parts.username), password, database, _tls(parameters, host))


def _port(asked: str | None, given: int | None) -> int:
    if asked is None:
        return DEFAULT_PORT if given is None else given
    if given is not None or not asked.isascii() or not asked.isdigit() or not 0 < int(asked) < 65536:
        raise _refused("expected one port")
    return int(asked)


def _tls(parameters: dict[str, str], host: str) -> TlsFiles | None:
    mode = parameters.get("sslmode", "disable" if host.startswith("/") else "verify-full")
    if mode == "verify-full" and not host.startswith("/"):
        return TlsFiles(*(parameters.get(name) or None for name in ("sslrootcert", "sslcert", "sslkey")))
    if mode != "disable":
        raise _refused("expected sslmode verify-full, or disable for loopback and Unix sockets")
    if not _is_local(host):
        raise _refused("sslmode disable is for loopback and Unix sockets; expected verify-full")
    return None


def _is_local(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(reason: str) -> StorageError:
    return StorageError(f"database URL: {reason}")
