import argparse
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from model_artifacts.training import checkpoints
from model_artifacts.training.checkpoints import add_arguments, open_checkpoints, recipe_digest, sources


def counting(arrays):
    """A computation that knows how often it was asked."""
    calls = []

    def compute():
        calls.append(1)
        return arrays

    return compute, calls


def test_checkpoints_a_part_is_computed_once_and_then_kept(tmp_path):
    compute, calls = counting({"dose": np.arange(3.0), "names": np.array(["a", "bc"]), "at": np.array(2)})
    first = open_checkpoints(tmp_path, "abc", fresh=False).part("fold-1", compute)
    again = open_checkpoints(tmp_path, "abc", fresh=False)
    assert again.has("fold-1")
    assert not again.has("fold-2")
    second = again.part("fold-1", compute)
    assert len(calls) == 1
    assert list(first) == list(second) == ["dose", "names", "at"]
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_checkpoints_an_interrupted_training_goes_on_where_it_stopped(tmp_path):
    def train(until):
        done = []
        parts = open_checkpoints(tmp_path, "abc", fresh=False)
        for fold in range(4):

            def compute(fold=fold):
                if len(done) == until:
                    raise KeyboardInterrupt
                done.append(fold)
                return {"fold": np.array(fold)}

            parts.part(f"fold-{fold}", compute)
        return done

    with pytest.raises(KeyboardInterrupt):
        train(until=2)
    assert train(until=9) == [2, 3]


def test_checkpoints_another_recipe_takes_up_nothing_and_drops_the_old(tmp_path):
    open_checkpoints(tmp_path, "old", fresh=False).part("fold-1", lambda: {"x": np.zeros(1)})
    compute, calls = counting({"x": np.ones(1)})
    assert open_checkpoints(tmp_path, "new", fresh=False).part("fold-1", compute)["x"] == 1
    assert calls == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_checkpoints_fresh_drops_what_was_kept(tmp_path):
    compute, calls = counting({"x": np.ones(1)})
    open_checkpoints(tmp_path, "abc", fresh=False).part("fold-1", compute)
    open_checkpoints(tmp_path, "abc", fresh=True).part("fold-1", compute)
    assert len(calls) == 2


def test_checkpoints_half_a_file_is_computed_anew(tmp_path):
    compute, calls = counting({"x": np.arange(1000.0)})
    parts = open_checkpoints(tmp_path, "abc", fresh=False)
    parts.part("fold-1", compute)
    path = tmp_path / "abc" / "fold-1.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert parts.part("fold-1", compute)["x"][-1] == 999
    assert len(calls) == 2


def test_checkpoints_a_file_that_would_run_code_is_not_read(tmp_path):
    parts = open_checkpoints(tmp_path, "abc", fresh=False)
    (tmp_path / "abc").mkdir()
    np.savez(tmp_path / "abc" / "fold-1.npz", x=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        parts.part("fold-1", dict)["x"]


@given(st.dictionaries(st.sampled_from("ab/c"), of_numpy.arrays(np.float64, of_numpy.array_shapes(min_dims=0))))
def test_checkpoints_arrays_come_back_to_the_bit(tmp_path_factory, arrays):
    kept = open_checkpoints(tmp_path_factory.mktemp("parts"), "abc", fresh=False).part("p", lambda: arrays)
    assert {name: value.tobytes() for name, value in kept.items()} == {n: v.tobytes() for n, v in arrays.items()}


def test_checkpoints_digest_changes_with_settings_data_and_source(tmp_path, monkeypatch):
    data = tmp_path / "rows.csv"
    data.write_text("a\n1\n")
    module = "model_artifacts.training.split"

    def digest(seed=1):
        return recipe_digest([module], {"seed": seed}, [data])

    first = digest()
    assert digest() == first
    assert digest(seed=2) != first
    data.write_text("a\n2\n")
    other = digest()
    assert other != first
    copy = tmp_path / "split.py"
    copy.write_text(Path(sources([module])[module]).read_text() + "# changed\n")
    monkeypatch.setattr(checkpoints, "_source", lambda name: copy if name == module else None)
    assert digest() != other


def test_checkpoints_sources_are_those_that_a_module_imports_and_its_tables():
    found = sources(["model_artifacts.icu_mortality.summary"])
    assert "model_artifacts.icu_mortality.events" in found
    assert "icu_mortality/variables.toml" in found
    assert not any("manifest" in name for name in found)
    assert "model_artifacts.icu_mortality.report" not in found


def test_checkpoints_arguments_are_the_same_for_every_model():
    parser = argparse.ArgumentParser()
    add_arguments(parser, "warfarin_dose")
    default = parser.parse_args([])
    assert default.checkpoints.parts[-2:] == (".training", "warfarin_dose")
    assert not default.fresh
    assert parser.parse_args(["--fresh"]).fresh
