"""The encoding of a table, and the small network over it: learned from soft targets, with parts hidden."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from model_artifacts.training.category_fit import Recipe, Rows, build, fit, predict
from model_artifacts.training.category_network import Encoder, Features, Table
from model_artifacts.training.evaluate import auroc

TABLE = Table(
    {"age": (0, 10, 20), "stays": (0, 1, 3)}, ("female",), {"drug": 4, "site": 3}, frozenset({"drug"}), (4, 6), 2, 3
)


def _rows(n: int, seed: int = 1) -> tuple[Features, np.ndarray]:
    draw = np.random.default_rng(seed)
    columns = [draw.uniform(0, 20, n), *(draw.integers(0, most, n) for most in (4, 2, 3, 3))]
    codes = np.stack(
        [draw.integers(0, 4, n), draw.integers(0, 6, n), draw.integers(0, 4, n), draw.integers(0, 6, n)], axis=1
    )
    return np.stack(columns, axis=1).astype(np.float32), codes.astype(np.int64)


def _dense(row: list[float], rows: Features) -> list[float]:
    with torch.no_grad():
        found: list[float] = Encoder(TABLE, rows).dense(torch.tensor([row]))[0].tolist()
    return found


def test_category_network_numbers_are_piecewise_linear_and_stop_at_the_ends() -> None:
    rows, _ = _rows(50)
    assert _dense([15.0, 99.0, 1.0, 0.0, 0.0], rows)[:5] == pytest.approx([1.0, 0.5, 1.0, 1.0, 1.0])
    assert _dense([-5.0, 0.0, 0.0, 0.0, 0.0], rows)[:5] == [0.0, 0.0, 0.0, 0.0, 0.0]


def test_category_network_choices_are_indicators_and_the_first_has_none() -> None:
    rows, _ = _rows(50)
    assert _dense([0.0, 0.0, 0.0, 2.0, 1.0], rows)[5:] == [0.0, 1.0, 1.0, 0.0]
    assert _dense([0.0, 0.0, 0.0, 0.0, 0.0], rows)[5:] == [0.0, 0.0, 0.0, 0.0]


def test_category_network_what_is_not_known_is_the_mean_of_the_rows_fitted() -> None:
    rows, _ = _rows(500)
    found = _dense([float("nan"), 1.0, float("nan"), 0.0, 0.0], rows)
    assert found[0] == pytest.approx(np.clip(rows[:, 0] / 10, 0, 1).mean(), abs=1e-5)
    assert found[4] == pytest.approx(rows[:, 2].mean(), abs=1e-5)


def test_category_network_taken_is_the_mean_of_those_who_take_it() -> None:
    rows, _ = _rows(500)
    takes = rows[rows[:, 3] > 0, 3]
    assert _dense([0.0, 0.0, 0.0, 3.0, 0.0], rows)[5:7] == pytest.approx(
        [(takes == 1).mean(), (takes == 2).mean()], abs=1e-5
    )


def test_category_network_a_code_that_is_not_there_is_nothing() -> None:
    rows, _ = _rows(50)
    with torch.no_grad():
        codes = Encoder(TABLE, rows).codes(torch.tensor([[0, 5, 2, 0]]))[0]
    assert codes[:3].tolist() == [0.0, 0.0, 0.0]
    assert codes[3:].abs().sum() > 0


def test_category_network_novelty_grows_with_distance_and_ignores_what_is_missing() -> None:
    encoder, unknown = Encoder(TABLE, _rows(500)[0]), float("nan")
    rows = torch.tensor([[10.0, 1, 0, 0, 0], [9000.0, 50, 0, 0, 0], [unknown, unknown, 0, 0, 0]])
    with torch.no_grad():
        usual, far, nothing = encoder.novelty(rows).tolist()
    assert nothing == 0 < usual < 2 < far


def _outcome(rows: Features, codes: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(1.5 * (rows[:, 0] > 10) + 1.0 * (codes[:, 1] > 2) - 2.0)))


def _hide_age(rows: Features) -> Features:
    hidden = rows.copy()
    hidden[:, 0] = np.nan
    return hidden


RECIPE = Recipe(TABLE, (_hide_age,), members=2, hidden=16, epochs=15, batch=64, learning_rate=1e-2)


def _one_epoch(epochs: Iterable[int]) -> list[int]:
    return list(epochs)[:1]


def test_category_fit_learns_from_soft_targets_and_also_without_a_hidden_column() -> None:
    rows, codes = _rows(3000)
    risk = _outcome(rows, codes)
    network = fit(Rows(rows, codes, np.stack([risk, risk], axis=1)), np.arange(2000), RECIPE, 3, lambda epochs: epochs)
    labels = (np.random.default_rng(5).uniform(size=1000) < risk[2000:]).astype(np.int64)
    probability, members, _ = predict(network, rows[2000:], codes[2000:])
    assert np.corrcoef(probability, risk[2000:])[0, 1] > 0.85
    assert members.shape == (1000, 2)
    blind, _, _ = predict(network, _hide_age(rows[2000:]), codes[2000:])
    assert 0.55 < auroc(blind, labels) < auroc(probability, labels)


def test_category_fit_is_the_same_for_the_same_seed_and_differs_between_members() -> None:
    rows, codes = _rows(400)
    targets = np.stack([_outcome(rows, codes)] * 2, axis=1)
    once, again = (fit(Rows(rows, codes, targets), np.arange(400), RECIPE, 3, _one_epoch) for _ in range(2))
    first, members, _ = predict(once, rows, codes)
    np.testing.assert_array_equal(first, predict(again, rows, codes)[0])
    assert np.abs(members[:, 0] - members[:, 1]).max() > 1e-4


def test_category_fit_average_is_the_mean_of_what_the_network_reads() -> None:
    rows, codes = _rows(400)
    targets = np.stack([_outcome(rows, codes)] * 2, axis=1)
    network = fit(Rows(rows, codes, targets), np.arange(300), RECIPE, 3, _one_epoch)
    with torch.no_grad():
        x, _ = network.encoder(torch.from_numpy(rows[:300]), torch.from_numpy(codes[:300]))
    np.testing.assert_allclose(network.average.numpy(), x.mean(dim=0).numpy(), atol=1e-5)


def test_category_fit_build_has_the_shape_of_what_fit_gives() -> None:
    rows, codes = _rows(400)
    targets = np.stack([_outcome(rows, codes)] * 2, axis=1)
    network = fit(Rows(rows, codes, targets), np.arange(300), RECIPE, 3, _one_epoch)
    empty = build(RECIPE, rows)
    empty.load_state_dict(network.state_dict())
    np.testing.assert_array_equal(predict(empty.eval(), rows, codes)[0], predict(network, rows, codes)[0])
