"""The discovery document (CDS Hooks 2.0.1, "Discovery"): `GET {base}/cds-services`.

Prefetch templates are derived from the models' queries, never written by hand. Only the query syntax that every
conformant client can resolve is used: instance reads, type searches, token equality and `_sort`/`_count`. A lookback
becomes part of a template only for clients that know the 3.0 tokens: others drop a key whose token they can't resolve.
For them it becomes a search parameter when Bedside itself asks the FHIR server.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from cds_service.clients import CdsClient
from cds_service.hooks import HOOK_VERSIONS
from cds_service.quirks import Quirk
from cds_service.services import CdsService
from fhir_adapters.queries import Query, search_parameters

PATIENT_TOKEN = "{{context.patientId}}"  # noqa: S105 - a CDS Hooks prefetch token, not a secret
_READABLE = "{}:/|,-"  # the specification's own templates leave these as they are
_READABLE_3_0 = _READABLE + "() "


def discovery_document(services: Iterable[CdsService], client: CdsClient | None = None) -> dict[str, object]:
    """The discovery document as a JSON-ready object: what `client` may call, in the form it knows; None: all of it."""
    quirks = frozenset[Quirk]() if client is None else client.quirks
    offered = [service for service in services if client is None or client.may_call(service.id)]
    return {"services": [_describe(service, hook, quirks) for service in offered for hook in service.hooks]}


def prefetch_template(query: Query, *, fhirpath: bool = False) -> str:
    """The prefetch template of one query, for example `Patient/{{context.patientId}}`."""
    if query.resource == "Patient":
        return f"Patient/{PATIENT_TOKEN}"
    dated = fhirpath and query.lookback is not None
    # A day more than the window, as the client's "today" may be another day than ours.
    since = f"{{{{today() - {query.lookback.days + 1} days}}}}" if dated and query.lookback is not None else None
    parameters = search_parameters(query, PATIENT_TOKEN, since)
    readable = _READABLE_3_0 if dated else _READABLE
    return f"{query.resource}?" + "&".join(f"{name}={quote(value, safe=readable)}" for name, value in parameters)


def _describe(service: CdsService, hook: str, quirks: frozenset[Quirk]) -> dict[str, object]:
    fhirpath = Quirk.CDS_HOOKS_3_0 in quirks
    return {
        "hook": hook,
        "id": service.id_at(hook) if Quirk.ONE_ID_PER_HOOK in quirks else service.id,
        "title": service.title,
        "description": service.description,
        "prefetch": {query.name: prefetch_template(query, fhirpath=fhirpath) for query in service.queries},
        "usageRequirements": "Works by prefetch, by the FHIR server in the call, or by both; needs FHIR R4.",
        "version": "3.0.0" if fhirpath else "2.0.1",
        "hookVersion": HOOK_VERSIONS[hook],
    }
