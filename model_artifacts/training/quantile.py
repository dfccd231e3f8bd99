"""Conformal intervals that hold within groups: quantiles of held-out residuals as linear functions of group membership.

Owns the fit. Quantile regression of the residuals on group indicators covers at the stated rate, up to the number of
indicators over the number of rows, everybody together and each group whose indicator is among them, overlapping ones too
(Gibbs, Cherian, Candès, Conformal prediction with conditional guarantees, 2023, section 2). Plain split conformal covers
everybody together only, Mondrian groups must not overlap. Needs scipy, which scikit-learn brings.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.sparse import csc_matrix, hstack, identity

Array = npt.NDArray[np.float64]


def fit_quantile(groups: Array, residuals: Array, level: float) -> Array:
    """Weights (g,) for which `groups @ weights`, (n, g) by (g,), is the residuals' quantile of `level`, by linear programming.

    Raises:
        ValueError: the programme has no solution.
    """
    n, g = groups.shape
    costs = np.concatenate([np.zeros(g), np.full(n, level), np.full(n, 1 - level)])
    equal = hstack([csc_matrix(groups), identity(n, format="csc"), -identity(n, format="csc")], format="csc")
    bounds = [(None, None)] * g + [(0, None)] * (2 * n)
    solved = linprog(costs, A_eq=equal, b_eq=residuals, bounds=bounds, method="highs")
    if not solved.success:
        raise ValueError(f"quantile {level} of {n} residuals: expected a solution, got {solved.message}")
    return np.asarray(solved.x[:g])
