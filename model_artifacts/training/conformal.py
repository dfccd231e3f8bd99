"""Class-conditional split conformal sets for a yes/no outcome: a bound for each outcome, with its coverage.

Owns the bounds (Vovk, Conditional validity of inductive conformal predictors, 2012: one quantile for each class, so that both
deaths and survivors are covered at the stated rate), and bounds by the hour: what a risk rules out early is not what it rules
out late, so coverage is kept within each span of hours too. Numpy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """An outcome stays in the set while its own probability is at least its bound."""

    coverage: float
    event: float
    no_event: float


@dataclass(frozen=True, slots=True)
class BoundsByHour:
    """Bounds of each span of hours; `from_h` are their beginnings, ascending, the last span is open."""

    from_h: tuple[float, ...]
    bounds: tuple[Bounds, ...]

    def at(self, hour: float) -> Bounds:
        """Those of the span that holds `hour`; before the first span, the first's."""
        return self.bounds[max(0, int(np.searchsorted(self.from_h, hour, side="right")) - 1)]


@dataclass(frozen=True, slots=True)
class SetRates:
    """What the sets did on held-out rows: coverage in each class, and how often each kind of set came out."""

    event_coverage: float
    no_event_coverage: float
    only_event: float
    only_no_event: float
    both: float
    neither: float


def fit_bounds(probabilities: Array, labels: npt.NDArray[np.integer], coverage: float) -> Bounds:
    """Bounds that keep the true outcome in the set with probability at least `coverage` in each class.

    Raises:
        ValueError: too few rows of a class for this coverage.
    """
    return Bounds(
        coverage, _bound(probabilities[labels == 1], coverage), _bound(1 - probabilities[labels == 0], coverage)
    )


def fit_bounds_by_hour(
    probabilities: Array,
    labels: npt.NDArray[np.integer],
    hours: Sequence[float],
    from_h: tuple[float, ...],
    coverage: float,
) -> BoundsByHour:
    """Bounds for each span that begins at `from_h`, from probabilities `(hours, n)` of the same rows at these hours.

    Raises:
        ValueError: too few rows of a class for this coverage, or a span without an hour.
    """
    span = np.searchsorted(from_h, hours, side="right") - 1
    empty = sorted(set(range(len(from_h))) - set(span.tolist()))
    if empty:
        raise ValueError(f"conformal bounds: no hour in the span from {from_h[empty[0]]:g} h on")
    each = [
        fit_bounds(probabilities[span == number].ravel(), np.tile(labels, int((span == number).sum())), coverage)
        for number in range(len(from_h))
    ]
    return BoundsByHour(from_h, tuple(each))


def set_rates(bounds: Bounds, probabilities: Array, labels: npt.NDArray[np.integer]) -> SetRates:
    """Coverage and kinds of sets on rows that the bounds were not fitted on."""
    event = probabilities >= bounds.event
    no_event = 1 - probabilities >= bounds.no_event
    return SetRates(
        event_coverage=float(event[labels == 1].mean()),
        no_event_coverage=float(no_event[labels == 0].mean()),
        only_event=float((event & ~no_event).mean()),
        only_no_event=float((no_event & ~event).mean()),
        both=float((event & no_event).mean()),
        neither=float((~event & ~no_event).mean()),
    )


def _bound(own: Array, coverage: float) -> float:
    """The finite-sample quantile: the floor((n + 1)(1 - coverage))-th smallest of the true outcome's probabilities."""
    rank = int(np.floor(round((len(own) + 1) * (1 - coverage), 9)))  # 20 * (1 - 0.9) is 1.9999… in floats
    if rank < 1:
        raise ValueError(f"{len(own)} rows of a class are too few for a coverage of {coverage}")
    return float(np.sort(own)[rank - 1])
