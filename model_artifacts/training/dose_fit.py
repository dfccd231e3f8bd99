"""Fits the parts of a `dose_model.DoseModel`, cross-fits its interval, and tunes the rivals that it must beat.

Owns the recipe, the same on each development part and on all rows:
 1. five inner parts; each of five networks is fitted without one of them, with genotypes masked at random;
 2. linear and kernel part are fitted on all rows, and copies of a share of them with masked genotypes; the kernel's settings
    are those that a grid with three inner folds found best; the kernel part is distilled to a few kernels (`dose_student.py`);
 3. for the interval, networks, kernel and linear part without an inner part answer it, as recorded and with everything masked,
    and `quantile.fit_quantile` takes the ends from those residuals, small groups' widened as so few residuals ask for. A single
    network stands there for five, so the interval is a little wide, never narrow. The kernel there is the undistilled one.
Nothing is stopped early, so no row is spent on that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.svm import SVR
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from model_artifacts.training.dose_model import (
    DoseModel,
    Layout,
    Linear,
    Networks,
    Novelty,
    Prepare,
    Roots,
    design,
    fit_height,
    group_design,
)
from model_artifacts.training.dose_student import distil
from model_artifacts.training.quantile import fit_quantile, widen_small_groups

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Mask = Callable[[Features], Features]

HIDDEN, DROPOUT, EPOCHS, BATCH = 48, 0.1, 60, 128
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 0.02
KERNEL_GRID = ((1.0, 0.003), (3.0, 0.003), (1.0, 0.01), (10.0, 0.001))  # C and gamma
EPSILON = 0.1  # root mg/week
RIDGE = 3.0
BOOSTING_GRID = ((6, 0.05), (12, 0.03))  # leaves and learning rate
BOOSTING_SEEDS = (0, 1, 2)
MASKED_SHARE = 0.25  # of rows that come once more for each masking
INTERVAL_MASKS = 2  # the first so many maskings make the interval: as recorded, and nothing known


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is fixed: layout, maskings (as recorded first), columns of the novelty, those that trade, parts, coverage, seed."""

    layout: Layout
    masks: tuple[Mask, ...]
    novelty: tuple[int, ...]
    trades: tuple[tuple[int, ...], ...]
    parts: int
    coverage: float
    seed: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model with its preparation, and the kernel's settings."""

    prepare: Prepare
    model: DoseModel
    kernel: tuple[float, float]

    def predict(self, features: Features) -> dict[str, npt.NDArray[np.float32]]:
        """`dose` (n,), `members` (n, m), `novelty` (n,), `interval` (n, 2)."""
        with torch.no_grad():
            dose, members, novelty, interval = self.model.eval()(**self.prepare(torch.from_numpy(features)))
        return {
            "dose": dose[:, 0].numpy(),
            "members": members[:, :, 0].numpy(),
            "novelty": novelty.numpy(),
            "interval": interval[:, 0].numpy(),
        }


def fit(features: Features, dose: Array, recipe: Recipe) -> Fitted:
    """The whole model from these rows."""
    layout, root = recipe.layout, np.sqrt(dose)
    prepare = Prepare(layout, torch.from_numpy(fit_height(features.astype(np.float64), layout)).float())
    inner = np.random.default_rng(recipe.seed).permutation(len(dose)) % recipe.parts
    every = [design(prepare(torch.from_numpy(mask(features)))["x"], layout) for mask in recipe.masks]
    centre, scale = every[0].mean(dim=0), every[0].std(dim=0)
    scale = torch.where(scale > 1e-3, scale, torch.ones_like(scale))  # a column that never varies tells nothing
    scaled = [(rows - centre) / scale for rows in every]
    kernel = tune_kernel(scaled[0].numpy(), root, recipe.seed)
    networks = _fit_networks(scaled, root, inner, recipe)
    machine, line = fit_shallow(scaled, root, np.arange(len(root)), kernel, recipe.seed)
    student = distil(machine.predict, scaled, recipe.trades, kernel[1], recipe.seed)
    roots = Roots(layout, centre, scale, (networks, student, line))
    low, high = _fit_interval(prepare, scaled, root, inner, networks, kernel, (features, recipe))
    novelty = Novelty.fit(recipe.novelty, prepare(torch.from_numpy(features))["x"])
    return Fitted(prepare, DoseModel(roots, novelty, low, high), kernel)


