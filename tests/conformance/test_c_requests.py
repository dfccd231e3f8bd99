"""Section C of the checklist: what a call may be, and what becomes of one that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.hospital import RISK, Hospital


def _refusal(hospital: Hospital, body: Any, status: int = 400, **how: Any) -> str:
    answer = hospital.call(body, **how)
    assert answer.status_code == status, answer.text
    said: str = answer.json()["issue"][0]["diagnostics"]
    return said


def test_15_every_member_of_a_call_is_taken(hospital: Hospital) -> None:
    body = calls.call(extension={"com.example": {"a": 1}}) | patients.fhir_access(hospital.servers.fhir("good"))
    assert set(body) == {
        *("hook", "hookInstance", "context", "prefetch", "extension"),
        *("fhirServer", "fhirAuthorization"),
    }
    assert len(hospital.cards(body)) == 1


@pytest.mark.parametrize("name", ["hook", "hookInstance", "context"])
@pytest.mark.parametrize("value", [..., None, 7, [], True])
def test_16_a_required_member_that_is_missing_or_of_another_type_is_refused(
    name: str, value: Any, hospital: Hospital
) -> None:
    body = calls.call()
    body[name] = value
    if value is ...:
        del body[name]
    assert name in _refusal(hospital, body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefetch", []),
        ("prefetch", "x"),
        ("fhirServer", 7),
        ("fhirAuthorization", "x"),
        ("fhirAuthorization", {"access_token": 7}),
        ("hookInstance", ""),
        ("context", {}),
        ("context", {"patientId": "1", "userId": 7}),
    ],
)
def test_16_an_ill_typed_member_is_refused(name: str, value: Any, hospital: Hospital) -> None:
    assert name in _refusal(hospital, calls.call(**{name: value}))


@pytest.mark.parametrize("hook", ["no-such-hook", "Patient-View", "patient-view "])
def test_16_an_unknown_hook_is_refused(hook: str, hospital: Hospital) -> None:
    assert "hook" in _refusal(hospital, calls.call() | {"hook": hook})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe{}", b"{}{}", b"nul"])
def test_16_what_is_no_json_object_is_refused(body: bytes, hospital: Hospital) -> None:
    assert _refusal(hospital, body)


def test_16_an_unknown_service_is_not_found(hospital: Hospital) -> None:
    assert _refusal(hospital, calls.call(), 404, service="no-such-service")


def test_17_a_token_without_a_server_is_not_used(hospital: Hospital) -> None:
    access = patients.fhir_access(hospital.servers.fhir("good"))
    del access["fhirServer"]
    assert len(hospital.cards(calls.call(**access))) == 1
    before = len(hospital.servers.asked)
    assert "no fhirServer was given" in _refusal(hospital, calls.call(prefetch={}, **access), 412)
    assert not [asked for asked in hospital.servers.asked[before:] if "/fhir/" in asked.path]


@pytest.mark.parametrize(
    "server", ["http://fhir.example.org/r4", "ftp://127.0.0.1/r4", "file:///etc/passwd", "", "//127.0.0.1/fhir/good"]
)
def test_18_a_server_that_was_not_agreed_is_never_asked(server: str, hospital: Hospital) -> None:
    before = len(hospital.servers.requests_to("/fhir/"))
    _refusal(hospital, calls.without_prefetch(server), 412)
    assert len(hospital.servers.requests_to("/fhir/")) == before


def test_18_a_server_of_another_host_or_path_is_never_asked(hospital: Hospital) -> None:
    good = hospital.servers.fhir("good")
    for server in (hospital.servers.canary, good.replace("127.0.0.1", "localhost"), f"{good}/x", f"{good}?a=b"):
        _refusal(hospital, calls.without_prefetch(server), 412)
    assert not hospital.servers.canary_was_called()


def test_19_the_same_hook_instance_may_come_again(hospital: Hospital) -> None:
    body = calls.call()
    first, second = hospital.cards(body), hospital.cards(body)
    assert first[0]["summary"] == second[0]["summary"]
    assert first[0]["uuid"] != second[0]["uuid"]


@pytest.mark.parametrize("text", ["not-a-uuid", "D1577C69-DFBE-44AD-BA6D-3E05E953B2EA", "x" * 200])
def test_19_a_hook_instance_of_another_form_is_taken(text: str, hospital: Hospital) -> None:
    assert hospital.call(calls.call(hookInstance=text)).status_code == 200


def test_20_a_client_of_1_0_gets_what_1_0_knows(hospital: Hospital) -> None:
    (card,) = hospital.cards(calls.call(prefetch=calls.prefetched(cholesterol=patients.bundle())), "oracle")
    assert set(card) <= {"summary", "detail", "indicator", "source", "suggestions", "selectionBehavior", "links"}
    assert card["selectionBehavior"] == "at-most-one"
    assert "topic" not in card["source"]


def test_20_resources_of_an_older_fhir_version_are_no_500(hospital: Hospital) -> None:
    dstu2 = {"resourceType": "MedicationOrder", "id": "m1", "status": "draft", "patient": calls.PATIENT}
    body = calls.call("order-sign", context=calls.context("order-sign", draftOrders=calls.drafts(dstu2)))
    assert hospital.call(body).status_code == 200


def test_22_a_member_sent_twice_is_refused(hospital: Hospital) -> None:
    body = json.dumps(calls.call()).encode()
    assert "twice" in _refusal(hospital, body[:-1] + b', "hook": "order-sign"}')


@pytest.mark.parametrize("opened", [b"[", b'{"a":'])
def test_22_deep_nesting_is_refused(opened: bytes, hospital: Hospital) -> None:
    body = json.dumps(calls.call()).encode()
    assert _refusal(hospital, body[:-1] + b', "extension": ' + opened * 50_000 + b"}")


def test_22_a_body_beyond_the_limit_is_refused(hospital: Hospital) -> None:
    assert _refusal(hospital, calls.call(extension={"com.example": {"a": "x" * 9_000_000}}), 413)


def test_22_a_large_prefetch_within_the_limit_is_answered(hospital: Hospital) -> None:
    """5,000 Observations, some 4 MB."""
    pressures = calls.prefetched()["blood_pressure"]["entry"]
    many = [{"resource": pressures[0]["resource"] | {"id": f"o{number}"}} for number in range(5000)]
    data = calls.prefetched(blood_pressure=patients.bundle() | {"entry": many, "total": 5000})
    assert hospital.call(calls.call(prefetch=data)).status_code == 200


def test_22_a_service_id_in_capitals_is_not_found(hospital: Hospital) -> None:
    assert _refusal(hospital, calls.call(), 404, service=RISK.upper())
