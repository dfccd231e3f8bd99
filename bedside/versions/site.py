"""One model as this site has it: the installed package, the version in force, and a candidate that is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bedside.config import Config, ConfigError
from bedside.environment import read_config
from bedside.offered import load_in_force, model_trust
from model_artifacts.assessment import ModelIdentity
from model_artifacts.errors import ArtifactError, ModelError
from model_artifacts.folder import ModelFolder, read_folder
from model_artifacts.packages import package_folder
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel, identity_of
from model_artifacts.signing import TrustedKey
from model_artifacts.versions import Standing, VersionStore, load_version


@dataclass(frozen=True, slots=True)
class Site:
    """A model's place here; nothing is read before it is asked for."""

    config: Config
    name: str
    package: str
    store: VersionStore
    trust: tuple[TrustedKey, ...]

    @classmethod
    def open(cls, name: str) -> Site:
        """The site's place for the model `name`.

        Raises:
            ConfigError: no such model is installed.
            ArtifactError: a trusted key can't be read.
        """
        config, packages = read_config(), model_packages()
        if name not in packages:
            raise ConfigError(f"model: expected one of {', '.join(packages)}, got {name}")
        return cls(config, name, packages[name], VersionStore(config.model_store), model_trust(config))

    @property
    def standing(self) -> Standing:
        """Which version is in force, which were, and which runs in shadow."""
        return self.store.standing(self.name)

    def in_force(self) -> ReleasedModel:
        """The version that a start of the service would load; raises as `offered.load_models`."""
        return load_in_force(self.store, self.name, self.package, self.trust)

    def files_of(self, model: ReleasedModel) -> ModelFolder:
        """The version's files, checked once more."""
        return read_folder(model.folder, self.trust, self.name)

    def stored(self, manifest_sha256: str) -> ReleasedModel:
        """A version of the store, run by the installed code; raises as `versions.load_version`."""
        folder = self.store.folder(self.name, manifest_sha256)
        return load_version(self.package, folder, self.trust, manifest_sha256)

    def candidate(self, folder: Path) -> ModelFolder:
        """The candidate in `folder`: plain files, signed by a trusted key, of this model.

        Raises:
            ManifestError, ArtifactError: it isn't.
        """
        found = read_folder(folder, self.trust)
        if found.manifest.id != self.name:
            message = f"candidate in {folder}: expected a version of model {self.name}, got one of {found.manifest.id}"
            raise ArtifactError(message, model_id=self.name)
        for name in found.contents:
            if (folder / name).resolve() != folder.resolve() / name:
                message = (
                    f"file {name} of model {self.name}: expected a plain file in the candidate's folder, got a link"
                )
                raise ArtifactError(message, model_id=self.name)
        return found

    def known_versions(self) -> dict[str, str]:
        """The version numbers that were in force here or ran in shadow, and the installed one's, with their manifests."""
        installed = self.installed_identity()
        known = {} if installed is None else {installed.version: str(installed.manifest_sha256)}
        return known | {one.version: one.manifest for one in self.standing.all}

    def installed_identity(self) -> ModelIdentity | None:
        """The installed version's; None where its folder isn't as a trusted key signed it."""
        try:
            return identity_of(read_folder(package_folder(self.package), self.trust, self.name))
        except ModelError:
            return None

    def identity_in_force(self) -> ModelIdentity | None:
        """The identity of the version in force, also where its folder was altered; None where nobody can tell."""
        in_force = self.standing.in_force
        return self.installed_identity() if in_force is None else in_force.identity(self.name)
