"""The card is made of the manifest, the input spec and the metrics, the same bytes each time."""

import json
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model_artifacts.manifest import Conformal, Uncertainty
from model_artifacts.model_card import model_card
from model_artifacts.runtime import ReleasedModel
from model_artifacts.source_attributes import ATTRIBUTES

MODEL = ReleasedModel.load("model_artifacts.prevent_cvd")


def _card(folder: Path, metrics: dict[str, Any], **changes: Any) -> str:
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return model_card(replace(MODEL, folder=folder, manifest=msgspec.structs.replace(MODEL.manifest, **changes)))


def _section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n\n")[1].split("\n\n## ")[0]


def test_model_card_is_the_same_each_time() -> None:
    assert model_card(MODEL) == model_card(ReleasedModel.load("model_artifacts.prevent_cvd"))
    assert model_card(MODEL).endswith("\n")


def test_model_card_does_not_depend_on_the_card_there_was(tmp_path: Path) -> None:
    shutil.copy(Path(str(files("model_artifacts.prevent_cvd"))) / "metrics.json", tmp_path)
    shutil.copy(Path(str(files("model_artifacts.prevent_cvd"))) / "train.py", tmp_path)
    identity = replace(MODEL.identity, card_sha256=MODEL.identity.manifest_sha256)
    assert model_card(replace(MODEL, folder=tmp_path, identity=identity)) == model_card(MODEL)


def test_model_card_numbers_every_source_attribute() -> None:
    rows = [
        line
        for line in _section(model_card(MODEL), "Source attributes (hti1-dsi-31)").splitlines()
        if line[:3] != "| -"
    ]
    assert [row.split(" | ")[0] for row in rows[-31:]] == [f"| {number}" for number in range(1, 32)]
    assert [row.split(" | ")[1] for row in rows[-31:]] == list(ATTRIBUTES.values())


def test_model_card_marks_what_others_published(tmp_path: Path) -> None:
    card = _card(tmp_path, {"published": {"c_statistic": 0.7941}})
    assert "### Published (published by others, not measured here)" in _section(card, "Evaluation figures")
    assert "0.794" in card


def test_model_card_without_figures_says_so(tmp_path: Path) -> None:
    card = _card(tmp_path, {})
    for title in ("Evaluation figures", "Calibration", "Subgroups"):
        assert _section(card, title).startswith("not available: ")


def test_model_card_shows_the_rival_beside_the_model(tmp_path: Path) -> None:
    figures = {"auroc": {"estimate": 0.8714, "low": 0.861, "high": 0.882}}
    card = _card(tmp_path, {"model": figures, "rivals": {"gradient_boosting": figures}})
    assert "|   | this model | gradient boosting |" in _section(card, "Evaluation figures")
    assert "In brackets: 95 % interval." in card


def test_model_card_tells_when_the_model_does_not_answer() -> None:
    text = _section(model_card(MODEL), "When it does not answer")
    assert "Total cholesterol" in text
    assert "outside of the population" in text


def test_model_card_words_the_prediction_set(tmp_path: Path) -> None:
    conformal = Conformal(0.9, 0.08, 0.65, "held-out folds")
    text = _section(_card(tmp_path, {}, uncertainty=Uncertainty("none", "No interval.", conformal)), "Uncertainty")
    assert (
        "coverage of 90 %: the event stays in it from a probability of 8.0 %, its absence up to 35.0 %. Held-out"
        in text
    )


def test_model_card_keeps_a_bar_inside_its_cell(tmp_path: Path) -> None:
    card = _card(tmp_path, {"evaluation": {"a|b": {"estimate": 0.5}}})
    assert "| a\\|b | 0.50 | – |" in card


@pytest.mark.parametrize(
    "word", ["Intended use", "Population", "Out of scope", "Limits", "Training data", "Reproducibility"]
)
def test_model_card_holds_the_sections_a_reader_looks_for(word: str) -> None:
    assert len(_section(model_card(MODEL), word)) > 40
