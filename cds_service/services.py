"""Which CDS services there are: one for each model and hook that the model's manifest names.

Nothing is written by hand for a new model: the manifest's hooks, title and description make the service. The EHR calls the
services of a hook side by side, so one model that fails never takes the others down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cds_service.errors import UnknownServiceError
from fhir_adapters.queries import Query, merge_queries
from model_artifacts.runtime import ReleasedModel


@dataclass(frozen=True, slots=True)
class CdsService:
    """One service of the discovery document.

    Attributes:
        id: URL-path safe.
        queries: the model's queries, merged and deduplicated; prefetch and FHIR searches are both made from them.
    """

    id: str
    hook: str
    title: str
    description: str
    model: ReleasedModel
    queries: tuple[Query, ...]


def services_of(models: Iterable[ReleasedModel]) -> tuple[CdsService, ...]:
    """One service per model and hook, in the models' order."""
    return tuple(_service(model, hook) for model in models for hook in model.manifest.hooks)


def find_service(services: Iterable[CdsService], service_id: str) -> CdsService:
    """The service with this id.

    Raises:
        UnknownServiceError: there is none.
    """
    for service in services:
        if service.id == service_id:
            return service
    raise UnknownServiceError(
        f"no CDS service has this id; see the discovery document for {sum(1 for _ in services)} that do"
    )


def _service(model: ReleasedModel, hook: str) -> CdsService:
    manifest = model.manifest
    multiple = len(manifest.hooks) > 1
    return CdsService(
        id=f"{manifest.id.replace('_', '-')}-{hook}" if multiple else manifest.id.replace("_", "-"),
        hook=hook,
        title=manifest.title,
        description=manifest.description,
        model=model,
        queries=merge_queries(model.queries()),
    )
