"""The reference a training writes: its bins hold their shares, its bytes read back, and nonsense is refused."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model_artifacts.sketch import read_reference
from model_artifacts.training.reference import make_reference, quantile_edges, write_reference


def _column(kind: str, rows: int = 2000) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    random = np.random.default_rng(3)
    if kind == "normal":
        return random.normal(60, 12, rows)
    if kind == "yes":
        return random.integers(0, 2, rows).astype(np.float64)
    column = random.exponential(3.0, rows)
    column[: rows // 4] = np.nan
    return column


def test_a_quantity_gets_ten_bins_of_equal_share() -> None:
    reference = make_reference(["age"], _column("normal")[:, None], {}, source="test")
    assert reference.inputs[0].size == 10
    assert reference.inputs[0].shares == pytest.approx([0.1] * 10, abs=0.002)


def test_a_yes_or_no_gets_a_bin_each_and_one_for_anything_else() -> None:
    (bins,) = make_reference(["sex"], _column("yes")[:, None], {}, source="test").inputs
    assert bins.values == (0.0, 1.0)
    assert bins.shares[2] == 0.0
    assert [bins.place(value) for value in (0.0, 1.0, 7.0, None)] == [0, 1, 2, 3]


def test_what_is_missing_counts_apart() -> None:
    (bins,) = make_reference(["x"], _column("gaps")[:, None], {}, source="test").inputs
    assert bins.missing == pytest.approx(0.25)
    assert sum(bins.shares) == pytest.approx(1, abs=1e-4)


def test_a_code_keeps_every_value_apart_however_many_there_are() -> None:
    column = np.arange(300, dtype=np.float64) % 25
    (quantity,) = make_reference(["code"], column[:, None], {}, source="test").inputs
    (code,) = make_reference(["code"], column[:, None], {}, source="test", categorical=("code",)).inputs
    assert (len(quantity.values), len(code.values)) == (0, 25)


def test_an_input_that_was_never_recorded_has_no_bins_to_compare() -> None:
    (bins,) = make_reference(["x"], np.full((100, 1), np.nan), {}, source="test").inputs
    assert (bins.missing, bins.place(3.0), bins.place(None)) == (1.0, 0, 1)


def test_an_outputs_mean_and_spread_are_kept() -> None:
    probability = _column("gaps") / 100
    (bins,) = make_reference([], np.zeros((2000, 0)), {"death": probability}, source="test").outputs
    assert bins.mean == pytest.approx(np.nanmean(probability), rel=1e-4)
    assert bins.sd == pytest.approx(np.nanstd(probability), rel=1e-4)


def test_a_value_as_float32_falls_where_the_same_value_as_float64_does() -> None:
    tenths = np.round(_column("normal") / 10, 1)
    (bins,) = make_reference(["inr"], tenths[:, None], {}, source="test").inputs
    places = [(bins.place(float(np.float32(value))), bins.place(float(value))) for value in tenths]
    assert all(single == double for single, double in places)


def test_the_file_reads_back_and_its_digest_is_the_files(tmp_path: Path) -> None:
    values = np.stack([_column("normal"), _column("yes"), _column("gaps")], axis=1)
    digest = write_reference(tmp_path, ["a", "b", "c"], values, {"p": _column("gaps")}, source="test", novel=0.01)
    assert hashlib.sha256((tmp_path / "reference.json").read_bytes()).hexdigest() == digest
    again = make_reference(["a", "b", "c"], values, {"p": _column("gaps")}, source="test", novel=0.01)
    assert read_reference(tmp_path) == again


@pytest.mark.parametrize(
    ("names", "rows", "categorical", "message"),
    [
        (["a"], 99, (), "at least 100 rows"),
        (["a", "b"], 100, (), "expected values of shape"),
        (["a"], 100, ("b",), "none of the names"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    names: list[str], rows: int, categorical: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_reference(names, np.zeros((rows, 1)), {}, source="test", categorical=categorical)


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e4, 1e4)))
def test_edges_ascend_and_leave_no_bin_empty(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    values = np.round(values)  # gaps of at least 1, which an edge's six digits can part
    edges = quantile_edges(values, 10)
    assert list(edges) == sorted(set(edges))
    assert len(edges) <= 9
    assert len(np.unique(np.searchsorted(edges, values, side="right"))) == len(edges) + 1
