"""The rules refuse what they must: each case is a good answer with one thing broken, and the fault that is told."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.conformance.broken_answers import ANSWER, BROKEN, ORDER, Break, Json
from tests.conformance.discovery_rules import check_discovery
from tests.conformance.fhir_rules import check_resource
from tests.conformance.response_rules import check_feedback, check_outcome, check_response

HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}
SERVICE: Json = {
    "hook": "patient-view",
    "id": "risk",
    "title": "Risk",
    "description": "Tells the risk",
    "prefetch": {
        "patient": "Patient/{{context.patientId}}",
        "labs": "Observation?patient={{context.patientId}}&code=http://loinc.org|2093-3&_sort=-date&_count=2",
    },
    "usageRequirements": "R4",
    "version": "2.0.1",
    "hookVersion": "1.0",
}
OUTCOME: Json = {
    "resourceType": "OperationOutcome",
    "issue": [{"severity": "error", "code": "invalid", "diagnostics": "x"}],
}


def _bytes(document: Any) -> bytes:
    return json.dumps(document).encode()


def _in_brackets(fault: str) -> str:
    """Faults name array items as [0], the places above as .0."""
    head, _, tail = fault.partition(": ")
    parts = head.split(".")
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts)[1:] + f": {tail}"


def test_response_rules_find_nothing_in_a_good_answer() -> None:
    assert check_response(200, HEADERS, _bytes(ANSWER)) == []
    assert check_response(200, HEADERS, b'{"cards": []}') == []


@pytest.mark.parametrize(("change", "fault"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_response_rules_refuse_an_answer_with(change: Break, fault: str) -> None:
    answer = copy.deepcopy(ANSWER)
    change(answer)
    assert _in_brackets(fault) in check_response(200, HEADERS, _bytes(answer))


def test_response_rules_are_tried_with_many_broken_answers() -> None:
    assert len(BROKEN) >= 40


@pytest.mark.parametrize(
    ("status", "headers", "body", "fault"),
    [
        (200, {}, b"{", "header content-type: expected application/json"),
        (200, {"Content-Type": "text/html"}, b"{}", "header content-type: expected application/json"),
        (200, {"Content-Type": "application/json"}, b"{}", "header cache-control: expected no-store"),
        (200, HEADERS, b"[]", "$: expected a JSON object"),
        (200, HEADERS, b'{"cards": [], "cards": []}', "$: not JSON: a member twice"),
        (200, HEADERS, b'{"cards": [], "extension": {"a.b": {"c": NaN}}}', "$: not JSON: NaN is no number of JSON"),
        (204, HEADERS, b"", "$: expected status 200, got 204"),
        (400, HEADERS, b'{"error": "no"}', "$.resourceType: expected an OperationOutcome"),
        (302, HEADERS, _bytes(OUTCOME), "$: expected a status of 200 or of 400 and above, got 302"),
        (405, HEADERS, _bytes(OUTCOME), "header allow: required with status 405"),
        (429, HEADERS, _bytes(OUTCOME), "header retry-after: required with status 429"),
        (401, HEADERS, _bytes(OUTCOME), "header www-authenticate: required with status 401"),
        (
            401,
            HEADERS | {"WWW-Authenticate": "Bearer"},
            _bytes(OUTCOME),
            "$.issue: a refusal for want of authentication must not say why",
        ),
    ],
)
def test_response_rules_refuse_a_status_header_or_body(
    status: int, headers: dict[str, str], body: bytes, fault: str
) -> None:
    assert fault in check_response(status, headers, body)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"issue": []}, "$.issue: null or empty"),
        ({"issue": [{"severity": "bad", "code": "invalid"}]}, "$.issue.severity: 'bad' is not in the required binding"),
        ({"issue": [{"severity": "error", "code": "no"}]}, "$.issue.code: 'no' is not in the required binding"),
        ({"issue": [{"severity": "error"}]}, "$.issue.0.code: not valid FHIR R4"),
        ({"colour": "red"}, "$.colour: not valid FHIR R4"),
    ],
)
def test_response_rules_refuse_an_outcome(change: Json, fault: str) -> None:
    found = check_outcome(400, HEADERS, _bytes(OUTCOME | change))
    assert any(one.startswith(fault) for one in found), found


def test_response_rules_find_nothing_in_a_good_outcome_or_answer_to_feedback() -> None:
    assert check_outcome(400, HEADERS, _bytes(OUTCOME)) == []
    assert check_feedback(200, HEADERS, b"{}") == []
    assert check_feedback(400, HEADERS, b"{}") != []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"status": "ordered"}, "$.status: 'ordered' is not in the required binding of ServiceRequest"),
        ({"intent": "wish"}, "$.intent: 'wish' is not in the required binding of ServiceRequest"),
        ({"priority": "soon"}, "$.priority: 'soon' is not in the required binding of ServiceRequest"),
        ({"authoredOn": "2026-13-01"}, "$.authoredOn: not a FHIR dateTime"),
        ({"subject": {"reference": "the patient"}}, "$.subject.reference: not a FHIR reference"),
        ({"code": {"coding": [{"system": "loinc", "code": "1"}]}}, "$.code.coding[0].system: not an absolute URI"),
        ({"resourceType": "Wish"}, "$.resourceType: Wish is no type of FHIR R4"),
        ({"note": [{"text": "x", "time": "noon"}]}, "$.note.0.time: not valid FHIR R4"),
    ],
)
def test_response_rules_refuse_a_resource(change: Json, fault: str) -> None:
    found = check_resource(ORDER | change)
    assert any(one.startswith(fault) for one in found), found


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "MedicationRequest", "status": "wished", "intent": "order"},
        {"resourceType": "Observation", "status": "wished"},
        {"resourceType": "RiskAssessment", "status": "wished"},
        {"resourceType": "Appointment", "status": "wished", "participant": [{"status": "accepted"}]},
        {"resourceType": "Condition", "subject": {"reference": "Patient/1", "identifier": {"use": "wished"}}},
    ],
)
def test_response_rules_hold_every_type_to_its_required_bindings(resource: Json) -> None:
    assert any("'wished'" in one and "binding" in one for one in check_resource(resource))


def test_response_rules_find_nothing_in_a_good_discovery_document() -> None:
    assert check_discovery(200, HEADERS, _bytes({"services": [SERVICE]})) == []
    assert check_discovery(200, HEADERS, b'{"services": []}') == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"hook": "page-load"}, "$.services[0].hook: expected a hook of the library"),
        ({"id": "a b"}, "$.services[0].id: expected what may stand in a URL's path"),
        ({"id": 5}, "$.services[0].id: required, a string"),
        ({"description": ""}, "$.services[0].description: null or empty"),
        ({"colour": "red"}, "$.services[0].colour: no member of the specification"),
        ({"hookVersion": "2.0"}, "$.services[0].hookVersion: expected that of the definition, 1.0"),
        ({"version": "STU3"}, "$.services[0].version: expected a semantic version"),
        ({"prefetch": ["x"]}, "$.services[0].prefetch: expected an object"),
        ({"prefetch": {"p": 1}}, "$.services[0].prefetch.p: expected a string"),
        ({"prefetch": {"p": "Patient/{{context.patientId"}}, "$.services[0].prefetch.p: a token without an end"),
        (
            {"prefetch": {"p": "Patient/{{patientId}}"}},
            "$.services[0].prefetch.p: token {{patientId}} is none that this client can resolve",
        ),
        (
            {"prefetch": {"p": "Observation?date=ge{{today()}}"}},
            "$.services[0].prefetch.p: token {{today()}} is none that this client can resolve",
        ),
        (
            {"prefetch": {"p": "Observation?patient={{context.draftOrders}}"}},
            "$.services[0].prefetch.p: token {{context.draftOrders}} is none that this client can resolve",
        ),
        (
            {"prefetch": {"p": "Observation?_has:x=1"}},
            "$.services[0].prefetch.p: _has:x: beyond the recommended query syntax",
        ),
        ({"prefetch": {"p": "everything"}}, "$.services[0].prefetch.p: neither a read nor a search of one type"),
    ],
)
def test_response_rules_refuse_a_discovery_document(change: Json, fault: str) -> None:
    assert fault in check_discovery(200, HEADERS, _bytes({"services": [SERVICE | change]}))


def test_response_rules_let_a_3_0_client_have_its_tokens() -> None:
    service = SERVICE | {"version": "3.0.0", "prefetch": {"p": "Observation?date=ge{{today() - 30 days}}"}}
    assert check_discovery(200, HEADERS, _bytes({"services": [service]})) == []


def test_response_rules_refuse_a_service_listed_twice_and_a_bare_array() -> None:
    twice = check_discovery(200, HEADERS, _bytes({"services": [SERVICE, SERVICE]}))
    assert twice == ["$.services: ('patient-view', 'risk') is listed 2 times"]
    assert check_discovery(200, HEADERS, _bytes([SERVICE])) == ["$: expected a JSON object"]
