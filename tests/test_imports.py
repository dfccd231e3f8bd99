"""What trains and what serves use different libraries: torch is never needed at the bedside."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("audit", "bedside", "cds_service", "demo", "fhir_adapters", "model_artifacts", "smart_app")
TRAINING_ONLY = {"torch", "sklearn", "onnx", "onnxscript"}
DATA_READERS = {
    "pandas",
    "pyarrow",
    "scipy",
}  # a model folder may read its training data with them, but not by being imported


def _modules() -> list[Path]:
    return [path for package in PRODUCT for path in sorted((ROOT / package).rglob("*.py"))]


def _is_training(path: Path) -> bool:
    return path.name == "train.py" or path.is_relative_to(ROOT / "model_artifacts" / "training")


@pytest.mark.parametrize(
    "path", [path for path in _modules() if not _is_training(path)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_of_training_libraries_are_in_training_modules_alone(path: Path) -> None:
    module = ast.parse(path.read_text(encoding="utf-8"))
    assert not _imported(ast.walk(module)) & TRAINING_ONLY
    assert not _imported(module.body) & DATA_READERS


def _imported(nodes: Iterable[ast.AST]) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_imports_of_the_service_and_its_models_bring_no_training_library() -> None:
    script = (
        "import importlib, sys\n"
        "import bedside.wiring, bedside.cli\n"
        "from importlib.resources import files\n"
        "from model_artifacts.registry import model_packages\n"
        "from model_artifacts.runtime import ReleasedModel\n"
        "for package in model_packages().values():\n"
        "    if (files(package) / 'manifest.toml').is_file(): ReleasedModel.load(package)\n"
        f"print(sorted({TRAINING_ONLY | DATA_READERS!r} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    assert done.stdout.strip() == "[]"
