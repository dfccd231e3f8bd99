"""What was released: its manifest is filled from its metrics, and the metrics show what is claimed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from model_artifacts.readmission_30d.release import LISTED, fill_manifest
from tests.model_artifacts.readmission_30d.stays import FOLDER


def _metrics() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))
    return read


def _copy_to(folder: Path) -> None:
    for name in ("manifest.template.toml", "metrics.json", "model.onnx", *LISTED):
        shutil.copy(FOLDER / name, folder / name)


def test_release_the_manifest_is_the_template_filled_with_the_metrics(tmp_path: Path) -> None:
    _copy_to(tmp_path)
    fill_manifest(tmp_path)
    assert (tmp_path / "manifest.toml").read_text() == (FOLDER / "manifest.toml").read_text()


def test_release_refuses_a_mark_that_nothing_fills(tmp_path: Path) -> None:
    _copy_to(tmp_path)
    template = tmp_path / "manifest.template.toml"
    template.write_text(template.read_text() + '\n# "@unknown@"\n')
    with pytest.raises(ValueError, match="marks without a value"):
        fill_manifest(tmp_path)


def test_release_beats_gradient_boosting_by_more_than_chance_and_given_the_same_history_too() -> None:
    difference = _metrics()["difference"]
    assert difference["gradient_boosting"]["auroc"]["low"] > 0
    assert difference["gradient_boosting"]["auprc"]["low"] > 0
    assert difference["gradient_boosting_with_history"]["auroc"]["low"] > 0


def test_release_is_calibrated() -> None:
    slope = _metrics()["model"]["calibration_slope"]
    assert 0.9 <= slope["low"] <= slope["high"] <= 1.1


def test_release_conformal_sets_hold_nine_of_ten_of_either_outcome() -> None:
    held_out = _metrics()["conformal"]["held_out"]
    assert held_out["event_coverage"] == pytest.approx(0.9, abs=0.02)
    assert held_out["no_event_coverage"] == pytest.approx(0.9, abs=0.02)


def test_release_graph_and_network_agree() -> None:
    assert _metrics()["run"]["parity"]["largest_difference"] <= 1e-5
