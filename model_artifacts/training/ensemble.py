"""Fits the members of an ensemble side by side, each on its own part of the rows, and cross-fits their calibration.

Owns the optimisation: AdamW with one cycle of the learning rate for a fixed number of epochs. Nothing is stopped
early, so no tune part is spent; each member leaves out one inner part, and its predictions there calibrate the
ensemble. Each time a stay comes, it comes as it was at an hour drawn anew: an augmentation that also makes one network of
all hours.

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
CPU = torch.device("cpu")

BATCH = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.3
AUXILIARY_WEIGHT = 1.5
LATEST_SHARE = 0.5
"""Of the stays in a batch: looked at in the last hour, which every later question is about."""
_CLIP = 5.0


@dataclass(frozen=True, slots=True)
class Targets:
    """`binary` `(n, b)`, the outcome first; `numeric` `(n, r)` standardised, with `known` `(n, r)` 0 where it doesn't apply."""

    binary: Tensor
    numeric: Tensor
    known: Tensor

    def of(self, rows: Indices) -> "Targets":
        """Those of these rows."""
        return Targets(self.binary[rows], self.numeric[rows], self.known[rows])

    def on(self, device: torch.device) -> "Targets":
        """The same on this device."""
        return Targets(self.binary.to(device), self.numeric.to(device), self.known.to(device))


@dataclass(frozen=True, slots=True)
class Rows:
    """What the network reads, for each of `g` hours at which a stay is looked at, the last one the latest.

    `pooled` `(g, n, v, s)`, `course` `(g, n, 12, 3 v)`, `person` `(n, p)`; `within` `(g, 12)` and `hour` `(g, h)` are those of
    `within_stay` and `hour_features`.
    """

    pooled: Tensor
    course: Tensor
    person: Tensor
    within: Tensor
    hour: Tensor

    def at(self, hours: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The network's arguments for `rows` at these positions among the hours, both of one shape."""
        about = torch.cat([self.person[rows], self.hour[hours]], dim=-1)
        return self.pooled[hours, rows], self.course[hours, rows], self.within[hours], about

    def on(self, device: torch.device) -> "Rows":
        """The same on this device."""
        parts = (self.pooled, self.course, self.person, self.within, self.hour)
        return Rows(*(part.to(device) for part in parts))


def fit_ensemble(
    network: EventNetwork,
    rows: Rows,
    targets: Targets,
    parts: list[Indices],
    *,
    epochs: int,
    seed: int,
    device: torch.device = CPU,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
) -> None:
    """Fits member `j` of `network` on `parts[j]`; the members' order of rows and hours differs, `seed` fixes both.

    The fit runs on `device`; the network comes back to the CPU.
    """
    network.to(device)
    half = computes_in_half(device)
    rows, targets = rows.on(device), targets.on(device)
    generator = np.random.default_rng(seed)
    steps = min(len(part) for part in parts) // BATCH
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=epochs * steps, pct_start=0.15)
    network.train()
    for epoch in range(epochs):
        drawn = np.stack([generator.permutation(part)[: steps * BATCH] for part in parts])
        order = torch.tensor(drawn, device=device)
        hours = torch.tensor(_draw_hours(generator, drawn.shape, len(rows.within)), device=device)
        total = 0.0
        for step in range(steps):
            now = slice(step * BATCH, (step + 1) * BATCH)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                logits = network(*rows.at(hours[:, now], order[:, now]))
            loss = _loss(logits.float(), targets, order[:, now])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), _CLIP * len(parts) ** 0.5)
            optimiser.step()
            schedule.step()
            total += loss.item() / len(parts)
        report(epoch, total / steps)
    network.to(CPU).eval()


def computes_in_half(device: torch.device) -> bool:
    """Whether matrix products go in bfloat16, twice as fast and far above the noise of a fit: where the processor has it."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


def _draw_hours(generator: np.random.Generator, shape: tuple[int, ...], hours: int) -> Indices:
    """Half of the stays are looked at in the last hour, the others in any earlier one."""
    drawn = generator.integers(0, hours - 1, shape)
    return np.where(generator.random(shape) < LATEST_SHARE, hours - 1, drawn)


def _loss(logits: Tensor, targets: Targets, batch: Tensor) -> Tensor:
    """Summed over members, so that each is fitted as if alone."""
    binary = targets.binary[batch]
    events = binary.shape[-1]
    by_event = binary_cross_entropy_with_logits(logits[..., :events], binary, reduction="none").mean(dim=1)
    error = (logits[..., events:] - targets.numeric[batch]) ** 2 * targets.known[batch]
    auxiliary = by_event[:, 1:].mean(dim=1) + 0.5 * error.mean(dim=(1, 2))
    return (by_event[:, 0] + AUXILIARY_WEIGHT * auxiliary).sum()


@torch.no_grad()
def left_out_logits(network: EventNetwork, rows: Rows, part: Indices, hour: int) -> npt.NDArray[np.float64]:
    """The outcome's logit of each row by the member whose number is the row's `part`, at the hour of this position, `(n,)`."""
    network.eval()
    own = [np.flatnonzero(part == member) for member in range(network.shape.members)]
    most = max(map(len, own))
    at = np.stack([np.resize(mine, most) for mine in own])  # each member its rows, some twice where it has fewer
    logits = np.zeros(len(part))
    for start in range(0, most, BATCH):
        batch = at[:, start : start + BATCH]
        said = network(*rows.at(torch.full(batch.shape, hour), torch.tensor(batch)))
        logits[batch] = said[:, :, 0].numpy()
    return logits


@torch.no_grad()
def disagreement(network: EventNetwork, rows: Rows, at: Indices, hour: int) -> float:
    """Mean variance of the members' logits of the outcome for the rows `at`, at the hour of this position."""
    network.eval()
    logits = network.for_all(*rows.at(torch.full((len(at),), hour), torch.tensor(at)))[:, :, 0]
    return float(logits.double().var(dim=0).mean())
