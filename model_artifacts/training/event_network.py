"""A deep network over irregular measurements: a transformer over the course, beside exact pooling of each variable.

Owns the torch module behind `icu_mortality`, an ensemble whose members are one batched matrix product each. Two views
of the same hours meet in a perceptron:

- the course: each stretch of four hours is a token (mean, whether and how often each variable was measured),
self-attention relates the stretches, attention pooling sums them up;
- the statistics: for each variable over its measured hours mean, spread, extremes, first, last, counts, time since,
decayed and half-stay means. Exact pooling is the bias that networks on a grid lack against trees.

Auxiliary outputs (later death, length of stay, severity scores) are for training only. Every step is smooth in `z`
but for order statistics, whose order does not change along a straight path from z = 0, so integrated gradients
converge in few steps.

To extend: a pooled statistic is one more entry of `ExactPooling.raw`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

HOURS = 48
STRETCH_H = 4
STATISTICS = 14
_FAR = 30.0
"""Beyond every normalised value; stands for "not measured" in maxima and minima."""
_DECAYS_H = (4.0, 12.0)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network; `members` networks side by side."""

    members: int
    variables: int
    person: int
    outputs: int
    hidden: int = 256
    token: int = 64


class MemberLinear(nn.Module):
    """One linear layer for each member: `(m, n, i)` to `(m, n, o)`."""

    def __init__(self, members: int, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, inputs, outputs) * gain / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        return (torch.bmm(flat, self.weight) + self.bias).reshape(*x.shape[:-1], self.weight.shape[2])


