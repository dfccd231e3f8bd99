import json

import numpy as np
import pytest

from model_artifacts.icu_mortality.report import Cohort, Evaluation, make_report, subgroups, write_metrics
from model_artifacts.training.conformal import fit_bounds
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
    return Cohort(died, statics, random.integers(10, 37, n), {"pH": 3}), probability


def test_report_holds_model_rivals_differences_and_subgroups(tmp_path, monkeypatch):
    monkeypatch.setattr("model_artifacts.icu_mortality.report.BOOTSTRAPS", 20)
    monkeypatch.setattr("model_artifacts.icu_mortality.report.SUBGROUP_BOOTSTRAPS", 10)
    people, probability = cohort()
    folds = make_folds(people.died, 2, 0)
    bounds = fit_bounds(probability, people.died, 0.9)
    members = np.stack([probability, probability], axis=1)
    evaluation = Evaluation(probability, members, probability + 1, probability, (bounds, bounds))
    rival = 1 - probability
    report = make_report(people, evaluation, {"rival": rival}, folds, bounds, {"seed": 1, "graph": {}})
    write_metrics(tmp_path, report)
    read = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert read["model"]["auroc"]["estimate"] > 0.5 > read["rivals"]["rival"]["auroc"]["estimate"]
    assert read["difference"]["rival"]["auroc"]["low"] > 0
    assert read["cohort"]["statics_unknown"]["Gender"] == 1
    assert {item["by"] for item in read["subgroups"]} == {"sex", "age", "unit"}
    assert read["novelty"]["threshold"] == pytest.approx(np.percentile(probability + 1, 99), abs=1e-4)


def test_report_subgroups_part_everyone_whose_group_is_known(monkeypatch):
    monkeypatch.setattr("model_artifacts.icu_mortality.report.SUBGROUP_BOOTSTRAPS", 5)
    people, probability = cohort()
    sizes = {by: sum(g["n"] for g in subgroups(people, probability) if g["by"] == by) for by in ("sex", "age", "unit")}
    assert sizes == {"sex": 399, "age": 400, "unit": 400}
