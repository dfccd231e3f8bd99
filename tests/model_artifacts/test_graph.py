"""A graph that gives outputs alone: what is asked of it at load, and that its answer and explanation repeat.

The model is real, and small: the equation that `bedside model new` writes.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from bedside.new_model.scaffold import Scaffold, write_scaffold
from model_artifacts.archive import find_kept, keep_model
from model_artifacts.checks import open_subject
from model_artifacts.errors import ArtifactError, GraphOutputError, ManifestError
from model_artifacts.graph import open_session
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import UNSIGNED
from model_artifacts.training.release import file_digest

NAME = "graph_equation"
_COPIES = count()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The trained package's folder."""
    folder = tmp_path_factory.mktemp("equation")
    write_scaffold(Scaffold(NAME, "equation"), folder / "package")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / "package" / "src")
        patch.setattr(sys, "argv", ["train"])
        patch.setattr("model_artifacts.training.tabular.TIMED_CALLS", 10)
        patch.setattr("model_artifacts.training.tabular.REFERENCE_ORDERS", 10)
        assert importlib.import_module(f"{NAME}.train").main() == 0
        yield folder / "package" / "src" / NAME


class Changed:
    """A copy of the model under a name of its own, to be changed before it is loaded."""

    def __init__(self, source: Path, place: Path) -> None:
        self.package = f"changed_equation_{next(_COPIES)}"
        self.folder = place / self.package
        shutil.copytree(source, self.folder, ignore=shutil.ignore_patterns("__pycache__"))

    def manifest(self, old: str, new: str) -> Changed:
        text = (self.folder / "manifest.toml").read_text()
        assert old in text
        (self.folder / "manifest.toml").write_text(text.replace(old, new))
        return self

    def load(self) -> ReleasedModel:
        return ReleasedModel.load(self.package, UNSIGNED)


@pytest.fixture
def changed(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Changed:
    monkeypatch.syspath_prepend(tmp_path)
    return Changed(source, tmp_path)


def test_graph_takes_no_weights_from_a_file_that_nobody_signed(
    changed: Changed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where onnxruntime would look for them
    width = 1000  # of a few numbers it refuses the file by itself
    weights = numpy_helper.from_array(np.ones((width, 1), np.float32), "weights")
    row, sums = (
        make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", width), ("y", 1))
    )
    graph = make_graph([make_node("MatMul", ["x", "weights"], ["y"])], "sum", [row], [sums], [weights])
    model = make_model(graph, opset_imports=[make_opsetid("", 18)], ir_version=9)
    whole = model.SerializeToString()
    onnx.save_model(model, "apart.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    manifest = changed.load().manifest
    assert open_session(manifest, whole)
    assert (tmp_path / "weights.bin").stat().st_size == 4 * width
    with pytest.raises(ArtifactError, match=r"graph of model graph_equation does not load: .*weights\.bin"):
        open_session(manifest, (tmp_path / "apart.onnx").read_bytes())


def test_graph_of_outputs_alone_is_explained(changed: Changed) -> None:
    subject = open_subject(NAME, changed.package)
    assessed = subject.assess(subject.predictions[0])
    assert assessed.answer is not None
    assert assessed.answer.members.tolist() == [assessed.answer.probability.tolist()]
    assert assessed.answer.novelty is None
    weight = {"creatinine": 0.9 * 0.6, "potassium": 0.1 * 0.7, "systolic": 0.02 * 11, "age": 0.04 * 11, "male": 0.0}
    shares = dict(zip(weight, assessed.answer.attributions.tolist(), strict=True))
    assert shares["male"] == 0  # as the baseline: never asked for
    assert sorted(shares, key=shares.__getitem__) == sorted(weight, key=weight.__getitem__)


def test_graph_of_a_kept_version_gives_the_same_answer_bit_for_bit(changed: Changed, tmp_path: Path) -> None:
    model = changed.load()
    keep_model(model, tmp_path / "archive")
    kept = find_kept(tmp_path / "archive", model.identity.manifest_sha256)
    assert kept is not None
    arrays = {"features": np.array([[1.7, 5.1, 96, 81, 1]], np.float32)}
    assert kept.run(arrays).digest() == model.run(arrays).digest() == changed.load().run(arrays).digest()


def test_graph_that_gives_not_a_number_is_refused(changed: Changed) -> None:
    subject = open_subject(NAME, changed.package)
    inputs = subject.assess(subject.predictions[0]).inputs
    answer = subject.model.run({"features": np.array([[np.nan, 5.1, 96, 81, 1]], np.float32)})
    with pytest.raises(GraphOutputError):
        subject.model.conclude(answer, inputs)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        (
            'output = "probabilities"',
            'output = "odds"',
            ArtifactError,
            "output odds: expected tensor.float. or .*none of this",
        ),
        (
            "creatinine = 1.0\npotassium = 4.2",
            "potassium = 4.2\ncreatinine = 1.0",
            ArtifactError,
            "occlusion baseline of model",
        ),
        ("male = 0.0", "", ArtifactError, "occlusion baseline of model"),
        ('explainer = "occlusion"\n', "", ManifestError, "need each other"),
        ("columns = [0]", "columns = [0, 0]", ManifestError, "must name a column for each output"),
        ("columns = [0]", "columns = [-1]", ManifestError, "must not be negative"),
        ("permutations = 16", "permutations = 0", ManifestError, "permutations must be 1 to 512"),
        ("exact_up_to = 8", "exact_up_to = 13", ManifestError, "exact_up_to must be 0 to 12"),
        ("budget_ms = 5.0", "budget_ms = 0", ManifestError, "budget_ms must be above 0"),
        ('explained = "outcome"', 'explained = "outcome"\nmembers = 2', ArtifactError, "output members: expected one"),
    ],
)
def test_graph_and_manifest_that_do_not_fit_are_refused(
    old: str, new: str, error: type[Exception], message: str, changed: Changed
) -> None:
    with pytest.raises(error, match=message):
        changed.manifest(old, new).load()


def test_graph_without_the_manifests_column_gives_no_answer(changed: Changed) -> None:
    model = changed.manifest("columns = [0]", "columns = [1]").load()
    with pytest.raises(GraphOutputError, match=r"expected the columns \(1,\), got 1"):
        model.run({"features": np.ones((1, 5), np.float32)})


def test_graph_for_one_row_alone_cannot_be_explained_by_occlusion(changed: Changed) -> None:
    path = changed.folder / "model.onnx"
    graph, before = onnx.load(path), file_digest(path)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ArtifactError, match="inputs features: expected a batch axis of any length"):
        changed.manifest(before, file_digest(path)).load()
