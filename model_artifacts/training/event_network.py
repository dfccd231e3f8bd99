"""A deep network over irregular measurements up to any hour of a stay: a transformer over the course, beside exact
pooling of each variable.

Owns the torch module behind `icu_mortality`, an ensemble whose members are one batched matrix product each. The last hour
read is always the last row, so that "two hours ago" is the same place at hour 6 and at hour 48; how long the stay has
lasted is an input of its own. Two views of the same hours meet in a perceptron:

- the course: each stretch of four hours is a token (mean, whether and how often each variable was measured),
self-attention relates the stretches of the stay, attention pooling sums them up;
- the statistics: for each variable over its measured hours mean, spread, extremes, first, last, slope, counts, time
since, decayed means, means of windows. Exact pooling is the bias that networks on a grid lack against trees.

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
STRETCHES = HOURS // STRETCH_H
STATISTICS = 19
_FAR = 30.0
"""Beyond every normalised value; stands for "not measured" in maxima and minima."""
_NEVER = 1e4
"""Taken off an attention logit: no weight."""
_DECAYS_H = (4.0, 12.0)
_LATE_H = 12
_LATEST_H = 6


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
    """Statistics over the measured hours of each variable, `(n, 48, v)` twice to `(n, v, 19)`, standardised.

    `centre` and `scale` `(v, 19)` are set from the rows the network is fitted on.
    """

    def __init__(self, variables: int) -> None:
        super().__init__()
        self.register_buffer("hour", torch.arange(HOURS, dtype=torch.float32).reshape(1, HOURS, 1))
        self.register_buffer("centre", torch.zeros(variables, STATISTICS))
        self.register_buffer("scale", torch.ones(variables, STATISTICS))

    def forward(self, z: Tensor, counts: Tensor) -> Tensor:
        return self.standardise(self.raw(z, counts))

    def standardise(self, raw: Tensor) -> Tensor:
        """Centred, scaled, and squeezed smoothly into ±5."""
        return 5.0 * torch.tanh((raw - self.centre) / self.scale / 5.0)

    def fit(self, raw: Tensor) -> None:
        """Sets `centre` and `scale` from `(n, v, 19)` raw statistics, of all the hours at which stays are looked at."""
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
        highest, lowest = _extremes(z, seen)
        parts = [
            mean,
            torch.sqrt(variance + 1e-4) * ever,
            highest,
            lowest,
            (z * is_first).sum(dim=1),
            (z * is_last).sum(dim=1),
            ever,
            torch.log1p(counts.sum(dim=1)) / 2,
            2.0 * (1 - ever) + (HOURS - 1 - (self.hour * is_last).sum(dim=1)) / 24 * ever,
            hours / 24,
        ]
        parts += [_weighted(z, seen * torch.exp((self.hour - (HOURS - 1)) / decay), 0.05) for decay in _DECAYS_H]
        before = (self.hour < HOURS // 2).to(z.dtype)
        parts += [_weighted(z, seen * before, 0.5), _weighted(z, seen * (1 - before), 0.5)]
        late = (self.hour >= HOURS - _LATE_H).to(z.dtype)
        parts += [*_extremes(z, seen * late), torch.log1p((counts * late).sum(dim=1)) / 2]
        parts += [_weighted(z, seen * (self.hour >= HOURS - _LATEST_H).to(z.dtype), 0.5), self._slope(z, seen)]
        return torch.stack(parts, dim=2)

    def _slope(self, z: Tensor, seen: Tensor) -> Tensor:
        """Change in 12 hours by least squares, drawn towards 0 where the measurements lie close together."""
        middle = (self.hour * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1.0)
        apart = (self.hour - middle.unsqueeze(1)) * seen / 12
        return (z * apart).sum(dim=1) / ((apart * apart).sum(dim=1) + 1.0)


def _weighted(z: Tensor, weight: Tensor, prior: float) -> Tensor:
    """The weighted mean, drawn towards 0 (typical) by `prior` hours."""
    return (z * weight).sum(dim=1) / (weight.sum(dim=1) + prior)


def _extremes(z: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Highest and lowest of the hours `seen`, 0 without any."""
    ever = seen.amax(dim=1)
    away = _FAR * (1 - seen)
    return (z - away).amax(dim=1) * ever, (z + away).amin(dim=1) * ever


