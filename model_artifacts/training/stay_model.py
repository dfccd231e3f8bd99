"""From a stay's raw tensors to calibrated probabilities: normalisation, ensemble, calibration and novelty in one
torch module.

Owns what surrounds `EventNetwork` in the released graph. Raw inputs are `values` and `counts` `(n, 48, v)`, the last row
being the last hour read; `statics` `(n, 4)`: age in years, sex (0 female, 1 male), height in cm, kind of unit (1 to 4),
not-a-number where unknown; and `elapsed` `(n, 1)`: hours from admission to the end of the last row. `prepare` turns them
into the module's inputs, all centred so that the explanation's baseline is zero: the same measurements at the same hours,
every value typical.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model_artifacts.training.calibrate import fit_logistic
from model_artifacts.training.event_network import EventNetwork, ExactPooling, stretches, within_stay

UNIT_KINDS = (1.0, 2.0, 3.0, 4.0)
PERSON = 3 + len(UNIT_KINDS)
KNOWN = 2
HOUR_FEATURES = 2
EARLIEST_H = 6.0
"""Nothing was learned of earlier hours; the population says so, and the graph holds it."""
LATEST_H = 48.0
_RANGE = 4.0
"""Normalised values are squeezed smoothly into ±4, so one extreme value can't decide alone."""
_SHRINKAGE = 0.2
_NOVELTY_STATISTICS = (0, 5, 6, 7)  # mean, last, ever measured, log count

_USUAL = 0.99

Array = npt.NDArray[np.float64]
Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Scales:
    """What centring and scaling needs, from the rows fitted on: per variable, and for the statics."""

    logarithmic: Tensor
    offset: Tensor
    centre: Tensor
    scale: Tensor
    person_centre: Tensor
    person_scale: Tensor


def fit_scales(values: Tensor, counts: Tensor, statics: Tensor, logarithmic: Tensor, offset: Tensor) -> Scales:
    """Medians and standard deviations of the measured hourly means; medians of age and height, shares of sex and units."""
    transformed = torch.where(logarithmic, torch.log(values.clamp(min=1e-3) + offset), values)
    measured = torch.where(counts > 0, transformed, torch.full_like(values, float("nan"))).flatten(0, 1)
    centre = measured.nanmedian(dim=0).values
    spread = torch.sqrt(torch.nanmean((measured - measured.nanmean(dim=0)) ** 2, dim=0))
    units = (statics[:, 3:4] == torch.tensor(UNIT_KINDS)).float().mean(dim=0)
    person_centre = torch.cat([statics[:, :3].nanmedian(dim=0).values, units])
    person_centre[1] = statics[:, 1].nanmean()
    person_scale = torch.tensor([17.0, 1.0, 12.0, 1.0, 1.0, 1.0, 1.0])
    return Scales(logarithmic, offset, centre, spread.clamp(min=0.05), person_centre, person_scale)


class Prepare(nn.Module):
    """Raw tensors to the model's: `z`, `counts` `(n, 48, v)`, `person` `(n, 7)`, `known` `(n, 2)`, `elapsed` `(n, 1)`; zero of
    `z` and `person` is typical.
    """

    def __init__(self, scales: Scales) -> None:
        super().__init__()
        self.register_buffer("logarithmic", scales.logarithmic)
        self.register_buffer("offset", scales.offset)
        self.register_buffer("centre", scales.centre)
        self.register_buffer("scale", scales.scale)
        self.register_buffer("person_centre", scales.person_centre)
        self.register_buffer("person_scale", scales.person_scale)
        self.register_buffer("kinds", torch.tensor(UNIT_KINDS))

    def forward(self, values: Tensor, counts: Tensor, statics: Tensor, elapsed: Tensor) -> Tensors:
        transformed = torch.where(self.logarithmic, torch.log(values.clamp(min=1e-3) + self.offset), values)
        z = _RANGE * torch.tanh((transformed - self.centre) / self.scale / _RANGE) * (counts > 0).to(values.dtype)
        unit = (statics[:, 3:4] == self.kinds).to(values.dtype)
        known_unit = unit.sum(dim=1, keepdim=True)
        unit = unit + (1 - known_unit) * self.person_centre[3:]
        body = torch.where(
            torch.isnan(statics[:, :3]), self.person_centre[:3].expand_as(statics[:, :3]), statics[:, :3]
        )
        person = (torch.cat([body, unit], dim=1) - self.person_centre) / self.person_scale
        known_height = 1 - torch.isnan(statics[:, 2:3]).to(values.dtype)
        known = torch.cat([known_height, known_unit], dim=1)
        hours = elapsed.clamp(EARLIEST_H, LATEST_H)
        return {"z": z, "counts": counts, "person": person, "known": known, "elapsed": hours}

    def graph_inputs(self, inputs: Tensors) -> Tensors:
        """`forward` for the exporter, which passes inputs by name."""
        prepared: Tensors = self(**inputs)
        return prepared


def baseline(inputs: Tensors) -> Tensors:
    """The explanation's baseline: typical values at the same hours, a typical person."""
    return {name: torch.zeros_like(inputs[name]) for name in ("z", "person")}


