"""Which JWTs were used already: `JtiStore`, shared by all worker processes and outliving a restart.

One row per used token: SHA-256 over issuer and `jti`, and when it expires. A token's own text is not kept. The unique key
makes two workers that spend one token at once agree which was first.

WAL with synchronous=NORMAL: a killed process loses nothing; a power cut may lose the last moments, in which a token of a
few minutes' life would have to be sent again to a machine that just came up. FULL would cost each call a disk flush.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Self

import apsw

from cds_service.errors import ServiceError
from cds_service.shared_database import file_identity, open_shared

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS spent (token BLOB PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS spent_by_end ON spent (expires_at)",
)
_PURGE_EVERY = 256  # spends between two clearings, each of at most so many rows: no call waits long for it
_PURGED_AT_ONCE = 1_024


class AuthenticationUnavailableError(ServiceError):
    """Whether a token was used already cannot be known, so nobody is let in (503)."""

    issue = "transient"


class JtiStore:
    """The used tokens; safe in many threads and beside other processes."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        """Takes over the `connection` to `path`; `open` is the usual way in."""
        self._path = path
        self._file = file_identity(path)
        self._connection = connection
        self._lock = threading.Lock()
        self._spent = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """The store at `path`, made if it isn't there, readable by its owner alone.

        Raises:
            AuthenticationUnavailableError: it can't be opened.
        """
        try:
            return cls(path, open_shared(path, _SCHEMA))
        except (apsw.Error, OSError) as exc:
            raise AuthenticationUnavailableError("store of used tokens: can't be opened") from exc

    def spend(self, issuer: str, jti: str, expires_at: int, now: int) -> bool:
        """Whether the token was fresh; from now on it isn't. It is kept until it expires (whole seconds of Unix time).

        Raises:
            AuthenticationUnavailableError: the store fails, so the token must not be taken.
        """
        token = hashlib.sha256(f"{issuer}\0{jti}".encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            try:
                if file_identity(self._path) != self._file:
                    raise OSError("the file was replaced: in another one every token would be fresh")
                self._purge_now_and_then(now)  # first: were it to fail, the token must not be used up
                self._connection.execute("INSERT OR IGNORE INTO spent VALUES (?, ?)", (token, expires_at))
                fresh: bool = self._connection.changes() == 1
            except (apsw.Error, OSError) as exc:
                raise AuthenticationUnavailableError("store of used tokens: can't be written") from exc
        return fresh

    def _purge_now_and_then(self, now: int) -> None:
        self._spent += 1
        if self._spent % _PURGE_EVERY == 0:
            self._connection.execute(
                "DELETE FROM spent WHERE token IN (SELECT token FROM spent WHERE expires_at < ? LIMIT ?)",
                (now, _PURGED_AT_ONCE),
            )

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()
