"""What the tests of the exports share: a log with entries of every kind in it."""

import pytest

from audit.log import AuditLog
from tests.audit.export.examples import fill


@pytest.fixture
def full_log(log: AuditLog) -> AuditLog:
    """A log that holds the examples, in their order."""
    return fill(log)
