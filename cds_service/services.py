"""Which CDS services there are: one for each model, at every hook that its manifest names.

Nothing is written by hand for a new model: the manifest's hooks, title and description make the service. The configuration
may rename a service, give it other hooks, or serve one model several times. The EHR calls the services of a hook side by
side, so one model that fails never takes the others down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cds_service.errors import UnknownServiceError
from fhir_adapters.queries import Query, merge_queries
from model_artifacts.runtime import ReleasedModel


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How a model is to be served where it differs from its manifest; what is empty stays the manifest's."""

    model: str
    id: str = ""
    title: str = ""
    hooks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CdsService:
    """One service of the discovery document, which lists it once for each of its hooks.

    Attributes:
        id: URL-path safe.
        queries: the model's queries, merged and deduplicated; prefetch and FHIR searches are both made from them.
    """

    id: str
    hooks: tuple[str, ...]
    title: str
    description: str
    model: ReleasedModel
    queries: tuple[Query, ...]

    def id_at(self, hook: str) -> str:
        """The id of its own that the service has at one hook, for clients that keep services by id."""
        return self.id if len(self.hooks) == 1 else f"{self.id}-{hook}"


def services_of(models: Iterable[ReleasedModel], settings: Sequence[ServiceSettings] = ()) -> tuple[CdsService, ...]:
    """The services of the models, in their order: as `settings` say, or else as the manifest does."""
    return tuple(
        _service(model, how)
        for model in models
        for how in [one for one in settings if one.model == model.manifest.id] or [ServiceSettings(model.manifest.id)]
    )


def find_service(services: Iterable[CdsService], service_id: str) -> CdsService:
    """The service with this id, or, by the id that it has at one hook, the service at that hook alone.

    Raises:
        UnknownServiceError: there is none.
    """
    known = tuple(services)
    for service in known:
        if service.id == service_id:
            return service
    for service in known:
        for hook in service.hooks:
            if service.id_at(hook) == service_id:
                return replace(service, hooks=(hook,))
    raise UnknownServiceError(f"no CDS service has this id; see the discovery document for {len(known)} that do")


def _service(model: ReleasedModel, how: ServiceSettings) -> CdsService:
    manifest = model.manifest
    return CdsService(
        id=how.id or manifest.id.replace("_", "-"),
        hooks=how.hooks or tuple(manifest.hooks),
        title=how.title or manifest.title,
        description=manifest.description,
        model=model,
        queries=merge_queries(model.queries()),
    )
