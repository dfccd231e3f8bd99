"""From an irregular sequence of measurements to the graph's tensors: the one function that training and live FHIR
share.

Owns the table `variables.toml` as Python values and `stay_tensors`. Numpy only: training reads the challenge's rows
with it, serving reads FHIR Observations with it, so the same stay gives the same tensors by either way.

To extend: add a variable to `variables.toml`, train again. The order of the table is the order of the graph's last
axis.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

HOURS = 48
"""The most that is read: the first 48 hours after ICU admission, as in the challenge."""

Float = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of `variables.toml`; `low` and `high` are inclusive, in `unit`."""

    name: str
    label: str
    codes: tuple[str, ...]
    unit: str
    analyte: str | None
    low: float
    high: float
    presence: bool
    not_with: tuple[str, ...]


def _read_variable(row: Mapping[str, object]) -> Variable:
    def texts(key: str) -> tuple[str, ...]:
        value = row.get(key, ())
        assert isinstance(value, (list, tuple))
        return tuple(str(item) for item in value)

    analyte = row.get("analyte")
    return Variable(
        name=str(row["name"]),
        label=str(row["label"]),
        codes=texts("codes"),
        unit=str(row["unit"]),
        analyte=None if analyte is None else str(analyte),
        low=float(str(row["low"])),
        high=float(str(row["high"])),
        presence=bool(row.get("presence", False)),
        not_with=texts("not_with"),
    )


_TABLE = tomllib.loads((Path(__file__).parent / "variables.toml").read_text(encoding="utf-8"))

VARIABLES: tuple[Variable, ...] = tuple(_read_variable(row) for row in _TABLE["variable"])
STATICS: tuple[Variable, ...] = tuple(_read_variable(row) for row in _TABLE["static"])
UNIT_SYSTEM: str = _TABLE["unit"]["system"]
UNIT_CODES: dict[int, tuple[str, ...]] = {kind: tuple(_TABLE["unit"][str(kind)]) for kind in range(5)}
"""HSLOC codes of each kind of intensive care unit; 0 is an ICU of unknown kind."""

INDEX: dict[str, int] = {variable.name: position for position, variable in enumerate(VARIABLES)}
LOW: Float64 = np.array([variable.low for variable in VARIABLES])
HIGH: Float64 = np.array([variable.high for variable in VARIABLES])


def plausible(variable: npt.NDArray[np.integer], values: Float64) -> npt.NDArray[np.bool_]:
    """Which values are finite and within their variable's range; the others are set aside."""
    inside: npt.NDArray[np.bool_] = np.isfinite(values) & (values >= LOW[variable]) & (values <= HIGH[variable])
    return inside


def hourly(
    times_h: Float64,
    variable: npt.NDArray[np.integer],
    values: Float64,
    stay: npt.NDArray[np.integer],
    stays: int,
    elapsed_h: float = HOURS,
) -> tuple[Float, Float]:
    """Hourly means and counts of many stays, each `(stays, 48, 37)` float32; the mean is 0 where nothing was measured.

    The rows end at `elapsed_h` hours after admission, whenever that is: row 47 is the hour up to that moment, the moment
    included and the hour's beginning not, row 46 the hour before that, and rows before admission are empty. So "two hours ago"
    is the same place at any time of the stay, and what is charted on the hour counts once in each. The moment of admission
    is in the stay's first row. Times outside 0–`elapsed_h` and implausible values count as not measured. O(number of events).

    Raises:
        ValueError: `elapsed_h` is not within 0 to 48.
    """
    if not 0 <= elapsed_h <= HOURS:
        raise ValueError(f"elapsed hours: expected 0 to {HOURS}, got {elapsed_h}")
    kept = plausible(variable, values) & (times_h >= 0) & (times_h <= elapsed_h)
    first = min(HOURS - math.ceil(elapsed_h), HOURS - 1)
    row = np.maximum(HOURS - 1 - np.floor(elapsed_h - times_h[kept]).astype(np.int64), first)
    cell = (stay[kept].astype(np.int64) * HOURS + row) * len(VARIABLES) + variable[kept]
    cells = stays * HOURS * len(VARIABLES)
    count = np.bincount(cell, minlength=cells)
    total = np.bincount(cell, weights=values[kept], minlength=cells)
    mean = total / np.maximum(count, 1)
    shape = (stays, HOURS, len(VARIABLES))
    return mean.astype(np.float32).reshape(shape), count.astype(np.float32).reshape(shape)


def static_row(values: Mapping[str, float | None]) -> Float:
    """The statics `(1, 4)` float32 in the table's order; not-a-number where missing or implausible."""
    row = np.full((1, len(STATICS)), np.nan, dtype=np.float32)
    for position, static in enumerate(STATICS):
        value = values.get(static.name)
        if value is not None and static.low <= value <= static.high:
            row[0, position] = value
    return row


def stay_tensors(
    times_h: Float64,
    variable: npt.NDArray[np.integer],
    values: Float64,
    statics: Mapping[str, float | None],
    elapsed_h: float = HOURS,
) -> dict[str, Float]:
    """The graph's inputs for one stay, float32: `values` and `counts` `(1, 48, 37)`, `statics` `(1, 4)`, `elapsed` `(1, 1)`.

    `elapsed_h` is the time since admission up to which is read, in hours, 0 to 48.
    """
    mean, count = hourly(times_h, variable, values, np.zeros(len(values), dtype=np.int64), 1, elapsed_h)
    elapsed = np.full((1, 1), elapsed_h, dtype=np.float32)
    return {"values": mean, "counts": count, "statics": static_row(statics), "elapsed": elapsed}
