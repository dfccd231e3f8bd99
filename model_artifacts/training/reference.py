"""Writes `reference.json`: what the evaluation's rows looked like, so that drift in service can be told from the log.

A training calls this once, after its evaluation, and lists the file in the manifest's `[files]`:

    digest = write_reference(
        FOLDER,
        names=[...],                # names of evidence items, as `inputs.py` gives them
        values=array,               # (rows, items), in the unit of the evidence, not-a-number where missing
        outputs={"in_hospital_death": probability},   # by the manifest's output names; not-a-number where not defined
        source="held-out predictions of 8,000 stays, one random hour of each",
        categorical=("race",),      # codes rather than quantities
        novel=0.01,                 # share that novelty set aside, where the model has a score
    )

A row is a decision as it would be made in service: at the moments the card is asked for, from what is known by then, with
the value the evidence shows (for a sequence: the last one). Use held-out predictions for `outputs`, as the evaluation has
them; rows that the model would abstain on don't belong in. An item without a column in the training data (a drafted dose) is
left out.

What the file shows of the training rows: edges between neighbouring values at ten quantiles, and shares. Numpy only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_artifacts.sketch import REFERENCE_FILE, Bins, Reference, format_reference, parse_reference

Array = npt.NDArray[np.float64]

BINS = 10
"""Deciles, as the population stability index is usually reported."""
FEW_VALUES = 10
"""Up to so many different values, each is a bin of its own."""
LEAST_ROWS = 100
"""Below it shares say little, and quantiles come close to telling single people."""
_EDGE_DIGITS = 6
_SHARE_DIGITS = 6


def write_reference(
    folder: Path,
    names: Sequence[str],
    values: npt.NDArray[np.floating],
    outputs: Mapping[str, npt.NDArray[np.floating]],
    *,
    source: str,
    categorical: Collection[str] = (),
    novel: float | None = None,
    bins: int = BINS,
) -> str:
    """Writes `folder/reference.json`; its SHA-256 as hex digits, for the manifest's `[files]`. The module says what goes in.

    Raises:
        ValueError: fewer than 100 rows, shapes that don't agree, a name twice, or a `categorical` that isn't among `names`.
    """
    data = format_reference(
        make_reference(names, values, outputs, source=source, categorical=categorical, novel=novel, bins=bins)
    )
    parse_reference(data)
    (folder / REFERENCE_FILE).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def make_reference(
    names: Sequence[str],
    values: npt.NDArray[np.floating],
    outputs: Mapping[str, npt.NDArray[np.floating]],
    *,
    source: str,
    categorical: Collection[str] = (),
    novel: float | None = None,
    bins: int = BINS,
) -> Reference:
    """As `write_reference`, in memory."""
    rows = len(values)
    if rows < LEAST_ROWS:
        raise ValueError(f"reference: expected at least {LEAST_ROWS} rows, got {rows}")
    if values.ndim != 2 or values.shape[1] != len(names):
        raise ValueError(f"reference: expected values of shape ({rows}, {len(names)}), got {values.shape}")
    if any(column.shape != (rows,) for column in outputs.values()):
        raise ValueError(f"reference: expected {rows} rows of every output")
    if len(set(names)) != len(names):
        raise ValueError("reference: names must differ")
    if unknown := set(categorical) - set(names):
        raise ValueError(f"reference: {sorted(unknown)} is none of the names")
    columns = zip(names, values.T, strict=True)
    return Reference(
        schema="bedside-reference/1",
        source=source,
        rows=rows,
        inputs=tuple(_input(name, column, bins, is_code=name in categorical) for name, column in columns),
        outputs=tuple(_output(name, column, bins) for name, column in outputs.items()),
        novel=None if novel is None else round(novel, _SHARE_DIGITS),
    )


def quantile_edges(present: Array, bins: int) -> tuple[float, ...]:
    """At most `bins - 1` edges that part `present` into about equal shares, each midway between two values that occur.

    Midway, so that no value lies on an edge, which float32 and a number read from JSON might take for different sides.
    """
    distinct, counts = np.unique(present, return_counts=True)
    before = np.cumsum(counts)[:-1]  # how many lie below the gap after each distinct value
    wanted = len(present) * np.arange(1, bins) / bins
    gaps = sorted({int(np.abs(before - target).argmin()) for target in wanted}) if len(before) else []
    edges = [(distinct[gap] + distinct[gap + 1]) / 2 for gap in gaps]
    return tuple(dict.fromkeys(_rounded(edge) for edge in edges))


def _input(name: str, column: npt.NDArray[np.floating], bins: int, *, is_code: bool) -> Bins:
    return _bins(name, column, bins, few=np.inf if is_code else FEW_VALUES)


def _output(name: str, column: npt.NDArray[np.floating], bins: int) -> Bins:
    present = column[~np.isnan(column)].astype(np.float64)
    made = _bins(name, column, bins, few=0)
    mean, sd = (float(present.mean()), float(present.std())) if len(present) else (0.0, 0.0)
    return Bins(made.name, made.shares, made.missing, made.edges, mean=_rounded(mean), sd=_rounded(sd))


def _bins(name: str, column: npt.NDArray[np.floating], bins: int, *, few: float) -> Bins:
    present = column[~np.isnan(column)].astype(np.float64)
    missing = round(1 - len(present) / len(column), _SHARE_DIGITS)
    if not len(present):
        return Bins(name, (0.0,), 1.0)
    distinct = np.unique(present)
    values = tuple(dict.fromkeys(map(_rounded, distinct))) if len(distinct) <= few else ()
    empty = Bins(name, (), missing, () if values else quantile_edges(present, bins), values)
    counts = np.bincount([empty.place(value) for value in present.tolist()], minlength=empty.size)
    shares = tuple(round(float(share), _SHARE_DIGITS) for share in counts / len(present))
    return Bins(name, shares, missing, empty.edges, empty.values)


def _rounded(value: float) -> float:
    return float(f"{value:.{_EDGE_DIGITS}g}")
