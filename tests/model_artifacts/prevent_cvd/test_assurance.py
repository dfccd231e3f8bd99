import numpy as np
import pytest

from model_artifacts.prevent_cvd.assurance import explanations, slips_noticed
from model_artifacts.prevent_cvd.columns import COLUMNS, MEASURED, VALID


def people(n=400):
    random = np.random.default_rng(0)
    rows = np.stack([random.uniform(*VALID.get(name, (0, 1)), n) for name in COLUMNS], axis=1)
    rows[: n // 2, COLUMNS.index("uacr")] = np.nan
    return rows.astype(np.float32)


def test_assurance_a_value_out_of_the_equations_range_is_noticed_and_one_within_is_not():
    by_test = {row["test"]: row for row in slips_noticed(people())["detected"]}
    assert by_test["mmol/L for mg/dL (total_cholesterol)"]["rate"]["estimate"] == 1.0
    assert by_test["mg/mmol for mg/g (uacr)"]["n"] == 200
    assert by_test["mg/mmol for mg/g (uacr)"]["rate"]["estimate"] < 0.05  # 0.1 to 25,000 is nearly everything
    assert by_test["each variable of another patient"]["rate"]["estimate"] == 0.0
    assert all("novelty" not in row for row in by_test.values())


def test_assurance_both_sides_of_a_knot_are_one_input():
    random = np.random.default_rng(1)
    points = random.normal(0, 1, (30, len(MEASURED))).astype(np.float32)
    weights = np.arange(len(MEASURED), dtype=np.float32) / 100
    sections = explanations(
        points, np.zeros_like(points), points * weights, lambda asked, rows: asked @ weights, np.zeros(30)
    )
    assert sections["explanation"]["correlation_with_shapley"] > 0.999
    sbp = next(row for row in sections["attributions"] if row["input"] == "sbp")
    below, above = MEASURED.index("sbp_below_110"), MEASURED.index("sbp_above_110")
    both = np.abs(points[:, below] * weights[below] + points[:, above] * weights[above]).mean()
    assert sbp["mean_absolute"] == pytest.approx(both, rel=1e-5)
    assert len(sections["attributions"]) == 11  # of thirteen columns; age and sex explain nothing
