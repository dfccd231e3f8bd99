"""The bar every network is measured against, on the same folds: gradient boosting and logistic regression on summary
features.

Owns the rivals' recipe (scikit-learn), fixed here and not tuned per model. Not-a-number means not measured: trees
handle it themselves, the regression gets medians and a flag.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model_artifacts.training.split import Fold, Labels

Features = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

SEEDS = (0, 1, 2)


def boosted_predictions(features: Features, labels: Labels, folds: Sequence[Fold]) -> Array:
    """Held-out probabilities of gradient boosting, the mean of three seeds, `(n,)`."""
    result = np.zeros(len(labels))
    for fold in folds:
        develop, report = (features[rows][:, measured(features[fold.develop])] for rows in (fold.develop, fold.report))
        for seed in SEEDS:
            model = HistGradientBoostingClassifier(
                max_iter=300,
                learning_rate=0.03,
                max_leaf_nodes=15,
                min_samples_leaf=30,
                l2_regularization=5.0,
                max_features=0.3,
                random_state=seed,
            )
            model.fit(develop, labels[fold.develop])
            result[fold.report] += model.predict_proba(report)[:, 1] / len(SEEDS)
    return result


def measured(features: Features) -> npt.NDArray[np.bool_]:
    """Which columns have any value: early in a stay some statistics are of nobody, and binning needs one."""
    return np.asarray(~np.isnan(features).all(axis=0))


def regression_predictions(features: Features, labels: Labels, folds: Sequence[Fold]) -> Array:
    """Held-out probabilities of ridge-penalised logistic regression, `(n,)`."""
    result = np.zeros(len(labels))
    for fold in folds:
        model = make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(C=0.003, max_iter=2000),
        )
        model.fit(features[fold.develop], labels[fold.develop])
        result[fold.report] = model.predict_proba(features[fold.report])[:, 1]
    return result
