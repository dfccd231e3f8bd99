"""`bedside model new` writes a package that trains, passes the checks, is found at once, and says what is to be written."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import pytest

from bedside.cli import main
from model_artifacts.checks import CHECKS, Subject, open_subject
from model_artifacts.errors import ManifestError
from model_artifacts.runtime import ReleasedModel
from model_artifacts.training.graph_checks import GRAPH_CHECKS
from tests.model_artifacts.signer import Signer

IN_PROCESSES_OF_THEIR_OWN = {"serves-without-training-libraries"}  # test_foreign_model.py


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BEDSIDE_STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path


def _make(name: str, kind: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's folder, found as an installed one is; the entry point is the one that its pyproject.toml gives."""
    assert main(["model", "new", name, "--kind", kind, "--dir", str(here)]) == 0
    package = here / name.replace("_", "-")
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    (points,) = project["entry-points"].items()
    installed = package / "src" / f"{name}-{project['version']}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = "".join(f"{key} = {value}\n" for key, value in points[1].items())
    (installed / "entry_points.txt").write_text(f"[{points[0]}]\n{lines}")
    monkeypatch.syspath_prepend(package / "src")
    return package


def _train(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Runs its train.py, with figures from fewer draws and calls."""
    for setting in ("DRAWS", "GROUP_DRAWS", "TIMED_CALLS", "EXPLAINED_ROWS", "REFERENCE_ORDERS"):
        monkeypatch.setattr(f"model_artifacts.training.tabular.{setting}", 20)
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    assert importlib.import_module(f"{name}.train").main() == 0


def _write_texts(folder: Path) -> None:
    """What an author does with every TODO."""
    for file in ("manifest.template.toml", "train.py"):
        text = (folder / file).read_text(encoding="utf-8")
        (folder / file).write_text(re.sub(r"TODO(: )?", "Written: ", text), encoding="utf-8")


def _failing(subject: Subject) -> set[str]:
    failing = set()
    for name, check in (CHECKS | GRAPH_CHECKS).items():
        if name in IN_PROCESSES_OF_THEIR_OWN:
            continue
        try:
            check(subject)
        except Exception:  # noqa: BLE001 - whatever it is, it fails
            failing.add(name)
    return failing


def test_model_new_equation_from_nothing_to_a_model_that_is_served(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "tiny_equation"
    folder = _make(name, "equation", here, monkeypatch) / "src" / name
    _train(name, monkeypatch)
    capsys.readouterr()
    assert main(["model", "verify"]) == 1
    said = capsys.readouterr().out
    assert f"{name}: REFUSED" in said
    assert f"{name}: still to be written (TODO): title, description, outputs[0].label" in said
    assert {"intended_use.use", "developer.name", "training_data.licence"} <= set(re.split(r", |\n", said))
    assert _failing(open_subject(name, name)) == {"finished"}

    _write_texts(folder)
    _train(name, monkeypatch)
    signer = Signer(here / "keys")
    signer.sign(folder)
    assert _failing(open_subject(name, name)) == set()
    monkeypatch.setenv("BEDSIDE_MODELS_TRUSTED_KEYS", str(signer.public_file))
    capsys.readouterr()
    main(["model", "verify"])
    said = capsys.readouterr().out
    assert f"{name}: as released" in said
    assert f"{name}: still" not in said
    main(["model", "list"])
    assert f"{name} 0.1.0  patient-view  Written: a title." in capsys.readouterr().out


def test_model_new_is_not_served_unfinished_even_if_somebody_signs_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "unwritten_equation"
    folder = _make(name, "equation", here, monkeypatch) / "src" / name
    _train(name, monkeypatch)
    signer = Signer(here / "keys")
    signer.sign(folder)
    with pytest.raises(ManifestError, match=r"unfinished, still to be written \(TODO\): title, "):
        ReleasedModel.load(name, (signer.trusted,))


def test_model_new_is_not_signed_unfinished(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("model_signing", reason="model-signing is of the extra 'train'")
    name = "unsigned_equation"
    folder = _make(name, "equation", here, monkeypatch) / "src" / name
    key = Signer(here / "keys").private_file
    with pytest.raises(ManifestError, match="is unfinished"):
        _train(name, monkeypatch, "--sign-key", str(key))
    assert not (folder / "model.sig").exists()


def test_model_new_classifier_learns_from_a_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skl2onnx", reason="scikit-learn and skl2onnx are of the extra 'train'")
    name = "tiny_classifier"
    _make(name, "classifier", here, monkeypatch)
    rows = [
        f"{0.5 + i % 7 / 2},{'' if i % 9 == 0 else 3.5 + i % 4},{90 + i % 60},{20 + i % 70},{i % 2},{int(i % 7 > 4)},{i // 2}"
        for i in range(400)
    ]
    (here / "rows.csv").write_text("creatinine,potassium,systolic,age,male,outcome,person\n" + "\n".join(rows))
    _train(name, monkeypatch, "--csv", "rows.csv", "--patient", "person")
    subject = open_subject(name, name)
    assert _failing(subject) == {"finished"}
    assert "AUROC" in (subject.model.folder / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("name", ["Sepsis", "sepsis-onset", "1st", "os", "a__b", "../up"])
def test_model_new_refuses_what_no_package_can_be_called(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "new", name]) == 2
    assert "NAME: expected lower-case words" in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_model_new_refuses_the_name_of_an_installed_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "new", "prevent_cvd"]) == 2
    assert "is an installed model already" in capsys.readouterr().err


def test_model_new_overwrites_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "sepsis-onset").mkdir()
    (here / "sepsis-onset" / "mine").write_text("work of weeks")
    assert main(["model", "new", "sepsis_onset"]) == 2
    assert "sepsis-onset: File exists" in capsys.readouterr().err
    assert [path.name for path in (here / "sepsis-onset").iterdir()] == ["mine"]


def test_model_new_has_its_templates_where_bedside_was_installed_from_a_wheel() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    packaged = project["tool"]["setuptools"]["package-data"]["*"]
    templates = list((Path(str(files("bedside.new_model"))) / "templates").iterdir())
    assert len(templates) > 10
    assert all(any(fnmatch(path.name, pattern) for pattern in packaged) for path in templates)
