from __future__ import annotations

import base64
import gzip
import hashlib
import ipaddress
import json
import logging
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedside.logs import JsonFormatter
from cds_service.app import create_app
from cds_service.call_ids import call_ids
from cds_service.desk import Access
from cds_service.http import is_among, request_id_of, traceparent_of
from tests.cds_service import patients
from tests.cds_service.callers import CLIENT, REQUEST_ID
from tests.cds_service.turnstile import Turnstile
from tests.conftest import NOW, MakeDesk

LIMIT = 100_000
NORTH, SOUTH, NOBODY = "https://north.example.org", "https://south.example.org:8443", "https://attacker.example.com"
CLIENTS = {
    "north": replace(CLIENT, cors_origins=frozenset({NORTH})),
    "south": replace(CLIENT, id="south-ehr", cors_origins=frozenset({SOUTH}), calls_per_minute=2),
}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ROUTES = {
    "/cds-services": "GET, OPTIONS",
    "/cds-services/prevent-cvd": "POST, OPTIONS",
    "/cds-services/no-such-service": "POST, OPTIONS",
    "/cds-services/prevent-cvd/feedback": "POST, OPTIONS",
    "/health": "GET, OPTIONS",
    "/ready": "GET, OPTIONS",
}


@pytest.fixture
def client(make_desk: MakeDesk) -> FlaskClient:
    desk = make_desk(gate=Turnstile(CLIENTS), clients=tuple(CLIENTS.values()))
    return create_app(desk, max_body_bytes=LIMIT).test_client()


def _post(client: FlaskClient, body: bytes, path: str = "prevent-cvd", who: str = "north", **headers: str) -> Any:
    sent = {"Authorization": f"Bearer {who}", "Content-Type": "application/json"}
    return client.post(f"/cds-services/{path}", data=body, headers=sent | _named(headers))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.mark.parametrize(("path", "methods"), ROUTES.items())
@pytest.mark.parametrize("origin", [NORTH, SOUTH])
def test_http_preflight_needs_no_token_and_names_the_origin(
    client: FlaskClient, path: str, methods: str, origin: str
) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = client.options(path, headers=asked)
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Access-Control-Allow-Methods"] == methods
    assert answer.headers["Access-Control-Allow-Headers"] == (
        "authorization, content-type, content-encoding, x-request-id, traceparent"
    )
    assert int(answer.headers["Access-Control-Max-Age"]) == 600
    assert answer.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Content-Type" not in answer.headers


@pytest.mark.parametrize("origin", [NOBODY, "null", "*", "", NORTH + "/", NORTH.upper(), NORTH + ".evil.example", None])
def test_http_preflight_of_another_origin_allows_nothing(client: FlaskClient, origin: str | None) -> None:
    answer = client.options("/cds-services/prevent-cvd", headers={} if origin is None else {"Origin": origin})
    assert answer.status_code == 204
    assert not [name for name, _ in answer.headers if name.lower().startswith("access-control-")]
    assert answer.headers["Vary"] == "Origin"
    assert answer.headers["Allow"] == "POST, OPTIONS"


def test_http_preflight_of_a_path_that_isnt_there_is_a_404(client: FlaskClient) -> None:
    answer = client.options("/cds-service", headers={"Origin": NORTH})
    assert answer.status_code == 404
    assert answer.headers["Access-Control-Allow-Origin"] == NORTH


def _refused(client: FlaskClient, kind: str, origin: str) -> Any:
    body = patients.encoded(patients.call({}))
    if kind == "404 path":
        return client.get("/nowhere", headers={"Origin": origin})
    if kind == "405":
        return client.put("/cds-services/prevent-cvd", headers={"Origin": origin})
    sent: dict[str, Any] = {
        "200": {"body": patients.encoded(patients.call(patients.prefetch(NOW)))},
        "400": {"body": b"{"},
        "401": {"who": "nobody"},
        "404": {"path": "no-such-service"},
        "412": {},
        "413": {"body": b" " * (LIMIT + 1)},
        "415": {"Content_Type": "text/plain"},
        "500": {"body": patients.encoded(patients.call(None, **patients.fhir_access("https://fhir.example.org")))},
    }[kind]
    return _post(client, **{"body": body, "Origin": origin} | sent)


