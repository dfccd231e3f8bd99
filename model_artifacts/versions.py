"""A site's own store of model versions: what came into force after the installation, what was before, and what runs beside it.

    <store>/<model id>/standing.json           which version is in force, which were before, which runs in shadow
    <store>/<model id>/<sha-256 of manifest>/  manifest.toml, model.sig and every file that is signed

A version is files, never code: inputs.py and finding.py are the installed package's, and a version that doesn't fit them is
refused with what differs (`check_fit`). Folders are written once, from bytes that were checked, and are checked again, with
their signature, whenever they are loaded: nothing here makes a folder trusted. `standing.json` is replaced in one step, so a
power cut leaves the old or the new one; who may write to the store can choose among signed versions, and the next start
records which.

Whoever changes a model's standing holds its lock (`changing`); a second one is turned away, not kept waiting.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from model_artifacts.assessment import ModelIdentity
from model_artifacts.errors import ArtifactError, ModelError
from model_artifacts.folder import ModelFolder, read_folder
from model_artifacts.manifest import ModelId, ModelManifest, Sha256
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import Trust
from model_artifacts.sketch import REFERENCE_FILE

STANDING_FILE, LOCK_FILE = "standing.json", ".lock"
_Digest: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class StoreError(ModelError):
    """The store of versions can't be read or written, or somebody else is at work in it."""


class UnfitError(ModelError):
    """A version isn't one that the installed code can run, or can't follow the one in force; `code` says why in the log."""

    def __init__(self, message: str, *, model_id: str, code: str) -> None:
        super().__init__(message, model_id=model_id)
        self.code = code


