"""Kept model versions: what a decision of the past needs to be repeated after its model was replaced.

    <archive>/<sha-256 of the manifest>/  manifest.toml, model.sig and every file that is signed

A folder is copied when a model goes into service and never changed. What a model's Python code makes of an answer isn't
kept: the log has the digest of the software, and the card's words are in the payload.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from model_artifacts.errors import ArtifactError
from model_artifacts.folder import CARD_FILE, read_folder, vouched_files
from model_artifacts.graph import Arrays, GraphAnswer, run_graph
from model_artifacts.manifest import ModelManifest, Sha256
from model_artifacts.runtime import ReleasedModel, open_graph
from model_artifacts.signing import SIGNATURE_FILE, UNSIGNED


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A version that was in service once: its manifest, and a graph that still runs."""

    manifest: ModelManifest
    manifest_sha256: Sha256
    card: str
    session: onnxruntime.InferenceSession

    def run(self, arrays: Arrays) -> GraphAnswer:
        """The graph's raw answer for one patient's tensors."""
        return run_graph(self.session, arrays, self.manifest)


def keep_model(model: ReleasedModel, archive: Path) -> Path:
    """The folder in which this version is kept, copied there if it wasn't.

    Raises:
        ArtifactError: it can't be copied.
    """
    folder = archive / model.identity.manifest_sha256
    if folder.is_dir():
        return folder
    names = [*vouched_files(model.folder, model.manifest), SIGNATURE_FILE]
    try:
        archive.mkdir(parents=True, exist_ok=True)
        copy = Path(tempfile.mkdtemp(dir=archive, prefix=".keeping-"))
        for name in names:
            if (model.folder / name).exists():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(model.folder / name, copy / name)
        copy.chmod(0o755)
        _rename(copy, folder)
    except OSError as exc:
        message = f"archive of model {model.manifest.id}: {exc.strerror}"
        raise ArtifactError(message, model_id=model.manifest.id) from exc
    return folder


def find_kept(archive: Path, manifest_sha256: str) -> KeptModel | None:
    """The version with this manifest, None if it isn't kept. Its key may be trusted no longer: the log vouches for its digest.

    Raises:
        ManifestError, ArtifactError: the folder was altered.
    """
    folder = archive / manifest_sha256
    if not folder.is_dir():
        return None
    found = read_folder(folder, UNSIGNED)
    if found.manifest_sha256 != manifest_sha256:
        message = f"kept model {found.manifest.id}: expected a manifest of sha-256 {manifest_sha256}, got another"
        raise ArtifactError(message, model_id=found.manifest.id)
    return KeptModel(
        found.manifest, found.manifest_sha256, found.contents.get(CARD_FILE, b"").decode(), open_graph(found)
    )


def _rename(copy: Path, folder: Path) -> None:
    """Puts the copy in its place; another process may have been faster with the same bytes."""
    try:
        os.rename(copy, folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(copy)
