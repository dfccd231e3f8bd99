"""Section B of the checklist: discovery."""

from __future__ import annotations

import re

import pytest

from tests.conformance import calls
from tests.conformance.discovery_rules import HOOKS, check_discovery
from tests.conformance.hospital import CLIENTS, RISK, Hospital

UNLIMITED = [name for name in CLIENTS if name not in ("limited", "certified", "rotating")]


def test_6_discovery_is_there(hospital: Hospital) -> None:
    assert hospital.send("GET", "/cds-services").status_code == 200
    assert hospital.send("GET", "/cds-services/", client="spec").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_6_discovery_is_asked_for_by_get_only(method: str, hospital: Hospital) -> None:
    answer = hospital.send(method, "/cds-services", {} if method != "DELETE" else None)
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]


def test_7_services_are_an_array_in_an_object(hospital: Hospital) -> None:
    body = hospital.send("GET", "/cds-services").json()
    assert list(body) == ["services"]
    assert len(body["services"]) == 1 + len(HOOKS)


def test_8_each_entry_has_what_is_required_and_templates_of_text(hospital: Hospital) -> None:
    for service in hospital.discover():
        assert all(isinstance(service[name], str) and service[name] for name in ("hook", "description", "id", "title"))
        assert all(isinstance(template, str) for template in service["prefetch"].values())
        assert isinstance(service["usageRequirements"], str)


@pytest.mark.parametrize("client", UNLIMITED)
def test_8_every_client_gets_a_valid_document(client: str, hospital: Hospital) -> None:
    answer = hospital.send("GET", "/cds-services", client=client)
    assert check_discovery(answer.status_code, answer.headers, answer.content) == []


@pytest.mark.parametrize(("client", "version"), [("spec", "2.0.1"), ("third", "3.0.0")])
def test_9_the_version_is_the_one_the_client_knows(client: str, version: str, hospital: Hospital) -> None:
    assert {service["version"] for service in hospital.discover(client)} == {version}


def test_10_hook_versions_are_those_of_the_definitions(hospital: Hospital) -> None:
    found = {service["hook"]: service["hookVersion"] for service in hospital.discover()}
    assert found == {hook: version for hook, (version, _) in HOOKS.items()}


@pytest.mark.parametrize("client", ["spec", "sandbox", "medplum"])
def test_11_each_id_answers_at_its_url(client: str, hospital: Hospital) -> None:
    for service in hospital.discover(client):
        answer = hospital.call(calls.call(service["hook"]), client, service["id"])
        assert answer.status_code == 200, (service["id"], service["hook"], answer.text)


@pytest.mark.parametrize("service", ["unknown", "Risk", "prevent_cvd", "risk-patient"])
def test_11_another_id_answers_nowhere(service: str, hospital: Hospital) -> None:
    assert hospital.call(calls.call(), service=service).status_code == 404


def test_11_ids_can_stand_in_a_path(hospital: Hospital) -> None:
    assert all(re.fullmatch(r"[a-z0-9-]+", service["id"]) for service in hospital.discover())


def test_12_one_id_serves_several_hooks(hospital: Hospital) -> None:
    hooks = [service["hook"] for service in hospital.discover() if service["id"] == RISK]
    assert sorted(hooks) == sorted(HOOKS)


def test_12_a_hook_that_an_id_does_not_serve_is_refused(hospital: Hospital) -> None:
    answer = hospital.call(calls.call("order-sign"), service="prevent-cvd")
    assert answer.status_code == 400
    assert "hook" in answer.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize("client", ["sandbox", "medplum"])
def test_12_a_client_that_keeps_services_by_id_gets_one_for_each_hook(client: str, hospital: Hospital) -> None:
    ids = [service["id"] for service in hospital.discover(client)]
    assert len(set(ids)) == len(ids) == 1 + len(HOOKS)
    assert hospital.call(calls.call("order-sign"), client, f"{RISK}-patient-view").status_code == 400


def test_13_discovery_asks_who_calls(hospital: Hospital) -> None:
    path = "/cds-services"
    assert hospital.send("GET", path, client=None).status_code == 401
    assert hospital.send("GET", path, token=hospital.token(f"{path}/{RISK}")).status_code == 401
    assert hospital.send("GET", path, token=hospital.token(path)).status_code == 200


def test_13_a_client_discovers_what_it_may_call(hospital: Hospital) -> None:
    assert {service["id"] for service in hospital.discover("narrow")} == {"prevent-cvd"}


def test_14_templates_resolve_to_reads_and_searches(hospital: Hospital) -> None:
    templates = hospital.discover()[0]["prefetch"]
    assert templates["patient"] == "Patient/{{context.patientId}}"
    assert all("{{context.patientId}}" in template for template in templates.values())
    resolved = [template.replace("{{context.patientId}}", "123") for template in templates.values()]
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+(/123|\?\S*patient=123\S*)", one) for one in resolved)
