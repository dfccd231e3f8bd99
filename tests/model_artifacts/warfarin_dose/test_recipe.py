import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model_artifacts.warfarin_dose.cohort import Cohort  # noqa: E402
from model_artifacts.warfarin_dose.columns import COLUMNS, INDEX  # noqa: E402
from model_artifacts.warfarin_dose.recipe import FOLDS, RECIPE, Parts, fold_novelty, folds  # noqa: E402


def cohort(n=50):
    features = np.zeros((n, len(COLUMNS)), dtype=np.float32)
    features[:, INDEX["age_decades"]] = 6
    features[:, INDEX["height"]], features[:, INDEX["weight"]] = 170, np.linspace(50, 120, n)
    words = np.full(n, "unknown")
    return Cohort(features, np.linspace(10, 60, n), words, words, words, {})


def part(number, fold):
    """A fold's answers that tell whose they are."""
    mine = np.flatnonzero(fold == number).astype(np.float32)
    made = {f"dose/{name}": mine for name in ("model", "without_genotypes", "support_vector", "gradient_boosting")}
    made |= {f"interval/{name}": np.stack([mine - 1, mine + 1], axis=1) for name in ("model", "without_genotypes")}
    made |= {"members": np.stack([mine] * 7, axis=1), "novelty": mine, "settings": np.array(f"fold {number}")}
    centre = torch.tensor([6.0, 170.0, 10.0 * number])
    return made | {
        "novelty/height_weights": np.zeros(4, dtype=np.float32),
        "novelty/centre": centre.numpy(),
        "novelty/whiten": np.eye(3, dtype=np.float32),
    }


def test_recipe_everybodys_answers_are_put_back_in_the_cohorts_order():
    fold = folds(50)
    held = Parts.of([part(number, fold) for number in range(FOLDS)]).held_out(cohort())
    everybody = np.arange(50)
    assert np.array_equal(held.doses["model"], everybody)
    assert np.array_equal(held.intervals["model"][:, 1], everybody + 1)
    assert held.members.shape == (50, 7)
    assert np.array_equal(held.novelty, everybody)
    assert {"iwpc_equation", "clinical_equation", "support_vector"} <= held.doses.keys()
    assert held.settings == tuple(f"fold {number}" for number in range(FOLDS))


def test_recipe_each_persons_novelty_is_that_of_the_model_that_never_saw_them():
    fold = folds(50)
    parts, people = Parts.of([part(number, fold) for number in range(FOLDS)]), cohort()
    expected = np.abs(people.features[:, INDEX["weight"]] - 10.0 * fold) / 3**0.5
    assert fold_novelty(parts, people.features) == pytest.approx(expected, rel=1e-5)


def test_recipe_maskings_hide_both_genotypes_or_one_and_leave_the_rows_given():
    rows = np.ones((2, len(COLUMNS)), dtype=np.float32)
    hidden = [int((mask(rows) == 0).sum(axis=1)[0]) for mask in RECIPE.masks]
    assert hidden == [0, 9, 6, 3]
    assert (rows == 1).all()
