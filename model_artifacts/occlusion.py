"""Shapley values by occlusion, for a graph that gives outputs and no explanation of its own: explainer "occlusion".

The inputs are the players (Shapley, A Value for n-Person Games, 1953; Lundberg and Lee, NeurIPS 2017). A coalition is a row in
which its members have the patient's values and everybody else the manifest's baseline; the graph answers many rows in one
batch, and nothing of the model but its answers is used. Which rows are asked follows from the inputs and the manifest alone,
never from a clock or a random source, so that a recorded decision can be repeated bit for bit:

 (1) an input whose value is its baseline's is no player: occluding it changes nothing, and its share is exactly 0;
 (2) up to `exact_up_to` players: every coalition, and the values are exact;
 (3) above: `permutations` orders of the inputs, each walked forwards and backwards (antithetic: Mitchell et al.,
     Sampling Permutations for Shapley Value Estimation, JMLR 2022;23:43). The orders are drawn once for ever, by SHA-256, for
     all inputs, and players are walked in the order they have there: two calls that differ in one value are explained by
     the same orders, and differ by what the model does and not by the draw;
 (4) either way the shares add up to the output minus the baseline's, which the runtime checks all the same.

Explainer "occlusion" means these rules for as long as there are decisions to repeat; another way to choose rows is another
name.

To extend: inputs of more than one position, several tensors and quantities work already; see `Occlusion` in `manifest.py`.
Must not import the runtime: the graph comes as a function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import factorial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model_artifacts.errors import GraphOutputError, ManifestError
from model_artifacts.manifest import GraphInput, ModelManifest, Occlusion

Arrays = Mapping[str, npt.NDArray[Any]]
Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
AskGraph = Callable[[Arrays], npt.NDArray[np.float32]]
"""The graph's outputs for a batch, shape (rows, k)."""

METHOD = "shapley-by-occlusion"
_ORDERS = "bedside-occlusion/1"


class Occluded(NamedTuple):
    """One patient's answer: outputs (k,) float32, shares of the explained one (players,) float32, its baseline float32."""

    outputs: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float32]
    baseline: npt.NDArray[np.float32]


def explain_by_occlusion(ask: AskGraph, arrays: Arrays, manifest: ModelManifest) -> Occluded:
    """The outputs for one patient's tensors, and the share of each of the manifest's baseline inputs, in their order.

    Complexity: `rows_asked` rows in one batch. Raises: ManifestError where the manifest's baseline doesn't fit the tensors,
    GraphOutputError where the graph doesn't answer every row.
    """
    occlusion, inputs = _require(manifest), manifest.artifact.inputs
    value = np.concatenate([arrays[item.name].reshape(-1).astype(np.float64) for item in inputs])
    reference, owner = _baseline(arrays, inputs, occlusion)
    players = _players(value, reference, owner, len(occlusion.baseline))  # (1)
    exact = len(players) <= occlusion.exact_up_to
    order = _orders(len(occlusion.baseline), occlusion.permutations)
    coalitions = _every_coalition(len(players)) if exact else _walked(order, players)
    answers = ask(_batch(coalitions, players, arrays, inputs, reference, owner))
    if len(answers) != len(coalitions):
        raise GraphOutputError(f"occlusion of {manifest.id}: expected {len(coalitions)} rows, got {len(answers)}")
    explained = answers[:, manifest.explained_index].astype(np.float64)
    found = _exact(explained, len(players)) if exact else _sampled(explained, order, players)
    shares = np.zeros(len(occlusion.baseline))
    shares[players] = found
    return Occluded(answers[-1], shares.astype(np.float32), np.asarray(explained[0], dtype=np.float32))


def rows_asked(players: int, occlusion: Occlusion) -> int:
    """How many rows the graph answers for a patient of whom `players` inputs differ from the baseline."""
    if players <= occlusion.exact_up_to:
        return int(2**players)
    return 2 * occlusion.permutations * (players - 1) + 2


def most_rows(occlusion: Occlusion) -> int:
    """The most rows that any patient can ask for; the budget is held by it."""
    return max(rows_asked(players, occlusion) for players in range(len(occlusion.baseline) + 1))


def method_words(manifest: ModelManifest) -> str:
    """How the explanation comes about, as the model card says it."""
    occlusion = _require(manifest)
    explained = manifest.outputs[manifest.explained_index].label
    return (
        f"Shapley values of the output “{explained}”: inputs are put in and taken out (replaced by the baseline's) in up to "
        f"{most_rows(occlusion)} combinations, and each gets its average share. With up to {occlusion.exact_up_to} inputs that "
        f"differ from the baseline all combinations are asked and the values are exact; with more, {occlusion.permutations} "
        "orders, each forwards and backwards, which are the same on every call. Combinations may occur that no patient has."
    )


def _require(manifest: ModelManifest) -> Occlusion:
    if manifest.explanation.occlusion is None:
        raise ManifestError(f"manifest of {manifest.id}: explanation.occlusion is missing", model_id=manifest.id)
    return manifest.explanation.occlusion


