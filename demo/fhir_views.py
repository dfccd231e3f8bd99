"""The FHIR server on HTTP: `/fhir/metadata`, `/fhir/{Type}/{id}`, `/fhir/{Type}?…`; errors are OperationOutcomes."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl

from flask import Blueprint, Response, request

from demo.bundles import Resource
from demo.errors import FhirRequestError
from demo.fhir_server import FhirServer, operation_outcome

FHIR_JSON = "application/fhir+json"


def fhir_views(server: FhirServer) -> Blueprint:
    """GET only; every path but `metadata` wants the server's bearer token."""
    views = Blueprint("fhir", __name__, url_prefix="/fhir")

    @views.get("/metadata")
    def metadata() -> Response:
        return _answer(server.capabilities())

    @views.get("/<resource_type>/<resource_id>")
    def read(resource_type: str, resource_id: str) -> Response:
        server.authorize(request.headers.get("Authorization"))
        return _answer(server.read(resource_type, resource_id))

    @views.get("/<resource_type>")
    def search(resource_type: str) -> Response:
        server.authorize(request.headers.get("Authorization"))
        query = parse_qsl(request.query_string.decode("ascii", "replace"), keep_blank_values=True)
        return _answer(server.search(resource_type, query))

    @views.route("/", defaults={"path": ""}, methods=["GET"])
    @views.route("/<path:path>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def elsewhere(path: str) -> Response:
        raise FhirRequestError("interaction: not supported by this server", status=404, code="not-supported")

    @views.errorhandler(FhirRequestError)
    def refuse(error: FhirRequestError) -> Response:
        answer = _answer(operation_outcome(error), error.status)
        if error.status == 401:
            answer.headers["WWW-Authenticate"] = 'Bearer realm="pocket EHR"'
        return answer

    return views


def _answer(resource: Resource, status: int = 200) -> Response:
    body = json.dumps(resource, ensure_ascii=False, separators=(",", ":"))
    answer = Response(body, status=status, content_type=FHIR_JSON)
    answer.headers["Cache-Control"] = "no-store"
    return answer
