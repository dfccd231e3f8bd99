import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from model_artifacts.warfarin_dose.release import LISTED, fill_manifest
from tests.model_artifacts.warfarin_dose.people import FOLDER


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


def test_release_beats_the_equations_and_the_rivals_by_more_than_chance() -> None:
    metrics = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))
    assert all(rival["mean_absolute_error"]["high"] < 0 for rival in metrics["difference"].values())


def _groups() -> list[dict[str, Any]]:
    metrics = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))
    by = ("race as recorded", "VKORC1", "CYP2C9")
    return [group for group in metrics["subgroups"] if group["by"] in by]


def test_release_intervals_cover_nine_of_ten_in_each_large_group() -> None:
    large = [group for group in _groups() if group["n"] >= 300]
    assert len(large) >= 10
    assert [group for group in large if not 0.88 <= group["interval_coverage"]["estimate"] <= 0.92] == []


def test_release_intervals_cover_nine_of_ten_in_small_groups_as_far_as_their_size_tells() -> None:
    small = [group["interval_coverage"] for group in _groups() if group["n"] < 300]
    assert len(small) >= 3
    assert all(covered["low"] <= 0.9 <= covered["high"] and covered["estimate"] > 0.87 for covered in small)


def test_release_is_within_the_time_for_a_table_with_its_explanation() -> None:
    latency = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))["latency"]
    assert (
        latency["prediction_and_explanation"]["p50_processor_ms"] <= 0.5
    )  # 0.3 on an idle host; of the one that made it, `load_average` says how busy it was
