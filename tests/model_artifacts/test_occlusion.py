"""Shapley's axioms, and agreement with the definition worked out permutation by permutation."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_artifacts import occlusion
from model_artifacts.errors import GraphOutputError, ManifestError
from model_artifacts.manifest import GraphInput, ModelManifest, Occlusion
from model_artifacts.occlusion import Occluded, explain_by_occlusion, most_rows, rows_asked
from model_artifacts.registry import model_packages
from model_artifacts.runtime import ReleasedModel

Rows = npt.NDArray[np.float32]
Game = Callable[[Rows], npt.NDArray[Any]]
REAL = ReleasedModel.load(model_packages()["prevent_cvd"]).manifest
CLOSE = 1e-6


def _manifest(baseline: dict[str, Any], inputs: tuple[GraphInput, ...] = (), **settings: Any) -> ModelManifest:
    """A real manifest with another graph's inputs, and occlusion of one output."""
    asked = Occlusion("p", (0,), baseline, 5.0, **settings)
    one = (GraphInput("x", (len(baseline),)),)
    return msgspec.structs.replace(
        REAL,
        outputs=REAL.outputs[:1],
        artifact=msgspec.structs.replace(REAL.artifact, inputs=inputs or one, explainer="occlusion"),
        explanation=msgspec.structs.replace(REAL.explanation, occlusion=asked),
    )


def _explain(game: Game, value: list[float], baseline: list[Any], **settings: Any) -> Occluded:
    manifest = _manifest({f"i{place}": part for place, part in enumerate(baseline)}, **settings)
    row = np.array([value], dtype=np.float32)
    return explain_by_occlusion(lambda arrays: game(arrays["x"])[:, None].astype(np.float32), {"x": row}, manifest)


def _any_game(seed: int) -> Game:
    """Any value for any coalition of inputs that are above 0."""

    def value(row: Rows) -> float:
        digest = hashlib.sha256(f"{seed}:{[part > 0 for part in row.tolist()]}".encode()).digest()
        return int.from_bytes(digest[:3]) / 2**24

    return lambda rows: np.array([value(row) for row in rows])


def _by_definition(game: Game, players: int) -> list[float]:
    """The mean over all orders of what each player adds when it joins."""
    shares = [0.0] * players
    for order in itertools.permutations(range(players)):
        row = np.zeros((players + 1, players), np.float32)
        for step, player in enumerate(order):
            row[step + 1 :, player] = 1
        values = game(row).astype(np.float32).astype(np.float64)
        for step, player in enumerate(order):
            shares[player] += (values[step + 1] - values[step]) / math.factorial(players)
    return shares


either = pytest.mark.parametrize("exact_up_to", [0, 12])


@given(seed=st.integers(0, 2**32), players=st.integers(1, 5))
def test_occlusion_is_what_the_definition_says(seed: int, players: int) -> None:
    game = _any_game(seed)
    found = _explain(game, [1.0] * players, [0.0] * players)
    assert found.shares.tolist() == pytest.approx(_by_definition(game, players), abs=CLOSE)


@given(seed=st.integers(0, 2**32), players=st.integers(2, 6))
def test_occlusion_by_one_order_is_exact_where_inputs_act_singly_and_in_pairs(seed: int, players: int) -> None:
    draw = np.random.default_rng(seed)
    single, pair = draw.normal(size=players), draw.normal(size=(players, players)) / players

    def game(rows: Rows) -> npt.NDArray[Any]:
        return rows @ single + np.einsum("ri,ij,rj->r", rows, pair, rows)

    whole = _explain(game, [1.0] * players, [0.0] * players, exact_up_to=12)
    walked = _explain(game, [1.0] * players, [0.0] * players, exact_up_to=0, permutations=1)
    assert walked.shares.tolist() == pytest.approx(whole.shares.tolist(), abs=1e-5)


@either
@given(seed=st.integers(0, 2**32), players=st.integers(1, 9))
def test_occlusion_shares_add_up_to_output_minus_baseline(seed: int, players: int, exact_up_to: int) -> None:
    game = _any_game(seed)
    found = _explain(game, [1.0] * players, [0.0] * players, exact_up_to=exact_up_to, permutations=3)
    assert found.outputs.tolist() == game(np.ones((1, players), np.float32)).astype(np.float32).tolist()
    assert float(found.baseline) == game(np.zeros((1, players), np.float32)).astype(np.float32)[0]
    assert math.fsum(found.shares.tolist()) == pytest.approx(float(found.outputs[0] - found.baseline), abs=CLOSE)


@either
@given(seed=st.integers(0, 2**32), players=st.integers(2, 8), idle=st.integers(0, 7))
def test_occlusion_gives_nothing_to_an_input_that_changes_nothing(
    seed: int, players: int, idle: int, exact_up_to: int
) -> None:
    place, game = idle % players, _any_game(seed)
    ignoring = _explain(
        lambda rows: game(np.delete(rows, place, axis=1)),
        *([1.0] * players, [0.0] * players),
        exact_up_to=exact_up_to,
    )
    at_baseline = [0.0 if other == place else 1.0 for other in range(players)]
    unchanged = _explain(game, at_baseline, [0.0] * players, exact_up_to=exact_up_to)
    assert ignoring.shares[place] == pytest.approx(0, abs=CLOSE)
    assert unchanged.shares[place] == 0


