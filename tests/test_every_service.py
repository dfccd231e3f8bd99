"""What holds for every CDS service on offer, whichever models there are: nothing has to be added here for a new one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cds_service.discovery import discovery_document, prefetch_template
from cds_service.hooks import PARSERS
from cds_service.services import CdsService, services_of
from demo.prefetch import fill_template
from fhir_adapters.queries import search_url
from fhir_adapters.resources import PatientId
from model_artifacts.runtime import ReleasedModel
from tests.cds_service.patients import empty_members
from tests.conftest import NOW, RunningBedside, released_packages

PACKAGES = released_packages()
# CDS Hooks 2.0.1, "Prefetch query restrictions": what a client should at least be able to resolve.
_TEMPLATE = re.compile(
    r"[A-Z][A-Za-z]+(/\{\{context\.patientId\}\}|\?patient=\{\{context\.patientId\}\}(&[a-z_-]+=[^&{}]+)*)"
)
_PARAMETERS = {"patient", "code", "type", "status", "clinical-status", "_sort", "_count"}


@pytest.fixture(params=sorted(PACKAGES))
def service(request: pytest.FixtureRequest, models: dict[str, ReleasedModel]) -> list[CdsService]:
    return list(services_of([models[request.param]]))


def _entries(services: list[CdsService]) -> list[dict[str, Any]]:
    return discovery_document(services)["services"]  # type: ignore[return-value]


def test_every_service_has_what_discovery_requires(service: list[CdsService]) -> None:
    for entry in _entries(service):
        assert entry.keys() == {
            *("hook", "id", "title", "description", "prefetch", "usageRequirements", "version", "hookVersion")
        }
        assert all(isinstance(entry[name], str) and entry[name] for name in entry if name != "prefetch")
        assert entry["hook"] in PARSERS
        assert empty_members(entry) == []


def test_every_service_has_an_id_of_its_own_that_needs_no_escaping(models: dict[str, ReleasedModel]) -> None:
    ids = [service.id for service in services_of(models.values())]
    assert len(set(ids)) == len(ids) > 0
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", identifier) for identifier in ids)


def test_every_service_asks_by_prefetch_for_what_its_model_asks(service: list[CdsService]) -> None:
    for one in service:
        entries = _entries([one])
        assert [entry["hook"] for entry in entries] == list(one.hooks)
        for entry in entries:
            assert {query.name for query in one.model.queries()} == entry["prefetch"].keys()
            assert entry["prefetch"] == {query.name: prefetch_template(query) for query in one.queries}


def test_every_service_prefetches_by_templates_that_every_client_resolves(service: list[CdsService]) -> None:
    for entry in _entries(service):
        for template in entry["prefetch"].values():
            assert _TEMPLATE.fullmatch(template), template
            parameters = template.partition("?")[2].split("&") if "?" in template else []
            assert {parameter.partition("=")[0] for parameter in parameters} <= _PARAMETERS
            assert fill_template(template, {"context.patientId": "p1"}) is not None


def test_every_service_searches_for_the_patient_it_was_called_for(service: list[CdsService]) -> None:
    for one in service:
        for query in one.queries:
            url = search_url(query, PatientId("p1"), NOW)
            assert url == "Patient/p1" or url.startswith(f"{query.resource}?patient=p1")


def test_every_service_requires_the_patient(service: list[CdsService]) -> None:
    for one in service:
        assert any(query.resource == "Patient" and query.required for query in one.queries)


def test_every_service_is_reachable_where_discovery_says(bedside: RunningBedside) -> None:
    answer = bedside.get("/cds-services")
    assert answer.status_code == 200
    entries = answer.json()["services"]
    assert len(entries) >= len(PACKAGES)
    for entry in entries:
        refusal = bedside.post(b"{}", entry["id"])
        assert refusal.status_code == 400, entry["id"]
