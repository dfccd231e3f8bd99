import numpy as np
import onnx

from model_artifacts.training.latency import cut, latency, open_session
from tests.model_artifacts.training.graphs import write_graph

ROWS = {"features": np.random.default_rng(2).normal(0, 1, (20, 6)).astype(np.float32)}


def test_latency_the_cut_graph_gives_the_same_answer_and_no_explanation(tmp_path):
    path = tmp_path / "model.onnx"
    write_graph(path, work=40)
    part = cut(path.read_bytes())
    assert len(onnx.load_from_string(part).graph.node) == 3
    session = open_session(part)
    assert [item.name for item in session.get_outputs()] == ["probability"]
    feed = {"features": ROWS["features"][:1]}
    whole = open_session(path.read_bytes()).run(["probability"], feed)[0]
    assert np.array_equal(session.run(None, feed)[0], whole)


def test_latency_of_the_explanation_is_seen_beside_the_predictions(tmp_path):
    path = tmp_path / "model.onnx"
    write_graph(path, work=600)
    section = latency(path, ROWS, runs=60)
    whole, part = section["prediction_and_explanation"], section["prediction"]
    assert whole["p50_ms"] > 3 * part["p50_ms"] > 0
    assert whole["p99_ms"] >= whole["p50_ms"]
    assert section["threads"] == 1
    assert whole["p50_processor_ms"] > 3 * part["p50_processor_ms"] > 0
    assert whole["p50_processor_ms"] < 1.2 * whole["p50_ms"]
    assert section["load_average"] >= 0
    assert section["how"].startswith("60 calls")
