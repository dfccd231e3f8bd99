"""A training that was interrupted goes on where it stopped: each part's result is kept under a digest of all that made it.

Owns the folder `.training/<model>/<digest>/`, git-ignored, a file for each part. The digest is over the source of the named
modules and of every project module that they import, the settings, the bytes of the data and the releases of the libraries:
whatever changes, the parts lie under another name and nothing stale is taken up. Parts are arrays in NumPy's `.npz` (read
without pickle, so a file can run no code), written beside and renamed, so half a file is never found.

A part is a flat mapping of name to array; nest by names (`"intervals/model"`), keep a number as an array of no dimensions, and
a network as its state dict (`state_arrays`, `load_state` in `device.py`).
"""

import argparse
import ast
import hashlib
import importlib.util
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

OWN = ("model_artifacts", "fhir_adapters")
"""Packages whose source counts; what comes from elsewhere counts by its release."""
LIBRARIES = ("torch", "numpy", "scikit-learn", "scipy")


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Parts of one training of one recipe; `folder` is its own."""

    folder: Path

    def part(self, name: str, compute: Callable[[], Arrays]) -> dict[str, npt.NDArray[Any]]:
        """The part as kept, or else as computed now and then kept. Equal either way, to the bit."""
        path = self.folder / f"{name}.npz"
        kept = _read(path)
        if kept is not None:
            return kept
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.writing")
        with beside.open("wb") as file:
            np.savez(file, **compute())  # type: ignore[arg-type]
        beside.replace(path)
        found = _read(path)
        assert found is not None
        return found

    def has(self, name: str) -> bool:
        """Whether the part is kept, so that a training can say what it takes up."""
        return (self.folder / f"{name}.npz").exists()


def open_checkpoints(root: Path, digest: str, *, fresh: bool) -> Checkpoints:
    """The parts of the recipe with this digest under `root`; parts of other recipes are dropped, with `fresh` all are."""
    own = root / digest
    if root.exists():
        for other in root.iterdir():
            if other.is_dir() and (fresh or other != own):
                shutil.rmtree(other)
    return Checkpoints(own)


def add_arguments(parser: argparse.ArgumentParser, model_id: str) -> None:
    """`--checkpoints FOLDER` and `--fresh`, the same for every model's `train.py`."""
    default = Path(__file__).parents[2] / ".training" / model_id
    parser.add_argument("--checkpoints", type=Path, default=default, help="where an interrupted training goes on from")
    parser.add_argument("--fresh", action="store_true", help="drop what an interrupted training left")


def recipe_digest(modules: Iterable[str], settings: Mapping[str, Any], data: Iterable[Path]) -> str:
    """16 hex digits over source, settings, the data's bytes and the libraries' releases.

    Raises:
        FileNotFoundError: a data file is not there.
    """
    digest = hashlib.sha256()
    for name, path in sorted(sources(modules).items()):
        digest.update(f"{name}:{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for path in sorted(data):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    releases = {name: _release(name) for name in LIBRARIES}
    digest.update(json.dumps([settings, releases], sort_keys=True, default=repr).encode())
    return digest.hexdigest()[:16]


def sources(modules: Iterable[str]) -> dict[str, Path]:
    """The source files of these modules and of all project modules that they import, directly or not, and their tables.

    A table is any `.toml` or `.csv` in the folder of a model's module: it decides results as code does. Manifests don't.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if path is None or name in found:
            continue
        found[name] = path
        waiting += _imported(path)
    tables = {
        str(table.relative_to(table.parents[1])): table
        for folder in {path.parent for path in found.values() if (path.parent / "train.py").exists()}
        for pattern in ("*.toml", "*.csv")
        for table in folder.glob(pattern)
        if not table.name.startswith("manifest")
    }
    return found | tables


def _source(name: str) -> Path | None:
    if name.partition(".")[0] not in OWN:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # a name that an import takes from a module, not a module
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _release(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _read(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """None where there is no part, or one cut short (by a full disk): it is then computed anew."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (FileNotFoundError, zipfile.BadZipFile, EOFError):
        return None
