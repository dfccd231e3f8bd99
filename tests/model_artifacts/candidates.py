"""Candidates: further versions of a released model, made by changing its manifest or metrics and signed for the test."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from model_artifacts.folder import read_folder
from model_artifacts.signing import release_keys
from tests.model_artifacts.signer import Signer


def make_candidate(
    folder: Path,
    signer: Signer,
    *,
    model: str = "prevent_cvd",
    version: str = "9.1.0",
    replacing: Mapping[str, str] | None = None,
    adding: str = "",
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """A signed folder of the released model's files: another version, texts of its manifest replaced, metrics changed."""
    released = Path(str(files(f"model_artifacts.{model}")))
    for name in read_folder(released, release_keys()).contents:
        if name != "model.sig":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(released / name, folder / name)
    manifest = folder / "manifest.toml"
    text = re.sub(r'^version = "[^"]*"', f'version = "{version}"', manifest.read_text(), count=1, flags=re.MULTILINE)
    for old, new in (replacing or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    manifest.write_text(text + adding)
    if metrics is not None:
        found = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps(found | dict(metrics)))
    signer.sign(folder)
    return folder


def with_graph(folder: Path, graph: bytes, signer: Signer) -> Path:
    """The same version with another graph, signed again."""
    manifest = folder / "manifest.toml"
    old = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    (folder / "model.onnx").write_bytes(graph)
    manifest.write_text(manifest.read_text().replace(old, hashlib.sha256(graph).hexdigest()))
    signer.sign(folder)
    return folder
