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
        f"by 5-fold cross-validation over {metrics['cohort']['stays']:,} stays at 48 hours; gradient boosting on the same "
        f"folds {rival['auroc']['estimate']:.3f} and {rival['auprc']['estimate']:.3f}"  # type: ignore[index]
    )
    assert words in README
    early = [metrics["horizons"][f"{hour}_h"] for hour in (6, 12, 24, 36)]
    ours, theirs = (
        ", ".join(f"{at_hour[name]['estimate']:.3f}" for at_hour in early)  # type: ignore[index]
        for name in ("auroc", "gradient_boosting_auroc")
    )
    assert (
        f"AUROC at 6, 12, 24 and 36 hours {ours}, of gradient boosting trained for each of these hours {theirs}"
        in README
    )


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


def test_readme_figures_of_warfarin_dose_are_those_of_its_evaluation() -> None:
    metrics = json.loads((ROOT / "model_artifacts/warfarin_dose/metrics.json").read_text())
    error, without = metrics["model"]["mean_absolute_error"], metrics["without_genotypes"]["this_model"]
    rivals = {name: metrics["rivals"][name]["mean_absolute_error"]["estimate"] for name in metrics["rivals"]}
    black = next(group for group in metrics["subgroups"] if group["group"] == "black")["mean_absolute_error"]
    words = (
        f"mean absolute error {error['estimate']:.2f} mg/week (95 % interval {error['low']:.2f}–{error['high']:.2f}), "
        f"{100 * metrics['model']['within_20_percent']['estimate']:.1f} % within 20 % of the dose, by 5-fold cross-validation "
        f"over {metrics['cohort']['people']:,} people; on the same people the IWPC pharmacogenetic equation "
        f"{rivals['iwpc_equation']:.2f}, a tuned support vector regression {rivals['support_vector']:.2f}, gradient boosting "
        f"{rivals['gradient_boosting']:.2f}; without genotypes {without['mean_absolute_error']['estimate']:.2f}; in people "
        f"recorded as Black {black['estimate']:.1f}"
    )
    assert words in README


def test_readme_of_the_worked_example_and_the_guide_give_the_figures_of_its_evaluation() -> None:
    example = ROOT / "examples" / "bring-your-own" / "bedside-long-stay"
    metrics = json.loads((example / "src" / "bedside_long_stay" / "metrics.json").read_text())
    auroc, more = metrics["model"]["auroc"], metrics["difference"]["logistic_regression"]["auroc"]["estimate"]
    guide = " ".join((ROOT / "docs" / "add-a-model.md").read_text(encoding="utf-8").split())
    readme = " ".join((example / "README.md").read_text(encoding="utf-8").split())
    interval = f"(95 % interval {auroc['low']:.3f}–{auroc['high']:.3f})"
    assert f"On {metrics['cohort']['rows']:,} stays AUROC {auroc['estimate']:.3f} {interval}" in guide
    assert f"{more:.3f} above logistic regression" in guide
    assert f"AUROC {auroc['estimate']:.3f}, {more:.3f} above logistic regression" in readme
    rows = metrics["explanation"]["rows_of_the_graph_at_most"]
    assert f"at most {rows} rows" in guide
    assert f"at most {rows} rows" in readme


def test_readme_figures_of_readmission_30d_are_those_of_its_evaluation() -> None:
    metrics = json.loads((ROOT / "model_artifacts/readmission_30d/metrics.json").read_text())
    auroc, auprc = metrics["model"]["auroc"], metrics["model"]["auprc"]
    rivals = {
        name: tuple(f"{rival[metric]['estimate']:.3f}" for metric in ("auroc", "auprc"))
        for name, rival in metrics["rivals"].items()
    }
    words = (
        f"AUROC {auroc['estimate']:.3f} (95 % interval {auroc['low']:.3f}–{auroc['high']:.3f}), AUPRC {auprc['estimate']:.3f}, "
        f"calibration slope {metrics['model']['calibration_slope']['estimate']:.2f}, by 5-fold cross-validation by person over "
        f"{metrics['cohort']['stays']:,} stays; gradient boosting on the same folds "
        f"{' and '.join(rivals['gradient_boosting'])}, "
        f"with the same history of earlier stays {' and '.join(rivals['gradient_boosting_with_history'])}; with what a record "
        f"tells {metrics['as_read_from_a_record']['auroc']['estimate']:.3f}, without earlier stays "
        f"{metrics['without_earlier_stays']['auroc']['estimate']:.3f}"
    )
    assert words in README
