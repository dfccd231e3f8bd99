"""What a model's inputs and outputs looked like: at training (`Reference`), and in service (`Sketch`), as counts alone.

Owns `reference.json` of a model folder, schema `bedside-reference/1`: for each input the edges of its bins and the share of the
training rows in each, or the share of each value where there are few; the share missing; the same for each output. And owns
how one decision is counted in those bins. A count is all that is kept: no value, no patient, no order of events.

The values of a reference are those a card's evidence shows: the same name, the same unit, what a decision in service would
have read at that moment. `training/reference.py` writes it; statistics over both are in `sketch_judgement.py`.

To extend: a new kind of bins is a new optional member of `Bins` and a branch of `Bins.place`. Numpy isn't needed to count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, isnan
from pathlib import Path
from typing import Literal

import msgspec

from model_artifacts.assessment import Abstention, Assessment, Prediction
from model_artifacts.errors import ReferenceFileError
from model_artifacts.manifest import ModelManifest

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
    if reference.rows < 1:  # 0 is for bins without a reference, which are never in a file
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


def model_bins(manifest: ModelManifest, folder: Path, names: Iterable[str]) -> Reference:
    """What a model's decisions are counted in: its reference, or bins that tell only what is missing and the output's band.

    `names` are its evidence items. A reference counts only if the manifest lists it, for then its digest was checked.

    Raises:
        ReferenceFileError: the reference can't be read, or names what the model doesn't have.
    """
    known, outputs = set(names), [output.name for output in manifest.outputs]
    if REFERENCE_FILE not in manifest.files:
        bounds = tuple(band.at_least for band in manifest.bands[1:])
        plain = tuple(_plain(name) for name in sorted(known))
        return Reference(
            schema="bedside-reference/1",
            source="",
            rows=0,
            inputs=plain,
            outputs=(_plain(outputs[0], bounds), *(_plain(name) for name in outputs[1:])),
        )
    reference = read_reference(folder)
    strangers = {bins.name for bins in reference.inputs} - known | {bins.name for bins in reference.outputs} - {
        *outputs
    }
    if strangers:
        message = f"{REFERENCE_FILE} of model {manifest.id}: {', '.join(sorted(strangers))} is no input or output of it"
        raise ReferenceFileError(message, model_id=manifest.id)
    return reference


def _plain(name: str, edges: tuple[float, ...] = ()) -> Bins:
    return Bins(name, (0.0,) * (len(edges) + 1), 1.0, edges)


@dataclass(slots=True)
class OutputTally:
    """Counts of one output by bin, the last one of those without a value; its sum, and that of p(1-p)."""

    counts: list[int]
    total: float = 0.0
    variance: float = 0.0

    def add(self, place: Callable[[float | None], int], value: float | None) -> None:
        """Counts one value, None where the model defines none."""
        self.counts[place(value)] += 1
        if value is not None:
            self.total += value
            self.variance += max(value * (1 - value), 0.0)  # of a quantity it would mean nothing, and is 0


class Sketch:
    """Counts of assessments by bin; grows by `add` and never keeps what was counted. Not safe in several threads.

    `outside` were outside the population, `counted` inside: those are in `inputs` and, where they are predictions, in
    `outputs`; `abstentions` has the others by the codes of their reasons.
    """

    __slots__ = ("_inputs", "_outputs", "abstentions", "counted", "inputs", "outputs", "outside")

    def __init__(self, reference: Reference) -> None:
        self.counted = self.outside = 0
        self.abstentions: Counter[str] = Counter()
        self.inputs = {bins.name: [0] * (bins.size + 1) for bins in reference.inputs}
        self.outputs = {bins.name: OutputTally([0] * (bins.size + 1)) for bins in reference.outputs}
        self._inputs = {bins.name: (bins.place, self.inputs[bins.name]) for bins in reference.inputs}
        self._outputs = [(bins, self.outputs[bins.name]) for bins in reference.outputs]

    def add(self, assessment: Assessment) -> None:
        """Counts one assessment."""
        if isinstance(assessment, Abstention):
            if assessment.outside_population:
                self.outside += 1
                return
            self.abstentions.update({reason.code for reason in assessment.reasons})
        self.counted += 1
        for item in assessment.evidence:
            known = self._inputs.get(item.name)
            if known is not None:
                place, counts = known
                counts[place(item.value)] += 1
        if isinstance(assessment, Prediction):
            for bins, tally in self._outputs:
                tally.add(bins.place, assessment.outputs.get(bins.name))
