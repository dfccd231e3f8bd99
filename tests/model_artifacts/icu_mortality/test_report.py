import json

import numpy as np
import pytest

from model_artifacts.icu_mortality.report import (
    EVALUATED_H,
    LEAST_INPUTS,
    Cohort,
    Evaluation,
    make_report,
    novelty_threshold,
    software,
    subgroups,
)
from model_artifacts.training.conformal import fit_bounds_by_hour
from model_artifacts.training.report_file import write_metrics
from model_artifacts.training.split import make_folds

pytest.importorskip("torch")  # the report names the versions of the training libraries
pytest.importorskip("sklearn")


def cohort(n=400):
    random = np.random.default_rng(0)
    probability = random.beta(1, 4, n)
    died = (random.random(n) < probability).astype(np.int64)
    statics = np.stack([random.uniform(20, 90, n), random.integers(0, 2, n), random.normal(170, 9, n)], axis=1)
    statics = np.concatenate([statics, random.integers(1, 5, (n, 1))], axis=1).astype(np.float32)
    statics[0, 1] = np.nan
    measured = {hour: random.integers(5 + hour // 4, 37, n) for hour in EVALUATED_H}
    return Cohort(died, statics, measured, {"pH": 3}), probability


def answers(people, probability):
    """The same at every hour, pulled towards the average early; members and novelty to match."""
    hours = np.stack([probability * share + 0.2 * (1 - share) for share in (0.2, 0.4, 0.6, 0.8, 1.0)])
    bounds = fit_bounds_by_hour(hours, people.died, EVALUATED_H, (6.0, 10.0, 20.0, 30.0, 40.0), 0.9)
    members = np.stack([hours, np.clip(hours + 0.05, 0, 1)], axis=2)
    return Evaluation(hours, members, hours + 1, (bounds, bounds)), bounds


@pytest.fixture
def report(monkeypatch):
    monkeypatch.setattr("model_artifacts.icu_mortality.report.BOOTSTRAPS", 20)
    monkeypatch.setattr("model_artifacts.icu_mortality.report.SUBGROUP_BOOTSTRAPS", 10)
    people, probability = cohort()
    evaluation, bounds = answers(people, probability)
    rivals = {"gradient_boosting": 1 - evaluation.probability, "logistic_regression": 1 - probability[None]}
    return make_report(people, evaluation, rivals, make_folds(people.died, 2, 0), bounds)


def test_report_holds_model_rivals_differences_and_subgroups(report, tmp_path):
    write_metrics(tmp_path, report | {"run": software()})
    read = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert read["model"]["auroc"]["estimate"] > 0.5 > read["rivals"]["gradient_boosting"]["auroc"]["estimate"]
    assert read["difference"]["logistic_regression"]["auroc"]["low"] > 0
    assert read["cohort"]["statics_unknown"]["Gender"] == 1
    assert {item["by"] for item in read["subgroups"]} == {"sex", "age", "unit"}
    assert all(
        {"auroc", "auprc", "calibration_slope", "false_negative_rate"} <= set(item) for item in read["subgroups"]
    )
    assert read["risk_coverage"][0]["coverage"] == 1.0
    assert len(read["curves"]["roc"]) <= 60


def test_report_every_hour_stands_beside_its_rival_with_coverage_and_who_gets_no_answer(report):
    assert list(report["horizons"]) == ["6_h", "12_h", "24_h", "36_h", "48_h"]
    for at_hour in report["horizons"].values():
        assert at_hour["difference_auroc"]["estimate"] == pytest.approx(
            at_hour["auroc"]["estimate"] - at_hour["gradient_boosting_auroc"]["estimate"]
        )
        assert at_hour["event_coverage"] == pytest.approx(0.9, abs=0.03)
    flagged = [at_hour["unlike_training_data"] for at_hour in report["horizons"].values()]
    assert np.mean(flagged) == pytest.approx(0.01, abs=0.001)
    early, late = report["horizons"]["6_h"], report["horizons"]["48_h"]
    assert early["too_few_inputs"] > late["too_few_inputs"]
    assert early["calibration_slope"]["estimate"] > 2 > late["calibration_slope"]["estimate"]
    assert late["auroc"] == report["model"]["auroc"]


def test_report_answers_count_only_where_inputs_and_novelty_allow_one():
    people, probability = cohort()
    evaluation, _ = answers(people, probability)
    threshold = novelty_threshold(evaluation.novelty)
    usable = evaluation.usable(people, threshold)
    assert usable.shape == (5, 400)
    assert not usable[evaluation.novelty > threshold].any()
    assert not usable[0, people.inputs_there(6) < LEAST_INPUTS].any()
    assert usable[0].sum() > 0


def test_report_subgroups_part_everyone_whose_group_is_known(monkeypatch):
    monkeypatch.setattr("model_artifacts.icu_mortality.report.SUBGROUP_BOOTSTRAPS", 5)
    people, probability = cohort()
    sizes = {by: sum(g["n"] for g in subgroups(people, probability) if g["by"] == by) for by in ("sex", "age", "unit")}
    assert sizes == {"sex": 399, "age": 400, "unit": 400}
