import json
import shutil
from pathlib import Path

import pytest

from model_artifacts.runtime import ReleasedModel
from model_artifacts.training.release import fill_template, renew_examples


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
