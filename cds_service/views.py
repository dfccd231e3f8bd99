"""HTTP in, HTTP out: discovery and the service call. Flask is known here and in `app` only.

`STATUS` is the one table from an error to its status. Every answer that is not 200 carries an OperationOutcome. Answers are
never cached: they hold advice about one patient at one moment.
"""

from __future__ import annotations

import logging
import uuid
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from cds_service.desk import Caller, Desk
from cds_service.discovery import discovery_document
from cds_service.errors import (
    BadRequestError,
    MediaTypeError,
    MissingDataError,
    NotRecordedError,
    ServiceError,
    UnknownServiceError,
)
from cds_service.outcomes import operation_outcome
from cds_service.pipeline import answer
from cds_service.services import find_service

log = logging.getLogger("bedside.http")
blueprint = Blueprint("cds_service", __name__)

STATUS: dict[type[ServiceError], HTTPStatus] = {
    BadRequestError: HTTPStatus.BAD_REQUEST,
    MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    UnknownServiceError: HTTPStatus.NOT_FOUND,
    MissingDataError: HTTPStatus.PRECONDITION_FAILED,
    NotRecordedError: HTTPStatus.SERVICE_UNAVAILABLE,
}
HTTP_ISSUES = {404: "not-found", 405: "not-supported"}


def desk() -> Desk:
    """The desk this app was made with."""
    found: Desk = current_app.extensions["bedside.desk"]
    return found


@blueprint.get("/cds-services")
def discover() -> Response:
    """The discovery document."""
    return _json(HTTPStatus.OK, msgspec.json.encode(discovery_document(desk().services)))


@blueprint.post("/cds-services/<service_id>")
def call(service_id: str) -> Response:
    """One hook call."""
    service = find_service(desk().services, service_id)
    _require_json()
    client = desk().gate.admit(request.headers.get("Authorization"), (f"{desk().public_url}{request.path}",))
    return _json(HTTPStatus.OK, answer(_body(), service, Caller(client, str(uuid.uuid4())), desk()))


@blueprint.app_errorhandler(ServiceError)
def service_error(error: ServiceError) -> Response:
    """The answer for an error of ours, by the table."""
    status = STATUS[type(error)]
    log.warning("call refused", extra={"status": status.value, "issue": error.issue})
    return _outcome(status, error.issue, str(error))


@blueprint.app_errorhandler(HTTPException)
def http_error(error: HTTPException) -> Response:
    """The answer for an error that Flask found: no such path, wrong method, body too large."""
    status = HTTPStatus(error.code or 500)
    if isinstance(error, RequestEntityTooLarge):
        limit = current_app.config["MAX_CONTENT_LENGTH"]
        return _outcome(status, "too-long", f"request body: expected at most {limit} bytes")
    response = _outcome(status, HTTP_ISSUES.get(status.value, "processing"), status.phrase.lower())
    allow = dict(error.get_headers()).get("Allow")
    if allow is not None:
        response.headers["Allow"] = allow
    return response


@blueprint.app_errorhandler(Exception)
def unexpected_error(error: Exception) -> Response:
    """The answer for what must not happen; the text of the error may hold patient values and stays here."""
    log.error("call failed", extra={"error": type(error).__name__, "at": _where(error)})
    return _outcome(HTTPStatus.INTERNAL_SERVER_ERROR, "exception", "the service failed; no advice was given")


def _body() -> bytes:
    declared = request.content_length
    limit = current_app.config["MAX_CONTENT_LENGTH"]
    if declared is not None:
        if declared > limit:
            raise RequestEntityTooLarge
        return _exactly(declared)
    request.max_content_length = limit + 1  # without a length it is cut off there, and must not pass for a whole one
    body = request.get_data(cache=False)
    if len(body) > limit:
        raise RequestEntityTooLarge
    return body


def _exactly(length: int) -> bytes:
    """The body in one read: flask collects it in small pieces, which costs more than decoding them does."""
    body: bytes = request.environ["wsgi.input"].read(length)
    while 0 < len(body) < length and (more := request.environ["wsgi.input"].read(length - len(body))):
        body += more
    if len(body) != length:
        raise BadRequestError(f"request body: expected {length} bytes, got {len(body)}")
    return body


def _require_json() -> None:
    if request.mimetype not in ("application/json", "application/fhir+json"):
        raise MediaTypeError("content-type: expected application/json")


def _json(status: HTTPStatus, body: bytes) -> Response:
    response = Response(body, status.value, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _outcome(status: HTTPStatus, issue: str, diagnostics: str) -> Response:
    body: dict[str, Any] = operation_outcome(issue, diagnostics)
    return _json(status, msgspec.json.encode(body))


def _where(error: Exception) -> str:
    """File and line of the failure, which hold no patient's data as the message might."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
