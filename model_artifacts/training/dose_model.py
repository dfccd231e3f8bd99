"""A dose from a row of features: linear, kernel and deep parts averaged on the square root of the dose, in one torch module.

Owns what the released graph of a dose model computes: filling what is not recorded, the three parts, the interval and the
novelty. The square root makes the spread of doses even (as in the IWPC's equations). The parts are averaged with equal
weights, a third each, fixed beforehand and not tuned.

The interval adds to the root two linear functions of the groups a person is in; `quantile.py` fits them so that each
group, and not only everybody together, is covered at the stated rate.

Raw input: `features` (n, c) with the columns of a `Layout`. To use it for another drug: another `Layout`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

Tensors = dict[str, Tensor]
Array = npt.NDArray[np.float64]
LEAST_ROOT = 1.0  # of 1 mg/week, below every dose seen
LEAST_REACH = 0.05  # an interval always reaches a little to both sides of the estimate


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a row what stands, by position.

    Attributes:
        nullable: columns that may be not-a-number, with what is filled in for each.
        height: the nullable column that is estimated from others, not filled with a constant.
        explains_height: the columns it is estimated from.
        crossed: pairs (known, group): the group's column counts once more where "known" is 0.
        always: columns that the interval depends on, in one way with and in another without all that can be unknown.
        groups: further columns that it depends on, 0 where they are not known.
        unknown: "known" columns that it depends on where they are 0.
    """

    nullable: dict[int, float]
    height: int
    explains_height: tuple[int, ...]
    crossed: tuple[tuple[int, int], ...]
    always: tuple[int, ...]
    groups: tuple[int, ...]
    unknown: tuple[int, ...]


class Prepare(nn.Module):
    """Raw features to `x` (n, c) without not-a-numbers, and `known` (n, c): 1 where the value was recorded."""

    def __init__(self, layout: Layout, height_weights: Tensor) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("height_weights", height_weights)

    def forward(self, features: Tensor) -> Tensors:
        known = 1 - torch.isnan(features).to(features.dtype)
        width = features.shape[1]
        # What may not be missing stays not-a-number, and so does the answer.
        fill = torch.tensor([self.layout.nullable.get(column, float("nan")) for column in range(width)])
        filled = torch.where(known > 0, features, fill)
        estimated = self.height_weights[0] + select(filled, self.layout.explains_height) @ self.height_weights[1:, None]
        missing = select(1 - known, (self.layout.height,) * width)
        is_height = torch.tensor([float(column == self.layout.height) for column in range(width)])
        return {"x": torch.where(missing * is_height > 0, estimated, filled), "known": known}

    def graph_inputs(self, inputs: Tensors) -> Tensors:
        """`forward` for the exporter, which passes inputs by name."""
        prepared: Tensors = self(**inputs)
        return prepared


def fit_height(features: Array, layout: Layout) -> Array:
    """Least-squares weights of height on a constant and the columns that explain it, from the rows that have it."""
    rows = features[~np.isnan(features[:, layout.height])]
    explaining = np.column_stack([rows[:, column] for column in layout.explains_height])
    for place, column in enumerate(layout.explains_height):
        missing = np.isnan(explaining[:, place])
        explaining[missing, place] = layout.nullable.get(column, 0.0)
    design = np.column_stack([np.ones(len(rows)), explaining])
    weights, *_ = np.linalg.lstsq(design, rows[:, layout.height], rcond=None)
    return np.asarray(weights)


def select(x: Tensor, columns: tuple[int, ...]) -> Tensor:
    """These columns of `x`, as one product: indexing costs several operators for each, and as many again in the gradient."""
    return x @ torch.tensor([[float(row == column) for column in columns] for row in range(x.shape[1])])


def design(x: Tensor, layout: Layout) -> Tensor:
    """`x` and the crossed columns, (n, d)."""
    known, group = zip(*layout.crossed, strict=True)
    return torch.cat([x, (1 - select(x, known)) * select(x, group)], dim=1)


def group_design(x: Tensor, root: Tensor, layout: Layout) -> Tensor:
    """What the interval's reach depends on, (n, g): a constant, the estimate's root and the groups."""
    unknown = 1 - x[:, list(layout.unknown)]
    none = unknown.prod(dim=1, keepdim=True)
    base = torch.cat([torch.ones_like(root)[:, None], root[:, None], x[:, list(layout.always)]], dim=1)
    return torch.cat([base * (1 - none), base * none, x[:, list(layout.groups)], unknown * (1 - none)], dim=1)


