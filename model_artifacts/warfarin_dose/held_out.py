"""What models said of people they never saw: the one value that the evaluation of warfarin_dose is computed from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_artifacts.warfarin_dose.cohort import Cohort

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Everybody's estimates, mg/week, in the cohort's order.

    Attributes:
        doses: (n,) by the name of the model or rival.
        intervals: (n, 2) of "model" and "without_genotypes".
        members: (n, m), of "model".
        novelty: (n,), of "model".
        settings: what each fold's tuning chose, in words.
    """

    cohort: Cohort
    doses: Mapping[str, Array]
    intervals: Mapping[str, Array]
    members: Array
    novelty: Array
    settings: tuple[str, ...]
