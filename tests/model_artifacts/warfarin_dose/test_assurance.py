import numpy as np
import pytest

from model_artifacts.inputs import Evidence
from model_artifacts.warfarin_dose.assurance import evidence_values, explanations, uncertainty, unlike_training
from model_artifacts.warfarin_dose.columns import COLUMNS, CYP2C9, INDEX, RACES, SLOTS, VKORC1, genotype_columns
from model_artifacts.warfarin_dose.inputs import _row


def people(n=300):
    random = np.random.default_rng(3)
    rows = np.zeros((n, len(COLUMNS)), dtype=np.float32)
    rows[:, INDEX["age_decades"]] = random.integers(1, 10, n)
    rows[:, INDEX["height"]] = random.normal(168, 8, n).round()
    rows[:, INDEX["weight"]] = random.normal(78, 12, n).round()
    rows[:, INDEX["target_inr"]] = 2.5
    rows[:40, INDEX["height"]] = np.nan
    for row in range(n):
        race = random.integers(0, 4)
        if race:
            rows[row, INDEX[RACES[race - 1]]] = 1
        cyp2c9, vkorc1 = random.integers(-1, 6), random.integers(-1, 3)
        columns = genotype_columns(None if cyp2c9 < 0 else CYP2C9[cyp2c9], None if vkorc1 < 0 else VKORC1[vkorc1])
        for name, value in columns.items():
            rows[row, INDEX[name]] = value
    return rows


def test_assurance_evidence_values_are_those_that_the_inputs_make_the_rows_of():
    rows = people()
    shown = evidence_values(rows)
    assert list(shown) == list(SLOTS)
    for place in range(len(rows)):
        evidence = {
            name: Evidence(name, name, None if np.isnan(values[place]) else float(values[place]), "", None, None)
            for name, values in shown.items()
        }
        assert np.array_equal(_row(evidence)[0], rows[place], equal_nan=True)


def far(rows):
    """Largest standardised distance of age, height and weight; what isn't there is as the mean."""
    z = [
        (rows[:, INDEX["age_decades"]] - 5) / 3,
        (rows[:, INDEX["height"]] - 168) / 8,
        (rows[:, INDEX["weight"]] - 78) / 12,
    ]
    return np.nanmax(np.abs(np.stack([*z, np.zeros(len(rows))])), axis=0)


def test_assurance_slips_of_size_reach_the_columns_that_the_model_reads():
    by_test = {row["test"]: row for row in unlike_training(people(), far, 4.0)["detected"]}
    assert by_test["a value tenfold (weight)"]["set_aside"]["estimate"] > 0.99  # above 240 kg
    assert by_test["a value tenfold (height)"]["n"] == 260  # of those who have one
    assert by_test["inches for centimetres (height)"]["rate"]["estimate"] == 1.0
    pounds = by_test["pounds for kilograms (weight)"]
    assert pounds["set_aside"]["estimate"] < 0.2 < pounds["novelty"]["estimate"]
    assert by_test["children's vitals (1 year)"]["rate"]["estimate"] == 1.0
    assert by_test["shuffled variables"]["rate"]["estimate"] > 0.5


def test_assurance_uncertainty_is_judged_by_what_it_says_of_the_error():
    random = np.random.default_rng(0)
    truth, noise = random.uniform(20, 60, 2000), random.uniform(0.5, 10, 2000)
    doses = truth + random.normal(0, noise)
    interval = np.stack([doses - noise, doses + noise], axis=1)
    sections = uncertainty(doses, truth, random.normal(30, 1, (2000, 7)), interval, random.random(2000))
    assert "first, by the width of the interval:" in sections["abstaining"]["how"]
    assert (
        sections["risk_coverage"][-1]["mean_absolute_error"] < 0.5 * sections["risk_coverage"][0]["mean_absolute_error"]
    )


def test_assurance_explanations_are_by_input_and_a_genotype_is_one():
    points = people(60)
    points[:, INDEX["height"]] = 170
    weights = np.random.default_rng(1).normal(0, 1, len(COLUMNS)).astype(np.float32)
    baseline = np.zeros_like(points)
    sections = explanations(points, baseline, points * weights, lambda asked, rows: asked @ weights, np.zeros(60))
    assert sections["explanation"]["correlation_with_shapley"] == pytest.approx(1, abs=1e-3)
    assert {row["input"] for row in sections["attributions"]} == set(SLOTS)
    size = next(row["mean_absolute"] for row in sections["attributions"] if row["input"] == "cyp2c9")
    own = points[:, list(SLOTS["cyp2c9"])] @ weights[list(SLOTS["cyp2c9"])]
    assert size == pytest.approx(np.abs(own).mean(), rel=1e-5)
