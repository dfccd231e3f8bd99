"""Bounds in words: each that is set, and none that isn't."""

from importlib.resources import files
from pathlib import Path

import msgspec
import pytest

from model_artifacts.gate import GateComparison, GateRule
from model_artifacts.manifest import Monitoring, read_manifest
from model_artifacts.manifest_words import comparison_words, gate_rules_words, monitoring_words

MANIFEST, _ = read_manifest(Path(str(files("model_artifacts.prevent_cvd"))))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (GateRule("a", "auroc", "r", by="sex", at_least=0.8), "AUROC by sex at least 0.80"),
        (
            GateRule("a", "model.calibration_slope", "r", at_least=0.9, at_most=1.125, judged_by="worse-end"),
            "model calibration slope at least 0.90, at most 1.125, with 95 % confidence",
        ),
        (
            GateRule("a", "auroc", "r", by="age_band", largest_gap=0.05),
            "AUROC by age band groups no farther apart than 0.05",
        ),
    ],
)
def test_manifest_words_of_a_gate_rule(rule: GateRule, text: str) -> None:
    assert gate_rules_words([rule]) == (text,)


@pytest.mark.parametrize(("higher", "word"), [(True, "lower"), (False, "higher")])
def test_manifest_words_of_a_comparison_say_which_way_is_worse(higher: bool, word: str) -> None:
    text = comparison_words(GateComparison("a", "auroc", higher, "r", 0.005))
    assert text == f"AUROC not {word} than the version in force's by more than 0.0050"


WATCHED = Monitoring(0.31, 0.22, 0.13, 0.54, 217, (0.7, 1.4), (0.6, 1.5), 23, "monthly")


def _words(*files: str) -> str:
    manifest = msgspec.structs.replace(MANIFEST, monitoring=WATCHED, files=dict.fromkeys(files, "0" * 64))
    return " ".join(monitoring_words(manifest))


def test_manifest_words_of_monitoring_hold_every_threshold() -> None:
    text = _words("reference.json")
    for number in (
        "0.31",
        "0.22",
        "0.13",
        "0.54",
        "217 decisions",
        "0.70 to 1.40",
        "0.60 to 1.50",
        "23 events",
        "monthly",
    ):
        assert number in text


def test_manifest_words_of_monitoring_speak_of_events_only_where_there_are_some() -> None:
    dose, _ = read_manifest(Path(str(files("model_artifacts.warfarin_dose"))))
    text = " ".join(monitoring_words(msgspec.structs.replace(dose, monitoring=WATCHED)))
    assert "23 events" in _words()
    assert "events" not in text
    assert "0.60 to 1.50" not in text


def test_manifest_words_of_monitoring_promise_no_comparison_without_a_reference() -> None:
    text = _words()
    assert "compared with nothing" in text
    assert not any(number in text for number in ("0.31", "0.22", "0.13"))
    assert "0.54" in text
