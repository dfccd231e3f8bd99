import numpy as np
import pytest

from model_artifacts.icu_mortality.events import INDEX, VARIABLES
from model_artifacts.icu_mortality.summary import STATISTICS, summary_features
from tests.model_artifacts.icu_mortality.stays import STAYS


@pytest.mark.parametrize("stay", STAYS.values(), ids=STAYS.keys())
def test_summary_equals_numpy_on_every_variable(stay):
    zeros = np.zeros(len(stay.values), dtype=np.int64)
    found = summary_features(stay.times_h, stay.variable, stay.values, zeros, 1).reshape(7, len(VARIABLES))
    for variable in set(stay.variable.tolist()):
        x = stay.values[stay.variable == variable]
        sd = np.std(x, ddof=1) if len(x) > 1 else np.nan
        expected = [x[0], x[-1], x.min(), x.max(), x.mean(), sd, len(x)]
        np.testing.assert_allclose(found[:, variable], expected, rtol=1e-5, atol=1e-5)


def test_summary_of_nothing_is_not_a_number_and_counts_zero():
    found = summary_features(np.array([1.0]), np.array([INDEX["K"]]), np.array([4.0]), np.array([1]), 2)
    first = found.reshape(2, len(STATISTICS), len(VARIABLES))[0]
    assert np.isnan(first[:-1]).all()
    assert (first[-1] == 0).all()
