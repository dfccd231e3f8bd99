"""The discovery document (CDS Hooks 2.0.1, "Discovery"): `GET {base}/cds-services`.

Prefetch templates are derived from the models' queries, never written by hand. Only the query syntax that every
conformant client can resolve is used: instance reads, type searches, token equality and `_sort`/`_count`. A lookback
becomes a search parameter only when Bedside itself asks the FHIR server, because date arithmetic in templates is 3.0
syntax that 2.0 clients drop.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from cds_service.services import CdsService
from fhir_adapters.queries import Query, search_parameters

PATIENT_TOKEN = "{{context.patientId}}"  # noqa: S105 - a CDS Hooks prefetch token, not a secret
_READABLE = "{}:/|,-"  # the specification's own templates leave these as they are


def discovery_document(services: Iterable[CdsService]) -> dict[str, object]:
    """The discovery document as a JSON-ready object."""
    return {"services": [_describe(service) for service in services]}


def prefetch_template(query: Query) -> str:
    """The prefetch template of one query, for example `Patient/{{context.patientId}}`."""
    if query.resource == "Patient":
        return f"Patient/{PATIENT_TOKEN}"
    parameters = search_parameters(query, PATIENT_TOKEN, None)
    return f"{query.resource}?" + "&".join(f"{name}={quote(value, safe=_READABLE)}" for name, value in parameters)


def _describe(service: CdsService) -> dict[str, object]:
    return {
        "hook": service.hook,
        "id": service.id,
        "title": service.title,
        "description": service.description,
        "prefetch": {query.name: prefetch_template(query) for query in service.queries},
        "usageRequirements": "Works by prefetch, by the FHIR server in the call, or by both; needs FHIR R4.",
    }
