"""README's claims that a machine can hold it to: figures, commands, links and settings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _icu_metrics() -> dict[str, dict[str, dict[str, float]]]:
    metrics: dict[str, dict[str, dict[str, float]]] = json.loads(
        (ROOT / "model_artifacts/icu_mortality/metrics.json").read_text()
    )
    return metrics


def test_readme_figures_of_icu_mortality_are_those_of_its_evaluation() -> None:
    metrics = _icu_metrics()
    model, rival = metrics["model"], metrics["rivals"]["gradient_boosting"]
    auroc = model["auroc"]
    words = (
        f"AUROC {auroc['estimate']:.3f} (95 % interval {auroc['low']:.3f}–{auroc['high']:.3f}), "
        f"AUPRC {model['auprc']['estimate']:.3f}, calibration slope {model['calibration_slope']['estimate']:.2f}, "
        f"by 5-fold cross-validation over {metrics['cohort']['stays']:,} stays; gradient boosting on the same folds "
        f"{rival['auroc']['estimate']:.3f} and {rival['auprc']['estimate']:.3f}"  # type: ignore[index]
    )
    assert words in README


def test_readme_says_that_the_difference_may_be_chance_while_its_interval_holds_zero() -> None:
    difference = _icu_metrics()["difference"]["gradient_boosting"]["auroc"]
    assert ("a difference that may be chance" in README) == (difference["low"] <= 0 <= difference["high"])  # type: ignore[index]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_readme_links_lead_somewhere(target: str) -> None:
    assert target.startswith("https://") or (ROOT / target).exists()


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"^bedside (\w+(?: \w+)?)", README, re.MULTILINE))))
def test_readme_commands_exist(verb: str) -> None:
    words = [word for word in verb.split() if word != "model" or len(verb.split()) > 1]
    done = subprocess.run(
        [sys.executable, "-m", "bedside", *words, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make (\w+)", README, re.MULTILINE))))
def test_readme_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
