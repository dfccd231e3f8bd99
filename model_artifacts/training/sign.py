"""Signs a model folder: writes `model.sig`, as OpenSSF's `model-signing` makes it. Nothing that serves imports this.

The private key is the developer's and lies outside the tree; whoever wants to run the model needs its public half among the
trusted keys. What is signed, and how it is checked again: `model_artifacts.folder` and `model_artifacts.signing`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from model_artifacts.errors import ArtifactError
from model_artifacts.folder import read_folder
from model_artifacts.signing import SIGNATURE_FILE, UNSIGNED
from model_artifacts.unfinished import require_finished

try:
    from model_signing import signing
except ImportError:  # pragma: no cover - only the extra "train" has it
    signing = None


def sign_folder(folder: Path, private_key: Path, password: str | None = None) -> Path:
    """The signature file of `folder`, made anew; `private_key` is a P-256 key as PEM text.

    Raises:
        ArtifactError: `model-signing` isn't installed, the key can't be used, or a file isn't as the manifest says.
        ManifestError: the manifest is unreadable, contradicts itself, or isn't written to its end.
    """
    if signing is None:
        raise ArtifactError("signing needs the package model-signing: pip install 'bedside[train]'")
    model = read_folder(folder, UNSIGNED)
    require_finished(model)
    with tempfile.TemporaryDirectory() as place:
        # It signs whole folders: one with just these files, called as the model is.
        staged, made = Path(place) / model.manifest.id, Path(place) / SIGNATURE_FILE
        for name, data in model.contents.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(data)
        try:
            signing.Config().use_elliptic_key_signer(private_key=private_key, password=password).sign(staged, made)
        except (OSError, ValueError, TypeError) as exc:  # its message may quote what it read
            raise ArtifactError(f"key {private_key}: expected a P-256 private key as PEM text") from exc
        return _put(made.read_bytes(), folder / SIGNATURE_FILE)


def _put(data: bytes, path: Path) -> Path:
    """Puts the signature in its place at once: a half-written one would be an alarm."""
    written = path.with_name(f".{path.name}.{os.getpid()}")
    written.write_bytes(data)
    written.replace(path)
    return path
