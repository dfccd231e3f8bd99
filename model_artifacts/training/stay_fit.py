"""Fits the whole of a `StayModel` on some of the stays: preparation, members, calibration, bounds and novelty.

Owns the recipe, the same on each development part and on all stays:

1. every stay is looked at as it was at each of eleven hours, 6 to 48; scales, pooling and novelty come from the stays that
   are developed on, over all these hours;
2. as many inner parts as members: each member is fitted without one, for a fixed number of epochs, half of the stays as they
   were at 48 hours and the others at an hour drawn anew each time. To learn from truncated stays is also what keeps so few
   stays from being learned by heart;
3. each member's logits on the part it left out, less the noise that averaging takes away, calibrate the ensemble by the hour
   and set the conformal bounds by the hour.

To extend: another hour is one more entry of `HOURS_LOOKED_AT`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_artifacts.training.conformal import Bounds, BoundsByHour, fit_bounds_by_hour
from model_artifacts.training.device import load_state, state_arrays
from model_artifacts.training.ensemble import CPU, Rows, Targets, disagreement, fit_ensemble, left_out_logits
from model_artifacts.training.event_network import (
    HOURS,
    EventNetwork,
    ExactPooling,
    Shape,
    stretches,
    within_stay,
)
from model_artifacts.training.split import Indices, fold_numbers
from model_artifacts.training.stay_model import (
    HOUR_FEATURES,
    KNOWN,
    PERSON,
    HourlyCalibration,
    Novelty,
    Prepare,
    StayModel,
    fit_scales,
    hour_features,
)

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

HOURS_LOOKED_AT = (6, 8, 10, 12, 16, 20, 24, 30, 36, 42, 48)
BOUNDS_FROM_H = (6.0, 9.0, 14.0, 22.0, 33.0, 45.0)
"""Conformal bounds are set for each of these spans of hours, the last one open: what a risk rules out depends on the hour."""
_CHUNK = 400
_SOME = 600
"""Stays to see how far members disagree."""


@dataclass(frozen=True, slots=True)
class Stays:
    """All stays as the graph's raw tensors at 48 hours, with outcome `(n,)` and targets."""

    values: Tensor
    counts: Tensor
    statics: Tensor
    died: Labels
    targets: Targets

    def at(self, rows: Indices, hour: int) -> dict[str, Tensor]:
        """The graph's inputs of these stays as they were `hour` hours after admission."""
        return {
            "values": look_back(self.values[rows], hour),
            "counts": look_back(self.counts[rows], hour),
            "statics": self.statics[rows],
            "elapsed": torch.full((len(rows), 1), float(hour)),
        }


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is fixed: sizes, epochs, the bounds' coverage; which variables are read as logarithms, and what is added first."""

    members: int
    epochs: int
    coverage: float
    logarithmic: tuple[bool, ...]
    offset: tuple[float, ...]
    hidden: int
    token: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted ensemble with its preparation and bounds."""

    prepare: Prepare
    model: StayModel
    bounds: BoundsByHour


def look_back(rows: Tensor, hour: int) -> Tensor:
    """Hourly rows `(n, 48, v)` that end at 48 hours as those that end at `hour`; rows before admission are empty."""
    before = torch.zeros(len(rows), HOURS - hour, rows.shape[2], dtype=rows.dtype)
    return torch.cat([before, rows[:, :hour]], dim=1)


def fit(
    stays: Stays,
    develop: Indices,
    recipe: Recipe,
    seed: int,
    device: torch.device = CPU,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Fitted:
    """Steps 1 to 3 on the rows `develop`; the members are fitted on `device`, and come back to the CPU."""
    torch.manual_seed(seed)
    variables = stays.values.shape[2]
    prepare = fit_prepare(stays, develop, recipe)
    with torch.no_grad():
        rows, pooling = look(stays, develop, prepare)
        novelty = Novelty(variables, [float(hour) for hour in HOURS_LOOKED_AT])
        novelty.fit(rows.pooled)
    targets = stays.targets.of(develop)
    died = stays.died[develop]
    network = EventNetwork(shape_of(recipe, variables, targets))
    part = fold_numbers(died, recipe.members, seed)
    parts = [np.flatnonzero(part != member) for member in range(recipe.members)]
    fit_ensemble(network, rows, targets, parts, epochs=recipe.epochs, seed=seed, device=device, report=report)
    logits = np.stack([left_out_logits(network, rows, part, hour) for hour in range(len(HOURS_LOOKED_AT))])
    centre, kept = _as_averaged(network, rows, logits, seed)
    elapsed = np.repeat(np.array(HOURS_LOOKED_AT, dtype=np.float64)[:, None], len(died), axis=1)
    calibration = HourlyCalibration()
    calibration.fit(centre + kept * (logits - centre), elapsed, np.tile(died, (len(HOURS_LOOKED_AT), 1)))
    with torch.no_grad():
        spread = centre + np.sqrt(kept) * (logits - centre)
        left_out = calibration(torch.tensor(spread), torch.tensor(elapsed)).numpy()
    bounds = fit_bounds_by_hour(left_out, died, HOURS_LOOKED_AT, BOUNDS_FROM_H, recipe.coverage)
    return Fitted(prepare, StayModel(pooling, network, novelty, calibration).eval(), bounds)


def _as_averaged(network: EventNetwork, rows: Rows, logits: Array, seed: int) -> tuple[Array, Array]:
    """Mean of the left-out logits at each hour `(hours, 1)`, and the share of their variance that averaging the members keeps.

    A stay is left out by one member alone, while the ensemble averages all: what members disagree about is noise that dilutes
    the slope of the outcome on one's logit (regression dilution), and the average has little of it. Without this the ensemble
    would come out underconfident, most so early.
    """
    some = np.random.default_rng(seed).choice(logits.shape[1], min(_SOME, logits.shape[1]), replace=False)
    noise = np.array([disagreement(network, rows, some, hour) for hour in range(len(logits))])
    averaged_away = noise * (1 - 1 / network.shape.members)
    kept = np.clip(1 - averaged_away / logits.var(axis=1), 0.5, 1.0)
    return logits.mean(axis=1, keepdims=True), kept[:, None]


def shape_of(recipe: Recipe, variables: int, targets: Targets) -> Shape:
    """The network's sizes."""
    outputs = targets.binary.shape[1] + targets.numeric.shape[1]
    return Shape(recipe.members, variables, PERSON + KNOWN + HOUR_FEATURES, outputs, recipe.hidden, recipe.token)


