"""The model versions that sketches are of: their manifest and reference, found by the manifest's digest.

A version that was in service lies in the archive; one that is installed in its package. Nothing here opens an ONNX file, and
no digest that the log names is taken on trust: what lies under it must have it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bedside.config import Config
from model_artifacts.errors import ModelError, ReferenceFileError
from model_artifacts.manifest import ModelManifest, read_manifest
from model_artifacts.packages import package_folder
from model_artifacts.registry import model_packages
from model_artifacts.sketch import REFERENCE_FILE, Reference, model_bins, parse_reference


@dataclass(frozen=True, slots=True)
class Version:
    """A model version: its manifest, and the folder that holds it."""

    manifest: ModelManifest
    folder: Path

    def reference(self, names: Collection[str]) -> Reference:
        """What its decisions were counted in; `names` are the inputs that were, for a version without a reference file.

        Raises:
            ReferenceFileError: the file can't be read, or isn't the one that the manifest lists.
        """
        expected = self.manifest.files.get(REFERENCE_FILE)
        if expected is None:
            return model_bins(self.manifest, self.folder, names)
        try:
            data = (self.folder / REFERENCE_FILE).read_bytes()
        except OSError as exc:
            raise ReferenceFileError(f"{REFERENCE_FILE} of {self.manifest.id} cannot be read: {exc.strerror}") from exc
        if hashlib.sha256(data).hexdigest() != expected:
            message = f"{REFERENCE_FILE} of {self.manifest.id} {self.manifest.version} is altered"
            raise ReferenceFileError(message, model_id=self.manifest.id)
        return parse_reference(data)


class Versions:
    """Versions by the SHA-256 of their manifest; each is read once."""

    def __init__(self, config: Config) -> None:
        self._archive = config.model_archive
        self._known: dict[str, Version | None] = {}

    def find(self, manifest_sha256: str) -> Version | None:
        """The version with this manifest, None if it is neither kept nor installed."""
        if manifest_sha256 not in self._known:
            self._known[manifest_sha256] = self._read(manifest_sha256)
        return self._known[manifest_sha256]

    def _read(self, manifest_sha256: str) -> Version | None:
        for folder in self._folders(manifest_sha256):
            try:
                manifest, found = read_manifest(folder)
            except ModelError:  # another model's, or one of a later release
                continue
            if found == manifest_sha256:
                return Version(manifest, folder)
        return None

    def _folders(self, manifest_sha256: str) -> Iterator[Path]:
        kept = self._archive / manifest_sha256
        if kept.is_dir():
            yield kept
        for package in model_packages().values():
            with suppress(ModelError):  # a package whose code fails is no reason to find nothing of the others
                yield package_folder(package)
