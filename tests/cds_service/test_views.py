from __future__ import annotations

import io
import json
import logging
import uuid
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from audit.log import AuditLog
from cds_service import errors
from cds_service.app import create_app
from cds_service.quirks import Quirk
from cds_service.views import status_of
from tests.cds_service import patients
from tests.cds_service.callers import CLIENT
from tests.cds_service.turnstile import Turnstile
from tests.conftest import NOW, MakeDesk

LIMIT = 100_000


@pytest.fixture
def client(make_desk: MakeDesk) -> FlaskClient:
    return create_app(make_desk(), max_body_bytes=LIMIT).test_client()


def _post(client: FlaskClient, body: bytes, service: str = "prevent-cvd", **options: Any) -> Any:
    return client.post(f"/cds-services/{service}", data=body, **{"content_type": "application/json"} | options)


def _diagnostics(answer: Any) -> str:
    outcome = json.loads(answer.data)
    assert outcome["resourceType"] == "OperationOutcome"
    (issue,) = outcome["issue"]
    assert issue["severity"] == "error"
    text: str = issue["diagnostics"]
    return text


def _leaves(kind: type[errors.ServiceError]) -> set[type[errors.ServiceError]]:
    return set().union(*({leaf} | _leaves(leaf) for leaf in kind.__subclasses__()), set())


def _new(kind: type[errors.ServiceError]) -> errors.ServiceError:
    match kind:
        case errors.MissingDataError:
            return errors.MissingDataError("text", (), errors.Came())
        case errors.TooManyCallsError:
            return errors.TooManyCallsError("text", 1)
        case _:
            return kind("text")


def test_views_every_error_has_its_status() -> None:
    ours = {kind for kind in _leaves(errors.ServiceError) if kind.__module__.startswith("cds_service")}
    assert {kind.__name__: status_of(_new(kind)).value for kind in ours} == {
        "BadRequestError": 400,
        "UnauthenticatedError": 401,
        "ForbiddenError": 403,
        "UnknownServiceError": 404,
        "MissingDataError": 412,
        "BodyTooLargeError": 413,
        "MediaTypeError": 415,
        "ContentCodingError": 415,
        "TooManyCallsError": 429,
        "NotRecordedError": 503,
        "AuthenticationUnavailableError": 503,
        "WardUnavailableError": 503,
    }


def test_views_an_error_without_a_status_is_ours() -> None:
    class NewError(errors.ServiceError):
        pass

    assert status_of(NewError("text")) == 500


def test_views_discovery_is_never_cached_json(client: FlaskClient) -> None:
    answer = client.get("/cds-services")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "application/fhir+json"]
)
def test_views_call_answers_json_in_several_spellings(client: FlaskClient, content_type: str) -> None:
    answer = _post(client, patients.encoded(patients.call(patients.prefetch(NOW))), content_type=content_type)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(answer.json["cards"]) == 1


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_views_another_media_type_is_a_415(client: FlaskClient, content_type: str) -> None:
    answer = _post(client, b"{}", content_type=content_type)
    assert (answer.status_code, _diagnostics(answer)) == (415, "content-type: expected application/json")


def test_views_unknown_service_is_a_404(client: FlaskClient) -> None:
    answer = _post(client, b"{}", "<script>")
    assert answer.status_code == 404
    assert _diagnostics(answer).startswith("no CDS service has this id; see the discovery document")


@pytest.mark.parametrize(
    "path", ["/", "/cds-services//", "/cds-services//prevent-cvd", "/cds-services/prevent-cvd/other", "/cds-service"]
)
def test_views_unknown_path_is_a_404_with_an_outcome(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, _diagnostics(answer)) == (404, "not found")


@pytest.mark.parametrize("method", ["get", "put", "delete", "patch"])
def test_views_wrong_method_is_a_405_with_allow(client: FlaskClient, method: str) -> None:
    answer = getattr(client, method)("/cds-services/prevent-cvd")
    assert (answer.status_code, _diagnostics(answer)) == (405, "method not allowed")
    assert "POST" in answer.headers["Allow"]


def test_views_too_large_a_body_is_a_413(client: FlaskClient) -> None:
    answer = _post(client, b" " * (LIMIT + 1))
    assert (answer.status_code, _diagnostics(answer)) == (413, f"request body: expected at most {LIMIT} bytes")


def test_views_missing_data_is_a_412(client: FlaskClient) -> None:
    answer = _post(client, patients.encoded(patients.call({})))
    assert answer.status_code == 412
    assert _diagnostics(answer) == (
        "required data missing: prefetch patient, conditions, active_medications not usable, and no fhirServer was given"
    )


def test_views_nothing_recorded_is_a_503_without_a_card(client: FlaskClient, audit_log: AuditLog) -> None:
    audit_log.close()
    answer = _post(client, patients.encoded(patients.call(patients.prefetch(NOW))))
    assert answer.status_code == 503
    assert _diagnostics(answer) == "the decision could not be recorded, so no advice is shown"
    assert b"cards" not in answer.data


