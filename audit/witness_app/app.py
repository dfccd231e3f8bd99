"""The witness as a WSGI application: bytes in, bytes out; what is answered stands in `audit.witness`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from flask import Flask, Response, request

from audit.add_checkpoint import MAX_BODY_BYTES, PATH, SIZE_TYPE, format_size
from audit.errors import AuditError, FormatError, KeyFileError, StorageError
from audit.key_history import KeyPeriod, parse_periods
from audit.witness import SizeConflictError, Witness, WitnessRefusalError, known_logs, log
from audit.witness_app.bodies import BoundedBodies
from audit.witness_state import WitnessState, load_cosigner

TEXT = "text/plain; charset=utf-8"
# A request is checked in a millisecond and synced in ten; more threads than this only wait for the disk.
THREADS = 4
# A body is some kilobytes.
BODY_WITHIN_S = 5.0
STATE_VARIABLE, LOGS_VARIABLE = "WITNESS_STATE", "WITNESS_LOGS"


def create_app(witness: Witness) -> Flask:
    """The application that answers for `witness`."""
    app = Flask("audit.witness_app", static_folder=None)
    app.url_map.merge_slashes = False

    @app.post(f"/{PATH}")
    def add_checkpoint() -> Response:
        body = _read_body(request.environ["wsgi.input"], request.content_length)
        if body is None:
            return _answer(413, f"request body: expected at most {MAX_BODY_BYTES} bytes\n".encode())
        try:
            return _answer(200, witness.add_checkpoint(body))
        except SizeConflictError as exc:
            return _answer(exc.status, format_size(exc.size), SIZE_TYPE)
        except WitnessRefusalError as exc:
            return _refusal(exc)
        except StorageError as exc:
            return _failure(exc)

    @app.get("/<hashed_origin>/checkpoint")
    def newest(hashed_origin: str) -> Response:
        try:
            return _answer(200, witness.newest(hashed_origin))
        except WitnessRefusalError as exc:
            return _refusal(exc)
        except StorageError as exc:
            return _failure(exc)

    return app


def build_app() -> BoundedBodies:
    """The application of one server process, from the environment in which `serve` started it."""
    try:
        witness = open_witness(Path(os.environ[STATE_VARIABLE]), os.environ[LOGS_VARIABLE].split(os.pathsep))
    except AuditError as exc:
        log.error("cannot start", extra={"why": str(exc)})
        raise SystemExit(2) from exc
    return BoundedBodies(create_app(witness), most_bytes=MAX_BODY_BYTES, within_s=BODY_WITHIN_S, threads=THREADS)


def open_witness(directory: Path, log_files: list[str]) -> Witness:
    """The witness whose state lies in `directory`, for the logs whose verifier keys are in these files.

    A line is a key alone, or as `bedside audit keys list` prints it, with the first and last size that it signs.

    Raises:
        KeyFileError: a key file can't be used.
    """
    logs = known_logs(period for path in log_files for period in _load_periods(Path(path)))
    return Witness(load_cosigner(directory), logs, WitnessState(directory), lambda: datetime.now(UTC))


def _load_periods(path: Path) -> tuple[KeyPeriod, ...]:
    try:
        return parse_periods(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, FormatError) as exc:
        message = f"verifier keys {path.name}: {exc}"
        raise KeyFileError(message) from exc


def _read_body(stream: IO[bytes], declared: int | None) -> bytes | None:
    """The body, or None where it is too large; no more is read than may be."""
    limit = MAX_BODY_BYTES + 1 if declared is None else min(declared, MAX_BODY_BYTES + 1)
    body = bytearray()
    while len(body) < limit and (piece := stream.read(limit - len(body))):
        body += piece
    return None if len(body) > MAX_BODY_BYTES else bytes(body)


def _refusal(error: WitnessRefusalError) -> Response:
    return _answer(error.status, f"{error}\n".encode())


def _failure(error: StorageError) -> Response:
    log.error("no answer", extra={"why": str(error)})
    return _answer(500, b"the witness's state can't be used\n")


def _answer(status: int, body: bytes, content_type: str = TEXT) -> Response:
    answer = Response(body, status)
    answer.headers["Content-Type"] = content_type
    answer.headers["Cache-Control"] = "no-store"
    return answer
