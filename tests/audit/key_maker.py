"""A process that makes patients' keys until it is killed: key_maker.py DIRECTORY FIRST COUNT [append].

It waits for a line on its input, then prints "patient ref key" for each of COUNT patients from FIRST on; with `append`, each
also gets an entry with a payload, from the making of which on a line "patient ref key index" is printed.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from audit.entry import FeedbackEntry, Requester, Service, format_time
from audit.log import AuditLog, LogConfig
from audit.vault import SubjectKey, patient_subject

ORIGIN = "hospital.example/cds-audit/north/1"


def append(log: AuditLog, key: SubjectKey, patient: int) -> int:
    entry_id = log.new_entry_id()
    sealed = log.seal(entry_id, "feedback/v1", b"about patient %d" % patient, key)
    entry = FeedbackEntry(
        id=entry_id,
        time=format_time(datetime.now(UTC)),
        clock="unsynchronised",
        tenant="north",
        service=Service(id="s", version="1"),
        requester=Requester(issuer=None, subject=None, practitioner=None, role=None),
        decision="00" * 16,
        card="card",
        outcome="accepted",
        accepted_suggestions=(),
        override_reason=None,
        outcome_time=None,
        payload=sealed.reference,
    )
    return log.record(entry, sealed).index


if __name__ == "__main__":
    directory, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    opened = AuditLog.open(LogConfig(directory, ORIGIN, "north", deadline_s=10), clock=lambda: datetime.now(UTC))
    os.write(1, b"ready\n")
    sys.stdin.readline()
    for number in range(first, first + count):
        made = opened.vault.key_for(patient_subject(f"p{number}"))
        line = f"{number} {made.ref} {made.key.hex()}"
        if sys.argv[4:] == ["append"]:
            line += f" {append(opened, made, number)}"
        os.write(1, f"{line}\n".encode())
    os.write(1, b"done\n")
    sys.stdin.readline()
