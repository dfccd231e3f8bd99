"""Reads a model folder, and takes no byte of it that nobody vouches for.

In this order, so that nothing unknown is ever parsed:
 (1) `model.sig` is by a trusted key: `signing.py`;
 (2) `manifest.toml` has the digest that is signed; only then it is read, strictly, and must be of the model signed;
 (3) the signed files are those that decide what the model says or what is said of it, no more and no fewer: the manifest, the
     graph, every file the manifest lists, and card and metrics where there are any;
 (4) each has the digest that is signed and, where the manifest gives one, the manifest's.

Without a signature (`UNSIGNED`) steps (2) to (4) go by the manifest's digests alone: for whoever is making the model, and for a
kept version, whose manifest's digest stands in the log.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_artifacts.errors import ArtifactError, ManifestError
from model_artifacts.manifest import ModelManifest, Sha256, parse_manifest
from model_artifacts.signing import MAX_SIGNATURE_BYTES, SIGNATURE_FILE, Signed, Trust, Unsigned, open_signature

MANIFEST_FILE, CARD_FILE, METRICS_FILE = "manifest.toml", "MODEL_CARD.md", "metrics.json"
MAX_FILE_BYTES = 4 * 1024**3  # a longer one is no model's, and would be read into memory whole


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model's files as they were when they were checked.

    Attributes:
        contents: the bytes of every file that is vouched for, and of `model.sig` where there is one, by name.
        signed: who vouches for them; None if nobody was asked to.
    """

    manifest: ModelManifest
    manifest_sha256: Sha256
    contents: Mapping[str, bytes]
    signed: Signed | None

    @property
    def graph(self) -> bytes:
        """The ONNX file."""
        return self.contents[self.manifest.artifact.file]

    @property
    def card_sha256(self) -> Sha256:
        """Of the model card; where there is none, of nothing."""
        return sha256(self.contents.get(CARD_FILE, b""))

    @property
    def metrics(self) -> dict[str, Any]:
        """What the evaluation found; empty where there is no `metrics.json`.

        Raises:
            ArtifactError: it is no JSON object.
        """
        try:
            content = json.loads(self.contents.get(METRICS_FILE, b"{}"))
        except ValueError:
            content = None
        if not isinstance(content, dict):
            message = f"file {METRICS_FILE} of model {self.manifest.id}: expected a JSON object"
            raise ArtifactError(message, model_id=self.manifest.id)
        return content


def read_folder(folder: Path, trust: Trust, name: str | None = None) -> ModelFolder:
    """The files of a model folder; `name` is what messages call the model until its manifest was read (default: the folder's).

    Raises:
        ManifestError: the manifest is unreadable or contradicts itself.
        ArtifactError: unsigned, signed by a stranger, or a file is missing or altered; the message names the file.
    """
    called = folder.name if name is None else name
    signed = signature = None
    if not isinstance(trust, Unsigned):
        signature = _read_signature(folder, called)
        signed = open_signature(signature, trust, called)  # (1)
        called = signed.model
    data = _read(folder, MANIFEST_FILE, called)
    if signed is not None:  # (2)
        _check_digest(MANIFEST_FILE, data, signed.digests.get(MANIFEST_FILE), called)
    manifest = _parse(data, called)
    if signed is not None and manifest.id != signed.model:
        raise ArtifactError(f"manifest of {manifest.id}: it was signed as model {signed.model}", model_id=manifest.id)
    names = vouched_files(folder, manifest)
    if signed is not None and names.keys() != signed.digests.keys():  # (3)
        differ = ", ".join(sorted(names.keys() ^ signed.digests.keys()))
        message = f"model {manifest.id}: expected the signed files, the manifest's and no others, got a difference in {differ}"
        raise ArtifactError(message, model_id=manifest.id)
    contents = {MANIFEST_FILE: data}
    for file, declared in names.items():
        if file != MANIFEST_FILE:  # (4)
            contents[file] = _read(folder, file, manifest.id)
            _check_digest(file, contents[file], None if signed is None else signed.digests[file], manifest.id)
            _check_digest(file, contents[file], declared, manifest.id)
    if signature is not None:
        contents[SIGNATURE_FILE] = signature
    return ModelFolder(manifest, sha256(data), contents, signed)


def vouched_files(folder: Path, manifest: ModelManifest) -> dict[str, str | None]:
    """The files that a signature covers, with the digest that the manifest gives of each, None where it gives none.

    The model's Python code isn't among them: it is the installed package's, and whoever installed that vouches for it.
    """
    artifact = manifest.artifact
    written = {name: None for name in (CARD_FILE, METRICS_FILE) if os.path.lexists(folder / name)}
    return {MANIFEST_FILE: None, **written, **manifest.files, artifact.file: artifact.sha256}


def sha256(data: bytes) -> Sha256:
    """SHA-256 of `data`, in hexadecimal."""
    return Sha256(hashlib.sha256(data).hexdigest())


def _parse(data: bytes, called: str) -> ModelManifest:
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise ManifestError(f"manifest {MANIFEST_FILE} of {called} cannot be read: not UTF-8", model_id=called) from exc
    return parse_manifest(text)


def _read_signature(folder: Path, called: str) -> bytes:
    if not os.path.lexists(folder / SIGNATURE_FILE):
        message = f"model {called} is unsigned: file {SIGNATURE_FILE} is missing; only a model that a trusted key signed is run"
        raise ArtifactError(message, model_id=called)
    return _read(folder, SIGNATURE_FILE, called, MAX_SIGNATURE_BYTES)


def _read(folder: Path, name: str, model_id: str, at_most: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a file; a pipe or a device in its place would be waited for, or never end."""
    try:
        with open(os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > at_most:
                message = f"file {name} of model {model_id}: expected a file of at most {at_most} bytes"
                raise ArtifactError(message, model_id=model_id)
            return file.read()
    except OSError as exc:
        kind = ManifestError if name == MANIFEST_FILE else ArtifactError
        raise kind(f"file {name} of model {model_id}: {exc.strerror}", model_id=model_id) from exc


def _check_digest(name: str, data: bytes, expected: str | None, model_id: str) -> None:
    actual = sha256(data)
    if expected is not None and actual != expected:
        message = f"file {name} of model {model_id} is altered: expected sha-256 {expected}, got {actual}"
        raise ArtifactError(message, model_id=model_id)