class HourlyCalibration(nn.Module):
    """Platt scaling whose slope and intercept follow the hours since admission: an early logit says less than a late one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]))

    def forward(self, logits: Tensor, elapsed: Tensor) -> Tensor:
        """Calibrated probabilities of `logits`, which broadcast with `elapsed`."""
        day = doublings(elapsed)
        w = self.weights
        return torch.sigmoid((w[0] + w[1] * day) * logits + w[2] + w[3] * day + w[4] * day * day)

    def fit(self, logits: Array, elapsed: Array, labels: npt.NDArray[np.integer]) -> None:
        """By maximum likelihood; all of the same shape, a stay once for each hour at which it is looked at."""
        day = doublings(torch.tensor(elapsed)).numpy().ravel()
        flat = logits.ravel()
        design = np.stack([flat, flat * day, np.ones_like(day), day, day * day], axis=1)
        self.weights.copy_(torch.tensor(fit_logistic(design, labels.ravel())))


def doublings(elapsed: Tensor) -> Tensor:
    """How often the first day was doubled (or halved, below 0): −2 at 6 h, 0 at 24 h, 1 at 48 h."""
    return torch.log2(elapsed / 24)


class Novelty(nn.Module):
    """How far a stay's pooled statistics lie from those of the rows fitted on: below 1 for 99 in 100 of them, at any hour.

    Root mean squared Mahalanobis distance, divided by its 99th percentile among stays looked at that early, which is
    interpolated between the hours fitted at.
    """

    def __init__(self, variables: int, hours: Sequence[float]) -> None:
        super().__init__()
        size = variables * len(_NOVELTY_STATISTICS)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whiten", torch.eye(size))
        self.register_buffer("hours", torch.tensor(hours))
        self.register_buffer("usual", torch.ones(len(hours)))

    def forward(self, pooled: Tensor, elapsed: Tensor) -> Tensor:
        return self.distance(pooled) / (self._between(elapsed) * self.usual).sum(dim=1)

    def distance(self, pooled: Tensor) -> Tensor:
        """Root mean squared Mahalanobis distance `(n,)`, about 1 for the rows fitted on."""
        whitened = (self.select(pooled) - self.centre) @ self.whiten
        return torch.sqrt((whitened * whitened).mean(dim=1))

    def fit(self, pooled: Tensor) -> None:
        """From `(hours, n, v, s)`: centre and whitening, the covariance shrunk towards its diagonal's mean; what is usual."""
        rows = self.select(pooled.flatten(0, 1)).double()
        covariance = torch.cov(rows.T)
        size = len(covariance)
        shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * torch.eye(size) * covariance.diagonal().mean()
        eigenvalues, vectors = torch.linalg.eigh(shrunk)
        self.centre.copy_(rows.mean(dim=0))
        self.whiten.copy_(vectors / torch.sqrt(eigenvalues))
        for number, at_hour in enumerate(pooled):
            self.usual[number] = torch.quantile(self.distance(at_hour), _USUAL)

    def select(self, pooled: Tensor) -> Tensor:
        return torch.cat([pooled[:, :, statistic] for statistic in _NOVELTY_STATISTICS], dim=1)

    def _between(self, elapsed: Tensor) -> Tensor:
        """Weights of linear interpolation `(n, hours)`, which sum to 1."""
        at = torch.minimum(torch.maximum(elapsed, self.hours[:1]), self.hours[-1:])
        width = self.hours[1:] - self.hours[:-1]
        into = torch.clamp((at - self.hours[:-1]) / width, 0, 1)
        one, none = torch.ones_like(at), torch.zeros_like(at)
        return torch.cat([one, into], dim=1) - torch.cat([into, none], dim=1)


class StayModel(nn.Module):
    """Prepared inputs to `(probability (n, 1), members (n, m, 1), novelty (n,))`.

    The ensemble is the mean of the members' logits, calibrated by the hour; each member is shown on the same scale.
    """

    def __init__(
        self, pooling: ExactPooling, network: EventNetwork, novelty: Novelty, calibration: HourlyCalibration
    ) -> None:
        super().__init__()
        self.pooling, self.network, self.novelty, self.calibration = pooling, network, novelty, calibration

    def forward(
        self, z: Tensor, counts: Tensor, person: Tensor, known: Tensor, elapsed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.pooling(z, counts)
        about = torch.cat([person, known, hour_features(elapsed)], dim=1)
        logits = self.network.for_all(pooled, stretches(z, counts), within_stay(elapsed), about)[:, :, 0]
        members = self.calibration(logits, elapsed[:, 0])
        probability = self.calibration(logits.mean(dim=0), elapsed[:, 0])
        return probability.unsqueeze(1), members.transpose(0, 1).unsqueeze(2), self.novelty(pooled, elapsed)


def hour_features(elapsed: Tensor) -> Tensor:
    """What the network is told of the time since admission `(n, 1)`: `(n, 2)`."""
    return torch.cat([(elapsed - 24) / 24, torch.log(elapsed / 24)], dim=1)
