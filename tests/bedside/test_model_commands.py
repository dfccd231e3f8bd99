"""`bedside model`: list, verify and card, on the models that are installed."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from bedside import models_installed
from bedside.cli import main
from model_artifacts.runtime import ReleasedModel


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of prevent_cvd, the only model there is."""
    name = f"copied_{tmp_path.name}"
    shutil.copytree(Path(str(files("model_artifacts.prevent_cvd"))), tmp_path / name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(models_installed, "model_packages", lambda: {"prevent_cvd": name})
    return tmp_path / name


def test_model_commands_list_id_version_hooks_and_title(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "list"]) == 0
    assert capsys.readouterr().out == "prevent_cvd 1.0.0  patient-view  AHA PREVENT cardiovascular risk\n"


def test_model_commands_verify_what_is_as_released(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "verify"]) == 0
    assert "prevent_cvd: as released, sha-256 " in capsys.readouterr().out


def test_model_commands_verify_refuses_an_altered_file(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (copy / "codes.toml").open("a") as file:
        file.write("\n")
    assert main(["model", "verify"]) == 1
    assert "prevent_cvd: REFUSED: file codes.toml of model prevent_cvd is altered" in capsys.readouterr().out


def test_model_commands_print_the_card(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "card", "prevent_cvd"]) == 0
    assert capsys.readouterr().out == (copy / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_model_commands_write_the_card_anew(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released = (copy / "MODEL_CARD.md").read_text(encoding="utf-8")
    (copy / "MODEL_CARD.md").write_text("by hand")
    assert main(["model", "card", "prevent_cvd", "--write"]) == 0
    assert (copy / "MODEL_CARD.md").read_text(encoding="utf-8") == released
    assert str(copy / "MODEL_CARD.md") in capsys.readouterr().out


def test_model_commands_print_a_card_that_was_never_written(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "MODEL_CARD.md").unlink()
    assert main(["model", "card", "prevent_cvd"]) == 0
    assert capsys.readouterr().out.startswith(f"# {ReleasedModel.load(copy.name).manifest.title}\n")


def test_model_commands_know_no_other_model(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["model", "card", "sepsis"])
    assert stopped.value.code == 2
    assert "invalid choice: 'sepsis'" in capsys.readouterr().err
