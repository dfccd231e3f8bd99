import json
import shutil

import pytest

from model_artifacts.icu_mortality.release import FOLDER, fill_manifest
from model_artifacts.icu_mortality.report import LEAST_INPUTS
from model_artifacts.manifest import parse_manifest


def copy_to(folder):
    for name in ("manifest.template.toml", "metrics.json", "model.onnx", "reference.json", "variables.toml"):
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


def test_release_abstains_from_as_few_inputs_as_were_evaluated():
    manifest = parse_manifest((FOLDER / "manifest.toml").read_text(encoding="utf-8"))
    assert manifest.abstain.minimum_present == LEAST_INPUTS


METRICS = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))


def test_release_meets_the_floor_set_for_it():
    assert METRICS["model"]["auroc"]["estimate"] >= 0.87
    assert METRICS["latency"]["prediction_and_explanation"]["p50_ms"] > 0
    assert METRICS["run"]["graph"]["bytes"] == (FOLDER / "model.onnx").stat().st_size < 10_000_000
    assert METRICS["run"]["parity"]["rows"] >= 1000
    assert max(METRICS["run"]["parity"]["largest_difference"].values()) <= 1e-5


@pytest.mark.parametrize("hour", ["6_h", "12_h", "24_h", "36_h", "48_h"])
def test_release_is_calibrated_and_covers_at_every_hour(hour):
    at_hour = METRICS["horizons"][hour]
    assert 0.9 <= at_hour["calibration_slope"]["estimate"] <= 1.1
    assert at_hour["event_coverage"] == pytest.approx(0.9, abs=0.02)
    assert at_hour["no_event_coverage"] == pytest.approx(0.9, abs=0.02)


def test_release_is_ahead_of_gradient_boosting_from_24_hours_on_and_beyond_chance_from_36():
    ahead = {hour: METRICS["horizons"][hour]["difference_auroc"] for hour in ("24_h", "36_h", "48_h")}
    assert all(difference["estimate"] > 0 for difference in ahead.values())
    assert ahead["36_h"]["low"] > 0
    assert ahead["48_h"]["low"] > 0