def stretches(z: Tensor, counts: Tensor) -> Tensor:
    """Each stretch's mean of the measured hours, whether there was one, and log counts: `(n, 12, 3 v)`."""
    n, _, v = counts.shape
    split = (n, STRETCHES, STRETCH_H, v)
    seen = (counts > 0).to(z.dtype)
    hours = seen.reshape(split).sum(dim=2)
    mean = (z * seen).reshape(split).sum(dim=2) / hours.clamp(min=1.0)
    amount = torch.log1p(counts).reshape(split).sum(dim=2) / 2
    return torch.cat([mean, (hours > 0).to(z.dtype), amount], dim=2)


def within_stay(elapsed: Tensor) -> Tensor:
    """Which stretches hold any of the stay, 0 or 1, from hours since admission `(n, 1)`: `(n, 12)`."""
    ends = torch.arange(1, STRETCHES + 1, dtype=elapsed.dtype) * STRETCH_H
    return (ends > HOURS - elapsed).to(elapsed.dtype)


class CourseEncoder(nn.Module):
    """One self-attention block over the stretches of the stay: `(m, n, 12, 3 v)` to `(m, n, 3 * token)`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        m, t = shape.members, shape.token
        self.embed = MemberLinear(m, shape.variables * 3, t)
        self.place = nn.Parameter(torch.randn(m, 1, STRETCHES, t) * 0.3)
        self.query, self.key, self.value = (MemberLinear(m, t, t) for _ in range(3))
        self.mix = MemberLinear(m, t, t)
        self.pool = MemberLinear(m, t, 1)
        self.dropout = nn.Dropout(0.2)

    def forward(self, course: Tensor, within: Tensor) -> Tensor:
        h = nn.functional.silu(self.embed(self.dropout(course)) + self.place)
        outside = _NEVER * (1 - within)
        logits = self.query(h) @ self.key(h).transpose(2, 3) / math.sqrt(h.shape[3])
        h = h + torch.softmax(logits - outside.unsqueeze(2), dim=3) @ self.value(h)
        h = h + nn.functional.silu(self.mix(h))
        inside = within.unsqueeze(3)
        pooled = (torch.softmax(self.pool(h) - outside.unsqueeze(3), dim=2) * h).sum(dim=2)
        mean = (h * inside).sum(dim=2) / inside.sum(dim=2)
        encoded: Tensor = self.dropout(torch.cat([pooled, mean, h[:, :, -1]], dim=2))
        return encoded


class EventNetwork(nn.Module):
    """Logits `(m, n, outputs)` of every member; output 0 is the outcome, the others are auxiliary.

    `forward(pooled, course, within, person)` takes `(m, n, …)`: while training each member has its own batch.
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

    def forward(self, pooled: Tensor, course: Tensor, within: Tensor, person: Tensor) -> Tensor:
        if self.training:
            kept = (torch.rand(*pooled.shape[:3], 1, device=pooled.device) > self.variable_dropout).to(pooled.dtype)
            pooled, course = pooled * kept, course * kept.transpose(2, 3).repeat(1, 1, 1, 3)
        encoded = self.course(course, within)
        statistics = self.input_dropout(torch.cat([pooled.flatten(2), person], dim=2))
        x = torch.cat([statistics, encoded], dim=2)
        x = self.dropout(nn.functional.silu(self.first(x)))
        x = self.dropout(nn.functional.silu(self.second(x)))
        logits: Tensor = self.out(x)
        return logits

    def for_all(self, pooled: Tensor, course: Tensor, within: Tensor, person: Tensor) -> Tensor:
        """`forward` with the same rows `(n, …)` for every member."""
        m = self.shape.members
        return self(*(part.unsqueeze(0).expand(m, *part.shape) for part in (pooled, course, within, person)))