def test_views_what_must_not_happen_is_a_500_that_tells_nothing(
    make_desk: MakeDesk, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: Any) -> Any:
        raise RuntimeError(patients.CANARY_NAME)

    client = create_app(make_desk(fetch=broken), max_body_bytes=LIMIT).test_client()
    body = patients.encoded(patients.call(None, **patients.fhir_access("https://fhir.example.org")))
    answer = _post(client, body)
    assert (answer.status_code, _diagnostics(answer)) == (500, "the service failed; no advice was given")
    (record,) = [record for record in caplog.records if record.name == "bedside.http"]
    assert (record.message, record.error) == ("call failed", "RuntimeError")  # type: ignore[attr-defined]
    assert record.at.startswith("test_views.py:")  # type: ignore[attr-defined]
    assert patients.CANARY_NAME not in caplog.text


NORTH = replace(CLIENT, services=frozenset({"prevent-cvd"}))
SOUTH = replace(CLIENT, id="south-ehr", quirks=frozenset({Quirk.ONE_ID_PER_HOOK}))
BASE = "https://cds.example.org/cds-services"


@pytest.fixture
def gate() -> Turnstile:
    return Turnstile({"north": NORTH, "south": SOUTH})


@pytest.fixture
def closed(make_desk: MakeDesk, gate: Turnstile) -> FlaskClient:
    return create_app(make_desk(gate=gate, clients=(NORTH, SOUTH)), max_body_bytes=LIMIT).test_client()


