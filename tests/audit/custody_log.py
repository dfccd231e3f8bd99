"""A log with patients of some years ago, and the officers who decide over them: what the tests of custody share."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from audit.approvals import Officer
from audit.custody import Custody
from audit.entry import FeedbackEntry, Requester, Service, format_time
from audit.keys import VKEY_FILE, Ed25519Signer, init_keys, load_vkeys
from audit.log import AuditLog, LogConfig, create_log
from audit.merkle import LeafIndex
from audit.payloads import SealedPayload
from audit.retention import RetentionRule
from audit.storage.opening import open_scan
from audit.vault import patient_subject
from audit.verify import LogReport, Trust, verify_log

ORIGIN = "hospital.example/cds-audit/north/1"
OLD, RECENT, NOW = (datetime(year, 3, 1, 8, tzinfo=UTC) for year in (2020, 2034, 2036))
LAW = "de-630f-bgb"
ADA, BEN, CLEO = (Ed25519Signer(name, letter * 32) for name, letter in (("ada", b"a"), ("ben", b"b"), ("cleo", b"c")))
OFFICERS = (
    Officer("ada", ADA.verifier_key, ("privacy-officer",)),
    Officer("ben", BEN.verifier_key, ("privacy-officer", "auditor")),
    Officer("cleo", CLEO.verifier_key, ("auditor",)),
)


@dataclass(slots=True)
class Room:
    """A log directory and the time it is there."""

    directory: Path
    now: datetime = NOW
    rule: RetentionRule = field(default_factory=RetentionRule)
    officers: tuple[Officer, ...] = OFFICERS

    @property
    def config(self) -> LogConfig:
        return LogConfig(self.directory, ORIGIN, "north", deadline_s=10.0)

    @contextmanager
    def custody(self, reached: Callable[[str], None] = lambda _step: None) -> Iterator[Custody]:
        """The log and all that custody needs, open for the length of a block."""
        log = AuditLog.open(self.config, clock=lambda: self.now)
        try:
            yield Custody(log, log.vault, self.officers, self.rule, lambda: self.now, os.urandom, 0.0, reached)
        finally:
            log.close()

    def verify(self) -> LogReport:
        """The report of a full verification, which raises where something doesn't hold."""
        scan = open_scan(self.directory)
        try:
            return verify_log(scan, Trust(load_vkeys(self.directory / VKEY_FILE), ORIGIN))
        finally:
            scan.close()


def make_room(directory: Path, *, patients: int = 4, payloads: int = 2, time: datetime = OLD) -> Room:
    """A room whose log has some payloads of each of the patients p0, p1, …"""
    directory.mkdir(mode=0o700)
    create_log(LogConfig(directory, ORIGIN, "north"), init_keys(directory, ORIGIN, os.urandom))
    room = Room(directory)
    with replace(room, now=time).custody() as custody:
        for number in range(payloads):
            for patient in range(patients):
                write(custody.log, f"p{patient}", number, time)
    return room


def marker(patient: str, number: int) -> bytes:
    """What stands in this payload of this patient and nowhere else."""
    return f"plaintext of {patient}, {number}".encode()


def make_entry(log: AuditLog, patient: str, number: int, time: datetime) -> tuple[FeedbackEntry, SealedPayload]:
    """An entry of this time with a payload of this patient's, not yet in the log."""
    entry_id = log.new_entry_id()
    sealed = log.seal(entry_id, "feedback/v1", marker(patient, number), log.vault.key_for(patient_subject(patient)))
    entry = FeedbackEntry(
        id=entry_id,
        time=format_time(time),
        clock="synchronised",
        tenant="north",
        service=Service(id="prevent-cvd", version="1.0.0"),
        requester=Requester(issuer=None, subject=None, practitioner=None, role=None),
        decision="5a" * 16,
        card="0c8b6f0e-9b5c-4b39-8d4f-f7a2a5a3a7b1",
        outcome="accepted",
        accepted_suggestions=(),
        override_reason=None,
        outcome_time=None,
        payload=sealed.reference,
    )
    return entry, sealed


def write(log: AuditLog, patient: str, number: int, time: datetime) -> LeafIndex:
    """Appends such an entry; its index."""
    return log.record(*make_entry(log, patient, number, time)).index
