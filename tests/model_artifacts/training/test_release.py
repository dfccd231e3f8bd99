import json
import shutil
from pathlib import Path

import pytest

from model_artifacts.errors import ArtifactError
from model_artifacts.model_card import model_card
from model_artifacts.runtime import ReleasedModel
from model_artifacts.signing import UNSIGNED
from model_artifacts.training.release import fill_template, finish_release, renew_examples
from tests.model_artifacts.signer import Signer


def test_release_fills_each_mark_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "manifest.template.toml").write_text('id = "@a@"\ntext = "@b-1@ and @a@"\n')
    fill_template(tmp_path, {"a": "one", "b-1": "two"})
    assert (tmp_path / "manifest.toml").read_text() == 'id = "one"\ntext = "two and one"\n'


@pytest.mark.parametrize(
    ("marks", "why"), [({"a": "one", "c": "three"}, "expected the mark c, got none"), ({}, "marks without a value")]
)
def test_release_refuses_a_mark_that_stands_on_one_side_alone(tmp_path: Path, marks: dict[str, str], why: str) -> None:
    (tmp_path / "manifest.template.toml").write_text('id = "@a@"\n')
    with pytest.raises(ValueError, match=why):
        fill_template(tmp_path, marks)
    assert not (tmp_path / "manifest.toml").exists()


@pytest.mark.parametrize("package", ["model_artifacts.icu_mortality", "model_artifacts.warfarin_dose"])
def test_release_renews_examples_to_what_the_model_yields(package: str, tmp_path: Path) -> None:
    model = ReleasedModel.load(package)
    released = model.folder / "examples"
    shutil.copytree(released, tmp_path / "examples")
    cases = sorted(path.parent.name for path in released.glob("*/expected.json"))
    for case in cases:
        path = tmp_path / "examples" / case / "expected.json"
        known = json.loads(path.read_text())
        path.write_text(json.dumps({name: known[name] for name in ("patient", "as_of")}))
    renew_examples(model, tmp_path / "examples")
    assert cases
    for case in cases:
        renewed = (tmp_path / "examples" / case / "expected.json").read_text()
        assert renewed == (released / case / "expected.json").read_text()


@pytest.fixture
def tiny_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of warfarin_dose in a package of its own."""
    copy = tmp_path / f"copied_{tmp_path.name}"
    shutil.copytree(ReleasedModel.load("model_artifacts.warfarin_dose").folder, copy)
    monkeypatch.syspath_prepend(tmp_path)
    return copy


def test_release_without_a_key_leaves_the_folder_unsigned(tiny_copy: Path) -> None:
    (tiny_copy / "MODEL_CARD.md").write_text("an old card")
    finish_release(tiny_copy.name, None)
    assert not (tiny_copy / "model.sig").exists()
    assert (tiny_copy / "MODEL_CARD.md").read_text() == model_card(ReleasedModel.load(tiny_copy.name, UNSIGNED))


def test_release_with_a_key_is_a_signed_folder(tiny_copy: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing", reason="model-signing is of the extra 'train'")
    signer = Signer(tmp_path / "keys")
    finish_release(tiny_copy.name, signer.private_file)
    assert ReleasedModel.load(tiny_copy.name, (signer.trusted,)).manifest.id == "warfarin_dose"


def test_release_that_breaks_its_gate_is_not_signed(tiny_copy: Path, tmp_path: Path) -> None:
    with (tiny_copy / "manifest.toml").open("a") as manifest:
        manifest.write('\n[[gate.rules]]\nname = "never"\nmetric = "model.nothing"\nat_least = 0.5\nreason = "none"\n')
    with pytest.raises(ArtifactError, match="gate never: FAILED"):
        finish_release(tiny_copy.name, Signer(tmp_path / "keys").private_file)
    assert not (tiny_copy / "model.sig").exists()
