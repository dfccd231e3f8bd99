"""What a ward's worker processes share: what is switched off, and which finding was shown last.

One SQLite file that every process reads at each call, so that a switch acts at once and outlives a restart. A finding's row
holds keyed digests and a time: nothing in the file tells of a patient without the log's key.

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
from typing import Any, Literal, Self

import apsw
import msgspec

from audit.commitments import IndexKey, keyed_digest
from cds_service.errors import ServiceError
from cds_service.shared_database import open_shared
from model_artifacts.assessment import Finding

Scope = Literal["tenant", "service", "model"]

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS switches (scope TEXT, name TEXT, tenant TEXT, reason TEXT NOT NULL,
    since INTEGER NOT NULL, PRIMARY KEY (scope, name, tenant)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS shown (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, moment INTEGER NOT NULL)
    STRICT, WITHOUT ROWID""",
)
_PURGE_EVERY = 512
_PURGED_AT_ONCE = 2_048
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

    def __init__(self, connection: apsw.Connection) -> None:
        """Takes over `connection`; `open` is the usual way in."""
        self._connection = connection
        self._lock = threading.Lock()
        self._remembered = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """The state at `path`, made if it isn't there, readable by its owner alone.

        Raises:
            WardUnavailableError: it can't be opened.
        """
        try:
            return cls(open_shared(path, _SCHEMA))
        except (apsw.Error, OSError) as exc:
            raise WardUnavailableError("state of the ward: can't be opened") from exc

    def switched_off(self, tenant: str, service_id: str, model_id: str) -> Switch | None:
        """The switch by which this service is off now, None if it is on.

        Raises:
            WardUnavailableError: the file can't be read.
        """
        with self._using() as connection:
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
        with self._using() as connection:
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
        with self._using() as connection:
            rows = connection.execute(
                "SELECT scope, name, tenant, reason, since FROM switches ORDER BY tenant, scope, name"
            ).fetchall()
        return tuple(_switch(row) for row in rows)

    def shown_at(self, key: str, fingerprint: str, since: datetime) -> datetime | None:
        """When this very finding was shown, if it was the last one shown for `key` and not before `since`.

        Raises:
            WardUnavailableError: the file can't be read.
        """
        with self._using() as connection:
            row = connection.execute(
                "SELECT moment FROM shown WHERE key = ? AND fingerprint = ? AND moment >= ?",
                (key, fingerprint, _microseconds(since)),
            ).fetchone()
        return None if row is None else _moment(row[0])

    def remember(self, key: str, fingerprint: str, moment: datetime) -> None:
        """Notes the last finding shown for `key`. A power cut may lose the last ones: they are then shown once more.

        Raises:
            WardUnavailableError: the file can't be written.
        """
        with self._using() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO shown VALUES (?, ?, ?)", (key, fingerprint, _microseconds(moment))
            )
            self._remembered += 1
            if self._remembered % _PURGE_EVERY == 0:
                connection.execute(
                    "DELETE FROM shown WHERE key IN (SELECT key FROM shown WHERE moment < ? LIMIT ?)",
                    (_microseconds(moment - _FORGOTTEN_AFTER), _PURGED_AT_ONCE),
                )

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _using(self) -> Iterator[apsw.Connection]:
        with self._lock:
            try:
                yield self._connection
            except apsw.Error as exc:
                raise WardUnavailableError("state of the ward: can't be read or written") from exc


def quiet_key(index_key: IndexKey, tenant: str, service_id: str, patient_id: str, user: str | None) -> str:
    """For whom a finding is the same: a patient at a service, or such a patient and one user (`Type/id`)."""
    who = msgspec.json.encode((tenant, service_id, patient_id, user))
    return keyed_digest(index_key, "shown-to", who)


def fingerprint(
    index_key: IndexKey, model_id: str, model_version: str, finding: Finding, gaps: tuple[str, ...] = ()
) -> str:
    """Equal for findings that say and offer the same: model, decision, urgency, headline, proposals, and what was lacking."""
    offered = [(proposal.code.system, proposal.code.code) for proposal in finding.proposals]
    said = (model_id, model_version, finding.code, finding.urgency, finding.headline, finding.missing, gaps, offered)
    return keyed_digest(index_key, "finding", msgspec.json.encode(said))


def may_be_quieted(finding: Finding) -> bool:
    """Whether a repetition may be left out: never of what is critical."""
    return finding.urgency != "critical"


def _switch(row: Any) -> Switch:
    scope, name, tenant, reason, since = row
    return Switch(scope, name, tenant, reason, _moment(since))


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
