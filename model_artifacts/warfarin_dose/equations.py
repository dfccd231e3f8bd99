"""The two equations of the IWPC paper, as the appendix prints them: what every figure of this model stands beside.

International Warfarin Pharmacogenetics Consortium, N Engl J Med 2009;360:753–764, Supplementary Appendix, sections S1e
(pharmacogenetic) and S1f (clinical). Both give the square root of the weekly dose in mg. Heights that are not recorded are
taken as the mean for the recorded sex of those that are, as the appendix doesn't say what to do without. Numpy only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_artifacts.warfarin_dose.columns import COLUMNS, INDEX

_PHARMACOGENETIC = {
    "age_decades": -0.2614,
    "height": 0.0087,
    "weight": 0.0128,
    "asian": -0.1092,
    "black": -0.2760,
    "inducer": 1.1816,
    "amiodarone": -0.5503,
    "A/G": -0.8677,
    "A/A": -1.6974,
    "*1/*2": -0.5211,
    "*1/*3": -0.9357,
    "*2/*2": -1.0616,
    "*2/*3": -1.9206,
    "*3/*3": -2.3312,
}
_CLINICAL = {
    "age_decades": -0.2546,
    "height": 0.0118,
    "weight": 0.0134,
    "asian": -0.6752,
    "black": 0.4060,
    "inducer": 1.2799,
    "amiodarone": -0.5695,
}
Features = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]


def pharmacogenetic_dose(features: Features) -> Array:
    """The weekly dose in mg by section S1e, `(n,)`."""
    columns = _columns(features)
    root = 5.6044 + _weighted(columns, _PHARMACOGENETIC) - 0.1032 * _mixed(columns)
    root -= 0.4854 * (1 - columns["vkorc1_known"]) + 0.2188 * (1 - columns["cyp2c9_known"])
    return np.asarray(root**2)


def clinical_dose(features: Features) -> Array:
    """The weekly dose in mg by section S1f, `(n,)`."""
    columns = _columns(features)
    root = 4.0376 + _weighted(columns, _CLINICAL) + 0.0443 * _mixed(columns)
    return np.asarray(root**2)


def _columns(features: Features) -> dict[str, Array]:
    columns = {name: features[:, INDEX[name]].astype(np.float64) for name in COLUMNS}
    height, male = columns["height"], columns["male"]
    for sex in (male == 1, male == 0, np.isnan(male)):
        known = height[sex & ~np.isnan(height)]
        mean = known.mean() if len(known) else np.nanmean(height)
        height[sex & np.isnan(height)] = mean
    return columns


def _weighted(columns: dict[str, Array], weights: dict[str, float]) -> Array:
    return np.asarray(np.sum([weight * columns[name] for name, weight in weights.items()], axis=0))


def _mixed(columns: dict[str, Array]) -> Array:
    return np.asarray(1 - columns["white"] - columns["asian"] - columns["black"])
