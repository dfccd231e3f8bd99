"""Writes `metrics.json`, of any model: the one place where figures are rounded and become the file.

Called by a model's `train.py` alone, with what its evaluation computed.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIGITS = 6


def write_metrics(folder: Path, report: Mapping[str, Any]) -> None:
    """Writes `folder/metrics.json`, every number to six significant digits.

    Raises:
        ValueError: a number is not finite, which JSON cannot say; the message names its place.
    """
    text = json.dumps(rounded(report), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")


def rounded(value: Any, place: str = "") -> Any:
    """The same figures, each number to six significant digits; NumPy's become Python's."""
    match value:
        case Mapping():
            return {key: rounded(item, f"{place}.{key}" if place else key) for key, item in value.items()}
        case list() | tuple():
            return [rounded(item, f"{place}[{number}]") for number, item in enumerate(value)]
        case bool() | int() | str() | None:
            return value
        case _:
            number = float(value)
            if not math.isfinite(number):
                raise ValueError(f"metrics {place}: expected a finite number, got {number}")
            return float(f"{number:.{DIGITS}g}")
