"""What a ward's worker processes share: what is switched off, and which finding was shown last.

One SQLite file that every process reads at each call, so that a switch acts at once and outlives a restart. A finding's row
holds digests under the patient's key, and a time: once that key is destroyed nothing in the file tells of the patient, not
even to those who hold the log's other keys.

Reading and writing have a connection each: in WAL mode no reader waits for a writer, so what is switched off is known at once
also while another process keeps the file locked. A finding that can't be noted soon is given up, for the answer waits for it.

    switches  what is off: scope, name, tenant, reason, since
    shown     by patient (or patient and user) and service: the last finding shown, and when
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import apsw
import msgspec

from audit.vault import SubjectKey
from cds_service.errors import ServiceError
from cds_service.shared_database import file_identity, open_shared

if TYPE_CHECKING:  # who switches something off shouldn't wait for FHIR's types
    from cds_service.cards import Card
    from model_artifacts.assessment import Finding

Scope = Literal["tenant", "service", "model"]

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS switches (scope TEXT, name TEXT, tenant TEXT, reason TEXT NOT NULL,
    since INTEGER NOT NULL, PRIMARY KEY (scope, name, tenant)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS shown (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, moment INTEGER NOT NULL)
    STRICT, WITHOUT ROWID""",
)
_PURGE_EVERY = 512
_LOOKED_THROUGH = 2_048  # rows at each purge: a scan of a million takes 100 ms, and every process waits for it
_NOTED_WITHIN_S = 0.1  # for this process's other threads, and again for other processes
_SWITCHED_WITHIN_S = 5.0  # an operator waits
_FORGOTTEN_AFTER = timedelta(days=366)  # the longest time the configuration lets a finding rest


class WardUnavailableError(ServiceError):
    """What is switched off cannot be known, so nothing is answered (503)."""

    issue = "transient"


@dataclass(frozen=True, slots=True)
class Switch:
    """One thing that is switched off; `reason` is a code."""

    scope: Scope
    name: str
    tenant: str
    reason: str
    since: datetime


