import json
import shutil

import pytest

from model_artifacts.icu_mortality.release import FOLDER, fill_manifest
from model_artifacts.manifest import parse_manifest


def copy_to(folder):
    for name in ("manifest.template.toml", "metrics.json", "model.onnx", "variables.toml"):
        shutil.copy(FOLDER / name, folder / name)


def test_release_the_manifest_is_the_template_filled_with_the_metrics(tmp_path):
    copy_to(tmp_path)
    fill_manifest(tmp_path)
    assert (tmp_path / "manifest.toml").read_text() == (FOLDER / "manifest.toml").read_text()


def test_release_refuses_a_mark_that_nothing_fills(tmp_path):
    copy_to(tmp_path)
    template = tmp_path / "manifest.template.toml"
    template.write_text(template.read_text() + '\n# "@unknown@"\n')
    with pytest.raises(ValueError, match="marks without a value"):
        fill_manifest(tmp_path)


def test_release_bands_are_the_thresholds_that_were_evaluated():
    manifest = parse_manifest((FOLDER / "manifest.toml").read_text(encoding="utf-8"))
    metrics = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))
    evaluated = [value["at_least"] for value in metrics["thresholds"].values()]
    assert [band.at_least for band in manifest.bands] == [0.0, *evaluated]


def test_release_meets_the_floor_set_for_it():
    metrics = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))
    model = metrics["model"]
    assert model["auroc"]["estimate"] >= 0.86
    assert 0.9 <= model["calibration_slope"]["estimate"] <= 1.1
    assert metrics["run"]["graph"]["bytes"] < 10_000_000
    assert metrics["run"]["parity"]["rows"] >= 1000
    assert max(metrics["run"]["parity"]["largest_difference"].values()) <= 1e-5
