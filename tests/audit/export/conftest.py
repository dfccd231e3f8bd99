"""What the tests of the exports share: a log with entries of every kind in it."""

import msgspec
import pytest

from audit.log import AuditLog
from tests.audit.export.examples import DECISION, EXAMPLES


@pytest.fixture
def full_log(log: AuditLog) -> AuditLog:
    """A log that holds the examples, in their order; without payloads, which no export opens."""
    for entry in EXAMPLES.values():
        log.record(msgspec.structs.replace(DECISION, payload=None) if entry is DECISION else entry)
    return log
