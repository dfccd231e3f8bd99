"""Conformal intervals that hold within groups: quantiles of held-out residuals as linear functions of group membership.

Owns the fit. Quantile regression of the residuals on group indicators covers at the stated rate, up to the number of
indicators over the number of rows, everybody together and each group whose indicator is among them, overlapping ones too
(Gibbs, Cherian, Candès, Conformal prediction with conditional guarantees, 2023, section 2). Plain split conformal covers
everybody together only, Mondrian groups must not overlap. In a group of few rows the fitted line lies too close: a new member
falls beyond it more often than the rows did. `widen_small_groups` moves it to the rank that split conformal prediction asks for
with so few (Papadopoulos et al., ECML 2002). Needs scipy, which scikit-learn brings.
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


def widen_small_groups(groups: Array, residuals: Array, weights: Array, level: float) -> Array:
    """The weights with every indicator column's group out to its finite-sample quantile, smallest groups first; never closer.

    Of n residuals the one of rank `(n + 1) level`, rounded outwards, has at least `level` of new ones on its near side. Columns
    that aren't 0 or 1 throughout are left as they are.
    """
    widened, outwards = weights.copy(), 1 if level > 0.5 else -1
    indicators = [column for column in range(groups.shape[1]) if np.isin(groups[:, column], (0.0, 1.0)).all()]
    for column in sorted(indicators, key=lambda column: groups[:, column].sum()):
        inside = groups[:, column] == 1
        count = int(inside.sum())
        if count:
            beyond = np.sort(outwards * (residuals[inside] - groups[inside] @ widened))
            rank = int(np.ceil(round((count + 1) * max(level, 1 - level), 9)))
            widened[column] += outwards * max(0.0, float(beyond[min(rank, count) - 1]))
    return widened