class Version(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version as the log names it, so that what became of its folder doesn't matter for that."""

    version: str
    artefact: _Digest
    manifest: _Digest
    card: _Digest

    @classmethod
    def of(cls, identity: ModelIdentity) -> Version:
        """The version with this identity."""
        return cls(identity.version, identity.artifact_sha256, identity.manifest_sha256, identity.card_sha256)

    def identity(self, model_id: str) -> ModelIdentity:
        """As decisions name it."""
        digests = (Sha256(self.artefact), Sha256(self.manifest), Sha256(self.card))
        return ModelIdentity(ModelId(model_id), self.version, *digests)


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which versions a model has here; `in_force` is None while the installed one is; `before`: the last first."""

    schema: Literal["bedside-versions/1"] = "bedside-versions/1"
    in_force: Version | None = None
    before: tuple[Version, ...] = ()
    shadow: Version | None = None

    @property
    def all(self) -> tuple[Version, ...]:
        """Every version that has a part in it."""
        return tuple(one for one in (self.in_force, self.shadow, *self.before) if one is not None)


@dataclass(frozen=True, slots=True)
class VersionStore:
    """The store in one folder, which need not be there before something is put into it."""

    directory: Path

    def standing(self, model_id: str) -> Standing:
        """Which version of the model is in force, and which were.

        Raises:
            StoreError: it can't be read.
        """
        path = self.directory / model_id / STANDING_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=Standing)
        except FileNotFoundError:
            return Standing()
        except OSError as exc:
            raise StoreError(f"store of model {model_id}: {STANDING_FILE}: {exc.strerror}", model_id=model_id) from exc
        except msgspec.DecodeError as exc:
            message = f"store of model {model_id}: {STANDING_FILE} is none: {exc}"
            raise StoreError(message, model_id=model_id) from exc

    def folder(self, model_id: str, manifest_sha256: str) -> Path:
        """Where this version lies, if it does."""
        return self.directory / model_id / manifest_sha256

    @contextmanager
    def changing(self, model_id: str) -> Iterator[None]:
        """Holds the model's lock for the length of a block.

        Raises:
            StoreError: somebody else holds it, or the store can't be written.
        """
        try:
            (self.directory / model_id).mkdir(parents=True, exist_ok=True, mode=0o755)
            held = os.open(self.directory / model_id / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise StoreError(f"store of model {model_id}: {exc.strerror}", model_id=model_id) from exc
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as exc:
            raise StoreError(
                f"model {model_id}: somebody else is changing its version; look at it and try again", model_id=model_id
            ) from exc
        finally:
            os.close(held)

    def keep(self, model: ModelFolder) -> Path:
        """The folder in which this version lies from now on, durable when this returns.

        Raises:
            UnfitError: a version of the same manifest and another card, or other metrics, lies there.
            StoreError: it can't be written.
        """
        model_id = model.manifest.id
        folder = self.folder(model_id, model.manifest_sha256)
        try:
            if folder.is_dir():
                _check_same(folder, model)
                return folder
            folder.parent.mkdir(parents=True, exist_ok=True)
            _lay(model, folder)
        except OSError as exc:
            raise StoreError(f"store of model {model_id}: {exc.strerror}", model_id=model_id) from exc
        return folder

    def discard(self, model_id: str, manifest_sha256: str) -> None:
        """Removes a version that came to nothing; one that has a standing stays. The caller holds the lock.

        Raises:
            StoreError: the standing can't be read.
        """
        if manifest_sha256 not in {one.manifest for one in self.standing(model_id).all}:
            shutil.rmtree(self.folder(model_id, manifest_sha256), ignore_errors=True)

    def stand(self, model_id: str, standing: Standing) -> None:
        """Puts `standing` in force, in one step that a power cut doesn't halve. The caller holds the lock.

        Raises:
            StoreError: it can't be written; the old one stands.
        """
        path = self.directory / model_id / STANDING_FILE
        try:
            written = path.with_name(f".{STANDING_FILE}")
            _write(written, msgspec.json.format(msgspec.json.encode(standing)) + b"\n")
            written.replace(path)
            _sync_folder(path.parent)
        except OSError as exc:
            raise StoreError(f"store of model {model_id}: {STANDING_FILE}: {exc.strerror}", model_id=model_id) from exc


def load_version(package: str, folder: Path, trust: Trust, manifest_sha256: str | None = None) -> ReleasedModel:
    """The version in `folder`, run by the installed code of `package`.

    Raises:
        ManifestError, ArtifactError: one of the two folders isn't as a trusted key signed it, or `folder` holds another
            manifest than `manifest_sha256`.
        UnfitError: the installed code can't run this version.
    """
    model = ReleasedModel.load(package, trust, folder)
    if manifest_sha256 is not None and model.identity.manifest_sha256 != manifest_sha256:
        message = f"version of model {model.manifest.id}: expected the manifest {manifest_sha256}, got another"
        raise ArtifactError(message, model_id=model.manifest.id)
    check_fit(model.manifest, read_folder(model.code, trust).manifest)
    return model


def check_fit(version: ModelManifest, installed: ModelManifest) -> None:
    """Returns if the code that was installed with `installed` can run `version`.

    Raises:
        UnfitError: it names what differs: such a version comes with a new release of the package.
    """
    differ = [name for name, own, other in _fitting(version, installed) if own != other]
    if differ:
        raise UnfitError(
            f"version {version.version} of model {installed.id} doesn't fit the installed code of version "
            f"{installed.version}: other {', '.join(differ)}; it needs its own release of the package",
            model_id=installed.id,
            code="unfit",
        )


def check_follows(version: ModelManifest, in_force: ModelManifest, known: Mapping[str, str], digest: str) -> None:
    """Returns if `version` may come into force after `in_force`; `known` are the versions that this site has had.

    Raises:
        UnfitError: a version number that other bytes had here, or not a later one: going back is a rollback's business.
    """
    other = known.get(version.version)
    if other is not None and other != digest:
        message = f"version {version.version} of model {version.id} was here already, with another manifest: {other}"
        raise UnfitError(message, model_id=version.id, code="version-reused")
    own, current = _number(version.version), _number(in_force.version)
    if own is None or current is None:
        return
    if own <= current:
        raise UnfitError(
            f"version {version.version} of model {version.id}: expected a later one than {in_force.version}, which is in "
            "force; to go back, see `bedside model rollback`",
            model_id=version.id,
            code="downgrade",
        )


def _fitting(version: ModelManifest, installed: ModelManifest) -> Iterator[tuple[str, object, object]]:
    """What the code relies on: what it calls things, what it makes tensors of, and the tables that it reads itself."""
    yield "id", version.id, installed.id
    yield "hooks", version.hooks, installed.hooks
    yield "graph inputs", version.artifact.inputs, installed.artifact.inputs
    yield "outputs", _outputs(version), _outputs(installed)
    yield "explainer", version.artifact.explainer, installed.artifact.explainer
    # The reference for drift is read beside the graph by the platform; any other table by the model's own code.
    for name in sorted((version.files.keys() | installed.files.keys()) - {REFERENCE_FILE}):
        yield f"table {name}", version.files.get(name), installed.files.get(name)


def _outputs(manifest: ModelManifest) -> list[tuple[str, str, bool]]:
    return [(output.name, output.unit, output.optional) for output in manifest.outputs]


def _number(version: str) -> tuple[int, ...] | None:
    parts = version.split(".")
    return tuple(map(int, parts)) if all(part.isascii() and part.isdigit() for part in parts) else None


def _lay(model: ModelFolder, folder: Path) -> None:
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".keeping-"))
    try:
        for name, data in model.contents.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            _write(made / name, data)
        made.chmod(0o755)
        _sync_folder(made)
        made.rename(folder)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        raise
    _sync_folder(folder.parent)


def _check_same(folder: Path, model: ModelFolder) -> None:
    for name, data in model.contents.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            raise UnfitError(
                f"version {model.manifest.version} of model {model.manifest.id} lies in the store already, with another {name}",
                model_id=model.manifest.id,
                code="version-reused",
            )


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