def fitted_arrays(fitted: Fitted) -> dict[str, npt.NDArray[Any]]:
    """Everything that was fitted, as arrays by name; `restore` is the inverse."""
    parts = {"prepare": fitted.prepare, "model": fitted.model}
    arrays = {f"{part}/{name}": x for part, module in parts.items() for name, x in state_arrays(module).items()}
    bounds = [(item.coverage, item.event, item.no_event) for item in fitted.bounds.bounds]
    return {**arrays, "bounds": np.array(bounds)}


def restore(arrays: Mapping[str, npt.NDArray[Any]], recipe: Recipe, stays: Stays) -> Fitted:
    """What `fitted_arrays` was given."""
    variables = stays.values.shape[2]
    model = StayModel(
        ExactPooling(variables),
        EventNetwork(shape_of(recipe, variables, stays.targets)),
        Novelty(variables, [float(hour) for hour in HOURS_LOOKED_AT]),
        HourlyCalibration(),
    )
    prepare = fit_prepare(stays, np.arange(1), recipe)
    for part, module in {"prepare": prepare, "model": model}.items():
        load_state(module, {name.removeprefix(f"{part}/"): x for name, x in arrays.items() if name.startswith(part)})
    bounds = tuple(Bounds(*map(float, row)) for row in arrays["bounds"])
    return Fitted(prepare, model.eval(), BoundsByHour(BOUNDS_FROM_H, bounds))


def fit_prepare(stays: Stays, rows: Indices, recipe: Recipe) -> Prepare:
    """Scales from these rows alone."""
    logarithmic, offset = torch.tensor(recipe.logarithmic), torch.tensor(recipe.offset)
    return Prepare(fit_scales(stays.values[rows], stays.counts[rows], stays.statics[rows], logarithmic, offset))


def look(stays: Stays, develop: Indices, prepare: Prepare) -> tuple[Rows, ExactPooling]:
    """What the network reads of these stays at every hour, and the pooling fitted on it."""
    inputs = prepare(**stays.at(develop, HOURS))
    pooling = ExactPooling(stays.values.shape[2])
    raw, course = [], []
    for hour in HOURS_LOOKED_AT:
        z, counts = look_back(inputs["z"], hour), look_back(inputs["counts"], hour)
        raw.append(pooling.raw(z, counts))
        course.append(stretches(z, counts))
    stacked = torch.stack(raw)
    pooling.fit(stacked.flatten(0, 1))
    elapsed = torch.tensor(HOURS_LOOKED_AT, dtype=torch.float32).unsqueeze(1)
    person = torch.cat([inputs["person"], inputs["known"]], dim=1)
    rows = Rows(pooling.standardise(stacked), torch.stack(course), person, within_stay(elapsed), hour_features(elapsed))
    return rows, pooling


@torch.no_grad()
def answers(fitted: Fitted, inputs: Mapping[str, Tensor]) -> tuple[Array, Array, Array]:
    """Probabilities `(n,)`, members `(n, m)` and novelty `(n,)` of these graph inputs."""
    total = len(inputs["values"])
    parts = []
    for start in range(0, total, _CHUNK):
        chunk = {name: value[start : start + _CHUNK] for name, value in inputs.items()}
        parts.append([answer.numpy().astype(np.float64) for answer in fitted.model(**fitted.prepare(**chunk))])
    probability, members, novelty = (np.concatenate(part) for part in zip(*parts, strict=True))
    return probability[:, 0], members[:, :, 0], novelty