def _fit_networks(scaled: Sequence[Tensor], root: Array, inner: Indices, recipe: Recipe) -> Networks:
    """Network j without part j; a row comes masked in one way or another about every third time."""
    torch.manual_seed(recipe.seed)
    generator = np.random.default_rng(recipe.seed)
    parts = [np.flatnonzero(inner != part) for part in range(recipe.parts)]
    networks = Networks(recipe.parts, scaled[0].shape[1], HIDDEN, float(root.mean()), recipe.seed, DROPOUT)
    steps = min(map(len, parts)) // BATCH
    optimiser = torch.optim.AdamW(networks.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=EPOCHS * steps)
    rows, target = torch.stack(list(scaled)), torch.from_numpy(root).float()
    chance = np.array([0.66, *[0.34 / (len(scaled) - 1)] * (len(scaled) - 1)])
    networks.train()
    for _ in range(EPOCHS):
        order = np.stack([generator.permutation(part)[: steps * BATCH] for part in parts])
        for step in range(steps):
            batch = torch.from_numpy(order[:, step * BATCH : (step + 1) * BATCH])
            masked = torch.from_numpy(generator.choice(len(scaled), batch.shape, p=chance))
            error = smooth_l1_loss(networks(rows[masked, batch]), target[batch], beta=0.5, reduction="none")
            optimiser.zero_grad()
            error.mean(dim=1).sum().backward()
            optimiser.step()
            schedule.step()
    return networks.eval()


def fit_shallow(
    scaled: Sequence[Tensor], root: Array, at: Indices, kernel: tuple[float, float], seed: int
) -> tuple[SVR, Linear]:
    """Kernel and linear part on the rows `at` and a share of them with each masking."""
    generator = np.random.default_rng(seed)
    chosen = [at, *(generator.choice(at, int(MASKED_SHARE * len(at)), replace=False) for _ in scaled[1:])]
    rows = np.concatenate([part[which].numpy() for part, which in zip(scaled, chosen, strict=True)]).astype(np.float64)
    target = root[np.concatenate(chosen)]
    machine = SVR(C=kernel[0], gamma=kernel[1], epsilon=EPSILON).fit(rows, target)
    line = Ridge(alpha=RIDGE).fit(rows, target)
    return machine, Linear(torch.from_numpy(line.coef_).float(), float(line.intercept_))


def _fit_interval(
    prepare: Prepare,
    scaled: Sequence[Tensor],
    root: Array,
    inner: Indices,
    networks: Networks,
    kernel: tuple[float, float],
    source: tuple[Features, Recipe],
) -> tuple[Tensor, Tensor]:
    features, recipe = source
    answers = np.zeros((INTERVAL_MASKS, len(root)))
    for part in range(recipe.parts):
        out = np.flatnonzero(inner == part)
        machine, line = fit_shallow(scaled, root, np.flatnonzero(inner != part), kernel, recipe.seed + part)
        for place, rows in enumerate(scaled[:INTERVAL_MASKS]):
            with torch.no_grad():
                deep, straight = networks(rows[out].unsqueeze(0))[part].numpy(), line(rows[out]).numpy()
            answers[place, out] = (deep + machine.predict(rows[out].numpy().astype(np.float64)) + straight) / 3
    groups, residuals = [], []
    for mask, answer in zip(recipe.masks[:INTERVAL_MASKS], answers, strict=True):
        x = prepare(torch.from_numpy(mask(features)))["x"]
        groups.append(group_design(x, torch.from_numpy(answer).float(), recipe.layout).numpy())
        residuals.append(root - answer)
    tail = (1 - recipe.coverage) / 2
    held, all_groups = np.concatenate(residuals), np.concatenate(groups).astype(np.float64)
    low, high = (
        widen_small_groups(all_groups, held, fit_quantile(all_groups, held, level), level) for level in (tail, 1 - tail)
    )
    return torch.from_numpy(low).float(), torch.from_numpy(high).float()


