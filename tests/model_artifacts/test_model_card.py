"""The card is made of the manifest, the input spec and the metrics, the same bytes each time."""

import hashlib
import json
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model_artifacts.gate import Gate, GateRule
from model_artifacts.manifest import Conformal, ConformalSpan, Uncertainty
from model_artifacts.model_card import model_card
from model_artifacts.runtime import ReleasedModel
from model_artifacts.source_attributes import ATTRIBUTES
from model_artifacts.tripod import ITEMS

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
    assert "AUROC, on data that the fit never saw: this model 0.871 (0.861 to 0.882); gradient boosting 0.871" in card
    assert "|   | this model | gradient boosting |" in _section(card, "Evaluation figures")
    assert "In brackets: 95 % interval." in card


def test_model_card_tells_when_the_model_does_not_answer() -> None:
    text = _section(model_card(MODEL), "When it does not answer")
    assert "Total cholesterol" in text
    assert "outside of the population" in text


def test_model_card_words_the_prediction_set(tmp_path: Path) -> None:
    conformal = Conformal(0.9, 0.08, 0.65, "held-out folds")
    text = _section(_card(tmp_path, {}, uncertainty=Uncertainty("none", "No interval.", conformal)), "Uncertainty")
    assert "coverage of 90 %: an estimate below 8.0 % leaves the event out, one above 35.0 % its absence" in text
    assert "of all people who had the event, about 10 % lay below 8.0 %" in text
    assert text.endswith("Held-out folds")


def test_model_card_gives_the_bounds_of_every_span(tmp_path: Path) -> None:
    spans = (ConformalSpan(6.0, 0.05, 0.7), ConformalSpan(45.0, 0.08, 0.65))
    conformal = Conformal(0.9, 0.08, 0.65, "Held-out folds.", "elapsed", spans)
    text = _section(_card(tmp_path, {}, uncertainty=Uncertainty("none", "No interval.", conformal)), "Uncertainty")
    words = "go by the input “elapsed”: from 6 on 5.0 % and 30.0 %; from 45 on 8.0 % and 35.0 %."
    assert text.endswith(words)


def test_model_card_keeps_a_bar_inside_its_cell(tmp_path: Path) -> None:
    card = _card(tmp_path, {"evaluation": {"a|b": {"estimate": 0.5}}})
    assert "| a\\|b | 0.50 |" in card


CURVES = {
    "curves": {"roc": [[0.0, 0.0], [0.2, 0.7], [1.0, 1.0]], "precision_recall": [[0.5, 0.9], [1.0, 0.3]]},
    "attributions": [{"input": "a", "label": "Age | <b>", "mean_absolute": 0.04}],
    "explanation": {"correlation_with_shapley": 0.98},
    "risk_coverage": [{"coverage": 1.0, "brier": 0.1}, {"coverage": 0.5, "brier": 0.05}],
}


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("Evaluation figures", "| this model | 0.20 | 0.70 |"),
        ("Evaluation figures", "### Precision and recall"),
        ("Explanation", "| Age \\| <b> | 0.04 |"),
        ("Explanation", "| correlation with Shapley | 0.98 |"),
        ("Uncertainty", "| this model | 0.50 | 0.05 |"),
    ],
)
def test_model_card_holds_the_plots_tables_where_they_belong(tmp_path: Path, section: str, line: str) -> None:
    text = _section(_card(tmp_path, CURVES), section)
    assert line in text
    assert "rows, see metrics.json" not in text


def test_model_card_names_the_plots_there_are_no_numbers_for(tmp_path: Path) -> None:
    text = _section(_card(tmp_path, CURVES), "Evaluation figures")
    missing = text.split("### Plots that are not available")[1]
    assert "reliability curve: `metrics.json` has no section `reliability`" in missing
    assert "`curves`" not in missing


def test_model_card_says_in_which_group_the_model_is_least_good(tmp_path: Path) -> None:
    groups = [
        {"by": "sex", "group": name, "n": 9, "auroc": {"estimate": value, "low": value, "high": value}}
        for name, value in (("female", 0.9), ("male", 0.71))
    ]
    text = _section(_card(tmp_path, {"subgroups": groups}), "In short")
    assert "**Where it is least good:** sex male, AUROC 0.71 (0.71 to 0.71)" in text


def test_model_card_explains_the_figures_it_shows_and_no_others(tmp_path: Path) -> None:
    text = _section(_card(tmp_path, {"evaluation": {"brier": 0.1, "auroc": 0.8}}), "Evaluation figures")
    meanings = text.split("### What the figures mean\n\n")[1].split("\n\n")[0]
    assert [line.split(":")[0] for line in meanings.splitlines()] == ["- AUROC", "- Brier"]


def test_model_card_judges_its_own_release_gate(tmp_path: Path) -> None:
    rules = (
        GateRule("slope", "model.calibration_slope", "Risks must be right.", at_least=0.9, at_most=1.1),
        GateRule("sex", "auroc", "Equal ranking of women and men.", by="sex", largest_gap=0.05),
    )
    metrics = {
        "model": {"calibration_slope": 1.02},
        "subgroups": [{"by": "sex", "group": g, "n": 9, "auroc": v} for g, v in (("female", 0.9), ("male", 0.71))],
    }
    card = _card(tmp_path, metrics, gate=Gate(rules))
    text = _section(card, "Release gate")
    assert (
        "| slope | kept | model.calibration_slope 1.02; expected at least 0.9 and at most 1.1 | Risks must be right. |"
        in text
    )
    assert "| sex | broken |" in text
    assert "AUROC by sex groups no farther apart than 0.05" in _section(card, "Source attributes (hti1-dsi-31)")


def test_model_card_binds_the_figures_it_was_made_from(tmp_path: Path) -> None:
    card = _card(tmp_path, CURVES)
    digest = hashlib.sha256((tmp_path / "metrics.json").read_bytes()).hexdigest()
    assert f"| metrics.json | `{digest}` |" in _section(card, "Version and digests")


def test_model_card_answers_or_leaves_open_each_part_of_the_reporting_guideline(tmp_path: Path) -> None:
    text = _section(_card(tmp_path, {}, tripod={"5b": "1992 to 2017"}), "Reporting guideline (tripod-ai)")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row[0][2:] for row in rows] == list(ITEMS)
    assert next(row for row in rows if row[0] == "| 5b")[2] == "1992 to 2017 |"


@pytest.mark.parametrize(
    "word", ["Intended use", "Population", "Out of scope", "Limits", "Training data", "Reproducibility"]
)
def test_model_card_holds_the_sections_a_reader_looks_for(word: str) -> None:
    assert len(_section(model_card(MODEL), word)) > 40
