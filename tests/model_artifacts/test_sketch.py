"""Bins, references and counts: every value has one place, files read back, and nonsense is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.errors import ReferenceFileError
from model_artifacts.runtime import ReleasedModel
from model_artifacts.sketch import Bins, Reference, format_reference, model_bins, parse_reference

QUANTITY = Bins("age", (0.2, 0.3, 0.5), 0.1, edges=(40.5, 60.5))
CODED = Bins("sex", (0.5, 0.5, 0.0), 0.0, values=(0.0, 1.0))
REFERENCE = Reference("bedside-reference/1", "test rows", 500, (QUANTITY, CODED), (Bins("death", (1.0,), 0.0),), 0.02)

numbers = st.floats(allow_nan=False, width=32)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=9, unique=True), numbers)
def test_every_value_has_one_place_and_edges_divide(edges: list[int], value: float) -> None:
    bins = Bins("x", (0.0,) * (len(edges) + 1), 0.0, tuple(float(edge) for edge in sorted(edges)))
    place = bins.place(value)
    low = -math.inf if place == 0 else bins.edges[place - 1]
    high = math.inf if place == len(edges) else bins.edges[place]
    assert low <= value < high or (value == high == math.inf)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9, unique=True), st.floats(-1e6, 1e6, width=32))
def test_a_listed_value_is_in_its_own_bin_and_others_are_in_the_last(values: list[float], value: float) -> None:
    bins = Bins("x", (0.0,) * (len(values) + 1), 0.0, values=tuple(sorted(values)))
    near = [listed for listed in bins.values if abs(value - listed) <= 1e-6 * max(1.0, abs(listed))]
    assert bins.place(value) == (bins.values.index(near[0]) if near else len(values))


@pytest.mark.parametrize("missing", [None, math.nan])
def test_what_is_missing_is_behind_the_bins(missing: float | None) -> None:
    assert QUANTITY.place(missing) == 3
    assert CODED.place(missing) == 3


def test_bins_have_words() -> None:
    assert [QUANTITY.label(place) for place in range(3)] == ["below 40.5", "40.5 to 60.5", "60.5 or more"]
    assert [CODED.label(place) for place in range(3)] == ["0", "1", "other"]


def test_a_reference_reads_back() -> None:
    assert parse_reference(format_reference(REFERENCE)) == REFERENCE


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(colour="red"), "unknown field"),
        (lambda r: r.update(schema="bedside-reference/2"), "schema"),
        (lambda r: r.update(rows=0), "at least 1"),
        (lambda r: r["inputs"][0].update(edges=[60.5, 40.5]), "ascend"),
        (lambda r: r["inputs"][0].update(values=[1.0, 2.0]), "edges or values"),
        (lambda r: r["inputs"][0].update(shares=[0.5, 0.5]), "expected 3 shares"),
        (lambda r: r["inputs"][0].update(shares=[0.5, 0.5, 0.5]), "sum to 1"),
        (lambda r: r["inputs"][0].update(missing=1.5), "between 0 and 1"),
        (lambda r: r["inputs"][1].update(name="age"), "must differ"),
    ],
)
def test_a_reference_that_contradicts_itself_is_refused(change: Change, message: str) -> None:
    content = json.loads(format_reference(REFERENCE))
    change(content)
    with pytest.raises(ReferenceFileError, match=message):
        parse_reference(json.dumps(content).encode())


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with suppress(ReferenceFileError):
        parse_reference(data)


def test_a_model_without_a_reference_is_counted_by_what_is_missing_and_its_bands(prevent: ReleasedModel) -> None:
    files = {name: digest for name, digest in prevent.manifest.files.items() if name != "reference.json"}
    manifest = msgspec.structs.replace(prevent.manifest, files=files)
    plain = model_bins(manifest, prevent.folder, ["sbp", "age"])
    assert [(bins.name, bins.size) for bins in plain.inputs] == [("age", 1), ("sbp", 1)]
    assert plain.outputs[0].edges == tuple(band.at_least for band in manifest.bands[1:])
    assert plain.rows == 0


def test_a_reference_that_names_what_the_model_has_not_is_refused(prevent: ReleasedModel, tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_bytes(format_reference(REFERENCE))
    manifest = msgspec.structs.replace(prevent.manifest, files={"reference.json": "0" * 64})
    with pytest.raises(ReferenceFileError, match="death, sex is no input or output"):
        model_bins(manifest, tmp_path, ["age"])
