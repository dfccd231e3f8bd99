import numpy as np
import pytest

pytest.importorskip("sklearn")

from model_artifacts.training.evaluate import auroc
from model_artifacts.training.rivals import boosted_predictions, regression_predictions
from model_artifacts.training.split import make_folds


def test_rivals_predict_held_out_rows_with_missing_values():
    random = np.random.default_rng(0)
    features = random.normal(size=(600, 4)).astype(np.float32)
    outcome = (features[:, 0] + random.normal(size=600) > 1).astype(np.int64)
    features[random.random((600, 4)) < 0.2] = np.nan
    predictions = regression_predictions(features, outcome, make_folds(outcome, 3, 0))
    assert auroc(predictions, outcome) > 0.7
    assert ((predictions > 0) & (predictions < 1)).all()


def test_rivals_boosting_leaves_out_what_was_measured_in_nobody(monkeypatch):
    monkeypatch.setattr("model_artifacts.training.rivals.SEEDS", (0,))
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 3)).astype(np.float32)
    outcome = (features[:, 0] + random.normal(size=300) > 0.5).astype(np.int64)
    features[:, 2] = np.nan
    assert auroc(boosted_predictions(features, outcome, make_folds(outcome, 2, 0)), outcome) > 0.6
