"""Figures with their intervals, grids of them, and how the model card writes a number: as precisely as it deserves."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

_SMALLEST = 1e-4  # below it powers of ten read better
_MOST_DECIMALS = 4
_ABBREVIATIONS = {
    "brier": "Brier",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "ppv": "PPV",
    "npv": "NPV",
    "onnx": "ONNX",
    "icu": "ICU",
    "iwpc": "IWPC",
    "hdl": "HDL",
    "bmi": "BMI",
    "egfr": "eGFR",
    "hba1c": "HbA1c",
    "uacr": "UACR",
    "sbp": "systolic blood pressure",
    "inr": "INR",
    "shapley": "Shapley",
    "asian": "Asian",
    "black": "Black",
    "white": "White",
    "hispanic": "Hispanic",
    "caucasian": "Caucasian",
    "africanamerican": "African American",
}


_WORD = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its interval, if it has one; `spread` says what the interval is."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    spread: str = ""
    beside: tuple[tuple[str, float], ...] = ()


Cell: TypeAlias = Figure | float | str | None


@dataclass(frozen=True, slots=True)
class Grid:
    """Figures that belong together: each row begins with its name."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def words(key: str) -> str:
    """A member's name in words: "calibration_slope" gives "calibration slope", "auroc (bmi)" gives "AUROC (BMI)"."""
    return _WORD.sub(lambda found: _ABBREVIATIONS.get(found[0], found[0]), key.replace("_", " "))


def number_words(value: float) -> str:
    """A number as the card shows it: counts whole, others to three decimals, fewer if large, small ones to 2 digits."""
    if float(value).is_integer() and (isinstance(value, int) or abs(value) >= 2):
        return str(int(value))
    if not math.isfinite(value):
        return "not defined"
    return f"{value:.{_decimals(value)}f}" if abs(value) >= _SMALLEST or value == 0 else f"{value:.2g}"


def cell_words(cell: Cell) -> str:
    """A cell as the card shows it; an interval follows in brackets, with as many decimals as its figure."""
    match cell:
        case None:
            return "not available"
        case str():
            return cell
        case Figure(value=value, low=low, high=high) if low is not None and high is not None:
            decimals = min(_decimals(value, low, high), _MOST_DECIMALS)
            parts = [f"{part:.{decimals}f}" if math.isfinite(part) else "not defined" for part in (value, low, high)]
            return f"{parts[0]} ({parts[1]} to {parts[2]})"
        case Figure():
            return number_words(cell.value)
        case _:
            return number_words(cell)


def _decimals(value: float, *interval: float) -> int:
    """Decimals for a figure: two if it and its interval have no more, else as many as give it three or four digits."""
    if all(part == round(part, 2) for part in (value, *interval) if math.isfinite(part)):
        return 2
    if not math.isfinite(value) or value == 0 or 0.01 <= abs(value) < 2:
        return 3
    if abs(value) >= 2:
        return 2 if abs(value) < 20 else 1
    return 1 - math.floor(math.log10(abs(value)))
