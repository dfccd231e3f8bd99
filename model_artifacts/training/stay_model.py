"""From a stay's raw tensors to calibrated probabilities: normalisation, ensemble, calibration and novelty in one
torch module.

Owns what surrounds `EventNetwork` in the released graph. Raw inputs are `values` and `counts` `(n, 48, v)` and
`statics` `(n, 4)`: age in years, sex (0 female, 1 male), height in cm, kind of unit (1 to 4), not-a-number where
unknown. `prepare` turns them into the module's inputs, all centred so that the explanation's baseline is zero: the
same measurements at the same hours, every value typical.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model_artifacts.training.calibrate import Platt
from model_artifacts.training.event_network import EventNetwork, ExactPooling

UNIT_KINDS = (1.0, 2.0, 3.0, 4.0)
PERSON = 3 + len(UNIT_KINDS)
KNOWN = 2
_RANGE = 4.0
"""Normalised values are squeezed smoothly into ±4, so one extreme value can't decide alone."""
_SHRINKAGE = 0.2
_NOVELTY_STATISTICS = (0, 5, 6, 7)  # mean, last, ever measured, log count

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
    """Raw tensors to the model's: `z`, `counts` `(n, 48, v)`, `person` `(n, 7)`, `known` `(n, 2)`; zero is typical."""

    def __init__(self, scales: Scales) -> None:
        super().__init__()
        self.register_buffer("logarithmic", scales.logarithmic)
        self.register_buffer("offset", scales.offset)
        self.register_buffer("centre", scales.centre)
        self.register_buffer("scale", scales.scale)
        self.register_buffer("person_centre", scales.person_centre)
        self.register_buffer("person_scale", scales.person_scale)
        self.register_buffer("kinds", torch.tensor(UNIT_KINDS))

    def forward(self, values: Tensor, counts: Tensor, statics: Tensor) -> Tensors:
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
        return {"z": z, "counts": counts, "person": person, "known": torch.cat([known_height, known_unit], dim=1)}

    def graph_inputs(self, inputs: Tensors) -> Tensors:
        """`forward` for the exporter, which passes inputs by name."""
        prepared: Tensors = self(**inputs)
        return prepared


def baseline(inputs: Tensors) -> Tensors:
    """The explanation's baseline: typical values at the same hours, a typical person."""
    return {name: torch.zeros_like(inputs[name]) for name in ("z", "person")}


class Novelty(nn.Module):
    """Root mean squared Mahalanobis distance of a stay's pooled statistics from the rows fitted on; about 1 there."""

    def __init__(self, variables: int) -> None:
        super().__init__()
        size = variables * len(_NOVELTY_STATISTICS)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whiten", torch.eye(size))

    def forward(self, pooled: Tensor) -> Tensor:
        whitened = (self.select(pooled) - self.centre) @ self.whiten
        return torch.sqrt((whitened * whitened).mean(dim=1))

    def fit(self, pooled: Tensor) -> None:
        """Centre and whitening from these rows, the covariance shrunk towards its diagonal's mean."""
        rows = self.select(pooled).double()
        covariance = torch.cov(rows.T)
        size = len(covariance)
        shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * torch.eye(size) * covariance.diagonal().mean()
        eigenvalues, vectors = torch.linalg.eigh(shrunk)
        self.centre.copy_(rows.mean(dim=0))
        self.whiten.copy_(vectors / torch.sqrt(eigenvalues))

    def select(self, pooled: Tensor) -> Tensor:
        return torch.cat([pooled[:, :, statistic] for statistic in _NOVELTY_STATISTICS], dim=1)


class StayModel(nn.Module):
    """Prepared inputs to `(probability (n, 1), members (n, m, 1), novelty (n,))`.

    The ensemble is the mean of the members' logits, calibrated by Platt scaling; each member is shown on the same scale.
    """

    def __init__(self, pooling: ExactPooling, network: EventNetwork, novelty: Novelty, platt: Platt) -> None:
        super().__init__()
        self.pooling, self.network, self.novelty = pooling, network, novelty
        self.slope, self.intercept = platt.slope, platt.intercept

    def forward(self, z: Tensor, counts: Tensor, person: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.pooling(z, counts)
        logits = self.network.for_all(pooled, z, counts, torch.cat([person, known], dim=1))[:, :, 0]
        members = torch.sigmoid(self.slope * logits + self.intercept)
        probability = torch.sigmoid(self.slope * logits.mean(dim=0) + self.intercept)
        return probability.unsqueeze(1), members.transpose(0, 1).unsqueeze(2), self.novelty(pooled)