class Ward:
    """The shared state; safe in many threads and beside other processes."""

    def __init__(self, path: Path, reading: apsw.Connection, writing: apsw.Connection) -> None:
        """Takes over the connections to `path`; `open` is the usual way in."""
        self._path = path
        self._file = file_identity(path)
        self._reading, self._writing = reading, writing
        self._reading_lock, self._writing_lock = threading.Lock(), threading.Lock()
        self._remembered = 0
        self._in_doubt_until = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """The state at `path`, made if it isn't there, readable by its owner alone.

        Raises:
            WardUnavailableError: it can't be opened.
        """
        try:
            return cls(path, open_shared(path, _SCHEMA), open_shared(path, ()))
        except (apsw.Error, OSError) as exc:
            raise WardUnavailableError("state of the ward: can't be opened") from exc

    def switched_off(self, tenant: str, service_id: str, model_id: str) -> Switch | None:
        """The switch by which this service is off now, None if it is on.

        Raises:
            WardUnavailableError: the file can't be read.
        """
        with self._to_read() as connection:
            row = connection.execute(
                """SELECT scope, name, tenant, reason, since FROM switches WHERE tenant = ?1 AND
                ((scope = 'tenant' AND name = ?1) OR (scope = 'service' AND name = ?2) OR (scope = 'model' AND name = ?3))
                LIMIT 1""",
                (tenant, service_id, model_id),
            ).fetchone()
        return None if row is None else _switch(row)

    def set_switch(self, scope: Scope, name: str, *, tenant: str, off: bool, reason: str, moment: datetime) -> None:
        """Switches `name` off or on again for one tenant; every process knows at its next call, and it is on disk.

        Raises:
            WardUnavailableError: the file can't be written.
        """
        with self._to_write(_SWITCHED_WITHIN_S) as connection:
            connection.pragma("synchronous", "FULL")  # a switch must outlive a power cut
            try:
                if off:
                    connection.execute(
                        "INSERT OR REPLACE INTO switches VALUES (?, ?, ?, ?, ?)",
                        (scope, name, tenant, reason, _microseconds(moment)),
                    )
                else:
                    connection.execute(
                        "DELETE FROM switches WHERE scope = ? AND name = ? AND tenant = ?", (scope, name, tenant)
                    )
            finally:
                connection.pragma("synchronous", "NORMAL")

    def switches(self) -> tuple[Switch, ...]:
        """Everything that is off.

        Raises:
            WardUnavailableError: the file can't be read.
        """
        with self._to_read() as connection:
            rows = connection.execute(
                "SELECT scope, name, tenant, reason, since FROM switches ORDER BY tenant, scope, name"
            ).fetchall()
        return tuple(_switch(row) for row in rows)

    def shown_at(self, key: str, fingerprint: str, since: datetime) -> datetime | None:
        """When this very finding was shown, if it was the last one shown for `key` and not before `since`.

        None also for all that was shown before a finding that this process failed to note: that one may have been the last.

        Raises:
            WardUnavailableError: the file can't be read.
        """
        with self._to_read() as connection:
            row = connection.execute(
                "SELECT moment FROM shown WHERE key = ? AND fingerprint = ? AND moment >= ?",
                (key, fingerprint, max(_microseconds(since), self._in_doubt_until)),
            ).fetchone()
        return None if row is None else _moment(row[0])

    def remember(self, key: str, fingerprint: str, moment: datetime) -> None:
        """Notes the last finding shown for `key`. A power cut may lose the last ones: they are then shown once more.

        Raises:
            WardUnavailableError: the file can't be written, or not soon.
        """
        shown = _microseconds(moment)
        try:
            with self._to_write(_NOTED_WITHIN_S) as connection:
                connection.execute("INSERT OR REPLACE INTO shown VALUES (?, ?, ?)", (key, fingerprint, shown))
                self._remembered += 1
                if self._remembered % _PURGE_EVERY == 0:
                    _purge(connection, key, _microseconds(moment - _FORGOTTEN_AFTER))
        except WardUnavailableError:
            self._in_doubt_until = max(self._in_doubt_until, shown + 1)
            raise

    def close(self) -> None:
        """Closes the file."""
        with self._reading_lock, self._writing_lock:
            self._reading.close()
            self._writing.close()

    @contextmanager
    def _to_read(self) -> Iterator[apsw.Connection]:
        with self._reading_lock:
            try:
                # A file that was removed or replaced can still be read, and no switch of another process would reach us.
                if file_identity(self._path) != self._file:
                    raise WardUnavailableError("state of the ward: the file was replaced since it was opened")
                yield self._reading
            except (apsw.Error, OSError) as exc:
                raise WardUnavailableError("state of the ward: can't be read") from exc

    @contextmanager
    def _to_write(self, within_s: float) -> Iterator[apsw.Connection]:
        if not self._writing_lock.acquire(timeout=within_s):
            raise WardUnavailableError(f"state of the ward: can't be written within {within_s} s")
        try:
            self._writing.set_busy_timeout(int(within_s * 1_000))
            yield self._writing
        except apsw.Error as exc:
            raise WardUnavailableError("state of the ward: can't be written") from exc
        finally:
            self._writing_lock.release()


def quiet_key(patient: SubjectKey, client_id: str, service_id: str, user: str | None) -> str:
    """For whom a finding is the same: one client's patient at a service, or such a patient and one user (`Type/id`).

    A patient's id is one person's only within one client.
    """
    return patient.digest("shown-to", msgspec.json.encode((client_id, service_id, user)))


def fingerprint(patient: SubjectKey, card: Card) -> str:
    """Equal for cards that read the same and offer the same; only ids may differ."""
    offered = [(suggestion.label, suggestion.action.to_json()) for suggestion in card.suggestions]
    said = (card.kind, card.indicator, card.summary, card.detail, offered)
    return patient.digest("finding", msgspec.json.encode(said))


def may_be_quieted(finding: Finding) -> bool:
    """Whether a repetition may be left out: never of what is critical."""
    return finding.urgency != "critical"


def _purge(connection: apsw.Connection, start: str, oldest: int) -> None:
    """Forgets what is older, among the rows that follow `start`: keys are digests, so each row's turn comes."""
    connection.execute(
        """DELETE FROM shown WHERE key IN (SELECT key FROM
        (SELECT key, moment FROM shown WHERE key > ? ORDER BY key LIMIT ?) WHERE moment < ?)""",
        (start, _LOOKED_THROUGH, oldest),
    )


def _switch(row: Any) -> Switch:
    scope, name, tenant, reason, since = row
    return Switch(scope, name, tenant, reason, _moment(since))


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