class ExactPooling(nn.Module):
    """Statistics over the measured hours of each variable, `(n, 48, v)` twice to `(n, v, 14)`, standardised.

    `centre` and `scale` `(v, 14)` are set from the rows the network is fitted on.
    """

    def __init__(self, variables: int) -> None:
        super().__init__()
        self.register_buffer("hour", torch.arange(HOURS, dtype=torch.float32).reshape(1, HOURS, 1))
        self.register_buffer("centre", torch.zeros(variables, STATISTICS))
        self.register_buffer("scale", torch.ones(variables, STATISTICS))

    def forward(self, z: Tensor, counts: Tensor) -> Tensor:
        pooled = (self.raw(z, counts) - self.centre) / self.scale
        return 5.0 * torch.tanh(pooled / 5.0)

    def fit(self, z: Tensor, counts: Tensor) -> None:
        """Sets `centre` and `scale` from these rows."""
        raw = self.raw(z, counts)
        self.centre.copy_(raw.mean(dim=0))
        self.scale.copy_(raw.std(dim=0) + 1e-3)

    def raw(self, z: Tensor, counts: Tensor) -> Tensor:
        """The statistics before standardisation; all 0 for a variable never measured, but for the time since (2 days)."""
        seen = (counts > 0).to(z.dtype)
        hours = seen.sum(dim=1)
        ever = (hours > 0).to(z.dtype)
        mean = (z * seen).sum(dim=1) / hours.clamp(min=1.0)
        apart = (z - mean.unsqueeze(1)) * seen  # not E[z²] − mean²: that loses float32's digits
        variance = (apart * apart).sum(dim=1) / hours.clamp(min=1.0)
        is_first = seen * (seen.cumsum(dim=1) == 1)
        is_last = seen * (seen.flip(1).cumsum(dim=1).flip(1) == 1)
        parts = [
            mean,
            torch.sqrt(variance + 1e-4) * ever,
            (z - _FAR * (1 - seen)).amax(dim=1) * ever,
            (z + _FAR * (1 - seen)).amin(dim=1) * ever,
            (z * is_first).sum(dim=1),
            (z * is_last).sum(dim=1),
            ever,
            torch.log1p(counts.sum(dim=1)) / 2,
            2.0 * (1 - ever) + (HOURS - 1 - (self.hour * is_last).sum(dim=1)) / 24 * ever,
            hours / 24,
        ]
        parts += [self._weighted(z, seen * torch.exp((self.hour - (HOURS - 1)) / decay), 0.05) for decay in _DECAYS_H]
        early = (self.hour < HOURS // 2).to(z.dtype)
        parts += [self._weighted(z, seen * early, 0.5), self._weighted(z, seen * (1 - early), 0.5)]
        return torch.stack(parts, dim=2)

    @staticmethod
    def _weighted(z: Tensor, weight: Tensor, prior: float) -> Tensor:
        """The weighted mean, drawn towards 0 (typical) by `prior` hours."""
        return (z * weight).sum(dim=1) / (weight.sum(dim=1) + prior)


class CourseEncoder(nn.Module):
    """One self-attention block over stretches of the stay: `(m, n, 48, v)` twice to `(m, n, 3 * token)`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        m, t = shape.members, shape.token
        self.embed = MemberLinear(m, shape.variables * 3, t)
        self.place = nn.Parameter(torch.randn(m, 1, HOURS // STRETCH_H, t) * 0.3)
        self.query, self.key, self.value = (MemberLinear(m, t, t) for _ in range(3))
        self.mix = MemberLinear(m, t, t)
        self.pool = MemberLinear(m, t, 1)
        self.dropout = nn.Dropout(0.2)

    def forward(self, z: Tensor, counts: Tensor) -> Tensor:
        h = nn.functional.silu(self.embed(self.dropout(stretches(z, counts))) + self.place)
        weight = torch.softmax(self.query(h) @ self.key(h).transpose(2, 3) / math.sqrt(h.shape[3]), dim=3)
        h = h + weight @ self.value(h)
        h = h + nn.functional.silu(self.mix(h))
        pooled = (torch.softmax(self.pool(h), dim=2) * h).sum(dim=2)
        encoded: Tensor = self.dropout(torch.cat([pooled, h.mean(dim=2), h[:, :, -1]], dim=2))
        return encoded


def stretches(z: Tensor, counts: Tensor) -> Tensor:
    """Each stretch's mean of the measured hours, whether there was one, and log counts: `(m, n, 12, 3 v)`."""
    m, n, _, v = counts.shape
    split = (m, n, HOURS // STRETCH_H, STRETCH_H, v)
    seen = (counts > 0).to(z.dtype)
    hours = seen.reshape(split).sum(dim=3)
    mean = (z * seen).reshape(split).sum(dim=3) / hours.clamp(min=1.0)
    amount = torch.log1p(counts).reshape(split).sum(dim=3) / 2
    return torch.cat([mean, (hours > 0).to(z.dtype), amount], dim=3)


class EventNetwork(nn.Module):
    """Logits `(m, n, outputs)` of every member; output 0 is the outcome, the others are auxiliary.

    `forward(pooled, z, counts, person)` takes `(m, n, …)`: while training each member has its own batch.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        m = shape.members
        width = shape.variables * STATISTICS + 3 * shape.token + shape.person
        self.course = CourseEncoder(shape)
        self.first = MemberLinear(m, width, shape.hidden)
        self.second = MemberLinear(m, shape.hidden, shape.hidden)
        self.out = MemberLinear(m, shape.hidden, shape.outputs, gain=0.3)
        self.dropout = nn.Dropout(0.5)
        self.input_dropout = nn.Dropout(0.2)
        self.variable_dropout = 0.05

    def forward(self, pooled: Tensor, z: Tensor, counts: Tensor, person: Tensor) -> Tensor:
        if self.training:
            kept = (torch.rand(*pooled.shape[:3], 1) > self.variable_dropout).to(z.dtype)
            pooled, counts = pooled * kept, counts * kept.transpose(2, 3)
        course = self.course(z, counts)
        statistics = self.input_dropout(torch.cat([pooled.flatten(2), person], dim=2))
        x = torch.cat([statistics, course], dim=2)
        x = self.dropout(nn.functional.silu(self.first(x)))
        x = self.dropout(nn.functional.silu(self.second(x)))
        logits: Tensor = self.out(x)
        return logits

    def for_all(self, pooled: Tensor, z: Tensor, counts: Tensor, person: Tensor) -> Tensor:
        """`forward` with the same rows `(n, …)` for every member."""
        m = self.shape.members
        return self(*(part.unsqueeze(0).expand(m, *part.shape) for part in (pooled, z, counts, person)))
