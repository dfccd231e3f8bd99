"""What HTTP asks of every route alike: who calls, ids, CORS, how a body may come. Flask is known here, in `app` and `views`.

- Ids: `X-Request-ID` and `traceparent` (W3C Trace Context, version 00) are kept if they look like ids, for anything else
  could hold a patient's data. They go into every line of the operations log and to the FHIR server.
- CORS (CDS Hooks 2.0.1, "Cross-Origin Resource Sharing"): only origins that a registered client was given, and once it is
  known who calls, only that client's own. Never `*`, and no credentials: a JWT is sent as a header, not by the browser.
- `Client-Cert` (RFC 9440) is believed only from a proxy that was named.
"""

from __future__ import annotations

import re
import uuid
from ipaddress import IPv6Address, ip_address

from flask import Flask, Response, current_app, g, request

from cds_service.auth import certificate_sha256_of
from cds_service.bodies import read_body
from cds_service.call_ids import add_call_id, begin_call, end_call
from cds_service.clients import CdsClient, Network, every_cors_origin
from cds_service.desk import Caller, Desk
from cds_service.errors import MediaTypeError
from cds_service.rate_limit import RateLimit

REQUEST_HEADERS = "authorization, content-type, content-encoding, x-request-id, traceparent"
EXPOSED_HEADERS = "X-Request-ID, Retry-After"
PREFLIGHT_MAX_AGE_S = 600  # an origin that is struck from the configuration is to be gone within minutes
MEDIA_TYPES = ("application/json", "application/fhir+json")

_REQUEST_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def add_http(app: Flask, desk: Desk, limit: RateLimit) -> None:
    """Puts ids and CORS around every route of `app`, those of other blueprints too."""
    app.extensions["bedside.desk"] = desk
    app.extensions["bedside.limit"] = limit
    app.extensions["bedside.origins"] = every_cors_origin(desk.clients)
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(lambda _error: end_call())


def desk() -> Desk:
    """The desk this app was made with."""
    found: Desk = current_app.extensions["bedside.desk"]
    return found


def admit(*urls: str) -> Caller:
    """Who makes the current request; `urls` are what its JWT may be meant for.

    Raises:
        UnauthenticatedError: it doesn't show that.
        AuthenticationUnavailableError: it can't be known now.
        TooManyCallsError: it calls more often than was agreed.
    """
    client = desk().gate.admit(request.headers.get("Authorization"), urls, _certificate())
    g.client = client
    add_call_id("client", client.id)
    limit: RateLimit = current_app.extensions["bedside.limit"]
    limit.take(client)
    return Caller(client, g.request_id, g.traceparent)


def require_json() -> None:
    """Returns if the request says its body is JSON in UTF-8.

    Raises:
        MediaTypeError: it says something else, or nothing.
    """
    if request.mimetype not in MEDIA_TYPES:
        raise MediaTypeError("content-type: expected application/json")
    if request.mimetype_params.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise MediaTypeError("content-type: expected charset utf-8")


def received_body() -> bytes:
    """The request's body, decompressed.

    Raises:
        BadRequestError, BodyTooLargeError, ContentCodingError: as `read_body`.
    """
    environ, declared = request.environ, request.content_length
    if declared is None and not environ.get("wsgi.input_terminated"):
        declared = 0  # nothing would end the stream
    coding = request.headers.get("Content-Encoding", "")
    return read_body(environ["wsgi.input"], declared, coding, current_app.config["MAX_CONTENT_LENGTH"])


def request_id_of(header: str | None) -> str:
    """The id in an `X-Request-ID` header: a UUID, or 32 hexadecimal digits; for anything else a new UUID."""
    return header if header is not None and _REQUEST_ID.fullmatch(header) else str(uuid.uuid4())


def traceparent_of(header: str | None) -> str | None:
    """The `traceparent` header if it is a valid one, such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`."""
    return header if header is not None and _TRACEPARENT.fullmatch(header) else None


def is_among(address: str | None, networks: tuple[Network, ...]) -> bool:
    """Whether `address`, as the server names its peer, lies in one of the networks."""
    try:
        peer = ip_address(address or "")
    except ValueError:
        return False
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return any(peer in network for network in networks)


def _certificate() -> str | None:
    header = request.headers.get("Client-Cert")
    if header is None or not is_among(request.remote_addr, desk().trusted_proxies):
        return None
    return certificate_sha256_of(header)


def _begin() -> Response | None:
    g.request_id = request_id_of(request.headers.get("X-Request-ID"))
    g.traceparent = traceparent_of(request.headers.get("traceparent"))
    ids = {"request_id": g.request_id}
    begin_call(ids if g.traceparent is None else {**ids, "traceparent": g.traceparent})
    if request.method == "OPTIONS" and request.url_rule is not None:
        return _options(request.url_rule.methods or set())
    return None


def _options(methods: set[str]) -> Response:
    """The answer to a preflight; also to any other OPTIONS, for whom CORS's headers mean nothing."""
    allowed = ", ".join(name for name in ("GET", "POST", "OPTIONS") if name in methods)
    response = Response(status=204)
    del response.headers["Content-Type"]
    response.headers["Allow"] = allowed
    response.headers["Cache-Control"] = "no-store"
    if _allowed_origin() is not None:
        response.headers["Access-Control-Allow-Methods"] = allowed
        response.headers["Access-Control-Allow-Headers"] = REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_MAX_AGE_S)
    return response


def _finish(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.request_id
    response.vary.add("Origin")
    origin = _allowed_origin()
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
    return response


def _allowed_origin() -> str | None:
    """The request's origin if its page may read the answer."""
    client: CdsClient | None = g.get("client")
    known: frozenset[str] = current_app.extensions["bedside.origins"]
    origin = request.headers.get("Origin")
    return origin if origin in (known if client is None else client.cors_origins) else None
