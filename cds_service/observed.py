"""One decision as those see it who watch how the models do, and the protocol by which they are told.

Apart from `monitor`, so that a desk can name who watches without knowing how.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from model_artifacts.assessment import Assessment
from model_artifacts.runtime import ReleasedModel


@dataclass(frozen=True, slots=True)
class Observed:
    """One decision as it is counted: whose, by which model, what came of it. `patient` is the number of a key in the vault."""

    tenant: str
    model: ReleasedModel
    shadow: bool
    status: str
    assessment: Assessment | None
    patient: int
    indicators: tuple[str, ...]
    moment: datetime


class Monitor(Protocol):
    """Who is told of every decision once it is durable."""

    def note(self, observed: Observed) -> None:
        """Counts it; never raises."""
        ...


class NoMonitor:
    """Counts nothing: for a desk without a service, as verbs and tests have it."""

    def note(self, observed: Observed) -> None:
        """See `Monitor.note`."""
