"""The registry sees installed packages through their real metadata, as an installer leaves it on disk."""

from pathlib import Path

import pytest

from model_artifacts.errors import ManifestError
from model_artifacts.registry import BUILT_IN, model_packages


def _install(folder: Path, distribution: str, entries: str) -> None:
    """What `pip install` would leave: a package and its dist-info with entry points."""
    package = folder / distribution
    package.mkdir()
    (package / "__init__.py").write_text("")
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)


def test_registry_names_the_built_in_models() -> None:
    assert {name: f"model_artifacts.{name}" for name in BUILT_IN}.items() <= model_packages().items()


def test_registry_finds_the_model_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, "north_models", "[bedside.models]\nsepsis = north_models.sepsis\n\n[console_scripts]\nx = y:z\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert model_packages()["sepsis"] == "north_models.sepsis"
    assert tuple(model_packages())[: len(BUILT_IN)] == BUILT_IN
    assert "x" not in model_packages()


def test_registry_refuses_a_package_that_claims_a_built_in_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path, "false_models", "[bedside.models]\nprevent_cvd = false_models\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ManifestError, match=r"prevent_cvd: claimed by model_artifacts\.prevent_cvd and by false_models"
    ):
        model_packages()


def test_registry_refuses_two_packages_with_one_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, "north_models", "[bedside.models]\nsepsis = north_models.sepsis\n")
    _install(tmp_path, "south_models", "[bedside.models]\nsepsis = south_models.sepsis\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ManifestError, match="model sepsis: claimed by"):
        model_packages()
