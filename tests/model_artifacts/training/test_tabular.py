"""Rows, folds and figures of a yes/no model on a table; the graphs that scikit-learn and published equations become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from model_artifacts.training.equation_graph import Equation, random_rows, write_graph
from model_artifacts.training.evaluate import auroc
from model_artifacts.training.tabular import Rows, evaluate, middle_patient, out_of_fold, read_csv

NAMES = ("age", "sodium")


class ByPatient:
    """Remembers the patients it was fitted on, by the first column, and says 1 of those it knows."""

    def fit(self, features: np.ndarray, _labels: np.ndarray) -> ByPatient:
        self.known = set(features[:, 0].tolist())
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        seen = np.array([float(value in self.known) for value in features[:, 0].tolist()])
        return np.column_stack([1 - seen, seen])


def _csv(folder: Path, text: str) -> Path:
    (folder / "rows.csv").write_text(text)
    return folder / "rows.csv"


def test_tabular_reads_a_file_with_missing_values(tmp_path: Path) -> None:
    rows = read_csv(
        _csv(tmp_path, "outcome,sodium,age,who\n1,,70,a\n0,141,60,b\n0,139.5,50,b\n"), NAMES, "outcome", "who"
    )
    assert np.array_equal(rows.features, np.array([[70, np.nan], [60, 141], [50, 139.5]], np.float32), equal_nan=True)
    assert rows.labels.tolist() == [1, 0, 0]
    assert rows.patients.tolist() == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("outcome,age\n1,70\n", "got none for sodium"),
        ("age,sodium\n1,70\n", "got none for outcome"),
        ("outcome,age,sodium\n2,70,141\n", "expected 0 or 1 in the column outcome"),
        ("outcome,age,sodium\n,70,141\n", "could not convert"),
        ("outcome,age,sodium\n1,old,141\n", "could not convert"),
        ("outcome,age,sodium\n", "got none for"),
    ],
)
def test_tabular_refuses_a_file_that_is_none_of_it(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_csv(_csv(tmp_path, text), NAMES, "outcome")


def test_tabular_never_fits_on_the_patient_it_reports_on() -> None:
    patients = np.repeat(np.arange(40), 3)
    features = np.column_stack([patients, np.zeros(120)]).astype(np.float32)
    rows = Rows(NAMES, features, (patients % 4 == 0).astype(np.int64), patients)
    assert out_of_fold(ByPatient, rows).tolist() == [0.0] * 120


def test_tabular_middle_patient_has_medians_and_lacks_what_most_lack() -> None:
    features = np.array([[50, np.nan], [60, np.nan], [71.23456, 140]], np.float32)
    rows = Rows(NAMES, features, np.zeros(3, np.int64), np.arange(3))
    assert middle_patient(rows) == {"age": 60.0, "sodium": "missing"}
    assert middle_patient(rows, rarely=0.9) == {"age": 60.0, "sodium": 140.0}


def test_tabular_figures_are_those_of_the_held_out_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_artifacts.training.tabular.DRAWS", 20)
    monkeypatch.setattr("model_artifacts.training.tabular.GROUP_DRAWS", 20)
    random = np.random.default_rng(1)
    held_out = random.uniform(0.02, 0.9, 400)
    labels = (random.random(400) < held_out).astype(np.int64)
    groups = np.where(np.arange(400) < 200, "female", np.where(np.arange(400) < 395, "male", "other"))
    rows = Rows(NAMES, np.zeros((400, 2), np.float32), labels, np.arange(400), {"sex": groups})
    found = evaluate(rows, held_out, {"constant": np.full(400, 0.4)}, outcome="o", threshold=0.3, run={"parity": 0.0})
    assert found["cohort"] == {"rows": 400, "events": int(labels.sum()), "share": labels.mean()}
    assert found["model"]["auroc"]["estimate"] == pytest.approx(auroc(held_out, labels))
    assert found["difference"]["constant"]["auroc"]["estimate"] == pytest.approx(auroc(held_out, labels) - 0.5)
    women, men = found["subgroups"]  # of the others there are too few
    assert (women["group"], women["n"], men["group"], men["n"]) == ("female", 200, "male", 195)
    missed = held_out[:200][labels[:200] == 1] < 0.3
    assert women["false_negative_rate"] == pytest.approx(missed.mean())


def test_tabular_equation_becomes_a_graph_that_says_the_same(tmp_path: Path) -> None:
    equation = Equation(-2.0, np.array([0.05, -0.1]), np.array([60.0, 140.0]))
    people = random_rows(NAMES, np.array([[18.0, 95.0], [120.0, 160.0]])).features
    assert write_graph(equation, tmp_path / "one.onnx", people) < 1e-6
    write_graph(equation, tmp_path / "two.onnx", people)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert equation.risk(np.array([[60.0, 140.0]])).tolist() == pytest.approx([0.11920292])


def test_tabular_equation_that_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    far_off = Equation(0.0, np.array([0.1, 0.0]), np.array([1e9 + 7, 140.0]))
    people = np.array([[1e9, 140]], np.float32)
    with pytest.raises(ValueError, match="expected the equation's risks to 1e-05"):
        write_graph(far_off, tmp_path / "model.onnx", people)


def test_tabular_classifier_becomes_a_graph_that_says_the_same(tmp_path: Path) -> None:
    pytest.importorskip("skl2onnx", reason="scikit-learn and skl2onnx are of the extra 'train'")
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    from model_artifacts.training import sklearn_graph

    random = np.random.default_rng(2)
    rows = sklearn_graph.as_float32(random.normal(size=(300, 3)))
    rows[random.random(rows.shape) < 0.2] = np.nan
    labels = (np.nan_to_num(rows[:, 0]) + random.normal(size=300) > 0).astype(int)
    trees = GradientBoostingClassifier(n_estimators=10, random_state=1)
    fitted = make_pipeline(SimpleImputer(strategy="constant", fill_value=-1), trees).fit(rows, labels)
    assert sklearn_graph.write_graph(fitted, tmp_path / "one.onnx", rows) < 1e-6
    sklearn_graph.write_graph(fitted, tmp_path / "two.onnx", rows)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    graph = onnx.load(tmp_path / "one.onnx")
    assert {entry.domain: entry.version for entry in graph.opset_import}[""] == 20
    assert [item.name for item in graph.graph.input] == ["features"]
    assert "probabilities" in {item.name for item in graph.graph.output}
    with pytest.raises(ValueError, match="infinite"):
        sklearn_graph.as_float32([[np.inf]])