@pytest.mark.parametrize("kind", ["200", "400", "401", "404", "404 path", "405", "412", "413", "415", "500"])
def test_http_every_answer_can_be_read_by_its_clients_page_and_no_other(make_desk: MakeDesk, kind: str) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError

    desk = make_desk(gate=Turnstile(CLIENTS), clients=tuple(CLIENTS.values()), fetch=broken)
    client = create_app(desk, max_body_bytes=LIMIT).test_client()
    own, other = (_refused(client, kind, origin) for origin in (NORTH, NOBODY))
    assert own.status_code == other.status_code == int(kind[:3])
    assert own.headers["Access-Control-Allow-Origin"] == NORTH
    assert own.headers["Access-Control-Expose-Headers"] == "X-Request-ID, Retry-After"
    assert "Access-Control-Allow-Origin" not in other.headers
    assert own.headers["Vary"] == other.headers["Vary"] == "Origin"
    assert own.headers["X-Request-ID"]


@pytest.mark.parametrize(("who", "origin", "allowed"), [("north", SOUTH, False), ("nobody", SOUTH, True)])
def test_http_once_it_is_known_who_calls_only_their_own_origin_counts(
    client: FlaskClient, who: str, origin: str, allowed: bool
) -> None:
    answer = _post(client, b"{}", who=who, Origin=origin)
    assert ("Access-Control-Allow-Origin" in answer.headers) is allowed


def test_http_what_pages_may_read_is_never_everyone_elses(client: FlaskClient) -> None:
    assert "Access-Control-Allow-Origin" not in _post(client, b"{}").headers


@pytest.mark.parametrize("header", [REQUEST_ID, "a" * 32, REQUEST_ID.upper(), uuid.UUID(REQUEST_ID).hex])
def test_http_request_id_is_kept(client: FlaskClient, header: str) -> None:
    assert client.get("/health", headers={"X-Request-ID": header}).headers["X-Request-ID"] == header


@pytest.mark.parametrize(
    "header",
    ["", "Jane-Doe-of-Springfield", "1974-06-01-943-476-5919", "a" * 31, "a" * 64, "-" * 36, REQUEST_ID + " ", None],
)
def test_http_anything_else_gets_a_request_id(client: FlaskClient, header: str | None) -> None:
    answers = [client.get("/health", headers={} if header is None else {"X-Request-ID": header}) for _ in "ab"]
    first, second = (uuid.UUID(answer.headers["X-Request-ID"]) for answer in answers)
    assert first != second


@given(st.text(max_size=80))
def test_http_request_id_is_always_one(header: str) -> None:
    found = request_id_of(header)
    assert set(found) <= set("0123456789abcdefABCDEF-")
    assert 16 <= len(found) <= 64


@given(st.one_of(st.text(max_size=80), st.from_regex(r"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\n?\Z")))
def test_http_traceparent_is_kept_whole_or_dropped(header: str) -> None:
    found = traceparent_of(header)
    assert found in (None, header)
    if found is not None:
        version, trace, span, flags = found.split("-")
        assert (version, len(trace), len(span), len(flags)) == ("00", 32, 16, 2)
        assert int(trace, 16)
        assert int(span, 16)


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (TRACEPARENT, True),
        (TRACEPARENT.upper(), False),
        ("01" + TRACEPARENT[2:], False),
        (TRACEPARENT + "-00", False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        (f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01", False),
        (TRACEPARENT + "\n", False),
        ("", False),
        (None, False),
    ],
)
def test_http_traceparent_must_be_version_00_and_not_all_zero(header: str | None, kept: bool) -> None:
    assert traceparent_of(header) == (header if kept else None)


def test_http_ids_reach_the_fhir_server_and_every_line_of_the_call(
    make_desk: MakeDesk, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Access] = []

    def fetch(access: Access, *_: Any) -> Any:
        asked.append(access)
        raise RuntimeError

    desk = replace(make_desk(gate=Turnstile(CLIENTS)), fetch=fetch)
    lines = _LinesAsWritten()
    logging.getLogger("bedside").addHandler(lines)
    try:
        _post(
            create_app(desk, max_body_bytes=LIMIT).test_client(),
            patients.encoded(patients.call(None, **patients.fhir_access("https://fhir.example.org"))),
            X_Request_ID=REQUEST_ID,
            traceparent=TRACEPARENT,
        )
    finally:
        logging.getLogger("bedside").removeHandler(lines)
    (access,) = asked
    assert (access.caller.request_id, access.caller.traceparent) == (REQUEST_ID, TRACEPARENT)
    assert [line["event"] for line in lines.written] == ["call failed"]
    for line in lines.written:
        assert (line["request_id"], line["traceparent"], line["client"]) == (REQUEST_ID, TRACEPARENT, "north-ehr")
    assert call_ids() == {}
    assert caplog.records


