"""The models and services that the configuration enables. Imports no web server: verbs ask by it what there is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from bedside.config import Config, ConfigError
from cds_service.hooks import PARSERS
from cds_service.services import CdsService, ServiceSettings, services_of
from model_artifacts.errors import ArtifactError
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import Trust, TrustedKey, trusted_keys
from model_artifacts.versions import VersionStore, load_version

SERVICE_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def load_models(config: Config) -> dict[str, ReleasedModel]:
    """The enabled models, verified, each in the version that is in force here.

    Raises:
        ConfigError: a model that is not installed is enabled.
        ModelError: a model folder is unreadable, altered, or nobody whom this site trusts signed it; or the version in force
            doesn't fit the installed code.
    """
    packages = model_packages()
    unknown = [name for name in config.models.enabled if name not in packages]
    if unknown:
        raise ConfigError(f"models.enabled: expected some of {', '.join(packages)}, got {', '.join(unknown)}")
    store, trust = VersionStore(config.model_store), model_trust(config)
    return {name: load_in_force(store, name, packages[name], trust) for name in config.models.enabled}


def load_in_force(store: VersionStore, name: str, package: str, trust: Trust) -> ReleasedModel:
    """The version of one model that is in force here: the installed one, unless another was promoted.

    Raises:
        ModelError: as `load_models`.
    """
    in_force = store.standing(name).in_force
    if in_force is None:
        model = ReleasedModel.load(package, trust)
    else:
        model = load_version(package, store.folder(name, in_force.manifest), trust, in_force.manifest)
    if model.manifest.id != name:  # the log would name a model that isn't enabled here
        raise ArtifactError(f"model {name}: package {package} holds the model {model.manifest.id}", model_id=name)
    return model


def load_candidates(config: Config) -> dict[str, ReleasedModel]:
    """The versions that run in shadow, by their model's id.

    Raises:
        ModelError: as `load_models`: who observes a version wants to know that it doesn't run.
    """
    store, trust, packages = VersionStore(config.model_store), model_trust(config), model_packages()
    shadows = {name: store.standing(name).shadow for name in config.models.enabled}
    return {
        name: load_version(packages[name], store.folder(name, shadow.manifest), trust, shadow.manifest)
        for name, shadow in shadows.items()
        if shadow is not None
    }


def model_trust(config: Config) -> tuple[TrustedKey, ...]:
    """The keys that may vouch for a model here.

    Raises:
        ArtifactError: a configured key can't be read.
    """
    return trusted_keys(config.models.trusted_keys)


def build_services(config: Config, models: Mapping[str, ReleasedModel]) -> tuple[CdsService, ...]:
    """The services on offer.

    Raises:
        ConfigError: a model that isn't enabled, a hook we don't know, an id that is none or stands twice.
    """
    settings = [ServiceSettings(table.model, table.id, table.title, table.hooks) for table in config.services]
    for one in settings:
        if one.model not in models:
            raise ConfigError(f"services.model: expected one of {', '.join(models)}, got {one.model}")
        unknown = [hook for hook in one.hooks if hook not in PARSERS]
        if unknown:
            raise ConfigError(f"services.hooks: expected some of {', '.join(PARSERS)}, got {', '.join(unknown)}")
        if one.id and not SERVICE_ID.fullmatch(one.id):
            raise ConfigError(f"services.id: expected lower-case letters, digits and dashes, got {one.id!r}")
    services = services_of(models.values(), settings)
    # An id that a service has at one hook must not be another service's.
    ids = Counter(name for one in services for name in {one.id, *(one.id_at(hook) for hook in one.hooks)})
    repeated = [name for name, times in ids.items() if times > 1]
    if repeated:
        raise ConfigError(f"services.id: expected each only once, got {repeated[0]} several times")
    return services