@given(seed=st.integers(0, 2**32), players=st.integers(2, 7))
def test_occlusion_gives_the_same_to_inputs_that_do_the_same(seed: int, players: int) -> None:
    game = _any_game(seed)
    both = _explain(
        lambda rows: game(np.column_stack([rows[:, 0] + rows[:, 1] > 1, rows[:, 0] + rows[:, 1] > 0, rows[:, 2:]])),
        *([1.0] * players, [0.0] * players),
    )
    assert both.shares[0] == pytest.approx(both.shares[1], abs=CLOSE)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_occlusion_comes_closer_with_more_orders(seed: int) -> None:
    game, n = _any_game(seed), 7
    exact = _explain(game, [1.0] * n, [0.0] * n, exact_up_to=12).shares

    def miss(permutations: int) -> float:
        found = _explain(game, [1.0] * n, [0.0] * n, exact_up_to=0, permutations=permutations).shares
        return float(np.square(found - exact).mean())

    assert miss(256) < miss(2)


def test_occlusion_walks_the_same_orders_for_ever() -> None:
    orders = occlusion._orders(5, 3)  # by: printf bedside-occlusion/1:ORDER:INPUT | sha256sum
    assert orders.tolist() == [[2, 0, 3, 1, 4], [3, 0, 4, 1, 2], [2, 1, 3, 0, 4]]


def test_occlusion_of_one_changed_value_keeps_the_orders_of_the_others() -> None:
    players = np.array([0, 2, 3, 5])
    few, all_of_them = occlusion._walked(occlusion._orders(6, 4), players), occlusion._orders(6, 4)
    walks = few[1:13].reshape(4, 3, 4)
    for walk, order in zip(walks, all_of_them, strict=True):
        kept = [player for player in order.tolist() if player in players]
        assert [players[np.flatnonzero(step)].tolist() for step in walk] == [sorted(kept[: n + 1]) for n in range(3)]


@either
@given(players=st.integers(0, 9), permutations=st.integers(1, 5))
def test_occlusion_asks_as_many_rows_as_it_says(players: int, permutations: int, exact_up_to: int) -> None:
    asked = []

    def count(rows: Rows) -> npt.NDArray[Any]:
        asked.append(len(rows))
        return rows.sum(axis=1)

    value = [1.0] * players + [0.0] * (9 - players)
    settings = {"exact_up_to": exact_up_to, "permutations": permutations}
    _explain(count, value, [0.0] * 9, **settings)
    said = Occlusion("p", (0,), {f"i{place}": 0.0 for place in range(9)}, 5.0, **settings)  # type: ignore[arg-type]
    assert asked == [rows_asked(players, said)]
    assert asked[0] <= most_rows(said)


def test_occlusion_takes_missing_for_a_value() -> None:
    def game(rows: Rows) -> npt.NDArray[Any]:
        return np.where(np.isnan(rows[:, 0]), 0.1, 0.4) + np.where(np.isnan(rows[:, 1]), 0.0, 0.2)

    given_one = _explain(game, [5.0, math.nan], ["missing", "missing"])
    lacking_one = _explain(game, [5.0, math.nan], ["missing", 1.0])
    assert given_one.shares.tolist() == pytest.approx([0.3, 0.0])
    assert lacking_one.shares.tolist() == pytest.approx([0.3, -0.2])


def test_occlusion_does_not_ask_about_what_is_missing_here_and_in_the_baseline() -> None:
    asked = []

    def count(rows: Rows) -> npt.NDArray[Any]:
        asked.append(len(rows))
        return np.nansum(rows, axis=1)

    _explain(count, [1.0, math.nan, math.nan, 2.0], [0.0, "missing", "missing", 0.0])
    assert asked == [4]


def test_occlusion_moves_an_input_of_several_positions_and_tensors_as_one() -> None:
    manifest = _manifest(
        {"a": 0.0, "unit": (1.0, 0.0, 0.0), "count": 0.0},
        (GraphInput("x", (2,)), GraphInput("y", (3, 1), "int64")),
    )
    arrays = {"x": np.array([[2, 0]], np.float32), "y": np.array([[[0], [1], [7]]], np.int64)}
    seen: list[tuple[float, ...]] = []

    def ask(batch: occlusion.Arrays) -> npt.NDArray[np.float32]:
        assert batch["y"].dtype == np.int64
        seen.extend(tuple(row) for row in np.hstack([batch["x"], batch["y"].reshape(-1, 3)]).tolist())
        return batch["x"][:, :1] + 10 * batch["y"][:, 1].astype(np.float32) + batch["y"][:, 2]

    found = explain_by_occlusion(ask, arrays, manifest)
    assert found.shares.tolist() == [2, 10, 7]
    assert {row[1:4] for row in seen} == {(1, 0, 0), (0, 0, 1)}


@pytest.mark.parametrize("baseline", [{"a": 0.0}, {"a": (0.0, 0.0, 0.0)}])
def test_occlusion_refuses_a_baseline_that_does_not_fit(baseline: dict[str, Any]) -> None:
    manifest = _manifest(baseline, (GraphInput("x", (2,)),))
    with pytest.raises(ManifestError, match="expected 2 values"):
        explain_by_occlusion(lambda batch: batch["x"], {"x": np.zeros((1, 2), np.float32)}, manifest)


def test_occlusion_refuses_a_missing_whole_number() -> None:
    manifest = _manifest({"a": "missing"}, (GraphInput("x", (1,), "int64"),))
    with pytest.raises(ManifestError, match="can't be missing"):
        explain_by_occlusion(lambda batch: batch["x"], {"x": np.ones((1, 1), np.int64)}, manifest)


def test_occlusion_refuses_a_graph_that_leaves_rows_out() -> None:
    with pytest.raises(GraphOutputError, match="expected 4 rows, got 3"):
        _explain(lambda rows: rows[:-1].sum(axis=1), [1.0, 1.0], [0.0, 0.0])
