"""Fits the members of an ensemble side by side, each on its own part of the rows, and cross-fits their calibration.

Owns the optimisation: AdamW with one cycle of the learning rate for a fixed number of epochs. Nothing is stopped
early, so no tune part is spent; each member leaves out one inner part, and its predictions there calibrate the
ensemble.

Besides the outcome, the members learn auxiliary targets (later deaths, length of stay, severity scores): the outcome
alone is one bit for each stay. Auxiliary targets are never inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from model_artifacts.training.event_network import EventNetwork

Indices = npt.NDArray[np.int64]

BATCH = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.3
AUXILIARY_WEIGHT = 1.5
_CLIP = 5.0


@dataclass(frozen=True, slots=True)
class Targets:
    """`binary` `(n, b)`, the outcome first; `numeric` `(n, r)` standardised, with `known` `(n, r)` 0 where it doesn't apply."""

    binary: Tensor
    numeric: Tensor
    known: Tensor


@dataclass(frozen=True, slots=True)
class Rows:
    """What the network reads, a row each: `pooled` `(n, v, 14)`, `z` and `counts` `(n, 48, v)`, `person` `(n, p)`."""

    pooled: Tensor
    z: Tensor
    counts: Tensor
    person: Tensor

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The network's arguments for `rows`, of any shape."""
        return self.pooled[rows], self.z[rows], self.counts[rows], self.person[rows]


def fit_ensemble(
    network: EventNetwork,
    rows: Rows,
    targets: Targets,
    parts: list[Indices],
    *,
    epochs: int,
    seed: int,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
) -> None:
    """Fits member `j` of `network` on `parts[j]`; the members' order of rows differs, `seed` fixes it."""
    generator = np.random.default_rng(seed)
    steps = min(len(part) for part in parts) // BATCH
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=epochs * steps, pct_start=0.15)
    network.train()
    for epoch in range(epochs):
        order = torch.tensor(np.stack([generator.permutation(part)[: steps * BATCH] for part in parts]))
        total = 0.0
        for step in range(steps):
            batch = order[:, step * BATCH : (step + 1) * BATCH]
            loss = _loss(network(*rows.at(batch)), targets, batch)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), _CLIP * len(parts) ** 0.5)
            optimiser.step()
            schedule.step()
            total += loss.item() / len(parts)
        report(epoch, total / steps)
    network.eval()


def _loss(logits: Tensor, targets: Targets, batch: Tensor) -> Tensor:
    """Summed over members, so that each is fitted as if alone."""
    binary = targets.binary[batch]
    events = binary.shape[-1]
    by_event = binary_cross_entropy_with_logits(logits[..., :events], binary, reduction="none").mean(dim=1)
    error = (logits[..., events:] - targets.numeric[batch]) ** 2 * targets.known[batch]
    auxiliary = by_event[:, 1:].mean(dim=1) + 0.5 * error.mean(dim=(1, 2))
    return (by_event[:, 0] + AUXILIARY_WEIGHT * auxiliary).sum()


@torch.no_grad()
def member_logits(network: EventNetwork, rows: Rows, at: Indices, chunk: int = 200) -> npt.NDArray[np.float64]:
    """The outcome's logit of every member at these rows, `(m, len(at))`."""
    network.eval()
    parts = [
        network.for_all(*rows.at(torch.tensor(at[start : start + chunk])))[:, :, 0]
        for start in range(0, len(at), chunk)
    ]
    return torch.cat(parts, dim=1).numpy().astype(np.float64)
