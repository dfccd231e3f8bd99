"""What a model's inputs and outputs looked like: at training (`Reference`), and in service (`Sketch`), as counts alone.

Owns `reference.json` of a model folder, schema `bedside-reference/1`: for each input the edges of its bins and the share of the
training rows in each, or the share of each value where there are few; the share missing; the same for each output. And owns
how one decision is counted in those bins. A count is all that is kept: no value, no patient, no order of events.

The values of a reference are those a card's evidence shows: the same name, the same unit, what a decision in service would
have read at that moment. `training/reference.py` writes it; statistics over both are in `sketch_statistics.py`.

To extend: a new kind of bins is a new optional member of `Bins` and a branch of `Bins.place`. Numpy isn't needed to count.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from math import isfinite, isnan
from pathlib import Path
from typing import Literal

import msgspec

from model_artifacts.errors import ReferenceFileError

REFERENCE_FILE = "reference.json"
_SAME = 1e-6
"""Of a listed value, relative: a number read from JSON and the same one as float32 are equal."""
_SHARES_TOLERANCE = 1e-3


class Bins(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The bins of one input or output, and the share of the training rows in each.

    Either `edges` (ascending; a value belongs to the bin whose lower edge it reaches) or `values` (each a bin of its own, and
    one more for any other value). `shares` has one number for each bin and sums to 1 over what is not missing; `missing` is
    the share of all rows without a value. `mean` and `sd` are an output's.
    """

    name: str
    shares: tuple[float, ...]
    missing: float
    edges: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    mean: float | None = None
    sd: float | None = None

    @property
    def size(self) -> int:
        """The number of bins, without that of what is missing."""
        return len(self.values) + 1 if self.values else len(self.edges) + 1

    def place(self, value: float | None) -> int:
        """The bin of `value`; `size` is the place of what is missing."""
        if value is None or isnan(value):
            return self.size
        if not self.values:
            return bisect_right(self.edges, value)
        for place, listed in enumerate(self.values):
            if abs(value - listed) <= _SAME * max(1.0, abs(listed)):
                return place
        return len(self.values)

    def label(self, place: int) -> str:
        """The bin in words: "below 35", "35 to 47.5", "1", "other"."""
        if self.values:
            return f"{self.values[place]:g}" if place < len(self.values) else "other"
        if not self.edges:
            return "any"
        if place == 0:
            return f"below {self.edges[0]:g}"
        if place == len(self.edges):
            return f"{self.edges[-1]:g} or more"
        return f"{self.edges[place - 1]:g} to {self.edges[place]:g}"


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`reference.json`, whole: what the model's evaluation rows looked like.

    `source` says in words whose rows they are; `rows` is their number, which bounds what a comparison can tell; `novel` the
    share of them that the model called unlike its training data, None where it has no such score.
    """

    schema: Literal["bedside-reference/1"]
    source: str
    rows: int
    inputs: tuple[Bins, ...]
    outputs: tuple[Bins, ...]
    novel: float | None = None


def parse_reference(data: bytes) -> Reference:
    """The reference in `data`.

    Raises:
        ReferenceFileError: not JSON of this schema, or it contradicts itself.
    """
    try:
        reference = msgspec.json.decode(data, type=Reference)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ReferenceFileError(f"{REFERENCE_FILE} cannot be read: {exc}") from exc
    for bins in (*reference.inputs, *reference.outputs):
        _check(bins)
    for group in (reference.inputs, reference.outputs):
        if len({bins.name for bins in group}) != len(group):
            raise ReferenceFileError(f"{REFERENCE_FILE}: names must differ")
    if reference.rows < 1:
        raise ReferenceFileError(f"{REFERENCE_FILE}: rows must be at least 1, got {reference.rows}")
    return reference


def format_reference(reference: Reference) -> bytes:
    """`reference.json`; `parse_reference` gives the same reference again."""
    return msgspec.json.format(msgspec.json.encode(reference), indent=1) + b"\n"


def read_reference(folder: Path) -> Reference:
    """The reference of a model folder; raises ReferenceFileError. Its digest is checked at load where `[files]` lists it."""
    try:
        data = (folder / REFERENCE_FILE).read_bytes()
    except OSError as exc:
        raise ReferenceFileError(f"{REFERENCE_FILE} of {folder.name} cannot be read: {exc.strerror}") from exc
    return parse_reference(data)


def _check(bins: Bins) -> None:
    place = f"{REFERENCE_FILE}: {bins.name}"
    if bins.edges and bins.values:
        raise ReferenceFileError(f"{place}: expected edges or values, got both")
    if any(low >= high for low, high in pairwise(bins.edges or bins.values)):
        raise ReferenceFileError(f"{place}: edges and values must ascend")
    if len(bins.shares) != bins.size:
        raise ReferenceFileError(f"{place}: expected {bins.size} shares, got {len(bins.shares)}")
    if not all(isfinite(share) and 0 <= share <= 1 for share in (*bins.shares, bins.missing)):
        raise ReferenceFileError(f"{place}: shares must lie between 0 and 1")
    total = sum(bins.shares)
    if abs(total - 1) > _SHARES_TOLERANCE and not (total == 0 and bins.missing == 1):
        raise ReferenceFileError(f"{place}: shares must sum to 1, got {total:g}")
