from __future__ import annotations

from typing import Any

import pytest

from cds_service.discovery import PATIENT_TOKEN, discovery_document, prefetch_template
from cds_service.quirks import Quirk
from cds_service.services import ServiceSettings, services_of
from fhir_adapters.codes import LOINC, Code
from fhir_adapters.queries import Query
from model_artifacts.runtime import ReleasedModel
from tests.cds_service.callers import caller


@pytest.mark.parametrize(
    ("query", "template"),
    [
        (Query("patient", "Patient"), "Patient/{{context.patientId}}"),
        (Query("conditions", "Condition"), "Condition?patient={{context.patientId}}"),
        (
            Query("meds", "MedicationRequest", status=("active", "on-hold")),
            "MedicationRequest?patient={{context.patientId}}&status=active,on-hold&_sort=-authoredon",
        ),
        (
            Query("labs", "Observation", (Code(LOINC, "1-8"), Code(LOINC, "2-6")), count=5),
            (
                "Observation?patient={{context.patientId}}&code=http://loinc.org|1-8,http://loinc.org|2-6"
                "&_sort=-date&_count=5"
            ),
        ),
    ],
)
def test_discovery_template_of_a_query(query: Query, template: str) -> None:
    assert prefetch_template(query) == template


def test_discovery_uses_the_one_token_that_every_client_resolves() -> None:
    assert PATIENT_TOKEN == "{{context.patientId}}"


def test_discovery_prefetch_is_the_models_queries_and_nothing_else(prevent: ReleasedModel) -> None:
    (service,) = services_of([prevent])
    (entry,) = discovery_document([service])["services"]  # type: ignore[misc]
    assert entry["prefetch"] == {query.name: prefetch_template(query) for query in prevent.queries()}


def _offered(prevent: ReleasedModel, *quirks: Quirk, **changes: Any) -> list[dict[str, Any]]:
    settings = [ServiceSettings("prevent_cvd", hooks=("patient-view", "order-sign"))]
    client = caller(quirks=frozenset(quirks), **changes).client
    return discovery_document(services_of([prevent], settings), client)["services"]  # type: ignore[return-value]


def test_discovery_lists_a_service_once_for_each_hook_under_one_id(prevent: ReleasedModel) -> None:
    assert [(entry["hook"], entry["id"], entry["hookVersion"], entry["version"]) for entry in _offered(prevent)] == [
        ("patient-view", "prevent-cvd", "1.0", "2.0.1"),
        ("order-sign", "prevent-cvd", "1.0", "2.0.1"),
    ]


def test_discovery_gives_ids_of_their_own_to_clients_that_keep_services_by_id(prevent: ReleasedModel) -> None:
    ids = [entry["id"] for entry in _offered(prevent, Quirk.ONE_ID_PER_HOOK)]
    assert ids == ["prevent-cvd-patient-view", "prevent-cvd-order-sign"]


def test_discovery_dates_templates_for_clients_of_3_0_alone(prevent: ReleasedModel) -> None:
    (plain, _), (dated, _) = _offered(prevent), _offered(prevent, Quirk.CDS_HOOKS_3_0)
    assert "today()" not in str(plain)
    assert dated["version"] == "3.0.0"
    windowed = [query for query in prevent.queries() if query.lookback is not None]
    assert windowed
    for query in windowed:
        assert query.lookback is not None
        assert f"=ge{{{{today() - {query.lookback.days + 1} days}}}}" in dated["prefetch"][query.name]


def test_discovery_shows_a_client_only_what_it_may_call(prevent: ReleasedModel) -> None:
    assert _offered(prevent, services=frozenset({"another"})) == []


def test_discovery_without_services_is_an_empty_array() -> None:
    assert discovery_document(()) == {"services": []}