class _LinesAsWritten(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[dict[str, Any]] = []
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(json.loads(self.format(record)))


def test_http_gzip_call_is_answered(client: FlaskClient) -> None:
    body = gzip.compress(patients.encoded(patients.call(patients.prefetch(NOW))))
    assert _post(client, body, Content_Encoding="gzip").status_code == 200


def test_http_gzip_bomb_is_a_413(client: FlaskClient) -> None:
    assert _post(client, gzip.compress(b" " * (LIMIT + 1)), Content_Encoding="gzip").status_code == 413


def test_http_broken_gzip_is_a_400(client: FlaskClient) -> None:
    assert _post(client, b"{}", Content_Encoding="gzip").status_code == 400


def test_http_another_coding_is_a_415_that_says_which_is_taken(client: FlaskClient) -> None:
    answer = _post(client, b"{}", Content_Encoding="br")
    assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "gzip")


@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-16", "ascii", "utf-8x"])
@pytest.mark.parametrize("kind", ["application/json", "application/fhir+json"])
def test_http_another_charset_is_a_415(client: FlaskClient, kind: str, charset: str) -> None:
    answer = _post(client, b"{}", Content_Type=f"{kind}; charset={charset}")
    assert (answer.status_code, answer.json["issue"][0]["diagnostics"]) == (415, "content-type: expected charset utf-8")


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8"])
def test_http_utf_8_has_several_spellings(client: FlaskClient, charset: str) -> None:
    body = patients.encoded(patients.call(patients.prefetch(NOW)))
    assert _post(client, body, Content_Type=f"Application/JSON;charset={charset}").status_code == 200


def test_http_too_many_calls_get_a_429_that_says_when_to_come_back(client: FlaskClient) -> None:
    statuses = [_post(client, b"{}", who="south").status_code for _ in range(3)]
    assert statuses == [400, 400, 429]
    answer = _post(client, b"{}", who="south", Origin=SOUTH)
    assert answer.headers["Retry-After"] == "30"
    assert answer.json["issue"][0]["code"] == "throttled"
    assert answer.headers["Access-Control-Allow-Origin"] == SOUTH
    assert _post(client, b"{}", who="north").status_code == 400


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ehr.example.org")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


PROXIES = (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("address", "believed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fd00::1", True),
        ("10.2.0.1", False),
        ("2001:db8::1", False),
        ("", False),
        ("10.1.2.3, 10.9.9.9", False),
        (None, False),
    ],
)
def test_http_addresses_are_told_from_networks(address: str | None, believed: bool) -> None:
    assert is_among(address, PROXIES) is believed


@pytest.mark.parametrize(("address", "believed"), [("10.1.2.3", True), ("10.2.0.1", False)])
def test_http_client_certificate_is_believed_from_a_named_proxy_only(
    make_desk: MakeDesk, address: str, believed: bool
) -> None:
    der, gate = _certificate(), Turnstile(CLIENTS)
    client = create_app(make_desk(gate=gate, trusted_proxies=PROXIES), max_body_bytes=LIMIT).test_client()
    headers = {"Authorization": "Bearer north", "Client-Cert": f":{base64.b64encode(der).decode()}:"}
    headers["X-Forwarded-For"] = "10.1.2.3"
    client.get("/cds-services", headers=headers, environ_overrides={"REMOTE_ADDR": address})
    ((_, certificate),) = gate.asked
    assert certificate == (hashlib.sha256(der).hexdigest() if believed else None)


HEADERS = (
    "Authorization",
    "Content-Type",
    "Content-Encoding",
    "Content-Length",
    "Origin",
    "Client-Cert",
    "X-Request-ID",
)
_VALUES = st.one_of(
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0")),
    st.sampled_from(["Bearer north", "application/json", "application/json; charset=", "gzip", "2", "-1", NORTH, "::"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(HEADERS), _VALUES))
def test_http_any_headers_get_a_4xx_and_never_a_500(make_desk: MakeDesk, headers: dict[str, str]) -> None:
    desk = make_desk(gate=Turnstile(CLIENTS), trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),))
    client = create_app(desk, max_body_bytes=LIMIT).test_client()
    answer = client.post("/cds-services/prevent-cvd", data=b"{}", headers=headers)
    assert answer.status_code in (400, 401, 413, 415)
    assert answer.json["resourceType"] == "OperationOutcome"
