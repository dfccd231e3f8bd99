from __future__ import annotations

import io
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from audit.log import AuditLog
from cds_service import errors
from cds_service.app import create_app
from cds_service.views import STATUS
from tests.cds_service import patients
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


def test_views_table_gives_every_error_a_status() -> None:
    assert set(STATUS) == _leaves(errors.ServiceError)
    assert {kind.__name__: status.value for kind, status in STATUS.items()} == {
        "BadRequestError": 400,
        "MediaTypeError": 415,
        "UnknownServiceError": 404,
        "MissingDataError": 412,
        "NotRecordedError": 503,
    }


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


@pytest.mark.parametrize("path", ["/", "/cds-services/", "/cds-services/prevent-cvd/other", "/cds-service"])
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


class Pieces(io.BytesIO):
    """A body as a socket gives it: what has arrived so far."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 7) if size is not None and size > 0 else size)


def _post_stream(client: FlaskClient, body: bytes, declared: int) -> Any:
    return client.post(
        "/cds-services/prevent-cvd",
        input_stream=Pieces(body),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": str(declared)},
    )


def test_views_body_shorter_than_declared_is_refused(client: FlaskClient) -> None:
    answer = _post_stream(client, b'{"hook": "patient-view"}', 4000)
    assert answer.status_code == 400
    assert _diagnostics(answer) == "request body: expected 4000 bytes, got 24"


def test_views_body_in_pieces_is_read_whole(client: FlaskClient) -> None:
    body = patients.encoded(patients.call(patients.prefetch(NOW)))
    assert _post_stream(client, body, len(body)).status_code == 200
