from __future__ import annotations

import pytest

from cds_service.discovery import PATIENT_TOKEN, discovery_document, prefetch_template
from cds_service.services import services_of
from fhir_adapters.codes import LOINC, Code
from fhir_adapters.queries import Query
from model_artifacts.runtime import ReleasedModel


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


def test_discovery_without_services_is_an_empty_array() -> None:
    assert discovery_document(()) == {"services": []}
