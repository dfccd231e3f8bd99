"""Rival and teacher: event rates of codes without leaks, and estimates of rows that were and were not fitted on."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from model_artifacts.training import tree_teacher
from model_artifacts.training.evaluate import auroc
from model_artifacts.training.tree_teacher import Rows, rival_predictions, teacher_predictions


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> tuple[Rows, np.ndarray, np.ndarray]:
    """1,200 rows whose outcome depends on a number and on a code; one seed, to be quick."""
    monkeypatch.setattr(tree_teacher, "RIVAL_SEEDS", (0,))
    monkeypatch.setattr(tree_teacher, "TEACHER_SEEDS", (0,))
    draw = np.random.default_rng(2)
    number, code = draw.normal(size=1200), draw.integers(0, 6, 1200)
    risk = 1 / (1 + np.exp(-(number + (code > 3) * 1.5 - 1.5)))
    labels = (draw.uniform(size=1200) < risk).astype(np.int64)
    later = np.maximum(labels, (draw.uniform(size=1200) < 0.4).astype(np.int64))
    return Rows(np.stack([number, draw.normal(size=1200)], axis=1), code.astype(str)[:, None]), labels, later


def test_tree_teacher_both_tell_rows_they_never_saw_apart(table: tuple[Rows, np.ndarray, np.ndarray]) -> None:
    rows, labels, later = table
    fit, at = np.arange(800), np.arange(800, 1200)
    rival = rival_predictions(rows, labels, fit, at)
    own, taught = teacher_predictions(rows, labels, later, fit, (fit, at))
    assert auroc(rival, labels[at]) > 0.68
    assert auroc(taught, labels[at]) > 0.68
    assert (own.shape, taught.shape) == ((800,), (400,))
    assert own.mean() == pytest.approx(labels[fit].mean(), abs=0.05)


def test_tree_teacher_estimates_do_not_depend_on_the_outcomes_of_other_rows(
    table: tuple[Rows, np.ndarray, np.ndarray],
) -> None:
    rows, labels, _ = table
    fit, at = np.arange(800), np.arange(800, 1200)
    turned = labels.copy()
    turned[at] = 1 - turned[at]
    np.testing.assert_array_equal(rival_predictions(rows, labels, fit, at), rival_predictions(rows, turned, fit, at))


def test_tree_teacher_a_code_never_seen_is_no_fault(table: tuple[Rows, np.ndarray, np.ndarray]) -> None:
    rows, labels, _ = table
    codes = rows.codes.copy()
    codes[1199] = "9"
    found = rival_predictions(Rows(rows.numbers, codes), labels, np.arange(800), np.array([1199]))
    assert 0 < found[0] < 1