class Networks(nn.Module):
    """`members` networks side by side, two hidden layers and a linear path each: (m, n, d) or (n, d) to roots (m, n)."""

    def __init__(self, members: int, width: int, hidden: int, start: float, seed: int, dropout: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def weights(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) * scale)

        self.first = weights(members, width, hidden, scale=width**-0.5)
        self.first_bias = nn.Parameter(torch.zeros(members, 1, hidden))
        self.second = weights(members, hidden, hidden, scale=hidden**-0.5)
        self.second_bias = nn.Parameter(torch.zeros(members, 1, hidden))
        self.last = weights(members, hidden, 1, scale=0.05 * hidden**-0.5)
        self.last_bias = nn.Parameter(torch.full((members, 1, 1), start))
        self.direct = nn.Parameter(torch.zeros(members, width, 1))
        self.drop = nn.Dropout(dropout)

    def forward(self, z: Tensor) -> Tensor:
        hidden = self.drop(gelu(z @ self.first + self.first_bias))
        hidden = self.drop(gelu(hidden @ self.second + self.second_bias))
        return (hidden @ self.last + self.last_bias + z @ self.direct)[..., 0]


class Kernel(nn.Module):
    """Gaussian kernels around some centres, and a linear part: (n, d) to roots (n,).

    In double precision: hundreds of terms of either sign cancel, and single ones would differ between torch and onnxruntime.
    """

    def __init__(self, centres: Tensor, weights: Tensor, linear: Tensor, intercept: float, gamma: float) -> None:
        super().__init__()
        self.register_buffer("centres", centres)
        self.register_buffer("squares", (centres**2).sum(dim=1))
        self.register_buffer("weights", weights)
        self.register_buffer("linear", linear)
        self.intercept, self.gamma = intercept, gamma

    def forward(self, z: Tensor) -> Tensor:
        exact = z.double()
        distance = (exact**2).sum(dim=1, keepdim=True) + self.squares - 2 * (exact @ self.centres.T)
        return (torch.exp(-self.gamma * distance) @ self.weights + exact @ self.linear + self.intercept).to(z.dtype)


class Linear(nn.Module):
    """A fitted linear regression: (n, d) to roots (n,)."""

    def __init__(self, weights: Tensor, intercept: float) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.intercept = intercept

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.weights + self.intercept


class Roots(nn.Module):
    """The three parts on standardised features: (n, c) to the ensemble's root (n,) and the members' (m + 2, n)."""

    def __init__(self, layout: Layout, centre: Tensor, scale: Tensor, parts: tuple[Networks, Kernel, Linear]) -> None:
        super().__init__()
        self.layout = layout
        self.networks, self.kernel, self.linear = parts
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (design(x, self.layout) - self.centre) / self.scale
        deep, kernel, linear = self.networks(z.unsqueeze(0)), self.kernel(z), self.linear(z)
        root = (deep.mean(dim=0) + kernel + linear) / 3
        return root.clamp(min=LEAST_ROOT), torch.cat([deep, torch.stack([kernel, linear])]).clamp(min=LEAST_ROOT)


class Novelty(nn.Module):
    """Root mean squared Mahalanobis distance of a few measured columns, those not recorded at their mean; about 1."""

    def __init__(self, columns: tuple[int, ...], centre: Tensor, whiten: Tensor) -> None:
        super().__init__()
        self.columns = columns
        self.register_buffer("centre", centre)
        self.register_buffer("whiten", whiten)

    def forward(self, x: Tensor) -> Tensor:
        whitened = (x[:, list(self.columns)] - self.centre) @ self.whiten
        return torch.sqrt((whitened * whitened).mean(dim=1))

    @classmethod
    def fit(cls, columns: tuple[int, ...], x: Tensor) -> "Novelty":
        """Centre and whitening from these rows."""
        rows = x[:, list(columns)].double()
        eigenvalues, vectors = torch.linalg.eigh(torch.cov(rows.T))
        return cls(columns, rows.mean(dim=0).float(), (vectors / torch.sqrt(eigenvalues)).float())


class DoseModel(nn.Module):
    """`(dose (n, 1), members (n, m, 1), novelty (n,), interval (n, 1, 2))` in mg/week, from `Prepare`'s outputs."""

    def __init__(self, roots: Roots, novelty: Novelty, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.roots, self.novelty = roots, novelty
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        root, members = self.roots(x)
        groups = group_design(x, root, self.roots.layout)
        below = (root + (groups @ self.low).clamp(max=-LEAST_REACH)).clamp(min=0.0)
        above = root + (groups @ self.high).clamp(min=LEAST_REACH)
        interval = torch.stack([below**2, above**2], dim=1).unsqueeze(1)
        return (root**2).unsqueeze(1), (members**2).T.unsqueeze(2), self.novelty(x) + 0 * known[:, 0], interval
