"""Operations log: one JSON object a line on standard error. Event names and keys, ids yes, patient data never.

This is not the audit log: nothing here is evidence.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from cds_service.call_ids import call_ids

# What a LogRecord has before `extra` adds to it; the rest are an event's keys.
_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line: time, level, logger, event, the ids of its call, the event's own keys; a traceback's text is left out."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        return json.dumps(line | dict(call_ids()) | extra, default=str)


def configure_logging() -> None:
    """Sends our loggers' events to standard error as JSON, at INFO; the HTTP library's would name URLs with patients' ids."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("bedside")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    library = logging.getLogger("urllib3")
    library.handlers[:] = [logging.NullHandler()]
    library.propagate = False