def _baseline(arrays: Arrays, inputs: tuple[GraphInput, ...], occlusion: Occlusion) -> tuple[Numbers, Places]:
    """The baseline of every position of the flattened tensors, as exactly as each can hold it, and the input that owns it."""
    parts = [value if isinstance(value, tuple) else (value,) for value in occlusion.baseline.values()]
    numbers = np.array([np.nan if part == "missing" else part for values in parts for part in values], np.float64)
    owner = [place for place, values in enumerate(parts) for _ in values]
    sizes = [arrays[item.name].size for item in inputs]
    if len(numbers) != sum(sizes):
        raise ManifestError(f"occlusion baseline: expected {sum(sizes)} values, one a position, got {len(numbers)}")
    split = zip(inputs, np.split(numbers, np.cumsum(sizes)[:-1]), strict=True)
    typed = [_as_type(part, arrays[item.name].dtype).astype(np.float64) for item, part in split]
    return np.concatenate(typed), np.array(owner, np.intp)


def _as_type(reference: Numbers, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if np.issubdtype(dtype, np.integer) and np.isnan(reference).any():
        raise ManifestError(f"occlusion baseline: a position of type {dtype} can't be missing")
    return reference.astype(dtype)


def _players(value: Numbers, reference: Numbers, owner: Places, inputs: int) -> Places:
    """The inputs that differ from the baseline; two missing values don't differ."""
    differs = ~((value == reference) | (np.isnan(value) & np.isnan(reference)))
    return np.flatnonzero(np.bincount(owner, weights=differs, minlength=inputs))


@lru_cache(maxsize=32)
def _orders(inputs: int, permutations: int) -> Places:
    """(permutations, inputs): each row sorts the inputs by the SHA-256 of its number and theirs."""

    def key(order: int, place: int) -> bytes:
        return hashlib.sha256(f"{_ORDERS}:{order}:{place}".encode()).digest()

    keys = [[key(order, place) for place in range(inputs)] for order in range(permutations)]
    rows = [sorted(range(inputs), key=row.__getitem__) for row in keys]
    return np.array(rows, dtype=np.intp).reshape(permutations, inputs)


@lru_cache(maxsize=32)
def _every_coalition(players: int) -> npt.NDArray[np.bool_]:
    """(2^players, players): row r holds the players whose bit is set in r; the first is empty, the last holds all."""
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)


def _ranks(order: Places, players: Places) -> Places:
    """(permutations, players): at which step each player joins, in the order that is left when the others are taken out."""
    places = np.argsort(order, axis=1)[:, players]
    return np.argsort(np.argsort(places, axis=1), axis=1)


def _walked(order: Places, players: Places) -> npt.NDArray[np.bool_]:
    """The empty coalition, those on each walk forwards, those backwards (the others' complements), and the full one."""
    ranks, n = _ranks(order, players), len(players)
    forwards = (ranks[:, None, :] < np.arange(1, n)[None, :, None]).reshape(-1, n)
    return np.concatenate([np.zeros((1, n), bool), forwards, ~forwards, np.ones((1, n), bool)])


def _batch(
    coalitions: npt.NDArray[np.bool_],
    players: Places,
    arrays: Arrays,
    inputs: tuple[GraphInput, ...],
    reference: Numbers,
    owner: Places,
) -> dict[str, npt.NDArray[Any]]:
    """Each tensor with a row for each coalition: the patient's value where the owner is in it, else the baseline's."""
    joined = np.ones((len(coalitions), int(owner[-1]) + 1), bool)
    joined[:, players] = coalitions
    batch, start = {}, 0
    for item in inputs:
        own = arrays[item.name].reshape(1, -1)
        part = slice(start, start + own.shape[1])
        rows = np.where(joined[:, owner[part]], own, _as_type(reference[part], own.dtype))
        batch[item.name] = rows.reshape(len(coalitions), *item.shape)
        start = part.stop
    return batch


def _exact(values: Numbers, players: int) -> Numbers:
    """Shapley values (players,) from the values of all coalitions in the order of `_every_coalition`."""
    if not players:
        return np.zeros(0)
    sizes = _every_coalition(players).sum(axis=1)
    weight = np.array([factorial(s) * factorial(players - s - 1) / factorial(players) for s in range(players)])
    shares = np.empty(players)
    for player in range(players):
        pairs = values.reshape(-1, 2, 2**player)
        before = sizes.reshape(-1, 2, 2**player)[:, 0]
        shares[player] = (weight[before] * (pairs[:, 1] - pairs[:, 0])).sum()
    return shares


def _sampled(values: Numbers, order: Places, players: Places) -> Numbers:
    """The mean over all walks, forwards and backwards, of what each player added when it joined."""
    ranks, n = _ranks(order, players), len(players)
    empty, full = (np.full((len(order), 1), value) for value in (values[0], values[-1]))
    forwards, backwards = values[1:-1].reshape(2, len(order), n - 1)
    joining = np.diff(np.hstack([empty, forwards, full]))
    # Backwards the coalitions shrink: the first of the order leaves the full one first, and takes its share with it.
    leaving = -np.diff(np.hstack([full, backwards, empty]))
    shares: Numbers = np.take_along_axis((joining + leaving) / 2, ranks, axis=1).mean(axis=0)
    return shares
