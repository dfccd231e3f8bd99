"""The report's own arithmetic: people drawn, bands, groups."""

from __future__ import annotations

import numpy as np
import pytest

from model_artifacts.readmission_30d.columns import SLOTS
from model_artifacts.readmission_30d.quality import GROUPS, slot_groups
from model_artifacts.readmission_30d.report import (
    bands,
    differences,
    measure,
    people,
    ranked_auprc,
    ranked_auroc,
    summary,
)
from model_artifacts.training.evaluate import auprc, auroc

PATIENTS = np.array(["a", "b", "a", "c", "a", "b"])
LABELS = np.array([0, 1, 0, 1, 1, 0])
RISK = np.array([0.05, 0.3, 0.1, 0.2, 0.26, 0.07])


def test_report_draws_people_with_all_their_stays() -> None:
    for draw in people(PATIENTS, 50):
        counts = np.bincount(draw, minlength=6)
        assert counts[0] == counts[2] == counts[4]
        assert counts[1] == counts[5]
        assert counts[0] + counts[1] + counts[3] == 3


def test_report_draws_are_the_same_each_time_and_differ_from_each_other() -> None:
    first, second = people(PATIENTS, 20), people(PATIENTS, 20)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len({tuple(draw) for draw in first}) > 5


def test_report_interval_holds_the_estimate_of_many_people() -> None:
    generator = np.random.default_rng(3)
    patients = np.array([f"p{number // 2}" for number in range(600)])
    risk = generator.uniform(0.02, 0.6, 600)
    labels = (generator.uniform(size=600) < risk).astype(int)
    found = summary(measure(risk, labels, people(patients, 60)))["auroc"]
    assert found["low"] < found["estimate"] < found["high"]
    assert found["estimate"] == pytest.approx(0.75, abs=0.06)


def test_report_a_model_does_not_differ_from_itself() -> None:
    generator = np.random.default_rng(4)
    risk, labels = generator.uniform(size=200), generator.integers(0, 2, 200)
    measured = measure(risk, labels, people(np.arange(200).astype(str), 20))
    found = differences(measured, measured)
    assert all(value == 0 for metric in found.values() for value in metric.values())


def test_report_bands_hold_everybody_once_and_count_who_came_back() -> None:
    rows = bands(RISK, LABELS, [np.arange(6)])
    assert [row["n"] for row in rows] == [2, 1, 1, 2]
    assert [row["came_back"]["estimate"] for row in rows] == [0, 0, 1, 1]


def test_quality_every_slot_belongs_to_the_input_that_fills_it() -> None:
    groups = slot_groups()
    assert all(GROUPS[int(groups[place])] == name for name, places in SLOTS.items() for place in places)
    assert (groups >= 0).all()


def test_report_ranking_metrics_by_counts_are_those_by_sorting() -> None:
    generator = np.random.default_rng(6)
    risk, labels = generator.integers(0, 40, 500) / 40, generator.integers(0, 2, 500)
    _, place = np.unique(risk, return_inverse=True)
    for draw in people(np.arange(500).astype(str), 5):
        assert ranked_auroc(place[draw], labels[draw]) == pytest.approx(auroc(risk[draw], labels[draw]))
        assert ranked_auprc(place[draw], labels[draw]) == pytest.approx(auprc(risk[draw], labels[draw]))
