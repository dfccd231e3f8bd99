import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.training.split import fold_numbers, make_folds

LABELS = np.array([1] * 30 + [0] * 170)


def test_split_reports_every_row_exactly_once():
    folds = make_folds(LABELS, 5, seed=1)
    assert sorted(np.concatenate([fold.report for fold in folds]).tolist()) == list(range(200))
    for fold in folds:
        assert not set(fold.develop) & set(fold.report)
        assert len(fold.develop) + len(fold.report) == 200


def test_split_shares_events_evenly():
    folds = make_folds(LABELS, 5, seed=1)
    assert [int(LABELS[fold.report].sum()) for fold in folds] == [6] * 5


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=5, max_size=60), st.integers(2, 4))
def test_split_never_parts_a_patient(rows, folds):
    groups = np.array([group for group, _ in rows])
    number = fold_numbers(np.array([label for _, label in rows]), folds, 0, groups)
    for group in set(groups.tolist()):
        assert len(set(number[groups == group].tolist())) == 1


def test_split_is_fixed_by_its_seed():
    np.testing.assert_array_equal(fold_numbers(LABELS, 5, 3), fold_numbers(LABELS, 5, 3))
    assert not np.array_equal(fold_numbers(LABELS, 5, 3), fold_numbers(LABELS, 5, 4))


def test_split_refuses_one_fold():
    with pytest.raises(ValueError, match="folds must be"):
        fold_numbers(LABELS, 1, 0)
