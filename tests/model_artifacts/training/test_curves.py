import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_artifacts.training.curves import MOST_POINTS, curves, decision, net_benefit, roc, thinned
from model_artifacts.training.evaluate import auroc


def drawn(n=4000, digits=3):
    random = np.random.default_rng(5)
    probability = np.round(random.beta(1, 6, n), digits)
    return probability, (random.random(n) < probability).astype(np.int64)


def test_curves_area_under_the_roc_is_the_auroc_with_ties():
    for digits in (1, 2, 8):
        probability, outcome = drawn(digits=digits)
        false, true = roc(probability, outcome)
        assert np.trapezoid(true, false) == pytest.approx(auroc(probability, outcome), abs=1e-12)
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_curves_net_benefit_is_vickers_and_elkins_worked_by_hand():
    probability, outcome = np.array([0.1, 0.3, 0.3, 0.8]), np.array([0, 1, 0, 1])
    assert net_benefit(probability, outcome, 0.25) == pytest.approx(2 / 4 - 1 / 4 * (0.25 / 0.75))
    assert net_benefit(probability, outcome, 0.8) == pytest.approx(1 / 4)  # the threshold itself acts


def test_curves_decision_of_treating_all_is_zero_at_the_prevalence_and_the_model_is_above_it():
    probability, outcome = drawn(digits=8)
    prevalence = outcome.mean()
    (row,) = decision(probability, outcome, thresholds=np.array([prevalence]))
    assert row["treat_all"] == pytest.approx(0, abs=1e-12)
    assert row["model"] > 0.02
    assert set(row) == {"threshold", "model", "treat_all"}
    (beside,) = decision(probability, outcome, {"nobody": np.zeros(len(outcome))}, np.array([0.2]))
    assert beside["nobody"] == 0


def test_curves_are_thinned_but_keep_their_ends_and_their_area():
    probability, outcome = drawn(digits=8)
    made = curves(probability, outcome, {"inverse": 1 - probability})
    assert made["prevalence"] == outcome.mean()
    assert np.trapezoid(*np.array(made["rivals"]["inverse"]["roc"]).T[::-1]) < 0.5
    for name in ("roc", "precision_recall", "decision"):
        assert 20 < len(made[name]) <= MOST_POINTS, name
    points = np.array(made["roc"])
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(auroc(probability, outcome), abs=2e-3)
    recall, precision = np.array(made["precision_recall"]).T
    assert recall[-1] == 1
    assert precision[-1] == pytest.approx(outcome.mean())


def test_curves_without_events_are_refused():
    with pytest.raises(ValueError, match="got 0 events of 3"):
        roc(np.array([0.1, 0.2, 0.3]), np.zeros(3, dtype=int))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=200))
def test_curves_thinning_never_invents_a_point(points):
    across, up = np.array(points).T
    kept = thinned(across, up)
    assert len(kept) <= MOST_POINTS
    assert {tuple(point) for point in kept} <= {tuple(point) for point in points}