def tune_kernel(rows: npt.NDArray[np.float32], root: Array, seed: int) -> tuple[float, float]:
    """The settings of the grid with the least mean absolute error in mg/week over three inner folds."""

    def predict(setting: tuple[float, float], fit_on: Indices, ask: Indices) -> Array:
        return kernel_rival(rows, root, setting, fit_on, ask)

    return min(KERNEL_GRID, key=lambda setting: _inner_error(predict, setting, root, seed))


def kernel_rival(
    rows: npt.NDArray[np.float32], root: Array, setting: tuple[float, float], fit_on: Indices, ask: Indices
) -> Array:
    """Doses in mg/week of a support vector regression of the root, fitted on `fit_on`, at `ask`."""
    machine = SVR(C=setting[0], gamma=setting[1], epsilon=EPSILON).fit(rows[fit_on], root[fit_on])
    return np.asarray(machine.predict(rows[ask]) ** 2)


def boosting_rival(features: Features, root: Array, setting: tuple[int, float], fit_on: Indices, ask: Indices) -> Array:
    """Doses in mg/week of gradient boosting of the root for least absolute error, the mean of three seeds."""
    roots = np.mean(
        [
            HistGradientBoostingRegressor(
                loss="absolute_error",
                max_iter=250,
                learning_rate=setting[1],
                max_leaf_nodes=setting[0],
                min_samples_leaf=25,
                l2_regularization=3.0,
                max_features=0.4,
                random_state=seed,
            )
            .fit(features[fit_on], root[fit_on])
            .predict(features[ask])
            for seed in BOOSTING_SEEDS
        ],
        axis=0,
    )
    return np.asarray(roots**2)


def tune_boosting(features: Features, root: Array, seed: int) -> tuple[int, float]:
    """As `tune_kernel`, of gradient boosting."""

    def predict(setting: tuple[int, float], fit_on: Indices, ask: Indices) -> Array:
        return boosting_rival(features, root, setting, fit_on, ask)

    return min(BOOSTING_GRID, key=lambda setting: _inner_error(predict, setting, root, seed))


def _inner_error(predict: Callable[[tuple, Indices, Indices], Array], setting: tuple, root: Array, seed: int) -> float:
    inner = np.random.default_rng(seed).permutation(len(root)) % 3
    errors = [
        np.abs(
            predict(setting, np.flatnonzero(inner != part), np.flatnonzero(inner == part)) - root[inner == part] ** 2
        )
        for part in range(3)
    ]
    return float(np.concatenate(errors).mean())


def scaled_rows(fitted: Fitted, features: Features) -> npt.NDArray[np.float32]:
    """The features as the kernel sees them, for the rival that must see the same."""
    roots = fitted.model.roots
    x = fitted.prepare(torch.from_numpy(features))["x"]
    rows: npt.NDArray[np.float32] = ((design(x, roots.layout) - roots.centre) / roots.scale).numpy()
    return rows


def novelty_of(features: Features, recipe: Recipe, height_weights: Any, centre: Any, whiten: Any) -> Array:
    """The novelty of each row, by arrays kept of a fitted model: its imputation of height, and its centre and whitening."""
    prepare = Prepare(recipe.layout, torch.from_numpy(height_weights))
    with torch.no_grad():
        rows = prepare(torch.from_numpy(features))["x"]
        found = Novelty(recipe.novelty, torch.from_numpy(centre), torch.from_numpy(whiten))(rows)
    return found.numpy().astype(np.float64)
