"""Fits `category_network.CategoryNetwork`: soft targets from a teacher, an auxiliary target, and what may be unknown hidden.

Owns the optimisation: AdamW with one cycle of the learning rate for a fixed number of epochs, every member on its own order of
the rows. Nothing is stopped early, so no tune part is spent. In some rows of every step groups of columns are hidden, so that
the network learns to answer without them: `Recipe.hide` says how each group looks then.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from model_artifacts.training.category_network import CategoryNetwork, Encoder, Features, Members, Table

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that is chosen. `hide` turns features into those in which one group of columns isn't known."""

    table: Table
    hide: tuple[Callable[[Features], Features], ...]
    members: int = 3
    hidden: int = 192
    epochs: int = 20
    drop: float = 0.05
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    batch: int = 512
    hidden_share: float = 0.1
    auxiliary_weight: float = 0.2


@dataclass(frozen=True, slots=True)
class Rows:
    """What is learned from: the graph's inputs, and targets (n, 2): the outcome's, hard or soft, and the auxiliary one."""

    features: Features
    codes: Indices
    targets: Array


def fit(
    rows: Rows, at: Indices, recipe: Recipe, seed: int, watch: Callable[[Iterable[int]], Iterable[int]]
) -> CategoryNetwork:
    """The network fitted on the rows `at`, in evaluation mode; `watch` goes through the epochs and may say so."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = build(recipe, rows.features[at])
    encoder = network.encoder
    versions = _versions(encoder, rows.features, recipe)
    codes, targets = torch.from_numpy(rows.codes), torch.tensor(rows.targets, dtype=torch.float32)
    steps = len(at) // recipe.batch
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.15
    )
    weights = torch.tensor([1.0, recipe.auxiliary_weight])
    network.train()
    for _ in watch(range(recipe.epochs)):
        order = np.stack([generator.permutation(at)[: steps * recipe.batch] for _ in range(recipe.members)])
        for batch in torch.from_numpy(order).split(recipe.batch, dim=1):
            x = torch.cat([_some_hidden(versions, batch, recipe.hidden_share), encoder.codes(codes[batch])], dim=-1)
            losses = binary_cross_entropy_with_logits(network.members(x), targets[batch], reduction="none")
            optimiser.zero_grad()
            (losses.mean(dim=1) * weights).sum().backward()
            optimiser.step()
            schedule.step()
    network.eval()
    _set_average(network, rows, at)
    return network


def build(recipe: Recipe, features: Features) -> CategoryNetwork:
    """The network before it has learned anything but what usual rows look like."""
    encoder, table = Encoder(recipe.table, features), recipe.table
    width = encoder.width + table.positions * table.embedding
    return CategoryNetwork(encoder, Members(table, width, recipe.members, recipe.hidden, 2, recipe.drop))


def predict(network: CategoryNetwork, features: Features, codes: Indices) -> tuple[Array, Array, Array]:
    """Probability (n,), members' (n, m) and novelty (n,)."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(features), _CHUNK):
            some = slice(start, start + _CHUNK)
            x, novelty = network.encoder(torch.from_numpy(features[some]), torch.from_numpy(codes[some]))
            probability, members, novel = network(x, novelty)
            parts.append((probability[:, 0], members[..., 0], novel))
    whole = [torch.cat(column).numpy().astype(np.float64) for column in zip(*parts, strict=True)]
    return whole[0], whole[1], whole[2]


def _versions(encoder: Encoder, features: Features, recipe: Recipe) -> Tensor:
    """The rows encoded with every set of groups hidden, `(2**groups, n, w)`; bit g of the place says whether group g is."""
    versions = [features]
    for hide in recipe.hide:
        versions += [hide(rows) for rows in versions]
    with torch.no_grad():
        return torch.stack([encoder.dense(torch.from_numpy(rows)) for rows in versions])


def _some_hidden(versions: Tensor, batch: Tensor, share: float) -> Tensor:
    """The rows of `batch` (m, b), in a random share of them a group's columns as if they weren't known."""
    version = torch.zeros_like(batch)
    for bit in range(len(versions).bit_length() - 1):
        version += (torch.rand(batch.shape) < share).to(batch.dtype) << bit
    return versions[version, batch]


def _set_average(network: CategoryNetwork, rows: Rows, at: Indices) -> None:
    """The mean of `x` over the rows: the explanation's baseline."""
    with torch.no_grad():
        parts = [
            network.encoder(torch.from_numpy(rows.features[some]), torch.from_numpy(rows.codes[some]))[0].sum(dim=0)
            for some in np.array_split(at, max(1, len(at) // _CHUNK))
        ]
        network.average.copy_(torch.stack(parts).sum(dim=0) / len(at))
