"""Each check fails on a model that isn't as it has to be; the broken models are a real one with one thing changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import pytest

from model_artifacts.checks import CHECKS, CheckFailed, Subject, open_subject
from model_artifacts.errors import ModelError
from model_artifacts.example_changes import disturbed, varied, without_codes, without_member
from model_artifacts.training.graph_checks import GRAPH_CHECKS
from model_artifacts.training.release import file_digest

NAME = "prevent_cvd"
_COPIES = count()
CASE = "examples/published-example"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a released model's folder, importable by its name."""
    monkeypatch.syspath_prepend(tmp_path)
    copy = tmp_path / f"checked_{next(_COPIES)}"
    shutil.copytree(Path(str(files(f"model_artifacts.{NAME}"))), copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def _subject(folder: Path, name: str = NAME) -> Subject:
    return open_subject(name, folder.name)


def _expected(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def break_it(folder: Path) -> None:
        path = folder / CASE / "expected.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return break_it


def _manifest(old: str, new: str) -> Callable[[Path], None]:
    def break_it(folder: Path) -> None:
        path = folder / "manifest.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return break_it


def _graph(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], None]:
    def break_it(folder: Path) -> None:
        path, before = folder / "model.onnx", file_digest(folder / "model.onnx")
        graph = onnx.load(path)
        change(graph)
        path.write_bytes(graph.SerializeToString())
        _manifest(before, file_digest(path))(folder)

    return break_it


def _source(old: str, new: str, file: str = "inputs.py") -> Callable[[Path], None]:
    def break_it(folder: Path) -> None:
        path = folder / file
        text = path.read_text()
        assert old in text
        # The copy must run its own code, and not the original's.
        path.write_text(text.replace(old, new))

    return break_it


BROKEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a text to be written": ("finished", _manifest('contact = "', 'contact = "TODO ')),
    "a table nobody lists": ("tables-are-listed", lambda folder: (folder / "more.toml").write_text("")),
    "a large file": ("file-sizes", lambda folder: (folder / "rows.bin").write_bytes(bytes(10_000_000))),
    "a card by hand": ("card-is-generated", lambda folder: (folder / "MODEL_CARD.md").write_text("# Good")),
    "no abstention": (
        "examples-of-both-kinds",
        lambda folder: [
            shutil.rmtree(path) for path in (folder / "examples").iterdir() if "published" not in path.name
        ],
    ),
    "another code": ("examples-are-reproduced", _expected(lambda it: it.update(code="total_cvd_10y:from-20"))),
    "another output": ("examples-are-reproduced", _expected(lambda it: it["outputs"].update(ascvd_10y=0.5))),  # type: ignore[attr-defined]
    "another reason": ("examples-are-reproduced", _expected(lambda it: it["attributions"].update(sbp=0.2))),  # type: ignore[attr-defined]
    "another opset": ("opset", _manifest("opset = 20", "opset = 19")),
    "a note in the graph": ("tells-nothing-of-its-machine", _graph(lambda it: setattr(it, "doc_string", "by me"))),
    "a path in the graph": (
        "tells-nothing-of-its-machine",
        _graph(lambda it: setattr(it.graph, "name", "/home/me/model")),
    ),
    "a source that isn't there": (
        "evidence",
        _source("row}, evidence,", 'row}, tuple(replace(item, source="Observation/else") for item in evidence),'),
    ),
    "an input that isn't told": ("single-missing-inputs", _manifest('"hdl_cholesterol", ', "")),
}


@pytest.mark.parametrize("what", BROKEN)
def test_checks_fail_on_a_model_with(what: str, folder: Path) -> None:
    name, break_it = BROKEN[what]
    check = (CHECKS | GRAPH_CHECKS)[name]
    check(_subject(folder))
    break_it(folder)
    again = folder.rename(folder.with_name(f"broken_{next(_COPIES)}"))  # a name of its own: imports are remembered
    with pytest.raises(ModelError):
        check(_subject(again))


def test_checks_of_the_name_compare_with_the_registry(folder: Path) -> None:
    with pytest.raises(CheckFailed, match="id: expected sepsis, got prevent_cvd"):
        CHECKS["name"](_subject(folder, "sepsis"))


def test_checks_find_a_training_library_that_is_imported_to_serve(folder: Path) -> None:
    check = CHECKS["serves-without-training-libraries"]
    (folder / "inputs.py").write_text("import onnx\n" + (folder / "inputs.py").read_text())
    with pytest.raises(CheckFailed, match="expected no training library, got onnx"):
        check(_subject(folder))


def test_checks_change_examples_as_they_say() -> None:
    bundle = {
        "entry": [
            {"resource": {"resourceType": "Patient", "id": "p", "birthDate": "1960-01-01"}},
            {"resource": {"resourceType": "Observation", "id": "a", "code": {"coding": [{"code": "1"}]}}},
            {
                "resource": {
                    "resourceType": "Observation",
                    "id": "b",
                    "component": [{"code": {"coding": [{"code": "1"}]}}, {"code": {"coding": [{"code": "2"}]}}],
                    "valueQuantity": {"value": 100.0},
                }
            },
        ]
    }

    def ids(changed: dict[str, object]) -> list[str]:
        return [entry["resource"]["id"] for entry in changed["entry"]]  # type: ignore[attr-defined]

    def copy() -> dict[str, object]:
        return json.loads(json.dumps(bundle))  # type: ignore[no-any-return]

    thinned = without_codes(copy(), {"1"})
    assert ids(thinned) == ["p", "b"]
    assert len(thinned["entry"][1]["resource"]["component"]) == 1
    assert "birthDate" not in without_member("birthDate")(copy())["entry"][0]["resource"]
    assert sorted(set(ids(disturbed(1)(copy())))) == ["a", "b", "p"]
    assert len(ids(disturbed(1)(copy()))) == 4
    moved = varied(np.random.default_rng(1), 0.5)(copy())["entry"][2]["resource"]["valueQuantity"]["value"]
    assert moved != 100
    assert 10 < moved < 1000