def _as(who: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {who}"}}


@pytest.mark.parametrize(
    ("method", "path", "urls"),
    [
        ("get", "/cds-services", (f"{BASE}",)),
        ("get", "/cds-services/", (f"{BASE}", f"{BASE}/")),
        ("post", "/cds-services/prevent-cvd", (f"{BASE}/prevent-cvd",)),
        ("post", "/cds-services/nothing", (f"{BASE}/nothing",)),
        ("post", "/cds-services/prevent-cvd/feedback", (f"{BASE}/prevent-cvd/feedback", f"{BASE}/prevent-cvd")),
    ],
)
def test_views_a_token_is_to_be_meant_for_the_url_that_is_called(
    closed: FlaskClient, gate: Turnstile, method: str, path: str, urls: tuple[str, ...]
) -> None:
    """The URL as the EHR sees it, whatever a proxy made of host and path."""
    answer = getattr(closed, method)(path, headers={"Host": "10.0.0.7:8712"})
    assert answer.status_code == 401
    assert [dict.fromkeys(asked) for asked, _ in gate.asked] == [dict.fromkeys(urls)]


def test_views_unauthenticated_is_a_401_of_the_same_bytes_for_every_reason_and_path(
    closed: FlaskClient, gate: Turnstile
) -> None:
    answers = []
    for gate.why in ("signature", "expired", "replayed"):
        paths = ("prevent-cvd", "no-such-service", "prevent-cvd/feedback")
        answers += [_post(closed, b"not json", path, content_type="text/plain") for path in paths]
        answers.append(closed.get("/cds-services"))
    assert {answer.status_code for answer in answers} == {401}
    assert {_diagnostics(answer) for answer in answers} == {"authentication required"}
    assert len({answer.data for answer in answers}) == 1
    assert {tuple(answer.headers.getlist("WWW-Authenticate")) for answer in answers} == {("Bearer",)}
    names = {tuple(sorted(name for name, _ in answer.headers)) for answer in answers}
    assert len(names) == 1


def test_views_the_reason_for_a_401_is_in_the_operations_log(
    closed: FlaskClient, gate: Turnstile, caplog: pytest.LogCaptureFixture
) -> None:
    gate.why = "expired"
    _post(closed, b"{}", headers={"Authorization": f"Bearer {patients.CANARY_TOKEN}"})
    (record,) = [record for record in caplog.records if record.name == "bedside.http"]
    event = vars(record)
    assert (event["message"], event["status"], event["issue"]) == ("call refused", 401, "login")
    assert (event["why"], event["issuer"]) == ("expired", CLIENT.issuer)
    assert patients.CANARY_TOKEN not in str(event)


def test_views_open_discovery_needs_no_token_and_calls_do(make_desk: MakeDesk, gate: Turnstile) -> None:
    client = create_app(make_desk(gate=gate, open_discovery=True), max_body_bytes=LIMIT).test_client()
    assert client.get("/cds-services").status_code == 200
    assert client.get("/cds-services", **_as("nobody")).status_code == 401
    assert _post(client, b"{}").status_code == 401


def test_views_discovery_is_the_callers_own(closed: FlaskClient) -> None:
    north, south = (closed.get("/cds-services", **_as(who)).json["services"] for who in ("north", "south"))
    assert {one["id"] for one in north} == {"prevent-cvd"}
    assert len({one["id"] for one in south}) == len(south)


def test_views_discovery_with_a_slash_is_the_same(closed: FlaskClient) -> None:
    plain, slashed = (closed.get(f"/cds-services{end}", **_as("north")) for end in ("", "/"))
    assert (slashed.status_code, slashed.data) == (200, plain.data)


@pytest.mark.parametrize("end", ["", "/feedback"])
@pytest.mark.parametrize(
    ("who", "service", "status"),
    [
        ("north", "no-such-service", 404),
        ("north", "icu-mortality", 403),
        ("north", "prevent-cvd", 415),
        ("south", "icu-mortality", 415),
    ],
)
def test_views_service_is_looked_at_before_the_media_type_and_that_before_the_body(
    closed: FlaskClient, who: str, service: str, status: int, end: str
) -> None:
    answer = _post(closed, b"x" * (LIMIT + 1), service + end, content_type="text/plain", **_as(who))
    assert answer.status_code == status
    assert _diagnostics(answer)


class Unread(io.BytesIO):
    """A body that nobody may take anything of."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size == 0
        return b""


@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("slow", 429)])
def test_views_body_of_one_who_isnt_let_in_is_not_read(
    make_desk: MakeDesk, gate: Turnstile, who: str, status: int
) -> None:
    gate.clients = {"slow": replace(CLIENT, calls_per_minute=1)}
    client = create_app(make_desk(gate=gate), max_body_bytes=LIMIT).test_client()
    client.get("/cds-services", **_as("slow"))
    answer = client.post(
        "/cds-services/prevent-cvd",
        input_stream=Unread(),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "40"},
        **_as(who),
    )
    assert answer.status_code == status


def test_views_feedback_is_recorded_for_the_callers_tenant(closed: FlaskClient, audit_log: AuditLog) -> None:
    shown = _post(closed, patients.encoded(patients.call(patients.prefetch(NOW))), **_as("north")).json["cards"]
    before = len(list(audit_log.entries()))
    feedback = {"card": shown[0]["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-11-24T09:30:05Z"}
    body = patients.encoded({"feedback": [feedback]})
    answer = _post(closed, body, "prevent-cvd/feedback", **_as("north"))
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json["extension"]["org.bedside.feedback"]["recorded"] == 1
    assert len(list(audit_log.entries())) == before + 1


def test_views_feedback_that_was_not_taken_is_counted_in_the_operations_log(
    closed: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    entry = {"card": str(uuid.uuid4()), "outcome": "overridden", "outcomeTimestamp": "2026-11-24T09:30:05Z"}
    body = patients.encoded({"feedback": [entry, entry | {"outcome": "ignored"}]})
    with caplog.at_level(logging.INFO, logger="bedside.http"):
        _post(closed, body, "prevent-cvd/feedback", **_as("north"))
    (line,) = [record for record in caplog.records if record.getMessage() == "feedback recorded"]
    counted = [getattr(line, name) for name in ("recorded", "repeated", "unknown", "unknown_suggestions", "refused")]
    assert counted == [0, 0, 1, 0, 1]


def test_views_feedback_that_is_none_is_a_400(closed: FlaskClient) -> None:
    assert _post(closed, b"{}", "prevent-cvd/feedback", **_as("north")).status_code == 400


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_views_health_and_readiness_ask_for_no_token(closed: FlaskClient, path: str) -> None:
    answer = closed.get(path)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert closed.head(path).status_code == 200


def test_views_health_tells_nothing_but_that(closed: FlaskClient) -> None:
    assert closed.get("/health").data == b'{"status":"up"}'


def test_views_not_ready_is_a_503_with_what_is_lacking(make_desk: MakeDesk) -> None:
    client = create_app(make_desk(ready=lambda: ("log north", "state")), max_body_bytes=LIMIT).test_client()
    answer = client.get("/ready")
    assert (answer.status_code, answer.json) == (503, {"status": "not ready", "lacking": ["log north", "state"]})
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/cds-services", "/health", "/ready"])
def test_views_wrong_method_on_a_get_route_is_a_405_with_allow(closed: FlaskClient, path: str) -> None:
    answer = closed.post(path, **_as("north"))
    assert (answer.status_code, _diagnostics(answer)) == (405, "method not allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_views_body_shorter_than_declared_is_refused(client: FlaskClient) -> None:
    answer = client.post(
        "/cds-services/prevent-cvd",
        input_stream=io.BytesIO(b'{"hook": "patient-view"}'),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "4000"},
    )
    assert (answer.status_code, _diagnostics(answer)) == (400, "request body: expected 4000 bytes, got 24")


def test_views_a_body_without_length_or_end_is_not_waited_for(client: FlaskClient) -> None:
    answer = client.post(
        "/cds-services/prevent-cvd",
        input_stream=Unread(),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
    )
    assert answer.status_code == 400
