import numpy as np
import pytest

from model_artifacts.training.variants import variants
from tests.model_artifacts.training.graphs import write_graph

ROWS = {"features": np.random.default_rng(2).normal(0, 1, (50, 6)).astype(np.float32)}


def test_variants_are_measured_against_the_released_graph_which_stays_as_it_was(tmp_path):
    path = tmp_path / "model.onnx"
    both = write_graph(path)
    before = path.read_bytes()
    section = variants(path, ROWS, ("mean", lambda answers: float(answers.mean())), tolerance=1e-5, runs=5)
    table = {row["variant"]: row for row in section["variants"]}
    assert list(table) == ["float32", "float16", "int8"]
    assert table["float32"]["bytes"] == len(before)
    assert table["float32"]["largest_difference"] == 0
    truth = 1 / (1 + np.exp(-ROWS["features"] @ both))
    assert table["float32"]["mean"] == pytest.approx(truth.mean(), abs=1e-6)
    assert 0 < table["float16"]["largest_difference"] < 0.01 < 0.2
    assert 0 < table["int8"]["largest_difference"] < 0.2
    assert table["float16"]["bytes"] < len(before)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["model.onnx"]


def test_variants_reason_says_what_moved_by_how_much(tmp_path):
    path = tmp_path / "model.onnx"
    write_graph(path)
    score = ("mean", lambda answers: float(answers.mean()))
    strict = variants(path, ROWS, score, tolerance=1e-9, runs=2)["variants_released"]
    loose = variants(path, ROWS, score, tolerance=1.0, runs=2)["variants_released"]
    assert strict["variant"] == loose["variant"] == "float32"
    assert strict["why"].count("more than the 1e-09 allowed") == 2
    assert loose["why"].count("within the 1 allowed") == 2
