from __future__ import annotations

from pathlib import Path

import pytest

from model_artifacts.archive import find_kept, keep_model
from model_artifacts.errors import ArtifactError, ModelError
from model_artifacts.runtime import ReleasedModel


def test_archive_keeps_a_version_that_still_runs(prevent: ReleasedModel, tmp_path: Path) -> None:
    folder = keep_model(prevent, tmp_path / "models")
    kept = find_kept(tmp_path / "models", prevent.identity.manifest_sha256)
    assert kept is not None
    assert (kept.manifest, kept.manifest_sha256) == (prevent.manifest, folder.name)
    assert kept.card == (prevent.folder / "MODEL_CARD.md").read_text("utf-8")
    assert keep_model(prevent, tmp_path / "models") == folder
    assert [path.name for path in (tmp_path / "models").iterdir()] == [folder.name]


def test_archive_says_what_it_does_not_keep(tmp_path: Path) -> None:
    assert find_kept(tmp_path, "0" * 64) is None


@pytest.mark.parametrize("name", ["manifest.toml", "model.onnx"])
def test_archive_refuses_a_version_that_was_altered(prevent: ReleasedModel, tmp_path: Path, name: str) -> None:
    folder = keep_model(prevent, tmp_path)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError):
        find_kept(tmp_path, prevent.identity.manifest_sha256)


def test_archive_refuses_one_version_in_the_place_of_another(prevent: ReleasedModel, tmp_path: Path) -> None:
    keep_model(prevent, tmp_path).rename(tmp_path / ("0" * 64))
    with pytest.raises(ArtifactError, match="expected a manifest of sha-256 0000"):
        find_kept(tmp_path, "0" * 64)


def test_archive_that_cannot_be_written_is_an_error(prevent: ReleasedModel, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(ArtifactError, match="archive of model prevent_cvd"):
        keep_model(prevent, tmp_path / "models")
