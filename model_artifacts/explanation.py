"""Attributions in the patient's own values, with completeness checked on every decision.

The graph integrates gradients (Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017) and returns
one number per input position; here they are summed per clinical input and checked: they must add up to the output minus
the baseline's output. An explanation that does not add up is never shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_artifacts.errors import GraphOutputError


@dataclass(frozen=True, slots=True)
class Attribution:
    """How much one input moved the explained output away from the baseline, in probability (0.02 = 2 points)."""

    evidence: str
    contribution: float


def attribute(
    flat: npt.NDArray[np.floating], names: Sequence[str], slots: Sequence[tuple[int, ...]]
) -> tuple[Attribution, ...]:
    """One attribution per evidence item: the sum over its `slots` of `flat`, shape `(a,)`.

    Raises:
        GraphOutputError: a slot is used twice or does not exist, or a position that no evidence owns carries weight.
    """
    owned = [position for group in slots for position in group]
    if len(set(owned)) != len(owned) or not all(0 <= position < flat.size for position in owned):
        raise GraphOutputError(f"attribution slots must be distinct and from 0 to below {flat.size}")
    orphan = np.ones(flat.size, dtype=bool)
    orphan[owned] = False
    weighted = int(np.count_nonzero(flat[orphan]))  # not-a-number counts as weight
    if weighted:
        raise GraphOutputError(f"attributions carry weight at {weighted} unexplained positions")
    values = flat.tolist()  # sums of a few floats cost less outside of numpy
    return tuple(
        Attribution(name, float(sum(values[position] for position in group)))
        for name, group in zip(names, slots, strict=True)
    )


def check_completeness(attributions: Sequence[Attribution], output: float, baseline: float, tolerance: float) -> float:
    """The gap between the attributions' sum and `output - baseline`.

    Raises:
        GraphOutputError: the gap exceeds `tolerance`.
    """
    gap = sum(item.contribution for item in attributions) - (output - baseline)
    if not abs(gap) <= tolerance:
        raise GraphOutputError(f"attributions miss completeness: expected a gap of at most {tolerance:g}, got {gap:g}")
    return gap
