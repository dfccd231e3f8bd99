"""What is learned of each stay besides death in hospital: the challenge's other outcomes, as targets.

Owns the choice and the scaling. One bit for each of 8,000 stays teaches little; what came later, how long it took and how ill
people were scored teaches the same features. None of it is ever an input. Numpy only.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LATER_DEATH_DAYS = (30, 90, 365)


class TargetArrays(NamedTuple):
    """`binary` `(n, 4)`, the outcome first; `numeric` `(n, 3)` standardised; `known` `(n, 3)`, 0 where it doesn't apply."""

    binary: Array
    numeric: Array
    known: Array


def read_targets(outcomes: Mapping[str, Array]) -> TargetArrays:
    """In-hospital death, then death within 30, 90 and 365 days; SAPS-I, SOFA and log length of stay (of survivors)."""
    died, survival = outcomes["In-hospital_death"], outcomes["Survival"]
    later = [np.maximum(died, (survival >= 0) & (survival <= days)) for days in LATER_DEATH_DAYS]
    stay_days = outcomes["Length_of_stay"]
    numeric = (
        (outcomes["SAPS-I"], outcomes["SAPS-I"] > 0),
        (outcomes["SOFA"], outcomes["SOFA"] >= 0),
        (np.log(np.maximum(stay_days, 2)), (stay_days >= 2) & (died == 0)),
    )
    columns = [np.where(known, (x - x[known].mean()) / x[known].std(), 0.0) for x, known in numeric]
    known = np.stack([known for _, known in numeric], axis=1).astype(np.float64)
    return TargetArrays(np.stack([died, *later], axis=1), np.stack(columns, axis=1), known)
