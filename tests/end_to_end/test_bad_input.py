"""Every kind of bad input over a real server, with its exact answer. Nothing here may ever be a 500."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cds_service.hooks import PARSERS
from tests.cds_service import patients
from tests.conftest import RunningBedside

ENCOUNTER = {"userId": "Practitioner/1", "patientId": "1", "encounterId": "2"}
LIMIT = 8 * 1024 * 1024
DEPTH = 100_000
MISSING = "required data missing: prefetch patient, conditions, active_medications not usable, and "
NOT_CALCULATED = "10-year risk of cardiovascular disease not calculated: "


def _now() -> datetime:
    return datetime.now(UTC)


def _good(**changes: Any) -> bytes:
    return patients.encoded(patients.call(patients.prefetch(_now()), **changes))


def _outcome(answer: requests.Response) -> tuple[int, str, str]:
    """Status, issue code and diagnostics of an answer that is exactly one OperationOutcome."""
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    (issue,) = body["issue"]
    assert body == {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": issue["code"], "diagnostics": issue["diagnostics"]}],
    }
    return answer.status_code, issue["code"], issue["diagnostics"]


def _card(answer: requests.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    assert patients.empty_members(answer.json()) == []
    (card,) = answer.json()["cards"]
    assert len(card["summary"]) < 140
    found: dict[str, Any] = card
    return found


def _not_json(body: bytes) -> str:
    return f"request body is not JSON in UTF-8, or nested too deeply: {len(body)} bytes"


def _with_member(text: bytes) -> bytes:
    return _good()[:-1] + b", " + text + b"}"


BODIES: dict[str, bytes] = {
    "empty": b"",
    "truncated": _good()[:-40],
    "not UTF-8": b"\xff\xfe" + _good(),
    "two documents": _good() * 2,
    "trailing comma": _good()[:-1] + b",}",
    "comment": b"// a comment\n" + _good(),
    "NaN": _with_member(b'"extension": {"a": NaN}'),
    "Infinity in prefetch": _good().replace(b"151.0", b"Infinity"),
    "deep": _with_member(b'"extension": ' + b"[" * DEPTH + b"]" * DEPTH),
    "deep in prefetch": _good().replace(b'{"resourceType": "Patient"', b"[" * DEPTH + b"]" * DEPTH),
    "deep in context": _good().replace(b'"userId"', b'"x": ' + b'{"a":' * DEPTH + b"1" + b"}" * DEPTH + b', "userId"'),
    "lone surrogate": _good(hookInstance="SURROGATE").replace(b"SURROGATE", b"\\ud800"),
    "lone surrogate in context": _good().replace(b"Practitioner/canary-user", b"Practitioner/\\udc00"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_bad_input_that_is_no_json(kind: str, bedside: RunningBedside) -> None:
    body = BODIES[kind]
    assert _outcome(bedside.post(body)) == (400, "invalid", _not_json(body))


@pytest.mark.parametrize(
    ("changes", "diagnostics"),
    [
        ({"hook": 7}, "request is not a CDS Hooks call: expected `str`, got `int` - at `$.hook`"),
        ({"context": "x"}, "request is not a CDS Hooks call: expected `object`, got `str` - at `$.context`"),
        ({"prefetch": 1}, "request is not a CDS Hooks call: expected `object | null`, got `int` - at `$.prefetch`"),
        ({"hook": "unknown-hook"}, f"hook: expected one of {', '.join(sorted(PARSERS))}"),
        ({"hook": "order-sign"}, "context.draftOrders is required"),
        ({"hook": "encounter-start", "context": ENCOUNTER}, "hook: expected patient-view for service prevent-cvd"),
        ({"context": {"userId": "Practitioner/1"}}, "context.patientId is required"),
        ({"context": {"userId": "Practitioner/1", "patientId": None}}, "context.patientId is required"),
        (
            {"context": {"userId": "Practitioner/1", "patientId": 12}},
            "context.patientId: expected a string, got a number",
        ),
        (
            {"context": {"userId": "Practitioner/1", "patientId": "../Patient"}},
            "context.patientId: expected a FHIR id, got 10 characters that are not one",
        ),
        ({"context": {"patientId": "1"}}, "context.userId is required"),
        (
            {"context": {"userId": "Device/1", "patientId": "1"}},
            "context.userId: expected Type/id with Type one of Patient, Practitioner, PractitionerRole, RelatedPerson",
        ),
        ({"hookInstance": ""}, "hookInstance: expected a UUID string"),
    ],
)
def test_bad_input_that_is_no_call(changes: dict[str, Any], diagnostics: str, bedside: RunningBedside) -> None:
    assert _outcome(bedside.post(_good(**changes))) == (400, "invalid", diagnostics)


@pytest.mark.parametrize(
    ("body", "diagnostics"),
    [
        (b"[]", "request is not a CDS Hooks call: expected `object`, got `array`"),
        (b"null", "request is not a CDS Hooks call: expected `object`, got `null`"),
        (b"{}", "request is not a CDS Hooks call: object missing required field `hook`"),
        (_with_member(b'"hook": "patient-view"'), "request is not a CDS Hooks call: a member was sent twice"),
        (
            _good().replace(b'"patientId": ', b'"patientId": "somebody-else", "patientId": '),
            "request is not a CDS Hooks call: a member was sent twice",
        ),
    ],
    ids=["array", "null", "empty object", "hook twice", "patientId twice"],
)
def test_bad_input_that_is_another_document(body: bytes, diagnostics: str, bedside: RunningBedside) -> None:
    assert _outcome(bedside.post(body)) == (400, "invalid", diagnostics)


def test_bad_input_unknown_service(bedside: RunningBedside) -> None:
    count = len({service["id"] for service in bedside.get("/cds-services").json()["services"]})
    expected = f"no CDS service has this id; see the discovery document for {count} that do"
    assert _outcome(bedside.post(_good(), "unknown")) == (404, "not-found", expected)
    assert _outcome(bedside.post(_good(), "%2e%2e%2fetc")) in [
        (404, "not-found", expected),
        (404, "not-found", "not found"),
    ]


def test_bad_input_get_on_a_service(bedside: RunningBedside) -> None:
    answer = bedside.get("/cds-services/prevent-cvd")
    assert _outcome(answer) == (405, "not-supported", "method not allowed")
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded"])
def test_bad_input_another_media_type(content_type: str, bedside: RunningBedside) -> None:
    expected = (415, "not-supported", "content-type: expected application/json")
    assert _outcome(bedside.post(_good(), content_type=content_type)) == expected


def _raw_exchange(bedside: RunningBedside, headers: bytes, chunks: Iterable[bytes]) -> bytes:
    """The answer to bytes that no HTTP library would send; reading goes on though the server stopped listening."""
    parts = urlsplit(bedside.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        answer = b""
        try:
            connection.sendall(
                b"POST /cds-services/prevent-cvd HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                + headers
            )
            for chunk in chunks:
                connection.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while not answer.endswith(b"}]}"):
                answer += (received := connection.recv(65_536))
                if not received:
                    break
        except ConnectionResetError:
            pass
    return answer


TOO_LARGE = json.dumps(
    {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": "too-long",
                "diagnostics": f"request body: expected at most {LIMIT} bytes",
            }
        ],
    },
    separators=(",", ":"),
).encode()


def test_bad_input_ten_megabytes_declared(bedside: RunningBedside) -> None:
    answer = _raw_exchange(bedside, b"Content-Length: 10485760\r\n\r\n", [])
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"\r\n\r\n" + TOO_LARGE)


@pytest.mark.parametrize("megabyte", [b" " * 2**20, _good().ljust(2**20)], ids=["blank", "a call, then blanks"])
def test_bad_input_ten_megabytes_in_chunks(megabyte: bytes, bedside: RunningBedside) -> None:
    """Once cut off at the limit and read as if it were whole."""
    first, blank = b"100000\r\n" + megabyte + b"\r\n", b"100000\r\n" + b" " * 2**20 + b"\r\n"
    answer = _raw_exchange(bedside, b"Transfer-Encoding: chunked\r\n\r\n", [first, *[blank] * 9, b"0\r\n\r\n"])
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"\r\n\r\n" + TOO_LARGE)


def _with_cholesterol(value: float | None, unit: str, **changes: Any) -> bytes:
    now = _now()
    lipids = patients.bundle(
        patients.observation(3, "2093-3", value, unit, now) | changes,
        patients.observation(4, "2085-9", 44.0, "mg/dL", now),
    )
    return patients.encoded(patients.call(patients.prefetch(now) | {"cholesterol": lipids}))


@pytest.mark.parametrize(
    ("value", "unit", "changes", "reason"),
    [
        (201.0, "furlong", {}, "the unit is missing, unknown or of another quantity"),
        (201.0, "mm[Hg]", {}, "the unit is missing, unknown or of another quantity"),
        (201.0, "", {}, "the unit is missing, unknown or of another quantity"),
        (None, "", {}, "no value was recorded"),
        (201000.0, "mg/dL", {}, "outside the plausible range"),
        (201.0, "mg/dL", {"status": "entered-in-error"}, "not in the data received"),
        (201.0, "mg/dL", {"effectiveDateTime": "2001-02-03"}, "too old"),
        (201.0, "mg/dL", {"effectiveDateTime": "2999-02-03"}, "not in the data received"),
        (201.0, "mg/dL", {"effectiveDateTime": "yesterday"}, "not in the data received"),
    ],
    ids=[
        "unknown unit",
        "unit of another quantity",
        "no unit",
        "no value",
        "implausible",
        "entered in error",
        "old",
        "from the future",
        "no date",
    ],
)
def test_bad_input_an_observation_that_cannot_be_used(
    value: float | None, unit: str, changes: dict[str, Any], reason: str, bedside: RunningBedside
) -> None:
    card = _card(bedside.post(_with_cholesterol(value, unit, **changes)))
    assert card["summary"] == f"{NOT_CALCULATED}Total cholesterol: {reason}"
    assert f"- Total cholesterol: {reason}" in card["detail"]


def test_bad_input_a_unit_that_can_be_converted_is_no_bad_input(bedside: RunningBedside) -> None:
    mass, substance = (
        _card(bedside.post(_with_cholesterol(*quantity))) for quantity in ((201.0, "mg/dL"), (5.198, "mmol/L"))
    )
    assert mass["summary"] == substance["summary"]


@pytest.mark.parametrize(("identifier", "kind"), [("o9", "Observation"), (5, "resource")])
def test_bad_input_one_unreadable_resource_costs_itself_only_and_is_said(
    identifier: object, kind: str, bedside: RunningBedside
) -> None:
    good = patients.prefetch(_now())
    unreadable = {"resourceType": "Observation", "id": identifier, "code": "x"}
    good["kidney_function"]["entry"].append({"resource": unreadable})
    card = _card(bedside.post(patients.encoded(patients.call(good))))
    assert card["summary"].startswith("10-year risk of cardiovascular disease: ")
    assert f"- {kind}: the resource does not have the form FHIR R4 asks for" in card["detail"]


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("500", "fhir server status: expected 200, got 500"),
        ("html", "fhir answer: expected a json object, got something else"),
        ("hang", "fhir deadline: expected an answer before it, got none"),
    ],
)
def test_bad_input_a_fhir_server_that_fails(behaviour: str, why: str, bedside: RunningBedside) -> None:
    body = patients.encoded(patients.call(None, **patients.fhir_access(bedside.fhir.base(behaviour))))
    assert _outcome(bedside.post(body)) == (412, "incomplete", MISSING + why)


def test_bad_input_a_fhir_server_that_cannot_be_reached(bedside: RunningBedside) -> None:
    body = patients.encoded(patients.call(None, **patients.fhir_access(bedside.fhir.closed)))
    expected = "fhir server: expected an answer, got a broken connection"
    assert _outcome(bedside.post(body)) == (412, "incomplete", MISSING + expected)


@pytest.mark.parametrize("suffix", ["", "/", "?a=b", "/../fhir"])
def test_bad_input_a_fhir_server_that_is_not_allowed_is_never_called(suffix: str, bedside: RunningBedside) -> None:
    body = patients.encoded(patients.call(None, **patients.fhir_access(bedside.fhir.stranger + suffix)))
    expected = "fhir server: expected an allowed one, got another"
    assert _outcome(bedside.post(body)) == (412, "incomplete", MISSING + expected)
    assert not bedside.fhir.stranger_was_called()


@pytest.mark.parametrize("server", ["", "x", "ftp://x", "https://[", "file:///etc/passwd", "http://169.254.169.254/"])
def test_bad_input_a_fhir_server_that_is_none(server: str, bedside: RunningBedside) -> None:
    body = patients.encoded(patients.call(None, **patients.fhir_access(server)))
    expected = "fhir server: expected an allowed one, got another" if server else "no fhirServer was given"
    assert _outcome(bedside.post(body)) == (412, "incomplete", MISSING + expected)


def test_bad_input_a_fhir_server_that_answers_for_another_patient(bedside: RunningBedside) -> None:
    """Once a card that called the patient deceased."""
    body = patients.encoded(patients.call(None, **patients.fhir_access(bedside.fhir.base("wrong-patient"))))
    assert _outcome(bedside.post(body)) == (
        412,
        "incomplete",
        "required data missing: prefetch patient holds no readable Patient with the id of context.patientId",
    )


def test_bad_input_a_token_for_another_patient_is_not_used(bedside: RunningBedside) -> None:
    access = patients.fhir_access(bedside.fhir.base("good"), patient="somebody-else")
    before = len(bedside.fhir.requests)
    answer = bedside.post(patients.encoded(patients.call(None, **access)))
    assert _outcome(answer) == (412, "incomplete", MISSING + "fhirAuthorization is for another patient")
    assert len(bedside.fhir.requests) == before


def test_bad_input_optional_data_that_cannot_be_fetched_is_said_to_be_unknown(bedside: RunningBedside) -> None:
    body = patients.encoded(patients.call(None, **patients.fhir_access(bedside.fhir.base("labs-fail"))))
    card = _card(bedside.post(body))
    assert "- kidney function: not received, so what the record holds of it is unknown" in card["detail"]


@pytest.mark.parametrize("behaviour", ["many-pages", "good"])
def test_bad_input_a_fhir_server_with_pages_without_end_is_no_failure(behaviour: str, bedside: RunningBedside) -> None:
    body = patients.encoded(patients.call(None, **patients.fhir_access(bedside.fhir.base(behaviour))))
    assert _card(bedside.post(body))["summary"].startswith("10-year risk of cardiovascular disease: ")


def test_bad_input_a_token_goes_to_its_server_only_and_in_the_header_only(bedside: RunningBedside) -> None:
    body = patients.encoded(patients.call(None, **patients.fhir_access(bedside.fhir.base("good"))))
    before = len(bedside.fhir.requests)
    _card(bedside.post(body))
    asked = bedside.fhir.requests[before:]
    assert len(asked) == len(patients.prefetch(_now()))
    assert {authorization for _, authorization in asked} == {f"Bearer {patients.CANARY_TOKEN}"}
    assert not any(patients.CANARY_TOKEN in path for path, _ in asked)


@pytest.mark.parametrize("token", ["a\r\nX-Injected: 1", "é", ""], ids=["CRLF", "é", "empty"])
def test_bad_input_a_token_that_is_none(token: str, bedside: RunningBedside) -> None:
    access = patients.fhir_access(bedside.fhir.base("good"), access_token=token)
    before = len(bedside.fhir.requests)
    answer = bedside.post(patients.encoded(patients.call(None, **access)))
    assert _outcome(answer) == (400, "invalid", "fhirAuthorization.access_token: expected a bearer token")
    assert len(bedside.fhir.requests) == before


def test_bad_input_a_token_longer_than_servers_take(bedside: RunningBedside) -> None:
    access = patients.fhir_access(bedside.fhir.base("good"), access_token="x" * 100_000)
    assert bedside.post(patients.encoded(patients.call(None, **access))).status_code == 412


ODD = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1e308,
        "",
        "\x00",
        "x" * 300,
        [],
        {},
        [None],
        {"resourceType": "Bundle"},
        "2024-13-45",
        "NaN",
        {"a": {}},
    ]
)


def _mutated(value: Any, choose: random.Random, odd: Any) -> Any:
    """The value with one member somewhere replaced by `odd`, removed, or wrapped."""
    if isinstance(value, dict) and value and choose.random() < 0.85:
        key = choose.choice(sorted(value))
        if choose.random() < 0.1:
            return {name: member for name, member in value.items() if name != key}
        return {**value, key: _mutated(value[key], choose, odd)}
    if isinstance(value, list) and value and choose.random() < 0.85:
        place = choose.randrange(len(value))
        return [*value[:place], _mutated(value[place], choose, odd), *value[place + 1 :]]
    return [value] if choose.random() < 0.1 else odd


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.randoms(use_true_random=False), odd=ODD, times=st.integers(1, 4), cut=st.integers(0, 40))
def test_bad_input_of_any_kind_is_never_a_500(
    seed: random.Random, odd: Any, times: int, cut: int, bedside: RunningBedside
) -> None:
    request: Any = patients.call(
        patients.prefetch(_now()), **patients.fhir_access(bedside.fhir.closed, patient=patients.PATIENT_ID)
    )
    for _ in range(times):
        request = _mutated(request, seed, odd)
    body = json.dumps(request).encode()
    if cut == 0:
        place = seed.randrange(len(body))
        body = body[:place] + bytes([seed.randrange(256)]) + body[place + 1 :]
    answer = bedside.post(body)
    assert answer.status_code in (200, 400, 412), (answer.status_code, answer.text)
    assert patients.empty_members(answer.json()) == []
    if answer.status_code == 200:
        _card(answer)
    else:
        _outcome(answer)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
def test_bad_input_a_name_rebound_to_this_machine_is_no_way_into_an_open_service(
    host: str, bedside: RunningBedside
) -> None:
    for method, path in (("GET", "/cds-services"), ("POST", "/cds-services/prevent-cvd"), ("GET", "/models")):
        answer = requests.request(method, f"{bedside.url}{path}", data=b"{}", headers={"Host": host}, timeout=20)
        assert answer.status_code == 400, path
    assert bedside.get("/cds-services").status_code == 200
