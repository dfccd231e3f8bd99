"""HTTP in, HTTP out: discovery, the service call and feedback; health and readiness. Flask is known in `app`, `http` and here.

Every route goes the same way: who calls, how often, may they, is it JSON, the body, the answer. Nobody who isn't known learns
which services there are, and nothing of a body is read before it is known who sent it.

`STATUS` is the one table from an error to its status. Every answer that is not 200 or 204 carries an OperationOutcome.
Answers are never cached: they hold advice about one patient at one moment.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from cds_service.bodies import BodyTooLargeError, ContentCodingError
from cds_service.clients import CdsClient
from cds_service.discovery import discovery_document
from cds_service.errors import (
    BadRequestError,
    ForbiddenError,
    MediaTypeError,
    MissingDataError,
    NotRecordedError,
    ServiceError,
    TooManyCallsError,
    UnauthenticatedError,
    UnknownServiceError,
)
from cds_service.feedback import feedback_response, record_feedback
from cds_service.http import admit, desk, received_body, require_json
from cds_service.outcomes import operation_outcome
from cds_service.pipeline import answer
from cds_service.services import CdsService, find_service

log = logging.getLogger("bedside.http")
blueprint = Blueprint("cds_service", __name__)

STATUS: dict[type[ServiceError], HTTPStatus] = {
    BadRequestError: HTTPStatus.BAD_REQUEST,
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    UnknownServiceError: HTTPStatus.NOT_FOUND,
    MissingDataError: HTTPStatus.PRECONDITION_FAILED,
    BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    TooManyCallsError: HTTPStatus.TOO_MANY_REQUESTS,
    NotRecordedError: HTTPStatus.SERVICE_UNAVAILABLE,
}
HTTP_ISSUES = {404: "not-found", 405: "not-supported"}


@blueprint.get("/cds-services", strict_slashes=False)
def discover() -> Response:
    """The discovery document, as the caller knows it."""
    client: CdsClient | None = None
    if not desk().open_discovery or "Authorization" in request.headers:
        base = desk().public_url
        client = admit(f"{base}/cds-services", f"{base}{request.path}").client
    return _json(HTTPStatus.OK, msgspec.json.encode(discovery_document(desk().services, client)))


@blueprint.post("/cds-services/<service_id>")
def call(service_id: str) -> Response:
    """One hook call."""
    caller = admit(_url(service_id))
    service = _service_for(caller.client, service_id)
    require_json()
    body = answer(received_body(), service, caller, desk())
    log.info("call answered", extra={"service": service.id})
    return _json(HTTPStatus.OK, body)


@blueprint.post("/cds-services/<service_id>/feedback")
def feedback(service_id: str) -> Response:
    """What became of cards."""
    client = admit(f"{_url(service_id)}/feedback", _url(service_id)).client
    service = _service_for(client, service_id)
    require_json()
    book = desk().books[client.tenant]
    outcome = record_feedback(received_body(), service.id, client, book.log, book.context, desk().clock)
    log.info("feedback recorded", extra={"service": service.id, **outcome.counts()})
    return _json(HTTPStatus.OK, msgspec.json.encode(feedback_response(outcome)))


@blueprint.get("/health")
def health() -> Response:
    """That this process answers; nothing else, for anyone may ask."""
    return _json(HTTPStatus.OK, b'{"status":"up"}')


@blueprint.get("/ready")
def ready() -> Response:
    """Whether calls can be answered, and if not, for want of what."""
    lacking = desk().ready()
    if lacking:
        return _json(
            HTTPStatus.SERVICE_UNAVAILABLE, msgspec.json.encode({"status": "not ready", "lacking": list(lacking)})
        )
    return _json(HTTPStatus.OK, b'{"status":"ready"}')


@blueprint.app_errorhandler(ServiceError)
def service_error(error: ServiceError) -> Response:
    """The answer for an error of ours, by the table."""
    status = status_of(error)
    event: dict[str, object] = {"status": status.value, "issue": error.issue}
    if isinstance(error, UnauthenticatedError):
        event |= {"why": error.why, "issuer": error.issuer}
    log.warning("call refused", extra=event)
    response = _outcome(status, error.issue, str(error))
    match error:
        case UnauthenticatedError():
            response.headers["WWW-Authenticate"] = "Bearer"
        case TooManyCallsError():
            response.headers["Retry-After"] = str(error.retry_after_s)
        case ContentCodingError():
            response.headers["Accept-Encoding"] = "gzip"
    return response


@blueprint.app_errorhandler(HTTPException)
def http_error(error: HTTPException) -> Response:
    """The answer for an error that Flask found: no such path, wrong method."""
    status = HTTPStatus(error.code or 500)
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


def status_of(error: ServiceError) -> HTTPStatus:
    """The status of the error's nearest base class in the table; what is not there is ours, and may pass if it says so."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.SERVICE_UNAVAILABLE if error.issue == "transient" else HTTPStatus.INTERNAL_SERVER_ERROR


def _url(service_id: str) -> str:
    """As the EHR sees it: a proxy may have changed path and host on the way here."""
    return f"{desk().public_url}/cds-services/{service_id}"


def _service_for(client: CdsClient, service_id: str) -> CdsService:
    service = find_service(desk().services, service_id)
    client.require_service(service.id)
    return service


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
