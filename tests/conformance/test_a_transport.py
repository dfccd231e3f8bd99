"""Section A of the checklist: transport and JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cds_service import patients
from tests.conformance import calls
from tests.conformance.fhir_rules import check_resource
from tests.conformance.hospital import Hospital
from tests.conformance.response_rules import check_outcome, check_response


def test_1_json_goes_in_and_comes_out(hospital: Hospital) -> None:
    for path, body in (("/cds-services", None), ("/cds-services/risk", calls.call())):
        answer = hospital.send("GET" if body is None else "POST", path, body)
        assert answer.headers["Content-Type"] == "application/json"
        assert isinstance(answer.json(), dict)


@pytest.mark.parametrize("table", ["jwks_url", "fhir_servers", "allowed_jku"])
def test_1_no_address_without_tls_can_be_configured_beyond_loopback(table: str, hospital: Hospital) -> None:
    value = "http://ehr.example/x" if table == "jwks_url" else ["http://ehr.example/x"]
    config = hospital.folder / f"plain-{table}.toml"
    extra = "" if table == "jwks_url" else 'jwks_url = "https://ehr.example/jwks.json"\n'
    config.write_text(f'[[clients]]\nid = "x"\nissuer = "https://x"\n{extra}{table} = {json.dumps(value)}\n')
    refused = hospital.run("serve", "--config", str(config))
    assert refused.returncode != 0
    assert "expected https" in refused.stderr


@pytest.mark.parametrize(
    "body",
    [
        calls.call(),
        calls.call(prefetch=calls.prefetched(cholesterol=patients.bundle())),
        calls.call(prefetch={}),
        calls.call(hook="order-sign", context={}),
    ],
    ids=["estimate", "abstention", "data missing", "bad call"],
)
def test_2_no_member_is_null_or_empty(body: dict[str, Any], hospital: Hospital) -> None:
    assert patients.empty_members(hospital.call(body).json()) == []


def test_2_discovery_has_no_null_or_empty_member(hospital: Hospital) -> None:
    answer = hospital.send("GET", "/cds-services")
    assert patients.empty_members(answer.json()) == []


def test_2_the_array_of_cards_may_be_empty(hospital: Hospital) -> None:
    answer = hospital.call(calls.call(), client="shadow")
    assert answer.json()["cards"] == []
    assert check_response(answer.status_code, answer.headers, answer.content) == []


def test_3_embedded_fhir_is_standard_fhir_json(hospital: Hospital) -> None:
    answer = hospital.call(calls.call(), client="filing").json()
    (action,) = answer["systemActions"]
    (card,) = hospital.cards(calls.call(prefetch=calls.prefetched(cholesterol=patients.bundle())))
    resources = [action["resource"], *(step["resource"] for one in card["suggestions"] for step in one["actions"])]
    assert len(resources) >= 2
    assert [fault for resource in resources for fault in check_resource(resource)] == []


@pytest.mark.parametrize("text", [b"// a comment\n%s", b"%s // a comment", b"/* a */ %s"])
def test_4_comments_are_not_taken(text: bytes, hospital: Hospital) -> None:
    answer = hospital.call(text % json.dumps(calls.call()).encode())
    assert answer.status_code == 400
    assert check_outcome(400, answer.headers, answer.content) == []


def test_4_a_trailing_comma_is_not_taken_and_none_is_sent(hospital: Hospital) -> None:
    body = json.dumps(calls.call()).encode()
    assert hospital.call(body[:-1] + b",}").status_code == 400
    assert json.loads(hospital.call(body).content)


@pytest.mark.parametrize(
    "name", ["application/json", "application/json; charset=utf-8", "application/JSON;charset=UTF-8"]
)
def test_5_json_may_name_its_charset(name: str, hospital: Hospital) -> None:
    assert hospital.call(calls.call(), headers={"Content-Type": name}).status_code == 200


def test_5_unknown_members_anywhere_are_no_fault(hospital: Hospital) -> None:
    odd = {"x-vendor": {"a": [1, None, ""]}}
    data = calls.prefetched()
    data["patient"] |= odd
    data["conditions"]["entry"][0] |= odd
    body = calls.call(prefetch=data, context=calls.context() | odd, extension={"com.vendor": {"a": 1}}, **odd)
    body |= patients.fhir_access(hospital.servers.fhir("good"), vendor="x", extension={"a": 1})
    assert len(hospital.cards(body)) == 1
