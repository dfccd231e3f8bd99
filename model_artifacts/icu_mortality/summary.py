"""First, last, min, max, mean, standard deviation and count of each variable: what the rivals are given.

Owns the seven summary statistics, exact over the events and not the hourly grid. Numpy only.
"""

import numpy as np
import numpy.typing as npt

from model_artifacts.icu_mortality.events import VARIABLES

STATISTICS = ("first", "last", "min", "max", "mean", "sd", "count")


def summary_features(
    times_h: npt.NDArray[np.float64],
    variable: npt.NDArray[np.integer],
    values: npt.NDArray[np.float64],
    stay: npt.NDArray[np.integer],
    stays: int,
) -> npt.NDArray[np.float32]:
    """`(stays, 7 * 37)`, by statistic and then variable; not-a-number where not measured (sd: measured once), counts 0."""
    order = np.lexsort((times_h, stay * len(VARIABLES) + variable))
    group = (stay * len(VARIABLES) + variable)[order]
    value = values[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    count = np.diff(np.append(starts, len(group)))
    mean = np.add.reduceat(value, starts) / count
    squares = np.add.reduceat((value - np.repeat(mean, count)) ** 2, starts)
    sd = np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)
    columns = (
        value[starts],
        value[starts + count - 1],
        np.minimum.reduceat(value, starts),
        np.maximum.reduceat(value, starts),
        mean,
        sd,
        count,
    )
    table = np.full((len(STATISTICS), stays * len(VARIABLES)), np.nan)
    table[:, group[starts]] = columns
    table[-1] = np.nan_to_num(table[-1])
    by_stay = table.reshape(len(STATISTICS), stays, len(VARIABLES)).transpose(1, 0, 2)
    return by_stay.reshape(stays, -1).astype(np.float32)
