from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from bedside.logs import JsonFormatter, configure_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging as it was, after each test."""
    known = [logging.getLogger(name) for name in ("bedside", "urllib3")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in known]
    yield
    for logger, (handlers, level, propagate) in zip(known, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where the operations log goes."""
    stream = io.StringIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        configure_logging()
    return stream


def test_logs_write_one_json_object_a_line(errors: io.StringIO) -> None:
    logging.getLogger("bedside.http").warning("call refused", extra={"status": 412, "issue": "incomplete"})
    logging.getLogger("bedside.http").info("line\nbreak %s", "inside")
    first, second = (json.loads(line) for line in errors.getvalue().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "warning",
        "logger": "bedside.http",
        "event": "call refused",
        "status": 412,
        "issue": "incomplete",
    }
    assert second["event"] == "line\nbreak inside"


def test_logs_leave_out_debugging(errors: io.StringIO) -> None:
    logging.getLogger("bedside.http").debug("detail")
    assert errors.getvalue() == ""


def test_logs_hold_no_text_of_a_traceback(errors: io.StringIO) -> None:
    try:
        raise ValueError("patient value 151")
    except ValueError:
        logging.getLogger("bedside.http").exception("call failed")
    assert "151" not in errors.getvalue()
    assert "Traceback" not in errors.getvalue()
    assert json.loads(errors.getvalue())["event"] == "call failed"


def test_logs_write_what_is_no_json_as_text() -> None:
    record = logging.makeLogRecord({"msg": "event", "path": object, "nothing": None})
    line = json.loads(JsonFormatter().format(record))
    assert (line["path"], line["nothing"]) == ("<class 'object'>", None)


def test_logs_keep_the_http_library_from_naming_urls(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    logger = logging.getLogger("urllib3.connectionpool")
    logger.warning("Failed to parse headers (url=%s)", "/fhir/Patient/7")
    assert not logging.getLogger("urllib3").propagate
    assert capsys.readouterr().err == ""


def test_logs_configured_twice_write_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    configure_logging()
    logging.getLogger("bedside.http").info("once")
    assert capsys.readouterr().err.count("once") == 1
