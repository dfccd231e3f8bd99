"""A small ensemble over a table of numbers, choices and codes, each encoded so that the explanation stays per input.

Owns the encoding and the network, nothing of a disease. Numbers are piecewise linear between knots (Gorishniy, Rubachev,
Babenko, NeurIPS 2022), choices are indicators, and a code is the sum of the embeddings of its levels (chapter, category, code),
shared by all positions. What is encoded, `x` (n, w) float32, is what the explanation integrates over: the encoding's kinks and
lookups lie before it, so the path is smooth. A value not known is the training rows' mean of its encoding: it moves nothing.

The members share the encoding and differ in weights and in a fixed random scaling of their inputs (after TabM, Gorishniy,
Kotelnikov, Babenko, ICLR 2025).

To extend: another kind of column is another part of `Encoder.dense`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, silu

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Table:
    """What the columns are, in their order: numbers with knots, flags, choices with their count, and which end in "taken".

    A choice of 0 has no indicator. In a choice that may end in "taken", the last stands for any of the others but 0.
    """

    numbers: Mapping[str, tuple[float, ...]]
    flags: tuple[str, ...]
    choices: Mapping[str, int]
    open_ended: frozenset[str]
    levels: tuple[int, ...]
    positions: int
    embedding: int


class Encoder(nn.Module):
    """From the graph's `features` (n, c) and `codes` (n, positions * levels) to `x` (n, w) and the novelty (n,)."""

    def __init__(self, table: Table, features: Features) -> None:
        super().__init__()
        self.table = table
        count, flags = len(table.numbers), len(table.flags)
        pieces = [(at, *pair) for at, knots in enumerate(table.numbers.values()) for pair in pairwise(knots)]
        units = [
            (count + flags + at, value, name in table.open_ended, size - 1)
            for at, (name, size) in enumerate(table.choices.items())
            for value in range(1, size - (name in table.open_ended))
        ]
        self.register_buffer("number", torch.tensor([piece[0] for piece in pieces]))
        self.register_buffer("low", torch.tensor([float(piece[1]) for piece in pieces]))
        self.register_buffer("high", torch.tensor([float(piece[2]) for piece in pieces]))
        self.register_buffer("flag", torch.arange(count, count + flags))
        self.register_buffer("choice", torch.tensor([unit[0] for unit in units]))
        self.register_buffer("value", torch.tensor([float(unit[1]) for unit in units]))
        self.register_buffer("taken", torch.tensor([float(unit[3]) if unit[2] else -1.0 for unit in units]))
        self._fit(features, count)
        self.embeddings = nn.ModuleList(nn.Embedding(size, table.embedding) for size in table.levels)
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, 0.0, 0.05)

    def _fit(self, features: Features, count: int) -> None:
        """The means that stand in for what isn't known, and what usual numbers look like."""
        values = features[:, self.choice.numpy()]
        hit, any_of = values == self.value.numpy(), (values > 0) & (values != self.taken.numpy())
        given = hit.sum(axis=0) / np.maximum(any_of.sum(axis=0), 1)
        self.register_buffer("given_taken", torch.tensor(given, dtype=torch.float32))
        width = len(self.low) + len(self.flag)
        self.register_buffer("means", torch.zeros(width))
        self.means = self._scaled(torch.from_numpy(features)).nanmean(dim=0)
        logs = np.log1p(features[:, :count].astype(np.float64))
        self.register_buffer("centre", torch.tensor(np.nanmean(logs, axis=0), dtype=torch.float32))
        filled = np.where(np.isnan(logs), np.nanmean(logs, axis=0), logs)
        covariance = np.cov(filled.T) + 1e-3 * np.eye(count)
        whitening = np.linalg.cholesky(np.linalg.inv(covariance)) / count**0.5
        self.register_buffer("whitening", torch.tensor(whitening, dtype=torch.float32))

    @property
    def width(self) -> int:
        """How many numbers `dense` gives."""
        return len(self.low) + len(self.flag) + len(self.choice)

    def _scaled(self, features: Tensor) -> Tensor:
        """Numbers and flags, not-a-number where not known."""
        pieces = ((features[:, self.number] - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
        return torch.cat([pieces, features[:, self.flag]], dim=1)

    def dense(self, features: Tensor) -> Tensor:
        """The part of `x` that isn't codes, `(n, w - positions * embedding)`."""
        scaled = self._scaled(features)
        known = torch.where(torch.isnan(scaled), self.means, scaled)
        values = features[:, self.choice]
        indicators = (values == self.value).to(features.dtype)
        return torch.cat([known, torch.where(values == self.taken, self.given_taken, indicators)], dim=1)

    def codes(self, codes: Tensor) -> Tensor:
        """The codes' embeddings, `(..., positions * embedding)`; a code that isn't there is nothing at all."""
        levels = codes.unflatten(-1, (self.table.positions, len(self.embeddings)))
        parts = [embedding(levels[..., level]) for level, embedding in enumerate(self.embeddings)]
        there = (levels[..., :1] > 0).to(parts[0].dtype)
        return (torch.stack(parts).sum(dim=0) * there).flatten(-2)

    def novelty(self, features: Tensor) -> Tensor:
        """How far the numbers lie from the training rows': a Mahalanobis distance of their logarithms, 1 on average."""
        logs = torch.log1p(features[:, : len(self.table.numbers)].clamp(min=0.0)) - self.centre
        whitened = torch.where(torch.isnan(logs), torch.zeros_like(logs), logs) @ self.whitening
        return (whitened**2).sum(dim=1).sqrt()

    def forward(self, features: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([self.dense(features), self.codes(codes)], dim=1), self.novelty(features)


class Members(nn.Module):
    """The ensemble's networks side by side: `x` (m, n, w) to logits (m, n, outputs)."""

    def __init__(self, table: Table, width: int, members: int, hidden: int, outputs: int, drop: float) -> None:
        super().__init__()
        self.table, self.drop, self.members = table, drop, members
        inputs = width + table.embedding
        for name, (size, out) in {
            "first": (inputs, hidden),
            "second": (hidden, hidden),
            "third": (hidden, outputs),
        }.items():
            self.register_parameter(name, nn.Parameter(torch.randn(members, size, out) / size**0.5))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.zeros(members, 1, out)))
        self.linear = nn.Parameter(torch.zeros(members, inputs, outputs))
        self.register_buffer("scaling", 1 + 0.1 * torch.randn(members, 1, inputs).sign())

    def forward(self, x: Tensor) -> Tensor:
        table = self.table
        codes = x[..., -table.positions * table.embedding :].unflatten(-1, (table.positions, table.embedding))
        whole = torch.cat([x, codes.sum(dim=-2)], dim=-1)
        hidden = dropout(whole * self.scaling, 0.4 * self.drop, self.training)
        hidden = dropout(silu(hidden @ self.first + self.first_bias), self.drop, self.training)
        hidden = dropout(silu(hidden @ self.second + self.second_bias), self.drop, self.training)
        return hidden @ self.third + self.third_bias + whole @ self.linear


class CategoryNetwork(nn.Module):
    """The whole model: `x` and the novelty in, calibrated probability (n, 1), members' (n, m, 1) and the novelty out.

    `average` (w,) is the mean of `x` over the rows fitted; `slope` and `intercept` calibrate the log odds.
    """

    def __init__(self, encoder: Encoder, members: Members) -> None:
        super().__init__()
        self.encoder, self.members = encoder, members
        self.register_buffer("slope", torch.tensor(1.0))
        self.register_buffer("intercept", torch.tensor(0.0))
        width = members.linear.shape[1] - encoder.table.embedding
        self.register_buffer("average", torch.zeros(width))

    def logits(self, x: Tensor) -> Tensor:
        """Each member's calibrated logit of the outcome, `(m, n)`."""
        raw = self.members(x.expand(self.members.members, *x.shape))[..., 0]
        return self.slope * raw + self.intercept

    def forward(self, x: Tensor, novelty: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.logits(x)
        return torch.sigmoid(logits.mean(dim=0))[:, None], torch.sigmoid(logits).T[..., None], novelty
