import json

import pytest

pytest.importorskip("torch")

from model_artifacts.prevent_cvd import train
from model_artifacts.training.export import check_parity, export_explained


def test_train_gives_the_released_bytes(tmp_path):
    path = tmp_path / "model.onnx"
    inputs = {"features": train.random_people(3, 0)}
    export_explained(train.PreventEquations(), inputs, path, train.EXPLANATION, dynamic_batch=True)
    assert path.read_bytes() == (train.FOLDER / "model.onnx").read_bytes()


def test_train_reads_every_published_row():
    table = train.coefficients()
    squared = list(train.TERMS).index("Age squared")
    assert table.shape == (4, 2, 2, 3, 27)
    assert (table[:, :, 0, :, squared] == 0).all()
    assert (table[:, :, 1, :, squared] != 0).all()
    assert table[0, 0, 0, 0, -1] == pytest.approx(-3.307728)
    assert table[3, 1, 0, 0, -1] == pytest.approx(-3.631387 + 0.144759)  # the missing deprivation index folded in


def test_train_metrics_are_those_of_the_released_graph():
    metrics = json.loads((train.FOLDER / "metrics.json").read_text(encoding="utf-8"))
    people = train.random_people(500, 1)
    people = people[people[:, 0] <= 59]
    parity = check_parity(
        train.FOLDER / "model.onnx", train.PreventEquations(), {"features": people}, train.EXPLANATION
    )
    assert max(parity.values()) <= metrics["measured"]["torch_onnx_max_difference"] + 1e-7
    assert train.completeness_gap(train.FOLDER / "model.onnx", people) <= metrics["measured"]["completeness_gap_max"]
    assert metrics["published"]["note"] == "published, not measured here"
